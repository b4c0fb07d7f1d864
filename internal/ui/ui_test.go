package ui

import (
	"bytes"
	"errors"
	"fmt"
	"testing"
	"time"
)

func TestBytes(t *testing.T) {
	for _, c := range []struct {
		n    uint64
		want string
	}{
		{0, "0 B"}, {1023, "1023 B"}, {1024, "1 KiB"}, {1536, "1.5 KiB"},
		{128 << 20, "128 MiB"}, {1910423552, "1.8 GiB"}, {1<<30 - 1, "1 GiB"}, {1 << 40, "1 TiB"},
	} {
		if got := Bytes(c.n); got != c.want {
			t.Errorf("Bytes(%d) = %q; want %q", c.n, got, c.want)
		}
	}
}

func TestSeconds(t *testing.T) {
	for _, c := range []struct {
		d    time.Duration
		want string
	}{
		{120 * time.Millisecond, "0.12 s"}, {9800 * time.Millisecond, "9.8 s"},
		{73 * time.Second, "73 s"}, {310 * time.Second, "5m10s"},
	} {
		if got := Seconds(c.d); got != c.want {
			t.Errorf("Seconds(%v) = %q; want %q", c.d, got, c.want)
		}
	}
}

func TestHints(t *testing.T) {
	inner := Hint(errors.New("no room"), "crashkernel=128M", "reboot")
	err := Hint(fmt.Errorf("segment 3: %w", errors.Join(errors.New("other"), inner)), "see dmesg", "reboot")
	want := []string{"see dmesg", "reboot", "crashkernel=128M"}
	if got := Hints(err); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("Hints = %q; want %q", got, want)
	}
	var b bytes.Buffer
	WriteError(&b, "panicroom", inner)
	if got, want := b.String(), "panicroom: no room\nhint: crashkernel=128M\nhint: reboot\n"; got != want {
		t.Errorf("WriteError = %q; want %q", got, want)
	}
	b.Reset()
	if err := WriteErrorJSON(&b, inner, 4); err != nil {
		t.Fatal(err)
	}
	if got, want := b.String(), `{"error":{"message":"no room","hints":["crashkernel=128M","reboot"],"exit_code":4}}`+"\n"; got != want {
		t.Errorf("WriteErrorJSON = %q; want %q", got, want)
	}
	if Hint(nil, "x") != nil {
		t.Error("Hint(nil) is not nil")
	}
}

// The time before the total is known is not counted.
func TestProgressOfPreparing(t *testing.T) {
	now := time.Unix(0, 0)
	var b bytes.Buffer
	p := NewProgress(&b, "saving", ProgressOptions{Now: func() time.Time { return now }})
	now = now.Add(10 * time.Second)
	p.Update(0, 0, "50% of page structs")
	now = now.Add(10 * time.Second)
	p.Update(0, 1<<30, "")
	now = now.Add(10 * time.Second)
	p.Update(256<<20, 1<<30, "")
	want := "saving: 50% of page structs\nsaving:   0%  0 B of 1 GiB\nsaving:  25%  256 MiB of 1 GiB, 25.6 MiB/s, 30 s left\n"
	if got := b.String(); got != want {
		t.Errorf("drew %q; want %q", got, want)
	}
}

func TestProgress(t *testing.T) {
	now := time.Unix(0, 0)
	clock := func() time.Time { return now }
	for _, c := range []struct {
		style Style
		want  string
	}{
		{Lines, "saving:  25%  256 MiB of 1 GiB, 25.6 MiB/s, 30 s left\nsaving: 100%  1 GiB of 1 GiB, 51.2 MiB/s, 20 s\n"},
		{Redraw, "\rsaving:  25%  256 MiB of 1 GiB, 25.6 MiB/s, 30 s left\rsaving: 100%  1 GiB of 1 GiB, 51.2 MiB/s, 20 s       \n"},
	} {
		var b bytes.Buffer
		now = time.Unix(0, 0)
		p := NewProgress(&b, "saving", ProgressOptions{Style: c.style, Now: clock})
		p.Update(1<<20, 1<<30, "too early to draw")
		now = now.Add(10 * time.Second)
		p.Update(256<<20, 1<<30, "")
		now = now.Add(10 * time.Second)
		p.Done(1<<30, 1<<30, "")
		if got := b.String(); got != c.want {
			t.Errorf("style %d drew %q; want %q", c.style, got, c.want)
		}
	}
}

// Where a line has no room, what comes last is left out whole.
func TestProgressOfNarrowTerminal(t *testing.T) {
	now := time.Unix(0, 0)
	var b bytes.Buffer
	p := NewProgress(&b, "saving", ProgressOptions{Style: Redraw, Width: 60, Now: func() time.Time { return now }})
	now = now.Add(10 * time.Second)
	p.Update(256<<20, 1<<30, "39% of page structs")
	if got, want := b.String(), "\rsaving:  25%  256 MiB of 1 GiB, 25.6 MiB/s, 30 s left"; got != want {
		t.Errorf("drew %q; want %q", got, want)
	}
}
