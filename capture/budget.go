package capture

import "runtime"

// DefaultMemLimit is the memory that saving a dump may take when nobody says
// otherwise, in bytes.
const DefaultMemLimit = 64 << 20

// What the memory goes to. The largest process resident is that of a dump of a
// file, whose mapped windows count; those of /proc/vmcore are the dead kernel's
// memory and cost nothing.
const (
	// extentBytes is the unit of work, of old memory. Large enough for long
	// writes and for what is found anew with each extent, small enough that one
	// per thread and one being written fit into any crash kernel.
	extentBytes = 1 << 20
	// pageBytes is what an extent keeps of a page beside its data.
	pageBytes = 48
	// jobsPerThread: while one extent is compressed, another waits to be written.
	jobsPerThread = 2
	// encoderBytes is about what a compressor keeps beside its output.
	encoderBytes = 2 << 20
	// windowBytes is what a thread has mapped of a kdump-compressed file: eight
	// windows. Of an ELF core it is a quarter.
	windowBytes = 4 << 20
	// fixedBytes does not depend on threads: the binary, Go's runtime and what is
	// known of the kernel (16 MiB measured), and the windows that the survey and
	// all look-ups share, 32 of 128 KiB.
	fixedBytes = 20 << 20
)

// extentPages is how many pages have extentBytes. The largest page that a
// dump may have, of 256 KiB, goes into it many times.
func extentPages(pageSize uint64) uint64 { return extentBytes / pageSize }

// threads is how many workers fit; one always does.
func (o *Options) threads(pageSize uint64) int {
	n := o.Threads
	if n <= 0 {
		n = runtime.GOMAXPROCS(0)
	}
	limit := o.MemLimit
	if limit == 0 {
		limit = DefaultMemLimit
	}
	each := jobsPerThread*(extentBytes+extentPages(pageSize)*pageBytes) + encoderBytes + windowBytes
	if fit := int((limit - min(limit, fixedBytes)) / each); n > fit {
		n = fit
	}
	return max(n, 1)
}
