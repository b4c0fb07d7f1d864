package lab

import (
	"context"
	"crypto/sha256"
	"debug/elf"
	_ "embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// builtPrefix before the name of a suite names the kernel built from its source.
const builtPrefix = "built-"

// kernelConfig is the configuration: a fragment, the rest is "n".
//
//go:embed kernel.config
var kernelConfig []byte

const (
	kernelArch     = "riscv"
	kernelCompiler = kernelCross + "gcc"
)

// kernelTools are the programs that a build runs and the packages they are in;
// libelf-dev, libssl-dev and zlib1g-dev are asked for by the build's own errors.
var kernelTools = []struct{ name, pkg string }{
	{"make", "make"}, {"gcc", "gcc"}, {kernelCompiler, "gcc-riscv64-linux-gnu"}, {kernelCross + "objcopy", "binutils-riscv64-linux-gnu"},
	{"flex", "flex"}, {"bison", "bison"}, {"bc", "bc"}, {"perl", "perl"}, {"pahole", "dwarves"},
	{"hexdump", "bsdextrautils"}, {"gzip", "gzip"}, {"zstd", "zstd"}, {"xz", "xz-utils"}, {"tar", "tar"},
}

// builtKernel is the kernel that was last built from the suite's source. It
// neither asks the archive nor builds: that is an hour's work of a small
// machine, for which a person has to ask.
func builtKernel(cache, suite string) (*Kernel, error) {
	var k Kernel
	if _, err := readPointer(builtPointer(cache, suite), &k); err != nil {
		return nil, ui.Hint(fmt.Errorf("kernel built from the source of %s: %w", suite, err), "make kernels builds it")
	}
	if err := k.check(); err != nil {
		return nil, ui.Hint(fmt.Errorf("kernel built from the source of %s: %w", suite, err), "make kernels builds it again")
	}
	return &k, nil
}

func builtPointer(cache, suite string) string {
	return filepath.Join(cache, "kernels", builtPrefix+"riscv64-"+suite+".json")
}

// BuildKernel builds the kernel of the suite's linux-source package with the
// configuration in kernel.config, for riscv64, unless the cache has it built of
// the same source with the same compiler and configuration. A build that was
// interrupted goes on where it was. [FetchKernel] finds what was built under
// the suite's name with "built-" before it.
func BuildKernel(ctx context.Context, opts KernelOptions) (*Kernel, error) {
	if opts.Say == nil {
		opts.Say = func(string, ...any) {}
	}
	cache, err := CacheDir()
	if err != nil {
		return nil, err
	}
	unlock, err := lock(cache, builtPrefix+"riscv64-"+opts.Suite)
	if err != nil {
		return nil, err
	}
	defer unlock()
	b := &kernelBuild{say: opts.Say}
	if b.compiler, err = compiler(ctx); err != nil {
		return nil, err
	}
	var asked source // what the suite's linux-source stood for when last asked
	pointer := filepath.Join(cache, "sources", opts.Suite+".json")
	checked, err := readPointer(pointer, &asked)
	if err == nil {
		_, err = os.Stat(asked.Archive)
	}
	if err != nil || opts.Refresh || time.Since(checked) >= fresh {
		have := err == nil
		found, err := b.fetch(ctx, cache, opts.Suite)
		switch {
		case err == nil:
			asked = *found
			if err := writePointer(pointer, found); err != nil {
				return nil, err
			}
		case !have || ctx.Err() != nil:
			return nil, fmt.Errorf("kernel source of %s: %w", opts.Suite, err)
		default:
			opts.Say("kernel source of %s: using the cached %s of %s, since the archive cannot be asked: %v",
				opts.Suite, asked.Version, checked.Format(time.DateOnly), firstLine(err))
		}
	}
	b.source = asked
	b.key = b.digest()
	if k, err := builtKernel(cache, opts.Suite); err == nil && k.Built.Key == b.key {
		return k, nil
	}
	k, err := b.run(ctx, cache)
	if err != nil {
		return nil, fmt.Errorf("building the kernel of %s: %w", opts.Suite, err)
	}
	return k, writePointer(builtPointer(cache, opts.Suite), k)
}

// compiler is the first line of what the cross compiler says of itself.
func compiler(ctx context.Context) (string, error) {
	for _, t := range kernelTools {
		if _, err := program(t.name, t.pkg); err != nil {
			return "", ui.Hint(err, "scripts/prerequisites kernels installs all that a build needs (make kernels does that)")
		}
	}
	out, err := exec.CommandContext(ctx, kernelCompiler, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", kernelCompiler, exitText(err))
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line, nil
}

// kernelBuild is one build of a kernel.
type kernelBuild struct {
	say      Say
	source   source
	compiler string
	key      string

	dir string // of the build; src and obj are in it
	log io.Writer
}

// fetch asks the archive, under the lock of the archive's state.
func (b *kernelBuild) fetch(ctx context.Context, cache, suite string) (*source, error) {
	unlock, err := lock(cache, "riscv64-"+suite)
	if err != nil {
		return nil, err
	}
	defer unlock()
	return fetchSource(ctx, cache, suite, b.say)
}

// recipe is changed with the steps of the build, so that what an older recipe
// made is not taken for what this one makes.
const recipe = "1"

func (b *kernelBuild) digest() string {
	h := sha256.New()
	for _, s := range []string{recipe, b.source.Version, b.compiler, string(kernelConfig)} {
		fmt.Fprintf(h, "%d %s\n", len(s), s)
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}

// run builds in a directory of its own below the cache, which stays when it
// fails and goes when it succeeds.
func (b *kernelBuild) run(ctx context.Context, cache string) (*Kernel, error) {
	builds := filepath.Join(cache, "builds")
	b.dir = filepath.Join(builds, b.source.Version+"-"+b.key)
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return nil, err
	}
	path := filepath.Join(b.dir, "log")
	log, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	b.log = log
	k, err := b.steps(ctx, cache)
	if err != nil {
		return nil, ui.Hint(err, "the whole log: "+path, "the same command again goes on where it was; to begin anew: rm -r "+b.dir)
	}
	return k, os.RemoveAll(b.dir)
}

func (b *kernelBuild) steps(ctx context.Context, cache string) (*Kernel, error) {
	began := time.Now()
	if err := b.unpack(ctx); err != nil {
		return nil, err
	}
	unpacked := time.Now()
	zboot := map[string]string{}
	for _, s := range []struct {
		name string
		do   func() error
	}{
		{"configured", func() error { return b.configure(ctx) }},
		{"compiled and linked, with modules", func() error { return b.make(ctx, "Image", "modules") }},
		{"vmlinuz.efi made, gzip", func() (err error) { zboot["gzip"], err = b.zboot(ctx, "gzip"); return err }},
		{"vmlinuz.efi made, zstd", func() (err error) { zboot["zstd"], err = b.zboot(ctx, "zstd"); return err }},
	} {
		from := time.Now()
		if err := s.do(); err != nil {
			return nil, err
		}
		b.say("  %-36s %s", s.name, time.Since(from).Round(time.Second))
	}
	release, err := b.release()
	if err != nil {
		return nil, err
	}
	tmp, err := os.MkdirTemp(b.dir, "root-")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return nil, err
	}
	k := &Kernel{
		Suite: builtPrefix + b.source.Suite, Version: b.source.Version, Release: release,
		Root:  filepath.Join(cache, "kernels", builtPrefix+release+"_"+b.source.Version+"-"+b.key),
		Image: "/boot/vmlinux-" + release, Modules: "/usr/lib/modules/" + release,
	}
	k.Built, err = b.install(ctx, tmp, k, zboot)
	if err != nil {
		return nil, err
	}
	k.Built.Compiler, k.Built.Key, k.Built.Took = b.compiler, b.key, time.Since(unpacked).Round(time.Second)
	if err := os.MkdirAll(filepath.Dir(k.Root), 0o755); err != nil {
		return nil, err
	}
	// One whose pointer was lost is the same.
	if err := os.RemoveAll(k.Root); err != nil {
		return nil, err
	}
	if err := os.Rename(tmp, k.Root); err != nil {
		return nil, err
	}
	b.say("  %-36s %s", "in all", time.Since(began).Round(time.Second))
	return k, k.check()
}

// unpack unpacks the source, all or nothing.
func (b *kernelBuild) unpack(ctx context.Context) error {
	src := filepath.Join(b.dir, "src")
	if _, err := os.Stat(src); !errors.Is(err, fs.ErrNotExist) {
		b.say("going on with the kernel of %s: %s", b.source.Suite, b.source.Version)
		return err
	}
	b.say("building the kernel of %s: %s, with %s", b.source.Suite, b.source.Version, b.compiler)
	from := time.Now()
	tmp := src + ".new"
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	if err := os.Mkdir(tmp, 0o755); err != nil {
		return err
	}
	c := exec.CommandContext(ctx, "tar", "-x", "-f", b.source.Archive, "-C", tmp, "--strip-components=1")
	if _, err := c.Output(); err != nil {
		return fmt.Errorf("unpacking %s: %w", b.source.Archive, exitText(err))
	}
	b.say("  %-36s %s", "unpacked", time.Since(from).Round(time.Second))
	return os.Rename(tmp, src)
}

// make runs the kernel's make on the build tree; what it says goes to the log,
// and its last lines into the error.
func (b *kernelBuild) make(ctx context.Context, args ...string) error {
	st, err := os.Stat(b.source.Archive)
	if err != nil {
		return err
	}
	obj := filepath.Join(b.dir, "obj")
	argv := []string{"-C", filepath.Join(b.dir, "src"), "O=" + obj}
	if _, err := os.Stat(filepath.Join(obj, "Makefile")); err == nil {
		// Started so in the build tree, the kernel's make does not start itself
		// again, which would lose -o.
		argv = []string{"-C", obj, "--no-print-directory"}
	}
	argv = append(argv, "-j"+fmt.Sprint(runtime.NumCPU()),
		"ARCH="+kernelArch, "CROSS_COMPILE="+kernelCross,
		// The banner tells nothing of who built, when and where.
		"KBUILD_BUILD_USER=panicroom", "KBUILD_BUILD_HOST=lab", "KBUILD_BUILD_VERSION=1",
		"KBUILD_BUILD_TIMESTAMP="+st.ModTime().UTC().Format(time.UnixDate))
	argv = append(argv, args...)
	fmt.Fprintf(b.log, "+ make %s\n", strings.Join(argv, " "))
	var tail lastLines
	c := exec.CommandContext(ctx, "make", argv...)
	c.Env = slices.DeleteFunc(os.Environ(), func(v string) bool {
		// This may itself run below a make.
		return strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS=") || strings.HasPrefix(v, "KERNEL=") || strings.HasPrefix(v, "V=")
	})
	c.Env = append(c.Env, "LC_ALL=C")
	out := io.MultiWriter(b.log, &tail)
	c.Stdout, c.Stderr = out, out
	// make's children end with it, by the signal that it gives them.
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.WaitDelay = 10 * time.Second
	if err := c.Run(); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return fmt.Errorf("make %s: %w\n%s", strings.Join(args, " "), err, tail.text())
	}
	return nil
}

