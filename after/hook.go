package after

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/panicroom-kdump/panicroom/internal/sys"
	"github.com/panicroom-kdump/panicroom/saved"
)

const (
	// hookLimit is how long a hook may take.
	hookLimit = 5 * time.Minute
	// lastWords is how long the output of a hook is still heard that has ended;
	// something that it has started may hold it open.
	lastWords = time.Second
	// maxOutput bounds what is heard of a hook.
	maxOutput = 64 << 10
	maxHooks  = 100
)

// hook is a program of the directory of hooks.
type hook struct {
	name string
	path string // without links
}

// hooks calls each hook for each new crash.
func (r *runner) hooks(ctx context.Context) {
	dir := r.Config.Notify.Hooks
	// What would be called can be seen before a crash, too.
	if dir == "" || len(r.result.New) == 0 && !r.DryRun {
		return
	}
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return
	} else if err != nil {
		r.problem("hooks: %v", err)
		return
	}
	var hooks []hook
	for _, e := range entries {
		if info, err := os.Stat(filepath.Join(dir, e.Name())); leftover(e.Name()) || err == nil && (!info.Mode().IsRegular() || info.Mode()&0o111 == 0) {
			if r.DryRun && err == nil && info.Mode().IsRegular() && !leftover(e.Name()) {
				r.say("hook %s is not called: nobody may execute it (mode %04o)", e.Name(), info.Mode().Perm())
			}
			continue // not meant to run
		}
		path, err := r.trust.program(filepath.Join(dir, e.Name()))
		if err != nil {
			r.problem("hook %s is not run: %v", e.Name(), err)
			r.hint("root runs only what nobody else can change, up to the root directory: chown root:root and chmod go-w")
			continue
		}
		hooks = append(hooks, hook{e.Name(), path})
	}
	if len(hooks) > maxHooks {
		r.problem("hooks: %s has %d programs; the first %d are run", dir, len(hooks), maxHooks)
		hooks = hooks[:maxHooks]
	}
	if len(r.result.New) == 0 {
		for _, h := range hooks {
			r.say("hook %s would be called for a new crash", h.name)
		}
	}
	for i := range r.result.New {
		for _, h := range hooks {
			c := &r.result.New[i]
			if r.DryRun {
				r.say("hook %s would be called with %s", h.name, c.Path)
				continue
			}
			if err := r.call(ctx, h, c); err != nil {
				r.problem("hook %s: %v", h.name, err)
				r.hint("a hook that failed is not called again for the same crash; by hand it takes the directory of the crash for its argument")
			}
		}
	}
}

// leftover tells whether a name is what editors and packages leave behind.
func leftover(name string) bool {
	return strings.HasPrefix(name, ".") || strings.HasSuffix(name, "~") || strings.Contains(name, ".dpkg-") || strings.Contains(name, ".rpm")
}

// environment is what a hook is told beside its argument.
func environment(c *saved.Crash) []string {
	complete := "no"
	if c.Complete {
		complete = "yes"
	}
	return []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=/", "LANG=C.UTF-8",
		"PANICROOM_CRASH=" + c.Path,
		"PANICROOM_TIME=" + c.Time.UTC().Format(time.RFC3339),
		"PANICROOM_KERNEL=" + c.Kernel,
		"PANICROOM_HOST=" + c.Host,
		"PANICROOM_SIZE=" + strconv.FormatUint(c.Size, 10),
		"PANICROOM_COMPLETE=" + complete,
		"PANICROOM_WHY=" + c.Why(),
		"PANICROOM_TITLE=" + c.Title,
		"PANICROOM_KIND=" + string(c.Kind),
	}
}

// call runs a hook to its end, or to that of its time.
func (r *runner) call(ctx context.Context, h hook, c *saved.Crash) error {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return err
	}
	defer null.Close()
	heard, said, err := os.Pipe()
	if err != nil {
		return err
	}
	defer heard.Close()
	p, err := os.StartProcess(h.path, []string{h.path, c.Path}, &os.ProcAttr{
		Dir: "/", Env: environment(c), Files: []*os.File{null, said, said}, Sys: sys.NewProcessGroup(),
	})
	said.Close()
	if errors.Is(err, syscall.ENOEXEC) {
		return fmt.Errorf("%w; a script begins with a line like #!/bin/sh", err)
	} else if err != nil {
		return err
	}
	silent := make(chan struct{})
	go func() {
		defer close(silent)
		r.listen(h, heard)
	}()
	type end struct {
		state *os.ProcessState
		err   error
	}
	ended := make(chan end, 1)
	go func() {
		state, err := p.Wait()
		ended <- end{state, err}
	}()
	ctx, cancel := context.WithTimeout(ctx, r.hookLimit)
	defer cancel()
	var e end
	select {
	case e = <-ended:
	case <-ctx.Done():
		err = fmt.Errorf("killed: it was not done after %s", r.hookLimit)
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = errors.New("killed: panicroom was told to end")
		}
		if kerr := sys.KillGroup(p.Pid); kerr != nil {
			err = errors.Join(err, kerr, p.Kill())
		}
		<-ended
	}
	err = errors.Join(err, heard.SetReadDeadline(time.Now().Add(lastWords)))
	<-silent
	if err == nil && e.err != nil {
		return e.err
	}
	if err == nil && !e.state.Success() {
		return errors.New(e.state.String())
	}
	return err
}

// listen says what a hook says, until it is silent.
func (r *runner) listen(h hook, from io.Reader) {
	in := bufio.NewReader(from)
	for left := maxOutput; ; {
		line, err := in.ReadSlice('\n')
		if left -= len(line); left >= 0 {
			if text := saved.Printable(string(line)); text != "" {
				r.say("hook %s: %s", h.name, text)
			}
		} else if left+len(line) >= 0 {
			r.say("hook %s: says more than %d bytes", h.name, maxOutput)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}
