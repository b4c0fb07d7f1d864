package crashenv

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/panicroom-kdump/panicroom/internal/boot"
	"github.com/panicroom-kdump/panicroom/internal/config"
	"github.com/panicroom-kdump/panicroom/internal/device"
	"github.com/panicroom-kdump/panicroom/internal/network"
	"github.com/panicroom-kdump/panicroom/internal/sys"
	"github.com/panicroom-kdump/panicroom/kernel"
)

// Options say what [Build] builds. Targets, Release and Modules must be given.
type Options struct {
	// Targets are tried in their order. A directory need not exist yet.
	Targets []config.Target
	// Network is how targets of other machines are reached.
	Network config.Network
	// Release is the panic kernel's, and Modules its /lib/modules/RELEASE.
	Release string
	Modules fs.FS
	// Config is the panic kernel's configuration; nil looks for its file. If
	// there is none, modules are unpacked here and the initramfs is gzip'd.
	Config boot.ConfigValue

	// Executable is the path of the binary to pack; "" is this one. It must be
	// static and of the panic kernel's architecture.
	Executable string
	// BTF has the types of the running kernel; "" is /sys/kernel/btf/vmlinux.
	// Without them, which is no error, the crash half looks into the dead
	// kernel.
	BTF string

	Level     int       // as makedumpfile(8) -d
	Form      Form      // of the dump
	MemLimit  uint64    // of saving the dump, in bytes; 0 is half of what is free then
	Final     Final     // "" is Reboot
	Failed    Final     // when no target took the dump; "" is Final
	CPUs      int       // of the panic kernel; 0 is 1
	Deadlines Deadlines // nil is DefaultDeadlines
	LogLines  int       // of the report; 0 is its default
	Test      *Test

	// Root is the running system's "/"; nil is the real one. Open opens one of
	// its block devices by its name in /dev; nil opens the real one.
	Root fs.FS
	Open func(name string) (io.ReaderAt, io.Closer, error)
	// Table reads the table of a device of the device mapper; nil asks the running
	// system.
	Table func(major, minor uint32) ([]sys.MapperTarget, error)
	// Lookup finds the addresses of a host, and Record the way to them over an
	// interface, "" for any; nil asks the running system.
	Lookup func(ctx context.Context, host string) ([]netip.Addr, error)
	Record func(to []netip.Addr, iface string) (*network.Facts, error)
}

// Environment is what [Build] has built.
type Environment struct {
	Plan *Plan
	// Initramfs is compressed with a window small enough for the panic room.
	Initramfs []byte
	// Unpacked is the memory that the initramfs takes once the kernel has
	// unpacked it, in bytes. For a moment both are in memory.
	Unpacked uint64
	// Seal is the SHA-256 of the plan as it was packed; the Plan has those of
	// the other files.
	Seal [sha256.Size]byte
	// Cmdline is what the environment needs on the command line.
	Cmdline []Param
	// Missing tells what could not be found and may not be needed, for people.
	Missing []string

	sizes []boot.ModuleSize // of modules that were unpacked
}

// ErrDynamic: the binary to pack needs a dynamic linker, which the crash
// environment does not have.
var ErrDynamic = errors.New("not a static binary")

// Build makes the crash environment for a target: it finds out what the
// target needs, decides what the crash half shall do, and packs both.
func Build(ctx context.Context, opts Options) (*Environment, error) {
	if opts.Root == nil {
		opts.Root = os.DirFS("/")
	}
	if opts.Open == nil {
		opts.Open = func(name string) (io.ReaderAt, io.Closer, error) {
			f, err := os.Open(path.Join("/dev", name))
			return f, f, err
		}
	}
	if opts.Config == nil {
		opts.Config = findConfig(opts.Root, opts.Modules, opts.Release)
	}
	if opts.Table == nil {
		opts.Table = sys.MapperTable
	}
	if opts.Record == nil {
		opts.Record = network.Record
	}
	if opts.Final == "" {
		opts.Final = Reboot
	}
	if opts.Deadlines == nil {
		opts.Deadlines = DefaultDeadlines()
	}
	b := &builder{Options: opts}
	b.env.Plan = &Plan{Version: planVersion, Release: opts.Release, Level: opts.Level, Form: opts.Form, MemLimit: opts.MemLimit, Final: opts.Final, Failed: opts.Failed,
		Deadlines: opts.Test.deadlines(opts.Deadlines), LogLines: opts.LogLines, Host: b.host(), Test: opts.Test}
	if err := b.resolve(ctx); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := b.pack(); err != nil {
		return nil, err
	}
	b.env.Cmdline = Cmdline(opts.CPUs)
	return &b.env, nil
}

