package sshdir

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/target"
	"github.com/panicroom-kdump/panicroom/target/targettest"
)

func pemText(b *pem.Block) []byte { return pem.EncodeToMemory(b) }

// store is a machine with a server of SFTP; OpenSSH's is for the e2e tests.
type store struct {
	t      *testing.T
	host   ssh.Signer
	client []byte // private key that may come in
	dir    string
	server Server
	files  handlers
}

// newStore starts one on the loopback device. limit is what it takes, in bytes.
func newStore(t *testing.T, limit int64) *store {
	t.Helper()
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	public, _, err := MakeKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	s := &store{t: t, host: newSigner(t), dir: filepath.Join(dir, "srv", "crash")}
	if s.client, err = os.ReadFile(key); err != nil {
		t.Fatal(err)
	}
	s.files = handlers{disk: &disk{left: limit}}
	config := &ssh.ServerConfig{PublicKeyCallback: func(_ ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
		if authorized(k) != public {
			return nil, errors.New("unknown key")
		}
		return nil, nil
	}}
	config.AddHostKey(s.host)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var g sync.WaitGroup
	t.Cleanup(func() { l.Close(); g.Wait() })
	g.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			g.Go(func() { s.serve(c, config) })
		}
	})
	at := netip.MustParseAddrPort(l.Addr().String())
	s.server = Server{User: "dump", Host: "store", Port: at.Port(), Dir: s.dir, Addresses: []netip.Addr{at.Addr()},
		HostKeys: []string{authorized(s.host.PublicKey())}}
	return s
}

func (s *store) serve(c net.Conn, config *ssh.ServerConfig) {
	defer c.Close()
	_, channels, requests, err := ssh.NewServerConn(c, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for n := range channels {
		channel, requests, err := n.Accept()
		if err != nil {
			return
		}
		go func() {
			for r := range requests {
				r.Reply(r.Type == "subsystem", nil)
			}
		}()
		h := s.files
		sftp.NewRequestServer(channel, sftp.Handlers{FileGet: h, FilePut: h, FileCmd: h, FileList: h}).Serve()
		channel.Close()
	}
}

// dial connects to it.
func (s *store) dial(t *testing.T) *Target {
	t.Helper()
	tgt, err := Dial(t.Context(), &s.server, s.client)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tgt.Close() })
	return tgt
}

// disk is one that gets full.
type disk struct {
	mu   sync.Mutex
	left int64
}

// handlers serve files of this machine.
type handlers struct {
	disk     *disk
	refuse   string // a method that nobody may use
	full     bool   // no directory can be made
	noColons bool   // in names
}

func (h handlers) Fileread(r *sftp.Request) (io.ReaderAt, error) { return os.Open(r.Filepath) }

func (h handlers) Filewrite(r *sftp.Request) (io.WriterAt, error) {
	flags := os.O_WRONLY
	if r.Pflags().Creat {
		flags |= os.O_CREATE
	}
	if r.Pflags().Excl {
		flags |= os.O_EXCL
	}
	f, err := os.OpenFile(r.Filepath, flags, 0o644)
	if err != nil {
		return nil, err
	}
	return &written{f, h.disk}, nil
}

type written struct {
	*os.File
	disk *disk
}

func (w *written) WriteAt(p []byte, off int64) (int, error) {
	w.disk.mu.Lock()
	defer w.disk.mu.Unlock()
	if int64(len(p)) > w.disk.left {
		return 0, sftp.ErrSSHFxFailure // all that OpenSSH says
	}
	w.disk.left -= int64(len(p))
	return w.File.WriteAt(p, off)
}

func (h handlers) Filecmd(r *sftp.Request) error {
	switch {
	case r.Method == h.refuse:
		return sftp.ErrSSHFxPermissionDenied
	case r.Method == "Mkdir" && h.full:
		return sftp.ErrSSHFxFailure
	case r.Method == "Mkdir" && h.noColons && strings.Contains(r.Filepath, ":"):
		return sftp.ErrSSHFxBadMessage
	}
	switch r.Method {
	case "Mkdir":
		return os.Mkdir(r.Filepath, 0o755)
	case "Rmdir", "Remove":
		return os.Remove(r.Filepath)
	case "Rename":
		return os.Rename(r.Filepath, r.Target)
	case "Setstat":
		if r.AttrFlags().Permissions {
			if err := os.Chmod(r.Filepath, r.Attributes().FileMode().Perm()); err != nil {
				return err
			}
		}
		if r.AttrFlags().Size {
			return os.Truncate(r.Filepath, int64(r.Attributes().Size))
		}
		return nil
	}
	return sftp.ErrSSHFxOpUnsupported
}

