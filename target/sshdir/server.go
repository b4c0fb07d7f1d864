package sshdir

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// Server is a directory of another machine and how to get to it. It is plain
// data without secrets.
type Server struct {
	User string `json:"user"`
	Host string `json:"host"` // as people name it
	Port uint16 `json:"port"`
	Dir  string `json:"dir"` // relative ones begin at the user's home
	// Addresses are those of Host, tried in this order.
	Addresses []netip.Addr `json:"addresses,omitempty"`
	// HostKeys are the public keys of the host, as in a file authorized_keys: no
	// other is accepted.
	HostKeys []string `json:"host_keys,omitempty"`
}

// String is [USER@]HOST[:PORT]:DIR.
func (s *Server) String() string {
	host := s.Host
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	port := ""
	if s.Port != 22 {
		port = ":" + strconv.Itoa(int(s.Port))
	}
	return s.User + "@" + host + port + ":" + s.Dir
}

// FindHostKeys fills in the host's keys from a file known_hosts.
func (s *Server) FindHostKeys(file string) error {
	add := fmt.Sprintf("ssh-keyscan -p %d %s >> %s, and compare its fingerprint with the host's own", s.Port, s.Host, file)
	check, err := knownhosts.New(file)
	if err != nil {
		return ui.Hint(fmt.Errorf("known hosts: %w", err), add)
	}
	// The keys that it would have liked come out when it is shown another one.
	other, err := ssh.NewPublicKey(ed25519.PublicKey(make([]byte, ed25519.PublicKeySize)))
	if err != nil {
		return err
	}
	err = check(net.JoinHostPort(s.Host, strconv.Itoa(int(s.Port))), &net.TCPAddr{}, other)
	wanted, ok := errors.AsType[*knownhosts.KeyError](err)
	if !ok {
		return fmt.Errorf("%s: %w", file, err)
	}
	s.HostKeys = nil
	for _, k := range wanted.Want {
		s.HostKeys = append(s.HostKeys, string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(k.Key))))
	}
	if len(s.HostKeys) == 0 {
		return ui.Hint(fmt.Errorf("%s has no key of %s", file, s.Host), add)
	}
	return nil
}

// maxKey bounds the file of a private key, in bytes; the largest RSA keys have 13
// KiB.
const maxKey = 64 << 10

// ReadKey reads a private key and checks that the panic kernel can use it: nobody
// is there to type a passphrase. It is returned as it is in the file.
func ReadKey(file string) ([]byte, error) {
	create := "make one of its own: panicroom target key " + file
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ui.Hint(fmt.Errorf("private key: %w", err), create)
	} else if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, ui.Hint(fmt.Errorf("private key %s can be read by others (mode %04o)", file, info.Mode().Perm()), "chmod 600 "+file)
	}
	if info.Size() > maxKey {
		return nil, fmt.Errorf("private key %s has %s; no key is larger than %s", file, ui.Bytes(uint64(info.Size())), ui.Bytes(maxKey))
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	if _, err := ssh.ParsePrivateKey(text); err != nil {
		if _, ok := errors.AsType[*ssh.PassphraseMissingError](err); ok {
			return nil, ui.Hint(fmt.Errorf("private key %s needs a passphrase, and nobody will be there to type it", file), create)
		}
		return nil, fmt.Errorf("private key %s: %w", file, err)
	}
	return text, nil
}
