package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
)

// writeCommand is the argument with which the guest starts itself as a process
// that writes to a frozen filesystem.
const writeCommand = "write-frozen"

// fifreeze is FIFREEZE of include/uapi/linux/fs.h (Linux 6.12): _IOWR('X', 119, int).
const fifreeze = 0xc0045877

// frozenLimit is how long writers may take to block.
const frozenLimit = 2 * time.Minute

// freeze freezes a filesystem and returns when all writers are blocked. They write to
// files that are open already and make new ones, in turn: two ways into the kernel.
func freeze(f *script.Freeze) error {
	dir, err := os.Open(f.Target)
	if err != nil {
		return err
	}
	defer dir.Close()
	var files []string
	for i := range f.Writers {
		path := filepath.Join(f.Target, fmt.Sprintf(".frozen-%d", i))
		if i%2 == 0 {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				return err
			}
		}
		files = append(files, path)
	}
	shared := filepath.Join(f.Target, ".frozen-shared")
	if err := os.WriteFile(shared, make([]byte, pageBytes), 0o600); f.Chains && err != nil {
		return err
	}
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, dir.Fd(), fifreeze, 0); errno != 0 {
		return fmt.Errorf("FIFREEZE of %s: %w", f.Target, errno)
	}
	for _, path := range files {
		c := exec.Command("/proc/self/exe", writeCommand, path)
		c.Stderr = os.Stderr
		if err := c.Start(); err != nil {
			return err
		}
		if err := untilBlocked(c.Process.Pid, 1); err != nil {
			return fmt.Errorf("writer of %s: %w", path, err)
		}
	}
	if f.Chains {
		return errors.Join(shareFrozen(shared), mapFrozen(shared))
	}
	return nil
}

// untilBlocked waits until so many threads of a process are in D: the kernel tells
// nobody, so it is asked again and again.
func untilBlocked(pid, threads int) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	late := time.After(frozenLimit)
	for {
		select {
		case <-late:
			return fmt.Errorf("PID %d has not %d threads blocked after %s", pid, threads, frozenLimit)
		case <-tick.C:
		}
		if n, err := blocked(pid); n >= threads || err != nil {
			return err
		}
	}
}

// blocked counts the threads of a process that are in D.
func blocked(pid int) (n int, err error) {
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return 0, err
	}
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has gone
		}
		// PID (comm) state: the name may have spaces and parentheses of its own.
		if i := bytes.LastIndex(text, []byte(") ")); i >= 0 && i+2 < len(text) && text[i+2] == 'D' {
			n++
		}
	}
	return n, nil
}

// writeFrozen writes to a file, or makes one if it is not there.
func writeFrozen(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if os.IsNotExist(err) {
		return os.Mkdir(path, 0o700)
	} else if err != nil {
		return err
	}
	_, err = f.WriteString("thawed")
	return err
}
