package capture

import (
	"io"
	"runtime"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

// File is where a dump is written to. *os.File and target.File are Files.
// Parts are written with holes, which read as zeros.
type File interface {
	io.WriterAt
	Sync() error
}

// Options change how memory is saved. The zero value is the default.
type Options struct {
	// Level is the dump level, 0 to 31: which classes of pages are left out.
	Level int
	// Format is the format of the dump; "" is FormatKdump.
	Format Format
	// Compression is that of FormatKdump.
	Compression vmcore.Compression
	// Share is how many pages are remembered so that later ones of the same
	// content share their data, in FormatKdump; see [vmcore.KdumpOptions].
	Share int
	// Parts are further files of a split dump in FormatKdump.
	Parts []File
	// WriteOnce says that no byte of the file may be written twice: it is a
	// [vmcore.Flattener].
	WriteOnce bool
	// Threads is how many pages are compressed at a time; 0 is one per CPU.
	// Fewer are used if MemLimit asks for it.
	Threads int
	// MemLimit is about how much memory the work may take, in bytes; 0 is 64 MiB.
	MemLimit uint64
	// Progress, if not nil, hears how far the work is, after every few MiB, in
	// one goroutine. It must return soon.
	Progress func(Progress)
}

// Progress is how far saving a dump is, in bytes.
type Progress struct {
	Done    uint64 // of old memory, saved
	Total   uint64 // of old memory, to be saved
	Written int64  // to the file, holes included
}

const (
	// extentBytes is the unit of work, of old memory. Large enough for
	// whole-window mappings and long writes, small enough that one per thread
	// and one being written fit into any crash kernel.
	extentBytes = 4 << 20
	// defaultMemLimit leaves a 128 MiB reservation its page cache.
	defaultMemLimit = 64 << 20
	// encoderBytes is about what a compressor keeps beside its output.
	encoderBytes = 2 << 20
	// pageBytes is what an extent keeps of a page beside its data.
	pageBytes = 48
	// jobsPerThread: while one extent is compressed, another waits to be written.
	jobsPerThread = 2
)

// extentPages is how many pages have extentBytes. The largest page that a
// dump may have, of 256 KiB, goes into it many times.
func extentPages(pageSize uint64) uint64 { return extentBytes / pageSize }

// threads is how many workers fit.
func (o *Options) threads(pageSize uint64) int {
	n := o.Threads
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	limit := o.MemLimit
	if limit == 0 {
		limit = defaultMemLimit
	}
	each := jobsPerThread*(extentBytes+extentPages(pageSize)*pageBytes) + encoderBytes
	if fit := int(limit / each); n > fit {
		n = fit
	}
	return max(n, 1)
}
