package crashenv

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/panicroom-kdump/panicroom/internal/sys"
)

// What a process of ours is for stands in this variable of its environment.
const roleEnv = "PANICROOM_ROLE"

// The roles beside PID 1, see doc.go.
const (
	roleWorker   = "worker"
	roleReporter = "reporter"
	roleRescuer  = "rescuer"
)

// process is a child of ours.
type process struct {
	p     *os.Process
	done  chan struct{} // closed at its end; state and err are set then
	state *os.ProcessState
	err   error
}

// start starts this very program in a role. files become its descriptors 0,
// 1, 2 and so on; nil ones are ours for 0 to 2. It dies with us.
func start(role string, env []string, files ...*os.File) (*process, error) {
	program := "/proc/self/exe"
	if runtime.GOOS != "linux" {
		var err error
		if program, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	for i, f := range []*os.File{os.Stdin, os.Stdout, os.Stderr} {
		if i >= len(files) {
			files = append(files, nil)
		}
		if files[i] == nil {
			files[i] = f
		}
	}
	attr := &os.ProcAttr{Files: files, Sys: sys.DieWithParent(),
		Env: append(withoutRole(os.Environ()), append(env, roleEnv+"="+role)...)}
	c := &process{done: make(chan struct{})}
	started := make(chan error)
	go func() {
		// The child is told to die with the thread that made it, not with the
		// process (prctl(2), PR_SET_PDEATHSIG): the thread must stay.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var err error
		c.p, err = os.StartProcess(program, []string{"panicroom: " + role}, attr)
		started <- err
		if err != nil {
			return
		}
		c.state, c.err = c.p.Wait()
		close(c.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start the %s: %w", role, err)
	}
	return c, nil
}

func withoutRole(env []string) []string {
	var kept []string
	for _, e := range env {
		if !strings.HasPrefix(e, "PANICROOM_") {
			kept = append(kept, e)
		}
	}
	return kept
}

// failure says how a child ended, nil for exit code 0. It is for after done.
func (c *process) failure() error {
	switch {
	case c.err != nil:
		return c.err
	case c.state.Success():
		return nil
	}
	return fmt.Errorf("it ended with %s", c.state)
}

// setOOMScore says how gladly the kernel kills this process when memory is
// out: -1000 never, 1000 first (proc(5), oom_score_adj).
func setOOMScore(score int) {
	_ = os.WriteFile("/proc/self/oom_score_adj", fmt.Appendln(nil, score), 0o644)
}
