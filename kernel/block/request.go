// Package block tells which disks a dead kernel had, and which requests to them
// were under way.
package block

import "github.com/panicroom-kdump/panicroom/kernel"

// Disk is a block device as a whole.
type Disk struct {
	Addr     kernel.VirtAddr `json:"addr"` // of its struct gendisk
	Name     string          `json:"name"`
	Bytes    uint64          `json:"bytes"`
	InFlight []Request       `json:"in_flight,omitempty"`
}

// Request is a request that the driver had not answered: struct request of
// blk-mq.
type Request struct {
	Addr   kernel.VirtAddr `json:"addr"`
	Op     string          `json:"op"`     // "read", "write", "flush", "discard", ...
	Sector uint64          `json:"sector"` // of 512 bytes
	Bytes  uint64          `json:"bytes"`
	// Age is how long before the crash it was begun, in nanoseconds; 0 if unknown.
	Age uint64 `json:"age_ns,omitempty"`
}