// builder is one Build.
type builder struct {
	Options
	env     Environment
	tree    *boot.ModuleTree
	modules []boot.Module
	keys    []secret
}

// secret is a file of the initramfs that nobody else may see.
type secret struct {
	file string
	text []byte
}

// read reads a one-line file of the running system, "" if there is none.
func (b *builder) read(name string) string {
	text, err := fs.ReadFile(b.Root, name)
	if err != nil || len(text) > 4096 {
		return ""
	}
	return strings.TrimSpace(string(text))
}

func (b *builder) host() Host {
	return Host{
		Name:    b.read("proc/sys/kernel/hostname"),
		BootID:  b.read("proc/sys/kernel/random/boot_id"),
		Release: b.read("proc/sys/kernel/osrelease"),
		Made:    time.Now().UTC().Truncate(time.Second),
	}
}

// resolve fills the Plan.
func (b *builder) resolve(ctx context.Context) error {
	var err error
	if b.tree, err = boot.OpenModules(b.Modules); err != nil {
		return fmt.Errorf("modules of %s: %w", b.Release, err)
	}
	if err := b.targets(ctx); err != nil {
		return err
	}
	b.env.Plan.Layout, err = b.layout()
	if err != nil {
		b.env.Missing = append(b.env.Missing, fmt.Sprintf("types of the running kernel: %v", err))
	}
	return nil
}

// realPath resolves symbolic links in an absolute path as far as it exists.
func realPath(root fs.FS, dir string) (string, error) {
	if !path.IsAbs(dir) {
		return "", errors.New("not an absolute path")
	}
	const maxLinks = 40 // as the kernel does
	done, todo := "/", strings.Split(path.Clean(dir), "/")
	for links := 0; len(todo) > 0; {
		next := todo[0]
		todo = todo[1:]
		switch next {
		case "", ".":
			continue
		case "..":
			done = path.Dir(done)
			continue
		}
		p := path.Join(done, next)
		info, err := fs.Lstat(root, p[1:])
		if errors.Is(err, fs.ErrNotExist) {
			return path.Join(append([]string{p}, todo...)...), nil
		} else if err != nil {
			return "", err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			if !info.IsDir() {
				return "", fmt.Errorf("%s is not a directory", p)
			}
			done = p
			continue
		}
		if links++; links > maxLinks {
			return "", fmt.Errorf("%s: too many symbolic links", p)
		}
		to, err := fs.ReadLink(root, p[1:])
		if err != nil {
			return "", err
		}
		if path.IsAbs(to) {
			done = "/"
		}
		todo = append(strings.Split(to, "/"), todo...)
	}
	return done, nil
}

// names are the modules that drivers come in.
func (b *builder) names(drivers []device.Driver) ([]string, error) {
	same := b.env.Plan.Host.Release == b.Release
	var all []string
	for _, d := range drivers {
		switch {
		case d.Module != "" && (same || b.known(d.Module)):
			all = append(all, d.Module)
		case same:
			// Built into the running kernel, so into the panic kernel.
		default:
			// Another kernel may have it in a module.
			found := b.tree.ByAlias(d.Modalias)
			if len(found) == 0 {
				b.env.Missing = append(b.env.Missing, fmt.Sprintf("a module for %s (%s), unless it is built in", d.Name, d.Modalias))
			}
			all = append(all, found...)
		}
	}
	return all, nil
}

func (b *builder) known(module string) bool {
	_, ok := b.tree.Lookup(module)
	return ok || b.tree.Builtin(module)
}

// filesystemModule finds the module that the kernel would ask modprobe for, by
// its alias or name.
func (b *builder) filesystemModule(request string) []string {
	if found := b.tree.ByAlias(request); len(found) > 0 {
		return found[:1]
	}
	name := strings.TrimPrefix(request, "fs-")
	if !b.known(name) {
		b.env.Missing = append(b.env.Missing, fmt.Sprintf("module %s, unless it is built in", name))
		return nil
	}
	return []string{name}
}

// watchdog finds the driver of a watchdog that is running: it goes on when
// the kernel dies, and somebody must pet it.
func (b *builder) watchdog() ([]string, error) {
	const dir = "sys/class/watchdog/watchdog0"
	if b.read(dir+"/state") != "active" {
		return nil, nil
	}
	b.env.Plan.Watchdog = true
	drivers, err := device.ClassDrivers(b.Root, dir)
	if err != nil {
		return nil, fmt.Errorf("watchdog: %w", err)
	}
	return b.names(drivers)
}

