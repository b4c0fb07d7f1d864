package device

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// events is a socket whose messages come from a channel; what is run before a
// message is given is the test's.
type events struct {
	messages chan func() (string, error)
	closed   chan struct{}
}

func newEvents(messages ...func() (string, error)) *events {
	e := &events{make(chan func() (string, error), len(messages)), make(chan struct{}, 8)}
	for _, m := range messages {
		e.messages <- m
	}
	return e
}

func (e *events) Read(p []byte) (int, error) {
	select {
	case m := <-e.messages:
		text, err := m()
		return copy(p, text), err
	case <-e.closed:
		return 0, os.ErrClosed
	}
}

func (e *events) Close() error { e.closed <- struct{}{}; return nil }

func say(text string) func() (string, error) {
	return func() (string, error) { return strings.ReplaceAll(text, "|", "\x00"), nil }
}

// disks opens images by device name.
type disks map[string][]byte

func (d disks) open(name string) (io.ReaderAt, io.Closer, error) {
	b, ok := d[name]
	if !ok {
		return nil, nil, &fs.PathError{Op: "open", Path: "/dev/" + name, Err: fs.ErrNotExist}
	}
	return bytes.NewReader(b), io.NopCloser(nil), nil
}

const wanted = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"

func TestWaitThereAlready(t *testing.T) {
	d := disks{"vda": make([]byte, 128<<10), "vda1": superblock(t, "ext4")}
	got, err := Wait(t.Context(), Source{sysfs, d.open, newEvents()}, strings.ToUpper(wanted))
	if err != nil || got.Device != "/dev/vda1" || got.Type != "ext4" {
		t.Errorf("Wait = %+v, %v; want /dev/vda1", got, err)
	}
}

func TestWaitComesLater(t *testing.T) {
	d := disks{"vda1": superblock(t, "vfat")}
	e := newEvents(
		say("add@/devices/x/net/eth0|ACTION=add|SUBSYSTEM=net|INTERFACE=eth0"),
		say("add@/devices/y/block/sda|ACTION=add|SUBSYSTEM=block|DEVNAME=sda|SEQNUM=1"), // without medium
		say("remove@/devices/y/block/sdb|ACTION=remove|SUBSYSTEM=block|DEVNAME=sdb"),
		func() (string, error) {
			d["sda"] = superblock(t, "xfs")
			return say("change@/devices/y/block/sda|ACTION=change|SUBSYSTEM=block|DEVNAME=sda|DISK_MEDIA_CHANGE=1")()
		})
	got, err := Wait(t.Context(), Source{sysfs, d.open, e}, wanted)
	if err != nil || got.Device != "/dev/sda" || got.Type != "xfs" {
		t.Errorf("Wait = %+v, %v; want /dev/sda", got, err)
	}
}

func TestWaitLostMessages(t *testing.T) {
	d := disks{}
	e := newEvents(func() (string, error) {
		d["vda1"] = superblock(t, "ext4")
		return "", &fs.PathError{Op: "read", Path: "uevent", Err: syscall.ENOBUFS}
	})
	if got, err := Wait(t.Context(), Source{sysfs, d.open, e}, wanted); err != nil || got.Device != "/dev/vda1" {
		t.Errorf("Wait = %+v, %v; want /dev/vda1", got, err)
	}
}

func TestWaitInVain(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	d := disks{"vda": make([]byte, 4096), "vda1": superblock(t, "vfat")}
	late := errors.New("30 s are over")
	e := newEvents(func() (string, error) { cancel(late); return "", os.ErrClosed })
	_, err := Wait(ctx, Source{sysfs, d.open, e}, wanted)
	var nf *NotFoundError
	if !errors.As(err, &nf) || !errors.Is(err, late) {
		t.Fatalf("Wait: %v; want NotFoundError with the context's cause", err)
	}
	want := "no filesystem with UUID " + wanted + ": there are vda (no known filesystem), vda1 (vfat 1234-ABCD): 30 s are over"
	if err.Error() != want {
		t.Errorf("error %q; want %q", err, want)
	}
	if len(ui.Hints(err)) == 0 {
		t.Error("no hint")
	}
}

func TestWaitBrokenSocket(t *testing.T) {
	e := newEvents(func() (string, error) { return "", errBroken })
	if _, err := Wait(t.Context(), Source{sysfs, disks{}.open, e}, wanted); !errors.Is(err, errBroken) {
		t.Errorf("Wait on a broken socket: %v; want the socket's error", err)
	}
}

func FuzzParseEvent(f *testing.F) {
	f.Add([]byte("add@/devices/y/block/sda\x00ACTION=add\x00SUBSYSTEM=block\x00DEVNAME=sda\x00"))
	f.Add([]byte("ACTION=add\x00SUBSYSTEM=block\x00DEVNAME=../../etc/shadow"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if name, ok := parseEvent(b); ok && (!fs.ValidPath(name) || name == ".") {
			t.Errorf("parseEvent gave the name %q", name)
		}
	})
}