func (h handlers) PosixRename(r *sftp.Request) error { return os.Rename(r.Filepath, r.Target) }

func (h handlers) StatVFS(*sftp.Request) (*sftp.StatVFS, error) {
	h.disk.mu.Lock()
	defer h.disk.mu.Unlock()
	return &sftp.StatVFS{Bsize: 1, Frsize: 1, Bavail: uint64(h.disk.left)}, nil
}

func (h handlers) Filelist(r *sftp.Request) (sftp.ListerAt, error) { return h.stat(r, os.Stat) }

func (h handlers) Lstat(r *sftp.Request) (sftp.ListerAt, error) { return h.stat(r, os.Lstat) }

func (h handlers) stat(r *sftp.Request, stat func(string) (os.FileInfo, error)) (sftp.ListerAt, error) {
	info, err := stat(r.Filepath)
	return one{info}, err
}

type one struct{ info os.FileInfo }

func (o one) ListAt(into []os.FileInfo, at int64) (int, error) {
	if at > 0 || o.info == nil {
		return 0, io.EOF
	}
	return copy(into, []os.FileInfo{o.info}), io.EOF
}

func TestTarget(t *testing.T) {
	targettest.Run(t, targettest.Subject{
		New: func(t *testing.T) target.Target { return newStore(t, 1<<30).dial(t) },
		Read: func(_ *testing.T, _ target.Target, path, file string) ([]byte, error) {
			return os.ReadFile(filepath.Join(path, file))
		},
		Full: func(t *testing.T) target.Target { return newStore(t, 256<<10).dial(t) },
	})
}

func TestModes(t *testing.T) {
	s := newStore(t, 1<<20)
	c, err := s.dial(t).Begin(t.Context(), "secret")
	if err != nil {
		t.Fatal(err)
	}
	f, err := c.Create("vmcore")
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	for path, want := range map[string]os.FileMode{s.dir: 0o700, c.Path(): 0o700, filepath.Join(c.Path(), "vmcore"): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("mode of %s = %o; want %o", path, got, want)
		}
	}
}

// Large writes are cut into packets and arrive whole, in any order.
func TestLarge(t *testing.T) {
	s := newStore(t, 64<<20)
	c, err := s.dial(t).Begin(t.Context(), "large")
	if err != nil {
		t.Fatal(err)
	}
	f, err := c.Create("vmcore")
	if err != nil {
		t.Fatal(err)
	}
	const part, parts = 3<<20 + 17, 8
	block := func(i int) []byte {
		b := make([]byte, part)
		for j := range b {
			b[j] = byte(j*7 + i + j>>8)
		}
		return b
	}
	var g sync.WaitGroup
	for i := parts - 1; i >= 0; i-- {
		g.Go(func() {
			if n, err := f.WriteAt(block(i), int64(i)*part); n != part || err != nil {
				t.Errorf("WriteAt = %d, %v", n, err)
			}
		})
	}
	g.Wait()
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(c.Path(), "vmcore"))
	if err != nil || len(got) != part*parts {
		t.Fatalf("read %d bytes, %v; want %d", len(got), err, part*parts)
	}
	for i := range parts {
		if string(got[i*part:(i+1)*part]) != string(block(i)) {
			t.Errorf("part %d is not what was written", i)
		}
	}
}

func TestHostKey(t *testing.T) {
	s := newStore(t, 1<<20)
	s.server.HostKeys = []string{authorized(newSigner(t).PublicKey())}
	_, err := Dial(t.Context(), &s.server, s.client)
	var wrong *HostKeyError
	if !errors.Is(err, ErrHostKey) || !errors.As(err, &wrong) || wrong.Got != ssh.FingerprintSHA256(s.host.PublicKey()) || len(wrong.Want) != 1 {
		t.Fatalf("Dial of a host with another key: %v; want ErrHostKey with fingerprints", err)
	}
	if len(ui.Hints(err)) == 0 {
		t.Error("no hint")
	}
	if _, err := os.Stat(s.dir); err == nil {
		t.Error("the directory was made in spite of the key")
	}
	s.server.HostKeys = append(s.server.HostKeys, authorized(s.host.PublicKey()))
	s.dial(t) // one of several will do
	s.server.HostKeys = nil
	if _, err := Dial(t.Context(), &s.server, s.client); err == nil {
		t.Error("Dial without a known key: nil; want an error")
	}
}

