// Command guest is PID 1 of the machines that are crashed: it brings a Debian
// kernel up as far as a scenario needs it (modules, a disk, memory in use), runs
// the scenario's steps one after the other and tells the host what came of
// them. It knows nothing of crashes: the programs under test are steps.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/internal/sys"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == holdCommand {
		if err := hold(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) == 3 && os.Args[1] == writeCommand {
		if err := writeFrozen(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) == 2 && os.Args[1] == shareCommand {
		if _, err := os.Stdout.WriteString("thawed"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) == 3 && os.Args[1] == mapCommand {
		if err := blockThreads(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) > 2 && os.Args[1] == script.Culprit {
		if err := harm(os.Args[2], os.Args[3:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if len(os.Args) == 2 && os.Args[1] == script.Agent {
		if err := serve(); err != nil {
			fmt.Fprintln(os.Stderr, "guest:", err)
			os.Exit(1)
		}
		return
	}
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "guest: only to be run as the first process of a machine made for tests")
		os.Exit(2)
	}
	g := &guest{say: os.Stdout}
	err := g.play()
	if err != nil {
		g.tell(script.Event{Kind: script.Broken, Text: err.Error()})
	}
	sys.Sync()
	end := sys.RebootPowerOff
	if g.script.End == "restart" && err == nil {
		end = sys.RebootRestart
	}
	err = sys.Reboot(end)
	fmt.Println("guest:", err) // PID 1 ends here, and the kernel panics: seen on the console
}

// guest plays one script.
type guest struct {
	script script.Script
	port   *os.File // nil: events go to the console
	say    *os.File
}

func (g *guest) play() error {
	if err := mountKernel(); err != nil {
		return err
	}
	// PATH is for the programs under test.
	os.Setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	os.Setenv("HOME", "/root")
	text, err := os.ReadFile(script.Path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &g.script); err != nil {
		return fmt.Errorf("%s: %w", script.Path, err)
	}
	ue, err := newUevents()
	if err != nil {
		return err
	}
	defer ue.close()
	if g.script.Root != nil {
		return g.handOver(ue)
	}
	// Every guest of this lab that has a port has it on PCI, built in; a crash
	// kernel has none.
	if _, err := os.Stat("/sys/class/virtio-ports"); err == nil && g.script.Prefix == "" {
		if g.port, err = openPort(ue, script.Port); err != nil {
			return err
		}
	}
	for _, m := range g.script.Modules {
		if err := loadModule(m); err != nil {
			return err
		}
	}
	for _, m := range g.script.Mounts {
		if err := mountDisk(ue, m); err != nil {
			return err
		}
	}
	facts, err := machineFacts()
	if err != nil {
		return err
	}
	g.tell(script.Event{Kind: script.Facts, Facts: facts})
	for i, s := range g.script.Steps {
		g.tell(script.Event{Kind: script.Begin, Step: i, Text: s.Name})
		e := g.step(i, s)
		e.Kind, e.Step = script.End, i
		g.tell(e)
	}
	g.tell(script.Event{Kind: script.Finish, Step: len(g.script.Steps)})
	return nil
}

func (g *guest) step(i int, s script.Step) script.Event {
	var err error
	switch {
	case s.Run != nil:
		code, err := g.run(i, s.Run)
		if err != nil {
			return script.Event{Exit: -1, Text: err.Error()}
		}
		return script.Event{Exit: code}
	case s.Burden != nil:
		err = burden(s.Burden)
	case s.Fill != nil:
		err = fill(s.Fill)
	case s.Patch != nil:
		err = patch(s.Patch)
	case s.Write != nil:
		err = write(s.Write)
	case s.Show != nil:
		err = g.show(i, s.Show)
	case s.Map != nil:
		err = mapDisk(s.Map)
	case s.Mirror != nil:
		err = mirror(s.Mirror)
	case s.Freeze != nil:
		err = freeze(s.Freeze)
	case s.Network != nil:
		err = connect(s.Network)
	case s.Stick != nil:
		err = stick(s.Stick)
	case s.Exit != nil:
		os.Exit(s.Exit.Code)
	case s.Unmount != nil:
		sys.Sync()
		err = sys.Unmount(s.Unmount.Target)
	default:
		err = fmt.Errorf("step %q: nothing to do", s.Name)
	}
	if err != nil {
		return script.Event{Exit: -1, Text: err.Error()}
	}
	return script.Event{}
}

// tell sends an event to the host; people see it on the console.
func (g *guest) tell(e script.Event) {
	e.Uptime = uptime()
	line, err := json.Marshal(e)
	if err != nil {
		fmt.Fprintln(g.say, "guest: event:", err)
		return
	}
	if g.port != nil {
		if _, err := g.port.Write(append(line, '\n')); err != nil {
			fmt.Fprintln(g.say, "guest: port:", err)
		}
		if e.Kind == script.Begin {
			fmt.Fprintf(g.say, "guest: step %d: %s\n", e.Step, e.Text)
		}
		return
	}
	fmt.Fprintf(g.say, "%s%s\n", g.script.Prefix, line)
}

// mountKernel mounts what the kernel itself offers.
func mountKernel() error {
	for _, m := range []struct{ source, target, fstype, data string }{
		{"proc", "/proc", "proc", ""},
		{"sysfs", "/sys", "sysfs", ""},
		{"devtmpfs", "/dev", "devtmpfs", ""},
		{"tmpfs", "/run", "tmpfs", "mode=0755"},
		{"tmpfs", "/tmp", "tmpfs", "mode=1777"},
	} {
		if err := os.MkdirAll(m.target, 0o755); err != nil {
			return err
		}
		if err := sys.Mount(m.source, m.target, m.fstype, 0, m.data); err != nil {
			return fmt.Errorf("%s: %w", m.target, err)
		}
	}
	// What a systemd machine has; not every kernel can.
	sys.Mount("securityfs", "/sys/kernel/security", "securityfs", 0, "")
	sys.Mount("debugfs", "/sys/kernel/debug", "debugfs", 0, "")
	return nil
}

func loadModule(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	err = sys.FinitModule(f, "", filepath.Ext(path) != ".ko")
	// sha256-riscv64, which btrfs would like, is for CPUs with vector cryptography.
	if err != nil && !os.IsExist(err) && !errors.Is(err, syscall.ENODEV) {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
