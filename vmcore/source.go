package vmcore

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync"

	"github.com/panicroom-kdump/panicroom/internal/sys"
)

const (
	// oldMemoryWindow is the length of one mapping of /proc/vmcore for who goes
	// through it in order. Mapping old memory costs per system call and per
	// page, and nothing per window beyond 1 MiB (kexec list, February 2013).
	oldMemoryWindow = 1 << 20
	// fileWindow is that of any other file. Its pages are memory of this
	// process, and a page fault brings 64 KiB at most.
	fileWindow = 512 << 10
	// sharedWindow and sharedWindows are the length and the number of those that
	// Dump.ReadPhys keeps: page tables, struct pages, kernel image and stacks
	// stay mapped during an analysis. They lie far apart, so many short windows
	// do more than a few long ones.
	sharedWindow  = 128 << 10
	sharedWindows = 32
	// elfReaderWindows and kdumpReaderWindows are how many windows a Reader
	// keeps. It goes through memory in order, and never back; a kdump file is
	// then read in four places: second bitmap, descriptors, the shared page of
	// zeros, and data, each of which may be about to cross into the next window.
	elfReaderWindows   = 1
	kdumpReaderWindows = 8
)

// errFault is the cause of an error when touching a mapped page raised a
// memory fault: the hardware or the filesystem cannot give this page.
var errFault = errors.New("memory fault")

// source is the file under a dump, for page data. Headers and notes are read
// through io.ReaderAt: in /proc/vmcore the kernel keeps them in its own memory.
type source interface {
	// readAt is io.ReaderAt's, except that it goes on until p is full or a
	// page fails: then it gives the bytes before that page.
	readAt(p []byte, off int64) (int, error)
	// nextPage looks through at most the given number of pages from off on: it
	// counts those of zeros and stops at the first other one, which is copied
	// to page. An error is about the page behind those of zeros.
	nextPage(page []byte, off int64, most int) (zeros int, found bool, err error)
	// fork gives a source for one goroutine that keeps windows of its own.
	fork(windows int) source
	// close gives up the windows, not the file.
	close() error
}

// newSource chooses how page data of r is read: mapped if it is a file, read
// otherwise.
func newSource(r io.ReaderAt, size int64) source {
	if flat, ok := r.(*flatFile); ok {
		return &flatSource{flat, newSource(flat.r, flat.rSize)}
	}
	f, ok := r.(*os.File)
	if !ok {
		return readerSource{r}
	}
	s := &mappedSource{file: f, size: size, max: sharedWindows, window: sharedWindow, forked: fileWindow}
	// A window of /proc/vmcore is never replaced by read(2): that maps and
	// unmaps the old memory page by page (copy_oldmem_page in
	// arch/riscv/kernel/crash_dump.c, Linux 7.2) and, on kernels with
	// hardened usercopy, may end the crash kernel.
	fs, err := sys.StatFS(f.Name())
	s.mayRead = err != nil || fs.Magic != sys.ProcSuperMagic
	if !s.mayRead {
		s.forked = oldMemoryWindow
	}
	return s
}

// readerSource reads page data through io.ReaderAt.
type readerSource struct{ r io.ReaderAt }

func (s readerSource) readAt(p []byte, off int64) (int, error) { return readFull(s.r, p, uint64(off)) }
func (s readerSource) fork(int) source                         { return s }
func (s readerSource) close() error                            { return nil }

// mappedSource reads page data through windows mapped from the file.
type mappedSource struct {
	file    *os.File
	size    int64
	max     int   // windows
	window  int64 // bytes of one, a power of two
	forked  int64 // of one of a fork
	mayRead bool  // read(2) may stand in where mmap(2) is refused

	mu      sync.Mutex
	windows []*window // most recently used first
}

// window is one mapping of a file.
type window struct {
	off   int64 // of the file, a multiple of the mapping's length
	data  []byte
	users int  // goroutines copying from data
	dead  bool // dropped from the list: the last user unmaps
}

