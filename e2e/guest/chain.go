package main

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// The guest starts itself with these arguments, as a process that holds a lock
// until the end because it writes to a frozen filesystem.
const (
	shareCommand = "write-shared"
	mapCommand   = "map-frozen"
)

const pageBytes = 4096

// shareFrozen starts two processes that write to one open file. The first one
// holds the lock of the file's position, the second one waits for that.
func shareFrozen(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	for range 2 {
		c := exec.Command("/proc/self/exe", shareCommand)
		c.Stdout, c.Stderr = f, os.Stderr
		if err := c.Start(); err != nil {
			return err
		}
		if err := untilBlocked(c.Process.Pid, 1); err != nil {
			return err
		}
	}
	return nil
}

// mapFrozen starts a process of which one thread after the other blocks: writing
// to a page of a file, taking that page out of memory, putting another one in.
func mapFrozen(path string) error {
	c := exec.Command("/proc/self/exe", mapCommand, path)
	c.Stderr = os.Stderr
	// The threads are told when: the process itself must not look how far the others
	// are. Once the second one is blocked, it gets no more memory.
	var turns [2]*os.File
	for i := range turns {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		c.ExtraFiles, turns[i] = append(c.ExtraFiles, r), w
	}
	if err := c.Start(); err != nil {
		return err
	}
	for n := 1; ; n++ {
		if err := untilBlocked(c.Process.Pid, n); err != nil || n > len(turns) {
			return err
		}
		if _, err := turns[n-1].WriteString("x"); err != nil {
			return err
		}
	}
}

// blockThreads is the process of mapFrozen.
func blockThreads(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	page, err := syscall.Mmap(int(f.Fd()), 0, pageBytes, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return err
	}
	// A thread that is in a page fault keeps what the runtime lets threads run with.
	runtime.GOMAXPROCS(4)
	ended := make(chan error)
	turn := func(fd int, do func() error) {
		runtime.LockOSThread()
		var b [1]byte
		if _, err := syscall.Read(fd, b[:]); err != nil {
			ended <- err
			return
		}
		ended <- do()
	}
	go turn(3, func() error { return syscall.Munmap(page) })
	go turn(4, func() error {
		_, err := syscall.Mmap(-1, 0, pageBytes, syscall.PROT_READ, syscall.MAP_PRIVATE|syscall.MAP_ANON)
		return err
	})
	go func() {
		runtime.LockOSThread()
		page[0] = 1
		ended <- nil
	}()
	return <-ended
}
