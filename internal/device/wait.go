package device

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/panicroom-kdump/panicroom/internal/sys"
)

// Found is a filesystem that was waited for.
type Found struct {
	Device string // file of the block device, like /dev/vda1
	Filesystem
}

// NotFoundError is the error of a filesystem that did not come.
type NotFoundError struct {
	UUID string
	// Seen are the block devices that came instead, with what was on them.
	Seen []string
	Err  error // why the waiting ended
}

func (e *NotFoundError) Error() string {
	seen := "no block device came"
	if len(e.Seen) > 0 {
		seen = "there are " + strings.Join(e.Seen, ", ")
	}
	return fmt.Sprintf("no filesystem with UUID %s: %s: %v", e.UUID, seen, e.Err)
}
func (e *NotFoundError) Unwrap() error { return e.Err }

// Hints says what to do.
func (e *NotFoundError) Hints() []string {
	return []string{"if the disk was exchanged or formatted, run 'panicroom load' again; if a driver is missing, see the modules in the plan"}
}

// Source is where [Wait] learns of devices.
type Source struct {
	// FS is rooted at "/"; sys/class/block is read.
	FS fs.FS
	// Open opens a block device by its name in /dev.
	Open func(name string) (io.ReaderAt, io.Closer, error)
	// Events gives one message of the kernel per Read; it is closed by Wait.
	// An error that is not ENOBUFS (messages were lost) ends the waiting.
	Events io.ReadCloser
}

// System is the running system. Its event socket must be open before the
// modules are loaded, or not: Wait looks at what is there already.
func System() (Source, error) {
	events, err := sys.UeventSocket()
	if err != nil {
		return Source{}, err
	}
	open := func(name string) (io.ReaderAt, io.Closer, error) {
		f, err := os.Open(path.Join("/dev", name))
		return f, f, err
	}
	return Source{FS: os.DirFS("/"), Open: open, Events: events}, nil
}

// Wait returns the filesystem with a UUID as soon as it is there: it looks at
// all block devices once, then at each that the kernel announces. It never
// polls. When ctx ends first, the error is a [*NotFoundError].
func Wait(ctx context.Context, src Source, uuid string) (Found, error) {
	// The socket was opened before the first look, so nothing is missed
	// between looking and listening.
	stop := context.AfterFunc(ctx, func() { src.Events.Close() })
	defer src.Events.Close()
	defer stop()
	w := &waiter{src: src, uuid: uuid, seen: map[string]string{}}
	if w.scan() {
		return w.found, nil
	}
	buf := make([]byte, 64<<10) // UEVENT_BUFFER_SIZE is 2048; a message over the buffer would be cut
	for ctx.Err() == nil {
		n, err := src.Events.Read(buf)
		if err != nil {
			if errors.Is(err, syscall.ENOBUFS) {
				if w.scan() {
					return w.found, nil
				}
				continue
			}
			if ctx.Err() == nil {
				return Found{}, w.notFound(fmt.Errorf("device events: %w", err))
			}
			break
		}
		if e, ok := parseEvent(buf[:n]); ok && w.look(e) {
			return w.found, nil
		}
	}
	return Found{}, w.notFound(context.Cause(ctx))
}

// waiter is the state of one Wait.
type waiter struct {
	src   Source
	uuid  string
	found Found
	seen  map[string]string // by device, what was on it
}

func (w *waiter) notFound(err error) error {
	e := &NotFoundError{UUID: w.uuid, Err: err}
	for name, what := range w.seen {
		e.Seen = append(e.Seen, name+" ("+what+")")
	}
	slices.Sort(e.Seen)
	return e
}

// maxSeen bounds what is remembered for the error text.
const maxSeen = 64

// scan looks at all block devices.
func (w *waiter) scan() bool {
	all, err := names(w.src.FS, "sys/class/block")
	if err != nil {
		return false
	}
	for _, name := range all {
		dir, err := resolve(w.src.FS, path.Join("sys/class/block", name))
		if err != nil {
			continue
		}
		if size, _ := readSmall(w.src.FS, path.Join(dir, "size")); strings.TrimSpace(size) == "0" {
			continue // a loop device without file, a drive without medium
		}
		if w.look(devName(w.src.FS, dir)) {
			return true
		}
	}
	return false
}

// look looks at one block device.
func (w *waiter) look(name string) bool {
	what := ""
	r, c, err := w.src.Open(name)
	if err == nil {
		defer c.Close()
		var all []Filesystem
		all, err = identifyAll(r)
		for _, f := range all {
			if strings.EqualFold(f.UUID, w.uuid) {
				w.found = Found{Device: path.Join("/dev", name), Filesystem: f}
				return true
			}
			what = f.String()
		}
	}
	switch {
	case err != nil:
		what = err.Error()
	case what == "":
		what = "no known filesystem"
	}
	if len(w.seen) < maxSeen {
		w.seen[name] = what
	}
	return false
}

// parseEvent reads a message of the kernel: "add@/devices/…", then KEY=VALUE
// strings, all ended by zeros (lib/kobject_uevent.c, Linux 7.2). It returns
// the name in /dev of a block device that came or changed.
func parseEvent(b []byte) (devname string, ok bool) {
	var action, subsystem string
	for field := range bytes.SplitSeq(b, []byte{0}) {
		k, v, _ := strings.Cut(string(field), "=")
		switch k {
		case "ACTION":
			action = v
		case "SUBSYSTEM":
			subsystem = v
		case "DEVNAME":
			devname = v
		}
	}
	return devname, (action == "add" || action == "change") && subsystem == "block" && fs.ValidPath(devname) && devname != "."
}