// maxBTF bounds what is read of a kernel's types, in bytes; it is 4 to 6 MiB.
const maxBTF = 64 << 20

func (b *builder) layout() (*kernel.Layout, error) {
	name := b.BTF
	if name == "" {
		name = "/sys/kernel/btf/vmlinux"
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// A file of sysfs is read whole: its size is right, ReadAt is slow.
	text, err := io.ReadAll(io.LimitReader(f, maxBTF))
	if err != nil {
		return nil, err
	}
	return kernel.LayoutFromBTF(bytes.NewReader(text))
}

// moduleParams are those that modules need here: one bond that nobody asked for
// comes by itself.
var moduleParams = map[string]string{"bonding": "max_bonds=0"}

// pack makes the initramfs.
func (b *builder) pack() error {
	executable, err := b.executable()
	if err != nil {
		return err
	}
	defer executable.Close()
	info, err := executable.Stat()
	if err != nil {
		return err
	}
	var out bytes.Buffer
	w, err := boot.Compress(&out, boot.InitramfsCodec(b.Config))
	if err != nil {
		return err
	}
	a := boot.NewArchive(w)
	codec := boot.ModuleCodec(b.Config)
	for _, m := range b.modules {
		data, compressed, err := b.tree.Read(m, codec)
		if err != nil {
			return fmt.Errorf("module %s: %w", m.Name, err)
		}
		if !compressed {
			// Unpacking is slow, so what it shows is kept for Facts.
			size, err := boot.MeasureModule(m.Name, data)
			if err != nil {
				return err
			}
			b.env.sizes = append(b.env.sizes, size)
		}
		pm := Module{Name: m.Name, File: path.Join(moduleDir, m.Name+".ko"), Params: moduleParams[m.Name], Compressed: compressed, Optional: m.Soft}
		if compressed {
			pm.File += "." + string(m.Codec)
		}
		if err := a.File(pm.File, 0o600, int64(len(data)), bytes.NewReader(data)); err != nil {
			return err
		}
		b.env.Plan.Modules = append(b.env.Plan.Modules, pm)
		sum := sha256.Sum256(data)
		b.env.Plan.Files = append(b.env.Plan.Files, newFile(pm.File, int64(len(data)), sum[:]))
	}
	for _, k := range b.keys {
		if err := a.File(k.file, 0o600, int64(len(k.text)), bytes.NewReader(k.text)); err != nil {
			return err
		}
	}
	if err := b.packInit(a, executable, info.Size()); err != nil {
		return err
	}
	if err := b.env.Plan.check(); err != nil {
		return err
	}
	text, err := json.MarshalIndent(b.env.Plan, "", " ")
	if err != nil {
		return err
	}
	for _, dir := range []string{"/dev", "/proc", "/sys", "/run", mountPoint} {
		if err := a.Dir(dir); err != nil {
			return err
		}
	}
	// The kernel gives PID 1 its console from here, before devtmpfs; and Go wants
	// /dev/null when there is no console.
	if err := errors.Join(a.CharDevice("/dev/console", 0o600, 5, 1), a.CharDevice("/dev/null", 0o666, 1, 3)); err != nil {
		return err
	}
	b.env.Seal = sha256.Sum256(text)
	if err := a.File(planFile, 0o600, int64(len(text)), bytes.NewReader(text)); err != nil {
		return err
	}
	if err := errors.Join(a.Close(), w.Close()); err != nil {
		return err
	}
	b.env.Initramfs, b.env.Unpacked = out.Bytes(), uint64(a.Unpacked())
	return nil
}

// packInit packs the binary, and notes its digest on the way.
func (b *builder) packInit(a *boot.Archive, executable io.Reader, size int64) error {
	h := sha256.New()
	packed := io.TeeReader(executable, h)
	end := size
	if b.Test != nil && b.Test.Corrupt {
		packed = io.MultiReader(io.LimitReader(packed, size), strings.NewReader("!"))
		end++
	}
	if err := a.File(initFile, 0o755, end, packed); err != nil {
		return err
	}
	b.env.Plan.Files = append(b.env.Plan.Files, newFile(initFile, size, h.Sum(nil)))
	return nil
}

// executable opens the binary to pack.
func (b *builder) executable() (*os.File, error) {
	name := b.Executable
	if name == "" {
		var err error
		if name, err = os.Executable(); err != nil {
			return nil, err
		}
	}
	f, err := os.Open(filepath.Clean(name))
	if err != nil {
		return nil, err
	}
	if dynamic, err := needsLinker(f); err != nil || dynamic {
		f.Close()
		if err == nil {
			err = ErrDynamic
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return f, nil
}
