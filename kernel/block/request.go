// Package block tells which disks a dead kernel had, and which requests to them
// were under way.
package block

import (
	"strconv"
	"strings"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// Disk is a block device as a whole.
type Disk struct {
	Addr  kernel.VirtAddr `json:"addr"` // of its struct gendisk
	Name  string          `json:"name"`
	Bytes uint64          `json:"bytes"` // 0 is a drive without a medium
	// InFlight are the requests that the driver had not answered, the oldest
	// first. Disks without queues of blk-mq, like those of device-mapper, md and
	// zram, have none: theirs are those of the disks below.
	InFlight []Request `json:"in_flight,omitempty"`
	// Queued are requests that waited to be given to the driver.
	Queued []Request `json:"queued,omitempty"`
}

// Request is a request to a disk: struct request of blk-mq.
type Request struct {
	Addr   kernel.VirtAddr `json:"addr"`
	Op     string          `json:"op"`     // "read", "write", "flush", "discard", ...
	Sector uint64          `json:"sector"` // of 512 bytes
	Bytes  uint64          `json:"bytes"`
	// Age is how long before the crash it was begun, in nanoseconds; 0 if unknown.
	Age uint64 `json:"age_ns,omitempty"`
}

// opMask is the part of a request's flags that says what it is to do
// (REQ_OP_MASK, include/linux/blk_types.h).
const opMask = 0xff

// oldOps are the operations that have had the same numbers since 4.10, for
// kernels whose types lack enum req_op: those before 6.1 call it otherwise.
var oldOps = map[int64]string{
	0: "read", 1: "write", 2: "flush", 3: "discard", 5: "secure erase", 9: "write zeroes", 34: "drv in", 35: "drv out",
}

// opNames are the names of operations in the words of the kernel's source.
func opNames(k *kernel.Kernel) map[int64]string {
	l, err := k.Layout()
	enum := l.Enum("req_op")
	if err != nil || len(enum) == 0 {
		return oldOps
	}
	names := make(map[int64]string, len(enum))
	for name, n := range enum {
		word, ok := strings.CutPrefix(name, "REQ_OP_")
		if !ok || word == "LAST" {
			continue
		}
		names[n] = strings.ToLower(strings.ReplaceAll(word, "_", " "))
	}
	return names
}

func opName(names map[int64]string, flags uint64) string {
	op := int64(flags & opMask)
	if name, ok := names[op]; ok {
		return name
	}
	return "operation " + strconv.FormatInt(op, 10)
}
