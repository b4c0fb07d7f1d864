package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/internal/sys"
)

// stick writes to a disk that does not answer, for ever, and returns when the disk
// has as many of the writes as it takes and all of them wait. Such a disk takes the
// first write and counts its bytes: those after it are not answered.
func stick(s *script.Stick) error {
	disk := diskOf(s.Serial)
	if disk == "" {
		return fmt.Errorf("no disk %s", s.Serial)
	}
	f, err := sys.OpenDirect(disk)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(aligned(mib), 0); err != nil {
		return fmt.Errorf("first write to %s: %w", disk, err)
	}
	failed := make(chan error, len(s.Bytes))
	for i, n := range s.Bytes {
		go func() {
			_, err := f.WriteAt(aligned(n), int64(i+1)*mib)
			failed <- fmt.Errorf("write %d to %s ended: %v", i, disk, err)
		}()
	}
	// The kernel tells nobody when a request goes out: its counters are looked at.
	counters := filepath.Join("/sys/class/block", filepath.Base(disk), "inflight")
	late := time.After(deviceLimit)
	for {
		text, err := os.ReadFile(counters)
		if err != nil {
			return err
		}
		var reads, writes int
		if _, err := fmt.Sscan(string(text), &reads, &writes); err != nil {
			return fmt.Errorf("%s: %q: %w", counters, text, err)
		}
		blocked := blockedThreads()
		if writes >= s.Taken && blocked == len(s.Bytes) {
			return nil
		}
		select {
		case err := <-failed:
			return err
		case <-late:
			return fmt.Errorf("%s: %q, and %d threads blocked after %s; want %d writes and %d",
				counters, text, blocked, deviceLimit, s.Taken, len(s.Bytes))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// blockedThreads are how many threads of this process are in state D, which is the
// first word behind the name.
func blockedThreads() (n int) {
	stats, _ := filepath.Glob("/proc/self/task/*/stat")
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		if i := bytes.LastIndexByte(text, ')'); bytes.HasPrefix(text[i+1:], []byte(" D ")) {
			n++
		}
	}
	return n
}

// aligned are so many bytes at an address that a device can read from.
func aligned(n int) []byte {
	const page = 4096
	b := make([]byte, n+page)
	return b[-uintptr(unsafe.Pointer(&b[0]))%page:][:n]
}