func TestStranger(t *testing.T) {
	s := newStore(t, 1<<20)
	key := filepath.Join(t.TempDir(), "other")
	public, _, err := MakeKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Dial(t.Context(), &s.server, other)
	if err == nil || !strings.Contains(strings.Join(ui.Hints(err), "\n"), public) {
		t.Errorf("Dial with a key that may not come in: %v, hints %q; want our public key in one", err, ui.Hints(err))
	}
}

// The next address is tried when nobody answers at the first.
func TestAddresses(t *testing.T) {
	s := newStore(t, 1<<20)
	s.server.Addresses = append([]netip.Addr{netip.MustParseAddr("::1")}, s.server.Addresses...)
	s.dial(t)
	s.server.Addresses = s.server.Addresses[:1]
	if _, err := Dial(t.Context(), &s.server, s.client); err == nil || !strings.Contains(err.Error(), "store at ::1") {
		t.Errorf("Dial of nobody: %v; want an error with the address", err)
	}
}

// proxy is a line that can be cut or go dead.
type proxy struct {
	l    net.Listener
	mu   sync.Mutex
	dead bool
	all  []net.Conn
}

func newProxy(t *testing.T, s *store) *proxy {
	t.Helper()
	to := netip.AddrPortFrom(s.server.Addresses[0], s.server.Port).String()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l}
	s.server.Port = netip.MustParseAddrPort(l.Addr().String()).Port()
	var g sync.WaitGroup
	t.Cleanup(func() { l.Close(); p.cut(); g.Wait() })
	g.Go(func() {
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", to)
			if err != nil {
				a.Close()
				return
			}
			p.mu.Lock()
			p.all = append(p.all, a, b)
			p.mu.Unlock()
			g.Go(func() { p.carry(a, b) })
			g.Go(func() { p.carry(b, a) })
		}
	})
	return p
}

func (p *proxy) carry(to, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			return
		}
		p.mu.Lock()
		dead := p.dead
		p.mu.Unlock()
		if dead {
			continue // what was sent is lost
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.all {
		c.Close()
	}
}

func TestCut(t *testing.T) {
	s := newStore(t, 1<<30)
	p := newProxy(t, s)
	c, err := s.dial(t).Begin(t.Context(), "cut")
	if err != nil {
		t.Fatal(err)
	}
	f, err := c.Create("vmcore")
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 1<<20)
	for i := range int64(1 << 10) {
		if i == 3 {
			p.cut()
		}
		if _, err = f.WriteAt(block, i<<20); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrLost) {
		t.Errorf("WriteAt over a line that was cut: %v; want ErrLost", err)
	}
	if err := f.Close(); err == nil {
		t.Error("Close over a line that was cut: nil; want an error")
	}
	if err := c.Commit(); err == nil {
		t.Error("Commit over a line that was cut: nil; want an error")
	}
	if err := c.Abort(); err != nil {
		t.Errorf("Abort: %v", err)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "cut"+target.IncompleteSuffix, "vmcore")); err != nil {
		t.Errorf("what was written is gone: %v", err)
	}
}

// A line that went dead without a word does not hold us after the deadline.
func TestDead(t *testing.T) {
	s := newStore(t, 1<<30)
	p := newProxy(t, s)
	ctx, cancel := context.WithCancelCause(t.Context())
	tgt, err := Dial(ctx, &s.server, s.client)
	if err != nil {
		t.Fatal(err)
	}
	defer tgt.Close()
	c, err := tgt.Begin(ctx, "dead")
	if err != nil {
		t.Fatal(err)
	}
	f, err := c.Create("vmcore")
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.dead = true
	p.mu.Unlock()
	late := errors.New("the target's time is over")
	cancel(late)
	start := time.Now()
	if _, err := f.WriteAt(make([]byte, 1<<20), 0); !errors.Is(err, ErrLost) || !errors.Is(err, late) {
		t.Errorf("WriteAt over a dead line: %v; want ErrLost because of the deadline", err)
	}
	if took := time.Since(start); took > afterwards+5*time.Second {
		t.Errorf("it took %v; want %v", took, afterwards)
	}
}
