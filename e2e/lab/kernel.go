package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// Say prints one line about what goes on, for people; nil is silence.
type Say func(format string, args ...any)

// Kernel is a distribution's kernel, unpacked, or one that was built here.
type Kernel struct {
	Suite   string // like trixie
	Version string // of the package, like 6.12.107-1
	Release string // uname -r, like 6.12.107+deb13-riscv64
	Root    string // directory holding the packages' files at their own paths
	// Image is the kernel image's path below Root and in a Debian system, like
	// /boot/vmlinux-6.12.107+deb13-riscv64.
	Image string
	// Modules is the modules directory below Root, like
	// /usr/lib/modules/6.12.107+deb13-riscv64; modules.dep is in it.
	Modules string
	// Built is what more there is of a kernel that was built here; nil of
	// another.
	Built *Built `json:",omitempty"`
}

// Built is what is there of a kernel that was built here, beside what a
// distribution's kernel has. Paths are below Kernel.Root.
type Built struct {
	// Vmlinux is the ELF as the build leaves it, with debug data. Relocs is the
	// same before its relocation data was taken out, "" where the build leaves
	// that in (6.12: arch/riscv/Makefile.postlink takes it out and keeps
	// vmlinux.relocs; 7.2: scripts/Makefile.vmlinux keeps .rela.dyn).
	Vmlinux string
	Relocs  string `json:",omitempty"`
	// ZBoot are the kernel's own vmlinuz.efi by the compression's name in their
	// header; the Image in each is the same.
	ZBoot     map[string]string
	Config    string
	SystemMap string
	BTF       string

	Compiler string
	Took     time.Duration // to build, since it was last begun or taken up again
	Key      string        // of all that went in
}

// ImagePath is the kernel image on this machine.
func (k *Kernel) ImagePath() string { return filepath.Join(k.Root, k.Image) }

// ModulesDir is the directory with modules.dep on this machine.
func (k *Kernel) ModulesDir() string { return filepath.Join(k.Root, k.Modules) }

// KernelOptions say which kernel is wanted; the zero value is riscv64 of
// trixie.
type KernelOptions struct {
	// Suite is one of Debian by codename or alias. With "built-" before it, it
	// means the kernel that [BuildKernel] built from that suite's source.
	Suite   string
	Arch    string // Debian's name of the architecture
	Refresh bool   // ask the archive even if that was done within a day
	Say     Say
}

// fresh is how long an answer of the archive is believed: suites move daily.
const fresh = 24 * time.Hour

// FetchKernel returns the kernel that the suite's linux-image package stands
// for today. One that was checked within a day is returned without network;
// when the archive cannot be asked, the last one fetched is used, and opts.Say
// hears it.
func FetchKernel(ctx context.Context, opts KernelOptions) (*Kernel, error) {
	if opts.Suite == "" {
		opts.Suite = "trixie"
	}
	if opts.Arch == "" {
		opts.Arch = "riscv64"
	}
	if opts.Say == nil {
		opts.Say = func(string, ...any) {}
	}
	cache, err := CacheDir()
	if err != nil {
		return nil, err
	}
	if suite, ok := strings.CutPrefix(opts.Suite, builtPrefix); ok {
		return builtKernel(cache, suite)
	}
	unlock, err := lock(cache, opts.Arch+"-"+opts.Suite)
	if err != nil {
		return nil, err
	}
	defer unlock()

	pointer := filepath.Join(cache, "kernels", opts.Arch+"-"+opts.Suite+".json")
	var cached Kernel
	checked, err := readPointer(pointer, &cached)
	if err == nil {
		err = cached.check()
	}
	have := err == nil
	if have && !opts.Refresh && time.Since(checked) < fresh {
		return &cached, nil
	}
	k, err := fetchKernel(ctx, cache, opts)
	if err != nil {
		if !have || ctx.Err() != nil {
			return nil, fmt.Errorf("kernel of %s: %w", opts.Suite, err)
		}
		opts.Say("kernel of %s: using the cached %s of %s, since the archive cannot be asked: %v",
			opts.Suite, cached.Version, checked.Format(time.DateOnly), firstLine(err))
		return &cached, nil
	}
	if err := writePointer(pointer, k); err != nil {
		return nil, err
	}
	return k, nil
}

