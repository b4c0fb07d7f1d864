package vm

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

var (
	// ErrTimeLimit is wrapped when a machine was stopped because its time was
	// over.
	ErrTimeLimit = errors.New("the machine's time is over")
	// ErrNoBegin is wrapped when a machine was stopped because what it was
	// started for did not begin.
	ErrNoBegin = errors.New("the machine hangs before it begins")
	// ErrEnded is wrapped when an event is waited for that cannot come any
	// more, because the machine has ended.
	ErrEnded = errors.New("the machine has ended")
	// ErrNoEmulator is wrapped when the emulator is not installed.
	ErrNoEmulator = errors.New("no emulator")
)

// Config describes one machine. The zero value of a field is the default
// named in its comment.
type Config struct {
	Arch   *Arch // RISCV64
	CPUs   int   // 1
	MemMiB int   // 512
	// CPU is QEMU's -cpu; "" is the architecture's default.
	CPU string

	Kernel  string // path of a kernel image that the firmware can start
	Initrd  string // path, or none
	Cmdline string
	DTB     string // path of a device tree to use instead of QEMU's own

	Disks []Disk
	Ports []Port
	// Restarts says that a machine that restarts goes on. It ends otherwise.
	Restarts bool
	// RAM is the path of a file that holds the machine's memory, shared: it can
	// be read when the machine has ended. "" is anonymous memory.
	RAM string

	// Console is the path of the file that gets everything the serial console
	// says. It must be given: a run that left no console cannot be explained.
	Console string
	// OnLine, if not nil, sees every line of the console as it comes, in one
	// goroutine. It must not wait for the machine.
	OnLine func(Line)

	// Begin, if not nil, matches a line that must come within BeginLimit from
	// the start: a machine that hangs in its firmware is not waited for until
	// its time is over. Before it is stopped then, what its CPUs do goes to the
	// file Registers.
	Begin      *regexp.Regexp
	BeginLimit time.Duration
	Registers  string

	Extra []string // more arguments for QEMU
	// Limit is how long the machine may run at most, wall time; 5 minutes.
	Limit time.Duration
	// Program is the emulator to run; the architecture's QEMU.
	Program string
}

// Disk is a raw image attached as a virtio block device.
type Disk struct {
	Path     string
	ReadOnly bool
	Serial   string // at most 20 bytes, /sys/block/vdX/serial
}

// Port is a virtio serial port, /dev/virtio-ports/NAME in the guest: what the
// guest writes to it goes to W, and unlike the console nobody else writes
// there. A guest waits until its bytes are taken, so none are lost in a crash.
type Port struct {
	Name string
	W    io.Writer
	// Talk, if not nil, has the port in both directions instead of W. It returns
	// when reading fails: the machine has ended then.
	Talk func(io.ReadWriter)
}

// Line is one line of the console.
type Line struct {
	Text string        // without line ending
	At   time.Duration // since the start of the machine, wall time
}

// Arch is what differs between the architectures that machines are run of.
type Arch struct {
	Name    string // as in uname -m
	Program string // of QEMU
	Package string // Debian package with the program
	Machine string // QEMU's -machine
	CPU     string // QEMU's -cpu, "" for the machine's own
	BIOS    string // QEMU's -bios, the firmware that starts first
	DiskBus string // suffix of the virtio devices that disks are
}

// RISCV64 is QEMU's virt machine started by its own OpenSBI, disks on
// virtio-mmio.
func RISCV64() *Arch {
	return &Arch{
		Name: "riscv64", Program: "qemu-system-riscv64", Package: "qemu-system-misc",
		Machine: "virt", BIOS: "default", DiskBus: "device",
	}
}

func (c Config) withDefaults() Config {
	if c.Arch == nil {
		c.Arch = RISCV64()
	}
	if c.CPUs == 0 {
		c.CPUs = 1
	}
	if c.MemMiB == 0 {
		c.MemMiB = 512
	}
	if c.CPU == "" {
		c.CPU = c.Arch.CPU
	}
	if c.Limit == 0 {
		c.Limit = 5 * time.Minute
	}
	if c.Program == "" {
		c.Program = c.Arch.Program
	}
	return c
}

// args are QEMU's arguments; sockets is the directory of the sockets that we
// listen on and QEMU connects to, so that nobody has to wait for a socket to
// appear.
func (c Config) args(sockets string) []string {
	machine := c.Arch.Machine
	a := []string{"-nodefaults", "-display", "none", "-smp", strconv.Itoa(c.CPUs), "-m", strconv.Itoa(c.MemMiB) + "M"}
	if !c.Restarts {
		a = append(a, "-no-reboot")
	}
	if c.RAM != "" {
		a = append(a, "-object", fmt.Sprintf("memory-backend-file,id=ram,size=%dM,share=on,mem-path=%s", c.MemMiB, escape(c.RAM)))
		machine += ",memory-backend=ram"
	}
	a = append(a, "-machine", machine)
	if c.CPU != "" {
		a = append(a, "-cpu", c.CPU)
	}
	if c.Arch.BIOS != "" {
		a = append(a, "-bios", c.Arch.BIOS)
	}
	for _, o := range []struct{ flag, value string }{
		{"-kernel", c.Kernel}, {"-initrd", c.Initrd}, {"-append", c.Cmdline}, {"-dtb", c.DTB},
	} {
		if o.value != "" {
			a = append(a, o.flag, o.value)
		}
	}
	a = append(a, "-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console",
		"-chardev", "socket,id=qmp,path="+escape(filepath.Join(sockets, "qmp")), "-mon", "chardev=qmp,mode=control")
	for i, d := range c.Disks {
		drive := fmt.Sprintf("if=none,id=disk%d,format=raw,file=%s", i, escape(d.Path))
		if d.ReadOnly {
			drive += ",readonly=on"
		}
		device := fmt.Sprintf("virtio-blk-%s,drive=disk%d", c.Arch.DiskBus, i)
		if d.Serial != "" {
			device += ",serial=" + escape(d.Serial)
		}
		a = append(a, "-drive", drive, "-device", device)
	}
	if len(c.Ports) > 0 {
		a = append(a, "-device", "virtio-serial-pci,id=ports")
	}
	for i, p := range c.Ports {
		a = append(a, "-chardev", fmt.Sprintf("socket,id=port%d,path=%s", i, escape(filepath.Join(sockets, portSocket(i)))),
			"-device", fmt.Sprintf("virtserialport,bus=ports.0,chardev=port%d,name=%s", i, escape(p.Name)))
	}
	return append(a, c.Extra...)
}

func portSocket(i int) string { return "port" + strconv.Itoa(i) }

// escape doubles commas, which separate options within QEMU's arguments.
func escape(s string) string { return strings.ReplaceAll(s, ",", ",,") }