// configure makes the configuration of the fragment, and checks that it came
// out: a name that a kernel does not know, or whose dependencies are not met,
// is left out by kconfig without a word.
func (b *kernelBuild) configure(ctx context.Context) error {
	config := filepath.Join(b.dir, "obj", ".config")
	if err := os.MkdirAll(filepath.Dir(config), 0o755); err != nil {
		return err
	}
	// A build that goes on may have ended in zboot below.
	if err := os.Rename(b.config(), config); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := os.Stat(config); err == nil {
		return nil // the build's directory is named by the fragment's digest
	}
	fragment := filepath.Join(b.dir, "fragment")
	if err := os.WriteFile(fragment, kernelConfig, 0o644); err != nil {
		return err
	}
	if err := b.make(ctx, "KCONFIG_ALLCONFIG="+fragment, "allnoconfig"); err != nil {
		return err
	}
	made, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	if lost := lostLines(kernelConfig, made); len(lost) > 0 {
		os.Remove(config)
		return fmt.Errorf("the kernel has no such setting, or does not let it be: %s", strings.Join(lost, ", "))
	}
	return nil
}

// lostLines are the settings of a fragment that a configuration does not have.
func lostLines(fragment, config []byte) []string {
	have := map[string]bool{}
	for line := range strings.Lines(string(config)) {
		have[strings.TrimSpace(line)] = true
	}
	var lost []string
	for line := range strings.Lines(string(fragment)) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") && !have[line] {
			lost = append(lost, line)
		}
	}
	return lost
}

