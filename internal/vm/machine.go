package vm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/panicroom-kdump/panicroom/internal/sys"
)

// Machine is a running, or ended, machine.
type Machine struct {
	config  Config
	console *console
	cmd     *exec.Cmd
	keys    io.WriteCloser // what is typed on the console
	stderr  *bytes.Buffer
	sockets string
	qmp     *monitor
	ctx     context.Context
	cancel  context.CancelCauseFunc
	stop    context.CancelFunc

	done chan struct{} // closed when everything below is set
	exit Exit
	err  error
}

// Exit is how a machine ended.
type Exit struct {
	Code int           // of QEMU: 0 when the guest powered off or restarted
	Wall time.Duration // from start to end
}

// noEmulator is the error of a machine that cannot be run here.
type noEmulator struct {
	program, pkg string
	err          error
}

func (e *noEmulator) Error() string   { return fmt.Sprintf("%v: %v", ErrNoEmulator, e.err) }
func (e *noEmulator) Unwrap() []error { return []error{ErrNoEmulator, e.err} }
func (e *noEmulator) Hints() []string {
	return []string{fmt.Sprintf("apt-get install %s (it has %s)", e.pkg, e.program)}
}

// Start starts a machine. It ends by itself, by [Machine.Kill], when ctx is
// done, or when its time is over; [Machine.Wait] must be called to learn which
// and to clean up.
func Start(ctx context.Context, config Config) (*Machine, error) {
	c := config.withDefaults()
	if c.Console == "" {
		return nil, errors.New("machine without a console file")
	}
	program, err := exec.LookPath(c.Program)
	if err != nil {
		return nil, &noEmulator{c.Arch.Program, c.Arch.Package, err}
	}
	m := &Machine{config: c, stderr: &bytes.Buffer{}, done: make(chan struct{})}
	// Paths of sockets are limited to about 100 bytes, so they get a short
	// directory of their own.
	if m.sockets, err = os.MkdirTemp("", "vm"); err != nil {
		return nil, err
	}
	listeners := make([]net.Listener, 0, 1+len(c.Ports))
	abort := func(err error) (*Machine, error) {
		for _, l := range listeners {
			l.Close()
		}
		os.RemoveAll(m.sockets)
		return nil, err
	}
	names := []string{"qmp"}
	for i := range c.Ports {
		names = append(names, portSocket(i))
	}
	for _, name := range names {
		l, err := net.Listen("unix", filepath.Join(m.sockets, name))
		if err != nil {
			return abort(err)
		}
		listeners = append(listeners, l)
	}
	if m.console, err = newConsole(c.Console, c.OnLine); err != nil {
		return abort(err)
	}

	limit, stop := context.WithTimeoutCause(ctx, c.Limit, fmt.Errorf("%w (%s)", ErrTimeLimit, c.Limit))
	m.stop = stop
	m.ctx, m.cancel = context.WithCancelCause(limit)
	m.cmd = exec.CommandContext(m.ctx, program, c.args(m.sockets)...)
	m.cmd.SysProcAttr = sys.DieWithParent()
	m.cmd.Stderr = m.stderr
	out, err := m.cmd.StdoutPipe()
	if err == nil {
		m.keys, err = m.cmd.StdinPipe()
	}
	if err == nil {
		err = m.cmd.Start()
	}
	if err != nil {
		m.cancel(nil)
		m.stop()
		m.console.file.Close()
		return abort(fmt.Errorf("%s: %w", program, err))
	}

	m.qmp = newMonitor(listeners[0])
	var copies sync.WaitGroup
	for i, p := range c.Ports {
		copies.Go(func() { serve(listeners[i+1], p) })
	}
	go m.console.copy(out)
	if c.Begin != nil {
		go m.watch()
	}
	go func() {
		<-m.console.end // Wait closes the pipe, so it must be read to its end first
		err := m.cmd.Wait()
		for _, l := range listeners {
			l.Close()
		}
		copies.Wait()
		m.finish(err)
	}()
	return m, nil
}

func (m *Machine) finish(err error) {
	defer close(m.done)
	m.qmp.close()
	os.RemoveAll(m.sockets)
	m.exit.Wall = time.Since(m.console.start)
	m.exit.Code = m.cmd.ProcessState.ExitCode()
	cause := context.Cause(m.ctx)
	m.cancel(nil)
	m.stop()
	switch {
	case cause != nil:
		m.err = fmt.Errorf("%w; console in %s, its last lines:%s", cause, m.config.Console, m.console.tail(8))
	case err != nil:
		m.err = fmt.Errorf("%s: %w: %s", m.config.Program, err, strings.TrimSpace(m.stderr.String()))
	case m.console.err != nil:
		m.err = fmt.Errorf("console: %w", m.console.err)
	}
}

// serve takes what a guest writes to a port, connection after connection,
// until the listener is closed.
func serve(l net.Listener, p Port) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		if p.Talk != nil {
			p.Talk(conn)
		} else {
			io.Copy(p.W, conn)
		}
		conn.Close()
	}
}

// Wait waits for the end of the machine. The error is nil when the guest
// ended it (power off or restart); it wraps [ErrTimeLimit], the context's
// error, or [ErrKilled] otherwise.
func (m *Machine) Wait() (Exit, error) {
	<-m.done
	return m.exit, m.err
}

// ErrKilled is wrapped by [Machine.Wait] after [Machine.Kill].
var ErrKilled = errors.New("the machine was stopped")

// Kill stops the machine at once, like pulling its plug. Wait still must be
// called.
func (m *Machine) Kill() { m.cancel(ErrKilled) }

// Command runs a QMP command, such as query-status, stop or cont
// (docs/interop/qemu-qmp-ref of QEMU), and returns what it returned.
func (m *Machine) Command(ctx context.Context, command string, arguments any) (json.RawMessage, error) {
	return m.qmp.command(ctx, command, arguments)
}

// Type types text on the serial console.
func (m *Machine) Type(text string) error {
	_, err := io.WriteString(m.keys, text)
	return err
}

// Break sends a break over the serial console, which Linux takes for the key SysRq.
func (m *Machine) Break(ctx context.Context) error {
	_, err := m.Command(ctx, "chardev-send-break", map[string]string{"id": "console"})
	return err
}

// DeviceTree returns the device tree that QEMU would make for the machine, in
// flattened form.
func DeviceTree(ctx context.Context, config Config) ([]byte, error) {
	c := config.withDefaults()
	program, err := exec.LookPath(c.Program)
	if err != nil {
		return nil, &noEmulator{c.Arch.Program, c.Arch.Package, err}
	}
	dir, err := os.MkdirTemp("", "vm")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "dtb")
	args := []string{"-nodefaults", "-display", "none", "-smp", fmt.Sprint(c.CPUs), "-m", fmt.Sprintf("%dM", c.MemMiB),
		"-machine", c.Arch.Machine + ",dumpdtb=" + escape(path)}
	if c.CPU != "" {
		args = append(args, "-cpu", c.CPU)
	}
	out, err := exec.CommandContext(ctx, program, append(args, c.Extra...)...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%s -machine dumpdtb: %w: %s", c.Program, err, bytes.TrimSpace(out))
	}
	return os.ReadFile(path)
}
