package main

import (
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
)

// run runs a program and tells its output as it comes.
func (g *guest) run(step int, r *script.Run) (exit int, err error) {
	c := exec.Command(r.Args[0], r.Args[1:]...)
	c.Env = append(os.Environ(), r.Env...)
	c.Dir = r.Dir
	if r.UID != 0 {
		c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(r.UID), Gid: uint32(r.UID)}}
	}
	var mu sync.Mutex
	stream := func(kind string) io.Writer {
		return writerFunc(func(p []byte) {
			mu.Lock()
			defer mu.Unlock()
			g.tell(script.Event{Kind: kind, Step: step, Text: string(p)})
		})
	}
	c.Stdout, c.Stderr = stream(script.Stdout), stream(script.Stderr)
	if r.Output != "" {
		f, err := os.Create(r.Output)
		if err != nil {
			return -1, err
		}
		defer f.Close()
		c.Stdout = f
	}
	err = c.Run()
	if c.ProcessState == nil {
		return -1, err
	}
	if code := c.ProcessState.ExitCode(); code >= 0 {
		return code, nil
	}
	return -1, err // killed; the error names the signal
}

type writerFunc func(p []byte)

func (f writerFunc) Write(p []byte) (int, error) {
	f(p)
	return len(p), nil
}
