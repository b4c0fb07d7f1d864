//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/panicroom-kdump/panicroom/e2e/lab"
	"github.com/panicroom-kdump/panicroom/internal/config"
	"github.com/panicroom-kdump/panicroom/internal/sys"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/status"
	"github.com/panicroom-kdump/panicroom/target"
	"github.com/panicroom-kdump/panicroom/target/sshdir"
)

// What status asks OpenSSH's and Ganesha's servers, and what it makes of their
// answers, those that hang among them. Nothing of it stays on them.
func TestLookAtServers(t *testing.T) {
	t.Parallel()
	ssh := startSSH(t)
	ok, full, file := tmpfs(t, 64), tmpfs(t, 1), filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fill := filepath.Join(full, "fill")
	if err := os.WriteFile(fill, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	readOnly := t.TempDir()
	if err := sys.Mount("tmpfs", readOnly, "tmpfs", sys.MountReadOnly, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sys.Unmount(readOnly) })
	nfs, err := lab.StartNFSAnywhere(t.Context(), t.TempDir(), map[string]string{"/crash": ok, "/full": full})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if said, _ := nfs.Stop(); t.Failed() {
			t.Logf("ganesha said:\n%s", said)
		}
	})
	// One that accepts and never answers.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	deaf := int(netip.MustParseAddrPort(silent.Addr().String()).Port())

	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	key, known := filepath.Join(dir, "key"), filepath.Join(dir, "known_hosts")
	if err := os.WriteFile(key, ssh.Key, 0o600); err != nil {
		t.Fatal(err)
	}
	const nobody = 9
	lines := lab.KnownHost("localhost", ssh.Port, ssh.HostKey) + lab.KnownHost("127.0.0.1", nobody, ssh.HostKey) +
		lab.KnownHost("127.0.0.1", deaf, ssh.HostKey) + lab.KnownHost("127.0.0.1", ssh.Port, startSSH(t).HostKey)
	if err := os.WriteFile(known, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	at := func(host string, port int, dir string) config.Target {
		return config.Target{SSH: fmt.Sprintf("%s@%s:%d:%s", me.Username, host, port, dir), Key: key, KnownHosts: known}
	}
	export := func(port int, dir string) config.Target {
		return config.Target{NFS: "127.0.0.1:" + dir, Options: fmt.Sprintf("port=%d", port)}
	}
	for _, tt := range []struct {
		name string
		to   config.Target
		free bool // that of ok
		is   error
		says string // in the error or a hint
	}{
		{"ssh", at("localhost", ssh.Port, ok), true, nil, ""},
		{"ssh, to be made", at("localhost", ssh.Port, ok+"/not/yet"), true, nil, ""},
		{"ssh, full", at("localhost", ssh.Port, full), false, nil, ""},
		{"ssh, read-only", at("localhost", ssh.Port, readOnly+"/x"), false, target.ErrReadOnly, "write-protected"},
		{"ssh, a file", at("localhost", ssh.Port, file), false, errAny, "not a directory"},
		{"ssh, another key", at("127.0.0.1", ssh.Port, ok), false, sshdir.ErrHostKey, "known hosts"},
		{"ssh, nobody", at("127.0.0.1", nobody, ok), false, syscall.ECONNREFUSED, ""},
		{"ssh, silent", at("127.0.0.1", deaf, ok), false, errAny, "no answer within"},
		{"nfs", export(nfs.Port, "/crash"), true, nil, ""},
		{"nfs, full", export(nfs.Port, "/full"), false, nil, ""},
		{"nfs, not there", export(nfs.Port, "/none"), false, fs.ErrNotExist, "make /none"},
		{"nfs, a file", export(nfs.Port, "/full/fill"), false, errAny, "not a directory"},
		{"nfs, nobody", export(nobody, "/crash"), false, errAny, "start the NFS server"},
		{"nfs, silent", export(deaf, "/crash"), false, errAny, "no answer within"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			got := status.Look(t.Context(), []config.Target{tt.to}, nil)[0]
			took := time.Since(start)
			t.Logf("%v: free %d (%v), note %q, error %v", took, got.Free, got.Known, got.Note, got.Err)
			if took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
			if tt.is == nil {
				info, err := sys.StatFS(ok)
				if err != nil {
					t.Fatal(err)
				}
				if got.Err != nil || !got.Asked || !got.Known || tt.free && got.Free != info.Available || !tt.free && got.Free != 0 {
					t.Errorf("%+v; want free %v (%d)", got, tt.free, info.Available)
				}
				return
			}
			says := strings.Join(append(ui.Hints(got.Err), fmt.Sprint(got.Err)), "\n")
			if got.Err == nil || tt.is != errAny && !errors.Is(got.Err, tt.is) || !strings.Contains(says, tt.says) {
				t.Errorf("error %v, hints %q; want %v, %q", got.Err, ui.Hints(got.Err), tt.is, tt.says)
			}
		})
	}
	t.Cleanup(func() {
		for dir, want := range map[string]int{ok: 0, full: 1} {
			if names := entries(t, dir); len(names) != want {
				t.Errorf("%s has %q", dir, names)
			}
		}
	})
}

// errAny stands for an error that has no name.
var errAny = errors.New("any error")
