package sshdir

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"

	"github.com/panicroom-kdump/panicroom/internal/ui"
)

const (
	// Silence is how long the other machine may say nothing, asked every
	// keepAlive, before it is taken for lost.
	Silence   = 30 * time.Second
	keepAlive = 5 * time.Second
	// connectLimit bounds connecting and logging in at one address; a phase has
	// its own deadline beside.
	connectLimit = 60 * time.Second

	// requests of packets are on their way for one write at a time, and writes
	// are made at a time: half a MiB each, more than lines of 100 ms and a
	// gigabit hold in the time that a disk takes.
	packet   = 32 << 10
	requests = 16
	writes   = 4
)

// ErrHostKey: the other machine has another key than it had.
var ErrHostKey = errors.New("host key is not the known one")

// HostKeyError is the error of a machine with a key that is not known. It is
// [ErrHostKey].
type HostKeyError struct {
	Host string
	Got  string // fingerprint
	Want []string
}

func (e *HostKeyError) Error() string {
	return fmt.Sprintf("%s: %v: it has %s, known is %s", e.Host, ErrHostKey, e.Got, strings.Join(e.Want, ", "))
}
func (e *HostKeyError) Unwrap() error { return ErrHostKey }

// Hints says what to do.
func (e *HostKeyError) Hints() []string {
	return []string{"if the host was installed anew, bring the file of known hosts up to date and run 'panicroom load' again; if not, somebody is in between"}
}

// Dial connects to a server and makes its directory if it does not exist. The
// key is a private key as in a file. When ctx ends so does the connection, a
// moment later: whoever has noticed may still write why.
func Dial(ctx context.Context, s *Server, key []byte) (*Target, error) {
	client, err := login(ctx, s, key, func(int) time.Duration { return connectLimit })
	if err != nil {
		return nil, err
	}
	t, err := newTarget(ctx, s, client, afterwards)
	if err == nil {
		if err = t.makeDir(); err != nil {
			err = t.explain(err, "", 0, 0)
			t.Close()
		}
	}
	if err != nil {
		return nil, err
	}
	return t, nil
}

// login connects to the first address that lets us in. limit is how long one may
// take when so many are left, it among them.
func login(ctx context.Context, s *Server, key []byte, limit func(left int) time.Duration) (*ssh.Client, error) {
	config, err := s.config(key)
	if err != nil {
		return nil, err
	}
	var errs []error
	for i, a := range s.Addresses {
		client, err := connect(ctx, net.JoinHostPort(a.String(), strconv.Itoa(int(s.Port))), config, limit(len(s.Addresses)-i))
		if err == nil {
			return client, nil
		}
		if strings.Contains(err.Error(), "unable to authenticate") {
			err = ui.Hint(err, "put this line into ~"+s.User+"/.ssh/authorized_keys of "+s.Host+": "+publicKey(key))
		}
		errs = append(errs, fmt.Errorf("%s at %s: %w", s.Host, a, err))
		if ctx.Err() != nil {
			break
		}
	}
	if len(errs) == 0 {
		return nil, fmt.Errorf("%s has no address", s.Host)
	}
	return nil, errors.Join(errs...)
}

func publicKey(key []byte) string {
	signer, err := ssh.ParsePrivateKey(key)
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(signer.PublicKey())))
}

// config says who we are and whom we believe.
func (s *Server) config(key []byte) (*ssh.ClientConfig, error) {
	signer, err := ssh.ParsePrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("private key for %s: %w", s.Host, err)
	}
	var known []ssh.PublicKey
	var algorithms []string
	for _, text := range s.HostKeys {
		k, _, _, _, err := ssh.ParseAuthorizedKey([]byte(text))
		if err != nil {
			return nil, fmt.Errorf("host key of %s: %w", s.Host, err)
		}
		known = append(known, k)
		// The signature of an RSA key has more than one name.
		if k.Type() == ssh.KeyAlgoRSA {
			algorithms = append(algorithms, ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256)
		} else {
			algorithms = append(algorithms, k.Type())
		}
	}
	if len(known) == 0 {
		return nil, fmt.Errorf("no host key of %s is known", s.Host)
	}
	return &ssh.ClientConfig{
		Config: ssh.Config{Ciphers: ciphers()},
		User:   s.User, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, ClientVersion: "SSH-2.0-panicroom",
		HostKeyAlgorithms: algorithms,
		HostKeyCallback: func(_ string, _ net.Addr, got ssh.PublicKey) error {
			e := &HostKeyError{Host: s.Host, Got: ssh.FingerprintSHA256(got)}
			for _, k := range known {
				if bytes.Equal(k.Marshal(), got.Marshal()) {
					return nil
				}
				e.Want = append(e.Want, ssh.FingerprintSHA256(k))
			}
			slices.Sort(e.Want)
			return e
		},
	}, nil
}

// ciphers are those of the library, with the one first that needs no instructions
// of its own: Go's AES has none on riscv64, and ChaCha20 with Poly1305 seals 29
// MB/s where AES-GCM seals 4 (32 KiB at a time, under qemu-user; Go 1.26).
func ciphers() []string {
	all := ssh.SupportedAlgorithms().Ciphers
	return append([]string{ssh.CipherChaCha20Poly1305}, slices.DeleteFunc(all, func(c string) bool { return c == ssh.CipherChaCha20Poly1305 })...)
}

// connect logs in at one address.
func connect(ctx context.Context, address string, config *ssh.ClientConfig, limit time.Duration) (*ssh.Client, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %s", limit.Round(time.Second/10)))
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	c, channels, requests, err := ssh.NewClientConn(conn, address, config)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		conn.Close()
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		return nil, err
	}
	return ssh.NewClient(c, channels, requests), nil
}

// afterwards is how long the connection outlives its context, for last words.
const afterwards = 10 * time.Second

// newTarget speaks SFTP over a connection, which it closes if it cannot, and when
// its context has ended and so long has passed.
func newTarget(ctx context.Context, s *Server, client *ssh.Client, afterwards time.Duration) (*Target, error) {
	t := &Target{server: s, name: s.String(), ssh: client, writes: make(chan struct{}, writes), ended: make(chan struct{})}
	t.stop = context.AfterFunc(ctx, func() {
		select {
		case <-time.After(afterwards):
			t.lose(context.Cause(ctx))
		case <-t.ended:
		}
	})
	go t.watch()
	var err error
	if t.sftp, err = sftp.NewClient(client, sftp.MaxPacket(packet), sftp.MaxConcurrentRequestsPerFile(requests), sftp.UseConcurrentWrites(true)); err != nil {
		err = t.explain(err, "", 0, 0)
		t.Close()
		return nil, err
	}
	return t, nil
}

// watch asks for a sign of life as long as the connection stands.
func (t *Target) watch() {
	tick := time.NewTicker(keepAlive)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-t.ended:
			return
		}
		answer := make(chan error, 1)
		go func() {
			// Whoever does not know the request has to answer, too (RFC 4254, 4).
			_, _, err := t.ssh.SendRequest("keepalive@openssh.com", true, nil)
			answer <- err
		}()
		late := time.NewTimer(Silence)
		select {
		case err := <-answer:
			late.Stop()
			if err != nil {
				t.lose(err)
				return
			}
		case <-late.C:
			t.lose(fmt.Errorf("no answer for %s", Silence))
			return
		case <-t.ended:
			late.Stop()
			return
		}
	}
}

// lose gives the connection up; everything that waits for it fails.
func (t *Target) lose(why error) {
	t.mu.Lock()
	if t.lost == nil {
		t.lost = why
	}
	t.mu.Unlock()
	t.ssh.Close()
}
