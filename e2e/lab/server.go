package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/panicroom-kdump/panicroom/internal/sys"
)

// Host is the address at which a machine on QEMU's user network finds the
// loopback device of this one; HostV6 is the same for IPv6.
const (
	Host   = "10.0.2.2"
	HostV6 = "fec0::2"
)

// UserNetwork is a network device for a machine, QEMU's own network behind it.
func UserNetwork() []string {
	return []string{"-netdev", "user,id=net", "-device", "virtio-net-device,netdev=net,mac=52:54:00:12:34:56"}
}

// Server is a server on the loopback device.
type Server struct {
	Port int
	stop func() error
	out  *bytes.Buffer
}

// Stop ends the server and returns what it has said.
func (s *Server) Stop() (said string, err error) {
	err = s.stop()
	return s.out.String(), err
}

// SSHServer is OpenSSH's, for the user who runs it.
type SSHServer struct {
	*Server
	// HostKey is its public key, as "TYPE BASE64"; Key the private key that it lets
	// in, as in a file.
	HostKey string
	Key     []byte
}

// KnownHost is a line for known_hosts, of the server as a machine sees it.
func KnownHost(host string, port int, key string) string {
	return fmt.Sprintf("[%s]:%d %s\n", host, port, key)
}

// freePort is a port of the loopback device that nobody listens on.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// StartSSH starts OpenSSH's server, with its files in dir.
func StartSSH(ctx context.Context, dir string) (*SSHServer, error) {
	sshd, err := program("sshd", "openssh-server")
	if err != nil {
		return nil, err
	}
	keygen, err := program("ssh-keygen", "openssh-client")
	if err != nil {
		return nil, err
	}
	s := &SSHServer{}
	for _, name := range []string{"host", "client"} {
		if out, err := exec.CommandContext(ctx, keygen, "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", filepath.Join(dir, name)).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("ssh-keygen: %w: %s", err, out)
		}
	}
	public, err := os.ReadFile(filepath.Join(dir, "host.pub"))
	if err != nil {
		return nil, err
	}
	s.HostKey = strings.TrimSpace(string(public))
	if s.Key, err = os.ReadFile(filepath.Join(dir, "client")); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	config := strings.Join([]string{
		"Port " + strconv.Itoa(port), "ListenAddress 127.0.0.1", "ListenAddress ::1",
		"HostKey " + filepath.Join(dir, "host"), "AuthorizedKeysFile " + filepath.Join(dir, "client.pub"),
		"StrictModes no", "UsePAM no", "PasswordAuthentication no", "PermitRootLogin prohibit-password",
		"PidFile none", "Subsystem sftp internal-sftp", "",
	}, "\n")
	file := filepath.Join(dir, "sshd_config")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		return nil, err
	}
	// Debian's wants it, and only its unit makes it.
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil && !errors.Is(err, os.ErrPermission) {
		return nil, err
	}
	s.Server, err = startServer(ctx, port, sshd, "-D", "-e", "-f", file)
	return s, err
}

// NFSPort is where [StartNFS] serves: panic kernels know no other.
const NFSPort = 2049

// StartNFS starts an NFS server that exports directories under names like /crash,
// with its files in dir. Only root can.
func StartNFS(ctx context.Context, dir string, exports map[string]string) (*Server, error) {
	ganesha, err := program("ganesha.nfsd", "nfs-ganesha")
	if err != nil {
		return nil, err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "NFS_CORE_PARAM { NFS_Port = %d; Protocols = 4; Bind_addr = 127.0.0.1; Enable_NLM = false; Enable_RQUOTA = false; Enable_UDP = false; }\n", NFSPort)
	b.WriteString("NFSv4 { Graceless = true; RecoveryRoot = \"" + dir + "\"; }\n")
	n := 0
	for name, path := range exports {
		n++
		fmt.Fprintf(&b, "EXPORT { Export_Id = %d; Path = %q; Pseudo = %q; Access_Type = RW; Squash = No_root_squash; SecType = sys; Protocols = 4; Transports = TCP; FSAL { Name = VFS; } }\n", n, path, name)
	}
	file := filepath.Join(dir, "ganesha.conf")
	if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
		return nil, err
	}
	return startServer(ctx, NFSPort, ganesha, "-F", "-L", "/dev/stderr", "-N", "NIV_EVENT", "-f", file, "-p", filepath.Join(dir, "ganesha.pid"))
}

// startServer starts a program and waits until it listens.
func startServer(ctx context.Context, port int, path string, args ...string) (*Server, error) {
	at := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	if c, err := net.Dial("tcp", at); err == nil {
		c.Close()
		return nil, fmt.Errorf("somebody listens at %s already", at)
	}
	s := &Server{Port: port, out: &bytes.Buffer{}}
	cmd := exec.CommandContext(ctx, path, args...)
	out := &locked{w: s.out}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = sys.DieWithParent()
	ended, started := make(chan error, 1), make(chan error)
	go func() {
		// It dies with the thread that started it (prctl(2), PR_SET_PDEATHSIG).
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended <- cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	s.stop = sync.OnceValue(func() error {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			return err
		}
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			cmd.Process.Kill()
			<-ended
		}
		return nil
	})
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	late := time.After(time.Minute)
	for {
		select {
		case err := <-ended:
			ended <- err
			out.mu.Lock()
			defer out.mu.Unlock()
			return nil, fmt.Errorf("%s ended: %v: %s", filepath.Base(path), err, s.out)
		case <-late:
			s.stop()
			return nil, fmt.Errorf("%s does not listen at %s: %s", filepath.Base(path), at, s.out)
		case <-tick.C:
			if c, err := net.Dial("tcp", at); err == nil {
				c.Close()
				return s, nil
			}
		}
	}
}

type locked struct {
	mu sync.Mutex
	w  io.Writer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// Line is a way to a server that breaks.
type Line struct {
	Port int
	l    net.Listener
	g    sync.WaitGroup
}

// StartLine starts a way to a port that is cut once so many bytes have gone there
// over one connection, and lets nobody through again.
func StartLine(to int, after int64) (*Line, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	line := &Line{Port: l.Addr().(*net.TCPAddr).Port, l: l}
	line.g.Go(func() {
		for {
			a, err := l.Accept()
			if err != nil {
				return
			}
			b, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(to)))
			if err != nil {
				a.Close()
				continue
			}
			cut := func() { a.Close(); b.Close() }
			line.g.Go(func() {
				defer cut()
				if n, _ := io.CopyN(b, a, after); n == after {
					l.Close()
				}
			})
			line.g.Go(func() { defer cut(); io.Copy(a, b) })
		}
	})
	return line, nil
}

// Stop takes the line away, when its connections have ended.
func (l *Line) Stop() error { return l.l.Close() }