func (k *Kernel) check() error {
	paths := []string{k.ImagePath(), filepath.Join(k.ModulesDir(), "modules.dep")}
	if k.Built != nil {
		paths = append(paths, filepath.Join(k.Root, k.Built.Vmlinux))
	}
	for _, p := range paths {
		if _, err := os.Stat(p); err != nil {
			return err
		}
	}
	return nil
}

func fetchKernel(ctx context.Context, cache string, opts KernelOptions) (*Kernel, error) {
	a, err := openArchive(ctx, cache, opts.Suite, opts.Arch, opts.Say)
	if err != nil {
		return nil, err
	}
	version, release, packages, err := a.resolveKernel(ctx)
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cache, "kernels", release+"_"+version)
	k := &Kernel{Suite: opts.Suite, Version: version, Release: release, Root: dir}
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		opts.Say("fetching the kernel of %s: %s (%s)", opts.Suite, release, version)
		if err := a.install(ctx, dir, release, packages); err != nil {
			return nil, err
		}
	}
	if k.Image, err = find(dir, "/boot/vmlinux-"+release, "/boot/vmlinuz-"+release,
		"/usr/lib/modules/"+release+"/vmlinuz", "/usr/lib/modules/"+release+"/vmlinux"); err != nil {
		return nil, fmt.Errorf("kernel image of %s: %w", release, err)
	}
	if k.Modules, err = find(dir, "/usr/lib/modules/"+release, "/lib/modules/"+release); err != nil {
		return nil, fmt.Errorf("modules of %s: %w", release, err)
	}
	return k, k.check()
}

// resolveKernel follows linux-image-ARCH to the packages of the one build it
// stands for. They are called differently from suite to suite (one package in
// trixie, an image, a base, a binary and a modules package in sid); what they
// have in common is the exact version that each asks for in the next.
func (a *archive) resolveKernel(ctx context.Context) (version, release string, packages []string, err error) {
	meta := "linux-image-" + a.arch
	top, err := a.show(ctx, meta)
	if err != nil {
		return "", "", nil, err
	}
	version = top["Version"]
	seen := map[string]bool{meta: true}
	for queue := top.pinned(); len(queue) > 0; queue = queue[1:] {
		name := queue[0]
		if seen[name] {
			continue
		}
		seen[name] = true
		c, err := a.show(ctx, name)
		if err != nil {
			return "", "", nil, err
		}
		queue = append(queue, c.pinned()...)
		if r, ok := strings.CutPrefix(name, "linux-image-"); ok && release == "" {
			release = r
		}
		packages = append(packages, name+"="+version)
	}
	if release == "" {
		return "", "", nil, fmt.Errorf("package %s %s of %s: no linux-image-VERSION among its dependencies %q",
			meta, version, a.suite, top["Depends"])
	}
	return version, release, packages, nil
}

// install puts the files of packages into dir, all or nothing.
func (a *archive) install(ctx context.Context, dir, release string, packages []string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	if err := os.Chmod(tmp, 0o755); err != nil {
		return err
	}
	if err := a.download(ctx, tmp, packages); err != nil {
		return err
	}
	root := filepath.Join(tmp, "root")
	if err := unpack(ctx, tmp, root); err != nil {
		return err
	}
	if err := depmod(ctx, root, release); err != nil {
		return err
	}
	return os.Rename(root, dir)
}

// depmod makes modules.dep and its kin, which a Debian system makes when the
// package is configured.
func depmod(ctx context.Context, root, release string) error {
	lib := filepath.Join(root, "lib")
	if _, err := os.Lstat(lib); errors.Is(err, fs.ErrNotExist) {
		// A Debian system has this link too; depmod looks below /lib only.
		if err := os.Symlink("usr/lib", lib); err != nil {
			return err
		}
	}
	program, err := exec.LookPath("depmod")
	if err != nil {
		for _, p := range []string{"/usr/sbin/depmod", "/sbin/depmod"} {
			if _, err := os.Stat(p); err == nil {
				program = p
			}
		}
	}
	if program == "" {
		return ui.Hint(errors.New("depmod is not installed"), "apt-get install kmod (scripts/prerequisites does it)")
	}
	if _, err := exec.CommandContext(ctx, program, "-b", root, release).Output(); err != nil {
		return fmt.Errorf("depmod -b %s %s: %w", root, release, exitText(err))
	}
	return nil
}

// find returns the first of paths that exists below root.
func find(root string, paths ...string) (string, error) {
	for _, p := range paths {
		if _, err := os.Stat(filepath.Join(root, p)); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("none of %s below %s", strings.Join(paths, ", "), root)
}