// zboot makes vmlinuz.efi in a compression and returns where it is. Changing
// the configuration after the link gives another decompressor around the same
// Image: make is told that vmlinux is old enough, else it would link it again
// for the configuration that it has in it.
func (b *kernelBuild) zboot(ctx context.Context, method string) (string, error) {
	obj := filepath.Join(b.dir, "obj")
	kept := filepath.Join(b.dir, "vmlinuz-"+method+".efi")
	if _, err := os.Stat(kept); err == nil {
		return kept, nil
	}
	config := filepath.Join(obj, ".config")
	text, err := os.ReadFile(config)
	if err != nil {
		return "", err
	}
	if method != "gzip" {
		if err := os.WriteFile(b.config(), text, 0o644); err != nil {
			return "", err
		}
		other := strings.ReplaceAll(string(text), "CONFIG_KERNEL_GZIP=y", "# CONFIG_KERNEL_GZIP is not set")
		other = strings.ReplaceAll(other, "# CONFIG_KERNEL_"+strings.ToUpper(method)+" is not set", "CONFIG_KERNEL_"+strings.ToUpper(method)+"=y")
		if err := os.WriteFile(config, []byte(other), 0o644); err != nil {
			return "", err
		}
		defer os.Rename(b.config(), config)
		if err := b.make(ctx, "olddefconfig"); err != nil {
			return "", err
		}
		if err := b.make(ctx, "drivers/firmware/efi/libstub/"); err != nil {
			return "", err
		}
	}
	if err := b.make(ctx, "-o", "vmlinux", "vmlinuz.efi"); err != nil {
		return "", err
	}
	return kept, os.Rename(filepath.Join(obj, "arch/riscv/boot/vmlinuz.efi"), kept)
}