func (s *mappedSource) fork(windows int) source {
	return &mappedSource{file: s.file, size: s.size, max: windows, window: s.forked, forked: s.forked, mayRead: s.mayRead}
}

func (s *mappedSource) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, w := range s.windows {
		errs = append(errs, s.drop(w))
	}
	s.windows = nil
	return errors.Join(errs...)
}

// drop unmaps w, now or when its last user is done. s.mu is held.
func (s *mappedSource) drop(w *window) error {
	w.dead = true
	if w.users > 0 {
		return nil
	}
	return sys.Munmap(w.data)
}

// acquire gives the window that covers file offset off, for use until release.
func (s *mappedSource) acquire(off int64) (*window, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, w := range s.windows {
		if off >= w.off && off < w.off+int64(len(w.data)) {
			copy(s.windows[1:i+1], s.windows[:i])
			s.windows[0] = w
			w.users++
			return w, nil
		}
	}
	w, err := s.mapWindow(off)
	if err != nil {
		return nil, err
	}
	if len(s.windows) >= s.max {
		last := len(s.windows) - 1
		// An error here would be about memory already given up.
		_ = s.drop(s.windows[last])
		s.windows = s.windows[:last]
	}
	s.windows = append(s.windows, nil)
	copy(s.windows[1:], s.windows)
	s.windows[0] = w
	w.users = 1
	return w, nil
}

// mapWindow maps the window around off. When the kernel refuses it, ever
// smaller ones down to one page are tried: one page that cannot be mapped
// shall not cost its neighbours.
func (s *mappedSource) mapWindow(off int64) (*window, error) {
	page := int64(os.Getpagesize())
	for length := s.window; ; length /= 2 {
		start := off / length * length
		data, err := sys.MmapRead(s.file, start, int(min(length, s.size-start)))
		if err == nil {
			return &window{off: start, data: data}, nil
		}
		if length <= page || errors.Is(err, sys.ErrNotSupportedOnOS) {
			return nil, err
		}
	}
}

func (s *mappedSource) release(w *window) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.users--
	if w.dead && w.users == 0 {
		_ = sys.Munmap(w.data)
	}
}

func (s *mappedSource) readAt(p []byte, off int64) (int, error) {
	done := 0
	for done < len(p) {
		at := off + int64(done)
		if at < 0 || at >= s.size {
			return done, io.ErrUnexpectedEOF
		}
		w, err := s.acquire(at)
		if err != nil {
			if !s.mayRead {
				return done, err
			}
			n, err := readFull(s.file, p[done:], uint64(at))
			return done + n, err
		}
		src := w.data[at-w.off:]
		n := min(len(src), len(p)-done)
		n, err = copyMapped(p[done:done+n], src[:n], int(at%int64(os.Getpagesize())))
		s.release(w)
		done += n
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// copyMapped copies from mapped memory. If a page faults it gives the number
// of bytes before that page. skew is how far src is into its first page.
func copyMapped(dst, src []byte, skew int) (int, error) {
	if err := copyOrFault(dst, src); err == nil {
		return len(src), nil
	}
	// Which bytes a failed copy had moved is unknown: again, page by page.
	for n := 0; n < len(src); {
		m := min(os.Getpagesize()-skew, len(src)-n)
		skew = 0
		if err := copyOrFault(dst[n:n+m], src[n:n+m]); err != nil {
			return n, err
		}
		n += m
	}
	return len(src), nil
}

// copyOrFault copies src to dst and turns a memory fault into an error.
func copyOrFault(dst, src []byte) (err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			err = faultError(r)
		}
	}()
	copy(dst, src)
	return nil
}

// faultError is the error for a panic of touching mapped memory.
func faultError(r any) error {
	// Only a fault carries an address; any other panic is a bug.
	if _, ok := r.(interface{ Addr() uintptr }); !ok {
		panic(r)
	}
	return fmt.Errorf("%w in a mapped window", errFault)
}
