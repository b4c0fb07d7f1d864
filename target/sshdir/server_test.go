package sshdir

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/panicroom-kdump/panicroom/internal/ui"
)

func TestString(t *testing.T) {
	for want, s := range map[string]Server{
		"dump@store:/srv/crash":              {User: "dump", Host: "store", Port: 22, Dir: "/srv/crash"},
		"dump@[2001:db8::1]:2222:/srv/crash": {User: "dump", Host: "2001:db8::1", Port: 2222, Dir: "/srv/crash"},
	} {
		if got := s.String(); got != want {
			t.Errorf("String = %q; want %q", got, want)
		}
	}
}

func newSigner(t *testing.T) ssh.Signer {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func authorized(k ssh.PublicKey) string { return string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(k))) }

func TestFindHostKeys(t *testing.T) {
	plain, hashed, other := newSigner(t).PublicKey(), newSigner(t).PublicKey(), newSigner(t).PublicKey()
	file := filepath.Join(t.TempDir(), "known_hosts")
	text := "# of the store\n" +
		knownhosts.Line([]string{"store:2222"}, plain) + "\n" +
		knownhosts.Line([]string{knownhosts.HashHostname("[store]:2222")}, hashed) + "\n" +
		knownhosts.Line([]string{"store"}, other) + "\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &Server{Host: "store", Port: 2222}
	if err := s.FindHostKeys(file); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{authorized(plain), authorized(hashed)}, s.HostKeys); diff != "" {
		t.Errorf("host keys (-want +got):\n%s", diff)
	}
	for name, s := range map[string]*Server{"unknown host": {Host: "nowhere", Port: 22}, "other port": {Host: "store", Port: 23}} {
		if err := s.FindHostKeys(file); err == nil || !strings.Contains(strings.Join(ui.Hints(err), "\n"), "ssh-keyscan") {
			t.Errorf("%s: %v, hints %q; want one with ssh-keyscan", name, err, ui.Hints(err))
		}
	}
	if err := s.FindHostKeys(file + ".none"); err == nil {
		t.Error("no file: nil; want an error")
	}
}

func TestKey(t *testing.T) {
	file := filepath.Join(t.TempDir(), "etc", "key")
	if _, err := ReadKey(file); err == nil || !strings.Contains(fmt.Sprint(ui.Hints(err)), "panicroom target key") {
		t.Errorf("ReadKey of no file: %v, %q", err, ui.Hints(err))
	}
	public, made, err := MakeKey(file, "panicroom@starlight")
	if err != nil || !made || !strings.HasPrefix(public, "ssh-ed25519 ") || !strings.HasSuffix(public, " panicroom@starlight") {
		t.Fatalf("MakeKey = %q, %v, %v", public, made, err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("key has mode %v, %v; want 0600", info.Mode(), err)
	}
	again, made, err := MakeKey(file, "panicroom@starlight")
	if err != nil || made || again != public {
		t.Errorf("second MakeKey = %q, %v, %v; want the same key", again, made, err)
	}
	if err := os.Chmod(file, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKey(file); err == nil || !strings.Contains(fmt.Sprint(ui.Hints(err)), "chmod 600") {
		t.Errorf("ReadKey of a key that all can read: %v, %q", err, ui.Hints(err))
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pemText(block), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadKey(file); err == nil || !strings.Contains(err.Error(), "passphrase") {
		t.Errorf("ReadKey of a key with a passphrase: %v", err)
	}
}
