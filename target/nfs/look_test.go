package nfs

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// server answers as it is told; Ganesha's is for the e2e tests. What is expected on
// the line is written out here in numbers, not with the code under test.
type server struct {
	null     []byte // what follows the number of the call
	compound []byte

	mu   sync.Mutex
	seen [][]byte // calls, without their marks
}

func number(all ...uint32) []byte {
	var b bytes.Buffer
	for _, n := range all {
		binary.Write(&b, binary.BigEndian, n)
	}
	return b.Bytes()
}

// Heads of answers: accepted, with AUTH_NONE.
func accepted(status uint32, body ...uint32) []byte {
	return number(append([]uint32{1, 0, 0, 0, status}, body...)...)
}

// found is the answer to a directory that is two names deep.
func found(access, kind, high, low uint32) []byte {
	return accepted(0, 0, 0, 5, 24, 0, 15, 0, 15, 0, 3, 0, 12, access, 9, 0, 2, 2, 1024, 12, kind, high, low)
}

// failed is the answer of one whose second name has the status.
func failed(status uint32) []byte { return accepted(0, status, 0, 3, 24, 0, 15, 0, 15, status) }

func (s *server) start(t *testing.T) *Export {
	t.Helper()
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
			g.Go(func() { defer c.Close(); s.serve(c) })
		}
	})
	at := netip.MustParseAddrPort(l.Addr().String())
	return &Export{Host: "store", Addresses: []netip.Addr{at.Addr()}, Port: at.Port(), Dir: "/srv/crash"}
}

func (s *server) serve(c net.Conn) {
	for {
		mark := make([]byte, 4)
		if _, err := io.ReadFull(c, mark); err != nil {
			return
		}
		call := make([]byte, binary.BigEndian.Uint32(mark)&0x7fffffff)
		if _, err := io.ReadFull(c, call); err != nil {
			return
		}
		s.mu.Lock()
		s.seen = append(s.seen, call)
		s.mu.Unlock()
		answer := s.null
		if binary.BigEndian.Uint32(call[20:]) == 1 {
			answer = s.compound
		}
		if answer == nil {
			continue // for ever
		}
		answer = append(bytes.Clone(call[:4]), answer...)
		// In two fragments.
		c.Write(number(5))
		c.Write(answer[:5])
		c.Write(number(uint32(len(answer)-5) | 1<<31))
		c.Write(answer[5:])
	}
}

func look(t *testing.T, e *Export) (State, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	return Look(ctx, e)
}

func TestLook(t *testing.T) {
	needRoot(t)
	s := &server{null: accepted(0), compound: found(12, 2, 3, 5)}
	got, err := look(t, s.start(t))
	if want := (State{Free: 3<<32 | 5, Known: true}); err != nil || got != want {
		t.Errorf("Look = %+v, %v; want %+v", got, err, want)
	}
	null := number(1, 0, 2, 100003, 4, 0, 0, 0, 0, 0)
	if len(s.seen) != 2 || !bytes.Equal(s.seen[0], null) {
		t.Fatalf("calls %x; the first should be %x", s.seen, null)
	}
	walk := append(number(0, 0, 5, 24, 15, 3), "srv\x00\x00\x00\x00\x0f\x00\x00\x00\x05crash\x00\x00\x00"...)
	walk = append(walk, number(3, 12, 9, 2, 2, 1024)...)
	if !bytes.HasPrefix(s.seen[1], number(2, 0, 2, 100003, 4, 1, 1)) || !bytes.HasSuffix(s.seen[1], walk) {
		t.Errorf("the second call is %x; want it to end in %x", s.seen[1], walk)
	}
}

// needRoot ends a test that takes a port of root's.
func needRoot(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:700")
	if err != nil && errors.Is(err, fs.ErrPermission) {
		if os.Getenv("CI") != "" {
			t.Fatal(err)
		}
		t.Skip("only root may use the ports that servers trust")
	}
	if err == nil {
		l.Close()
	}
}