// config is where the configuration lies while zboot has another one.
func (b *kernelBuild) config() string { return filepath.Join(b.dir, "config") }

func (b *kernelBuild) release() (string, error) {
	text, err := os.ReadFile(filepath.Join(b.dir, "obj", "include", "config", "kernel.release"))
	return strings.TrimSpace(string(text)), err
}

// install puts what stays of the build below root: the places of the kernel
// and its modules are Debian's, the rest is in /build.
func (b *kernelBuild) install(ctx context.Context, root string, k *Kernel, zboot map[string]string) (*Built, error) {
	obj := filepath.Join(b.dir, "obj")
	for _, d := range []string{"boot", "build", "usr/lib"} {
		if err := os.MkdirAll(filepath.Join(root, d), 0o755); err != nil {
			return nil, err
		}
	}
	if err := os.Symlink("usr/lib", filepath.Join(root, "lib")); err != nil {
		return nil, err
	}
	built := &Built{
		Vmlinux: "/build/vmlinux", BTF: "/build/vmlinux.btf", ZBoot: map[string]string{},
		Config: "/boot/config-" + k.Release, SystemMap: "/boot/System.map-" + k.Release,
	}
	files := map[string]string{
		k.Image: filepath.Join(obj, "arch/riscv/boot/Image"), built.Vmlinux: filepath.Join(obj, "vmlinux"),
		built.Config: filepath.Join(obj, ".config"), built.SystemMap: filepath.Join(obj, "System.map"),
	}
	relocs := filepath.Join(obj, "vmlinux.relocs")
	if _, err := os.Stat(relocs); err == nil {
		built.Relocs = "/build/vmlinux.relocs"
		files[built.Relocs] = relocs
	}
	for method, path := range zboot {
		built.ZBoot[method] = "/build/vmlinuz-" + method + ".efi"
		files[built.ZBoot[method]] = path
	}
	for at, path := range files {
		// A link, so that a build that fails later is still whole.
		if err := os.Link(path, filepath.Join(root, at)); err != nil {
			return nil, err
		}
		if err := os.Chmod(filepath.Join(root, at), 0o644); err != nil {
			return nil, err
		}
	}
	btf, err := elfSection(filepath.Join(root, built.Vmlinux), ".BTF")
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(root, built.BTF), btf, 0o644); err != nil {
		return nil, err
	}
	// depmod below makes the indexes: the kernel's own call of it finds none
	// where sbin is not in the PATH.
	if err := b.make(ctx, "INSTALL_MOD_PATH="+root, "INSTALL_MOD_STRIP=1", "DEPMOD=true", "modules_install"); err != nil {
		return nil, err
	}
	for _, link := range []string{"build", "source"} { // to the build tree, which goes
		if err := os.Remove(filepath.Join(root, k.Modules, link)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return built, depmod(ctx, root, k.Release)
}

// elfSection is what is in a section of an ELF file.
func elfSection(path, name string) ([]byte, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	s := f.Section(name)
	if s == nil {
		return nil, fmt.Errorf("%s: no section %s", path, name)
	}
	return s.Data()
}
