// Package mm tells what a dead kernel's memory was used for. All sizes are in
// bytes.
package mm

import "github.com/panicroom-kdump/panicroom/kernel"

// Summary is what /proc/meminfo would have said at the crash, with the parts
// that each CPU kept for itself.
type Summary struct {
	Total             uint64 `json:"total"`
	Free              uint64 `json:"free"`
	Available         uint64 `json:"available"` // as the kernel estimates it (si_mem_available)
	Buffers           uint64 `json:"buffers"`
	Cached            uint64 `json:"cached"`
	Anon              uint64 `json:"anon"`
	AnonHuge          uint64 `json:"anon_huge"` // of Anon, in transparent huge pages
	Mapped            uint64 `json:"mapped"`
	Shmem             uint64 `json:"shmem"`
	Dirty             uint64 `json:"dirty"`
	Writeback         uint64 `json:"writeback"`
	SlabReclaimable   uint64 `json:"slab_reclaimable"`
	SlabUnreclaimable uint64 `json:"slab_unreclaimable"`
	KernelStacks      uint64 `json:"kernel_stacks"`
	PageTables        uint64 `json:"page_tables"`
	Vmalloc           uint64 `json:"vmalloc"`
	PerCPU            uint64 `json:"percpu"`
	SwapTotal         uint64 `json:"swap_total"`
	SwapFree          uint64 `json:"swap_free"`
	Committed         uint64 `json:"committed"`
	CommitLimit       uint64 `json:"commit_limit"`
	// Other is what none of these counts: pages that drivers and the kernel
	// took for themselves. It is what remains of Total, and as inexact as all
	// the others together.
	Other uint64      `json:"other"`
	Huge  []HugePages `json:"huge,omitempty"`
	Zones []Zone      `json:"zones"`
	// Missing says what is not known of the above, one line each.
	Missing []string `json:"missing,omitempty"`
}

// HugePages are the reserved huge pages of one size.
type HugePages struct {
	Size     uint64 `json:"size"`
	Total    uint64 `json:"total"` // pages
	Free     uint64 `json:"free"`
	Reserved uint64 `json:"reserved"`
	Surplus  uint64 `json:"surplus"`
}

// Zone is a zone of a memory node.
type Zone struct {
	Node    int    `json:"node"`
	Name    string `json:"name"`
	Present uint64 `json:"present"`
	Managed uint64 `json:"managed"`
	Free    uint64 `json:"free"`
	Min     uint64 `json:"min"`
	Low     uint64 `json:"low"`
	High    uint64 `json:"high"`
	// Orders is the number of free blocks of each order, from single pages on.
	Orders []uint64 `json:"orders,omitempty"`
}

// Cache is a slab cache: struct kmem_cache.
type Cache struct {
	Name    string          `json:"name"`
	Addr    kernel.VirtAddr `json:"addr"`
	Object  uint64          `json:"object_size"` // of one object, as its users see it
	Objects uint64          `json:"objects"`     // room for so many in its slabs
	Slabs   uint64          `json:"slabs"`
	Bytes   uint64          `json:"bytes"` // of memory in all its slabs
}