func TestLookRefused(t *testing.T) {
	needRoot(t)
	for _, tt := range []struct {
		name             string
		null, compound   []byte
		is               error
		says, note, hint string
	}{
		{"only version 3", accepted(2, 3, 3), nil, ErrVersion, "", "", ""},
		{"no NFS", accepted(1), nil, ErrVersion, "", "", ""},
		{"not for us", accepted(0), number(1, 1, 1, 5), nil, "auth_stat 5", "", "no_root_squash"},
		{"not there", accepted(0), failed(2), fs.ErrNotExist, "", "", "make /srv/crash on store"},
		{"no access", accepted(0), failed(13), fs.ErrPermission, "", "", "no_root_squash"},
		{"not to be written", accepted(0), found(4, 2, 0, 1), fs.ErrPermission, "may not write", "", "no_root_squash"},
		{"a file", accepted(0), found(12, 1, 0, 1), nil, "not a directory", "", ""},
		{"a file on the way", accepted(0), failed(20), nil, "not a directory", "", ""},
		{"another error", accepted(0), failed(5), nil, "error 5", "", ""},
		{"only newer versions", accepted(0), accepted(0, 10021, 0, 0), nil, "", "NFS 4.0", ""},
		{"Kerberos", accepted(0), failed(10016), nil, "", "AUTH_SYS", ""},
		{"a link", accepted(0), failed(10029), nil, "", "symbolic link", ""},
		{"busy", accepted(0), failed(10008), nil, "", "later", ""},
		{"nonsense", accepted(0), number(1, 0, 0, 0, 0, 0, 0, 1<<31), errNonsense, "", "", ""},
		{"short", accepted(0), number(1, 0), errNonsense, "", "", ""},
		{"without attributes", accepted(0), accepted(0, 0, 0, 1, 24, 0), errNonsense, "", "", ""},
		{"does not understand", accepted(0), accepted(4), nil, "accept_stat 4", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := look(t, (&server{null: tt.null, compound: tt.compound}).start(t))
			if tt.note != "" {
				if err != nil || got.Known || !strings.Contains(got.Note, tt.note) {
					t.Errorf("Look = %+v, %v; want a note with %q", got, err, tt.note)
				}
				return
			}
			if err == nil || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.says) || !strings.Contains(strings.Join(ui.Hints(err), "\n"), tt.hint) {
				t.Errorf("Look = %+v, %v, hints %q; want %v, %q, %q", got, err, ui.Hints(err), tt.is, tt.says, tt.hint)
			}
		})
	}
}

// A server that accepts and says nothing is not waited for.
func TestLookSilent(t *testing.T) {
	e := (&server{}).start(t)
	e.Addresses = append(e.Addresses, e.Addresses...)
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := Look(ctx, e)
	if took := time.Since(start); err == nil || !strings.Contains(err.Error(), "deadline") && !strings.Contains(err.Error(), "no answer") || took > 3*time.Second {
		t.Errorf("Look at a silent server: %v after %v", err, took)
	}
}

func TestLookNobody(t *testing.T) {
	e := (&server{}).start(t)
	e.Addresses = []netip.Addr{netip.MustParseAddr("::1")}
	if _, err := look(t, e); err == nil || !strings.Contains(err.Error(), "store at ::1") {
		t.Errorf("Look at nobody: %v", err)
	}
	e.Addresses = nil
	if _, err := look(t, e); err == nil || !strings.Contains(err.Error(), "no address") {
		t.Errorf("Look nowhere: %v", err)
	}
}

// Whoever is not root learns that the server is there, and no more.
func TestLookUntrusted(t *testing.T) {
	e := (&server{null: accepted(0)}).start(t)
	tcp, err := net.Dial("tcp", netip.AddrPortFrom(e.Addresses[0], e.Port).String())
	if err != nil {
		t.Fatal(err)
	}
	c := &conn{Conn: tcp, ctx: t.Context(), end: func() {}}
	defer c.Close()
	if got, err := c.look(e, false); err != nil || got.Known || !strings.Contains(got.Note, "only root") {
		t.Errorf("look = %+v, %v", got, err)
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(append(number(1), found(12, 2, 3, 5)...))
	f.Add(append(number(1), failed(13)...))
	f.Add(number(1, 1, 1, 1, 5))
	f.Fuzz(func(t *testing.T, b []byte) {
		record, err := readRecord(bytes.NewReader(b))
		if err == nil && len(record) > maxAnswer {
			t.Errorf("a record of %d bytes", len(record))
		}
		body, err := parseReply(b, 1)
		if err != nil {
			return
		}
		r, err := parseCompound(body)
		if err != nil {
			return
		}
		if s, err := r.state(&Export{Host: "store"}, "/x"); err == nil && s.Known && r.kind != kindDirectory {
			t.Errorf("%+v from %+v", s, r)
		}
	})
}
