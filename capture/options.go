package capture

import (
	"fmt"
	"io"

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
	// MemLimit is how much memory the process may have resident while it works,
	// in bytes; 0 is DefaultMemLimit. It bounds the threads. One of them takes 28
	// MiB, and less where what is mapped does not count: less is not kept.
	MemLimit uint64
	// Room is how many bytes the target takes at most, 0 if that is not known.
	// When a dump may not fit, what a report needs is given the room first.
	Room uint64
	// Progress, if not nil, hears how far the work is, after every few MiB, in
	// one goroutine. It must return soon.
	Progress func(Progress)
}

// Progress is how far saving a dump is, in bytes. First the page structs of all
// memory are looked at, and nothing is known of Total.
type Progress struct {
	Done    uint64 // of old memory, saved
	Total   uint64 // of old memory, to be saved; 0 while it is not known
	Pages   uint64 // saved
	Written int64  // to the file, holes included

	Looked uint64 // of old memory, looked at, in which most may be free
	Memory uint64 // all of it; 0 where nothing is looked at
}

// String is what there is to say beside Done and Total: of a machine whose
// memory is free for the most part, saving does not tell how far the work is.
func (p Progress) String() string {
	if p.Memory == 0 {
		return fmt.Sprintf("%d pages", p.Pages)
	}
	looked := 100 * float64(p.Looked) / float64(p.Memory)
	if p.Total == 0 {
		return fmt.Sprintf("%.0f%% of page structs", looked)
	}
	return fmt.Sprintf("%d pages, %.0f%% of memory", p.Pages, looked)
}
