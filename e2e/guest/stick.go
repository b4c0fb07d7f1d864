package main

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
	"unsafe"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/internal/sys"
)

// stick writes to a disk that does not answer, for ever, and returns when the
// kernel counts all the writes as under way. Such a disk takes the first write and
// counts its bytes: those after it are not answered for as many seconds. It is
// small enough to be one request.
func stick(s *script.Stick) error {
	disk := diskOf(s.Serial)
	if disk == "" {
		return fmt.Errorf("no disk %s", s.Serial)
	}
	f, err := sys.OpenDirect(disk)
	if err != nil {
		return err
	}
	if _, err := f.WriteAt(aligned(64<<10), 0); err != nil {
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
		if writes == len(s.Bytes) {
			return nil
		}
		select {
		case err := <-failed:
			return err
		case <-late:
			return fmt.Errorf("%s: %q after %s; want %d writes", counters, text, deviceLimit, len(s.Bytes))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// aligned are so many bytes at an address that a device can read from.
func aligned(n int) []byte {
	const page = 4096
	b := make([]byte, n+page)
	return b[-uintptr(unsafe.Pointer(&b[0]))%page:][:n]
}
