package sshdir

import (
	"context"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/target"
)

// look looks, and checks that nothing is left.
func (s *store) look(t *testing.T) (State, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var before []string
	walk := func() (all []string) {
		if err := filepath.WalkDir(filepath.Dir(filepath.Dir(s.dir)), func(path string, _ fs.DirEntry, err error) error {
			all = append(all, path)
			return err
		}); err != nil {
			t.Fatal(err)
		}
		return all
	}
	before = walk()
	state, err := Look(ctx, &s.server, s.client)
	if after := walk(); strings.Join(before, "\n") != strings.Join(after, "\n") {
		t.Errorf("before the look there was %q, and after it %q", before, after)
	}
	return state, err
}

func TestLook(t *testing.T) {
	s := newStore(t, 1<<20)
	if got, err := s.look(t); err != nil || got != (State{Missing: true, Free: 1 << 20, Known: true}) {
		t.Errorf("Look at what a crash will make = %+v, %v", got, err)
	}
	s.dial(t) // makes it
	if got, err := s.look(t); err != nil || got != (State{Free: 1 << 20, Known: true}) {
		t.Errorf("Look = %+v, %v", got, err)
	}
}

// What a look has left that was cut off goes with the next one.
func TestLookAfterCut(t *testing.T) {
	s := newStore(t, 1<<20)
	s.dial(t)
	s.files.refuse = "Rmdir"
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := Look(ctx, &s.server, s.client); err == nil || !strings.Contains(err.Error(), "stays") {
		t.Errorf("Look that cannot clean up: %v; want an error that says what stays", err)
	}
	left, err := os.ReadDir(s.dir)
	if err != nil || len(left) != 1 {
		t.Fatalf("%d entries, %v; want one that stays", len(left), err)
	}
	s.files.refuse = ""
	if _, err := Look(ctx, &s.server, s.client); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(s.dir); err != nil || len(left) > 0 {
		t.Errorf("%d entries, %v; want none", len(left), err)
	}
}

func TestLookRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(*store)
		is   error
		says string
	}{
		{"another host key", func(s *store) { s.server.HostKeys = []string{authorized(newSigner(t).PublicKey())} }, ErrHostKey, "load"},
		{"nobody listens", func(s *store) { s.server.Addresses = []netip.Addr{netip.MustParseAddr("::1")} }, nil, ""},
		{"no right to write", func(s *store) { s.files.refuse = "Mkdir" }, fs.ErrPermission, ""},
		{"full", func(s *store) { s.files.disk.left, s.files.full = 0, true }, target.ErrNoSpace, "remove old crashes"},
		{"no directory", func(s *store) { s.server.Dir = s.dir + "/../../key/x" }, nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newStore(t, 1<<20)
			tt.do(s)
			_, err := s.look(t)
			if err == nil || tt.is != nil && !errors.Is(err, tt.is) || !strings.Contains(strings.Join(ui.Hints(err), "\n"), tt.says) {
				t.Errorf("Look: %v, hints %q; want %v, %q", err, ui.Hints(err), tt.is, tt.says)
			}
		})
	}
}

// A line that says nothing holds nobody longer than the context.
func TestLookDead(t *testing.T) {
	s := newStore(t, 1<<20)
	p := newProxy(t, s)
	p.mu.Lock()
	p.dead = true
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := Look(ctx, &s.server, s.client)
	if took := time.Since(start); err == nil || !errors.Is(err, context.DeadlineExceeded) && !strings.Contains(err.Error(), "no answer") || took > 3*time.Second {
		t.Errorf("Look over a dead line: %v after %v", err, took)
	}
}

// Names with colons get hyphens where OpenSSH says what it makes of EINVAL.
func TestWithoutColons(t *testing.T) {
	s := newStore(t, 1<<20)
	s.files.noColons = true
	c, err := s.dial(t).Begin(t.Context(), "2026-11-25T12:00:00Z-6.12")
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(s.dir, "2026-11-25T12-00-00Z-6.12-incomplete"); c.Path() != want {
		t.Errorf("path %s; want %s", c.Path(), want)
	}
}
