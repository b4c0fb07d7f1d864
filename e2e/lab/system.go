package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// System is a Debian root filesystem with systemd on a disk that U-Boot starts: the
// older of two kernels is installed, with u-boot-menu, and no initramfs-tools.
type System struct {
	Suite string
	Image string // of the disk, one ext4 partition; never written, see [System.Boot]
	// Old is the kernel that is installed. New is the next newer one of the archive,
	// NewDebs its packages.
	Old, New *Kernel
	NewDebs  []string
	OldDebs  []string
	Key      string // of all that went in
}

// SystemOptions say what is wanted; the zero value is riscv64 of trixie.
type SystemOptions struct {
	Suite   string
	Refresh bool // ask the archive even if that was done within a week
	Say     Say
}

// SystemUUID is the root filesystem's.
const SystemUUID = "6b0e5f1c-7a51-4e0b-9d7a-7a1c0b0e5f1c"

const (
	systemSerial = "system"
	systemMiB    = 3 << 10 // sparse: the dumps of the tests go there, too
	// systemFresh is how long the archive is believed. Making the root again takes
	// ten minutes, and nothing in it is what is tested.
	systemFresh = 7 * 24 * time.Hour
)

// systemPackages are what a machine that boots by U-Boot and systemd has, beside
// the essential ones.
var systemPackages = []string{"systemd-sysv", "udev", "kmod", "u-boot-menu", "linux-base", "e2fsprogs"}

// FetchSystem returns the system of a suite, made with mmdebstrap if it is not in
// the cache. That takes root, who may change roots and have programs of another
// architecture run.
func FetchSystem(ctx context.Context, opts SystemOptions) (*System, error) {
	if opts.Suite == "" {
		opts.Suite = "trixie"
	}
	if opts.Say == nil {
		opts.Say = func(string, ...any) {}
	}
	cache, err := CacheDir()
	if err != nil {
		return nil, err
	}
	unlock, err := lock(cache, "system-"+opts.Suite)
	if err != nil {
		return nil, err
	}
	defer unlock()
	pointer := filepath.Join(cache, "systems", opts.Suite+".json")
	var cached System
	checked, err := readPointer(pointer, &cached)
	if err == nil {
		err = cached.check()
	}
	have := err == nil
	if !have || opts.Refresh || time.Since(checked) >= systemFresh {
		s, err := makeSystem(ctx, cache, opts)
		switch {
		case err == nil:
			cached = *s
			if err := writePointer(pointer, s); err != nil {
				return nil, err
			}
		case !have || ctx.Err() != nil:
			return nil, fmt.Errorf("root filesystem of %s: %w", opts.Suite, err)
		default:
			opts.Say("root filesystem of %s: using the cached one of %s, since none can be made: %v",
				opts.Suite, checked.Format(time.DateOnly), firstLine(err))
		}
	}
	return &cached, nil
}

func (s *System) check() error {
	for _, p := range append(append([]string{s.Image}, s.NewDebs...), s.OldDebs...) {
		if _, err := os.Stat(p); err != nil {
			return err
		}
	}
	return errors.Join(s.Old.check(), s.New.check())
}

// imageName is a package with a kernel, not the one that stands for the newest, nor
// one with debug data.
var imageName = regexp.MustCompile(`^linux-image-([0-9][^ ]*)$`)

// kernels are the kernels of the archive, older ones first.
func (a *archive) kernels(ctx context.Context) ([]string, error) {
	out, err := a.run(ctx, a.dir, "apt-cache", "pkgnames", "linux-image-")
	if err != nil {
		return nil, err
	}
	var releases []string
	for line := range strings.Lines(string(out)) {
		m := imageName.FindStringSubmatch(strings.TrimSpace(line))
		if m != nil && strings.HasSuffix(m[1], "-"+a.arch) && !strings.Contains(m[1], "-rt-") {
			releases = append(releases, m[1])
		}
	}
	slices.SortFunc(releases, func(x, y string) int {
		switch {
		case x == y:
			return 0
		case exec.CommandContext(ctx, "dpkg", "--compare-versions", x, "lt", y).Run() == nil:
			return -1
		}
		return 1
	})
	return releases, nil
}

// kernelPair finds two kernels of the suite, or the newest of it and the newest of
// its backports.
func kernelPair(ctx context.Context, cache string, opts SystemOptions) (older, newer *kernelPackages, err error) {
	a, err := openArchive(ctx, cache, opts.Suite, "riscv64", opts.Say)
	if err != nil {
		return nil, nil, err
	}
	releases, err := a.kernels(ctx)
	if err != nil {
		return nil, nil, err
	}
	if n := len(releases); n >= 2 {
		if older, err = a.kernelPackages(ctx, releases[n-2]); err != nil {
			return nil, nil, err
		}
		newer, err = a.kernelPackages(ctx, releases[n-1])
		return older, newer, err
	}
	if len(releases) == 0 {
		return nil, nil, fmt.Errorf("suite %s has no kernel", opts.Suite)
	}
	if older, err = a.kernelPackages(ctx, releases[0]); err != nil {
		return nil, nil, err
	}
	b, err := openArchive(ctx, cache, opts.Suite+"-backports", "riscv64", opts.Say)
	if err != nil {
		return nil, nil, fmt.Errorf("%s has one kernel only, %s: %w", opts.Suite, releases[0], err)
	}
	if releases, err = b.kernels(ctx); err != nil || len(releases) == 0 {
		return nil, nil, fmt.Errorf("suite %s-backports has no kernel: %w", opts.Suite, err)
	}
	newer, err = b.kernelPackages(ctx, releases[len(releases)-1])
	return older, newer, err
}

// kernelPackages is one kernel and what it is made of.
type kernelPackages struct {
	archive          *archive
	release, version string
	packages         []string // NAME=VERSION
}

func (a *archive) kernelPackages(ctx context.Context, release string) (*kernelPackages, error) {
	k := &kernelPackages{archive: a, release: release}
	seen := map[string]bool{}
	for queue := []string{"linux-image-" + release}; len(queue) > 0; queue = queue[1:] {
		name := queue[0]
		if seen[name] {
			continue
		}
		seen[name] = true
		c, err := a.show(ctx, name)
		if err != nil {
			return nil, err
		}
		k.version = c["Version"]
		k.packages = append(k.packages, name+"="+k.version)
		queue = append(queue, c.pinned()...)
	}
	return k, nil
}

// fetch unpacks the kernel into the cache as [FetchKernel] does, and keeps its
// packages.
func (k *kernelPackages) fetch(ctx context.Context, cache, suite string, say Say) (*Kernel, []string, error) {
	debs := filepath.Join(cache, "systems", "debs", k.release+"_"+k.version)
	found, err := filepath.Glob(filepath.Join(debs, "*.deb"))
	if err != nil {
		return nil, nil, err
	}
	if len(found) == 0 {
		say("fetching the packages of kernel %s (%s)", k.release, k.version)
		tmp := debs + ".new"
		if err := os.RemoveAll(tmp); err != nil {
			return nil, nil, err
		}
		if err := os.MkdirAll(tmp, 0o755); err != nil {
			return nil, nil, err
		}
		if err := k.archive.download(ctx, tmp, k.packages); err != nil {
			return nil, nil, err
		}
		if err := os.Rename(tmp, debs); err != nil {
			return nil, nil, err
		}
		if found, err = filepath.Glob(filepath.Join(debs, "*.deb")); err != nil {
			return nil, nil, err
		}
	}
	dir := filepath.Join(cache, "kernels", k.release+"_"+k.version)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		tmp, err := os.MkdirTemp(filepath.Dir(dir), ".new-")
		if err != nil {
			return nil, nil, err
		}
		defer os.RemoveAll(tmp)
		for _, deb := range found {
			if err := copyFile(filepath.Join(tmp, filepath.Base(deb)), deb); err != nil {
				return nil, nil, err
			}
		}
		root := filepath.Join(tmp, "root")
		if err := unpack(ctx, tmp, root); err != nil {
			return nil, nil, err
		}
		if err := depmod(ctx, root, k.release); err != nil {
			return nil, nil, err
		}
		if err := os.Rename(root, dir); err != nil {
			return nil, nil, err
		}
	}
	kernel := &Kernel{Suite: suite, Version: k.version, Release: k.release, Root: dir}
	if kernel.Image, err = find(dir, "/boot/vmlinux-"+k.release, "/boot/vmlinuz-"+k.release); err != nil {
		return nil, nil, err
	}
	if kernel.Modules, err = find(dir, "/usr/lib/modules/"+k.release, "/lib/modules/"+k.release); err != nil {
		return nil, nil, err
	}
	return kernel, found, kernel.check()
}

// makeSystem makes the root filesystem and the disk.
func makeSystem(ctx context.Context, cache string, opts SystemOptions) (*System, error) {
	older, newer, err := kernelPair(ctx, cache, opts)
	if err != nil {
		return nil, err
	}
	s := &System{Suite: opts.Suite}
	if s.Old, s.OldDebs, err = older.fetch(ctx, cache, opts.Suite, opts.Say); err != nil {
		return nil, err
	}
	if s.New, s.NewDebs, err = newer.fetch(ctx, cache, opts.Suite, opts.Say); err != nil {
		return nil, err
	}
	s.Key = digest(strings.Join([]string{s.Old.Release, s.Old.Version, strings.Join(systemPackages, " "), systemFiles, time.Now().Format(time.DateOnly)}, "\n"))
	s.Image = filepath.Join(cache, "systems", opts.Suite+"-"+s.Key+".img")
	if _, err := os.Stat(s.Image); err == nil {
		return s, nil
	}
	if os.Geteuid() != 0 {
		return nil, ui.Hint(errors.New("making a root filesystem takes root"), "once, as root with this cache: PANICROOM_CACHE="+cache+" make system")
	}
	opts.Say("making a root filesystem of %s with kernel %s (ten minutes; cached)", opts.Suite, s.Old.Release)
	tmp, err := os.MkdirTemp(filepath.Dir(s.Image), ".new-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	root := filepath.Join(tmp, "root")
	if err := bootstrap(ctx, older.archive, root); err != nil {
		return nil, err
	}
	if err := s.install(ctx, root); err != nil {
		return nil, err
	}
	image := filepath.Join(tmp, "image")
	if err := systemDisk(ctx, image, root); err != nil {
		return nil, err
	}
	return s, os.Rename(image, s.Image)
}

// bootstrap makes a root with the packages in it.
func bootstrap(ctx context.Context, a *archive, root string) error {
	mmdebstrap, err := program("mmdebstrap", "mmdebstrap")
	if err != nil {
		return err
	}
	if err := foreign(ctx); err != nil {
		return err
	}
	c := exec.CommandContext(ctx, mmdebstrap, "--mode=root", "--architectures=riscv64", "--variant=minbase",
		"--include="+strings.Join(systemPackages, ","), "--format=directory", "--keyring="+archiveKeyring,
		// The pages of our package are wanted, those of others are not.
		"--dpkgopt=path-exclude=/usr/share/locale/*", "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*",
		a.used, root, a.uri)
	said := &lastLines{}
	c.Stdout, c.Stderr = said, said
	if err := c.Run(); err != nil {
		return fmt.Errorf("mmdebstrap: %w: %s", err, said.buf)
	}
	return os.Remove(filepath.Join(root, "etc/dpkg/dpkg.cfg.d/99mmdebstrap"))
}

// foreign makes sure that programs for riscv64 can be run here, by qemu-user.
func foreign(ctx context.Context) error {
	const dir = "/proc/sys/fs/binfmt_misc"
	if _, err := os.Stat(dir + "/qemu-riscv64"); err == nil {
		return nil
	}
	emulator, err := program("qemu-riscv64-static", "qemu-user-static")
	if err != nil {
		return err
	}
	if _, err := os.Stat(dir + "/register"); err != nil {
		if _, err := exec.CommandContext(ctx, "mount", "-t", "binfmt_misc", "binfmt_misc", dir).Output(); err != nil {
			return fmt.Errorf("mounting binfmt_misc: %w", exitText(err))
		}
	}
	// An ELF file of 64 bits, little endian, for machine 243, executable or shared
	// (e_type 2 and 3). F opens the emulator now: another root has none.
	var magic, mask strings.Builder
	for i, b := range []byte{0x7f, 'E', 'L', 'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 243, 0} {
		m := byte(0xff)
		switch i {
		case 7:
			m = 0 // any OS ABI
		case 16:
			m = 0xfe
		}
		fmt.Fprintf(&magic, `\x%02x`, b)
		fmt.Fprintf(&mask, `\x%02x`, m)
	}
	line := fmt.Sprintf(":qemu-riscv64:M::%s:%s:%s:OCPF", magic.String(), mask.String(), emulator)
	if err := os.WriteFile(dir+"/register", []byte(line), 0o200); err != nil {
		return ui.Hint(fmt.Errorf("having programs for riscv64 run by %s: %w", emulator, err), "apt-get install binfmt-support, or a machine where binfmt_misc may be used")
	}
	return nil
}

// systemFiles is in the key of an image: bump it when install changes.
const systemFiles = "1"

// install puts the older kernel into root, its and the newer one's initramfs, and
// the guest as an agent.
func (s *System) install(ctx context.Context, root string) error {
	guest, err := Build(ctx, "e2e/guest", "riscv64")
	if err != nil {
		return err
	}
	text := map[string]string{
		"/etc/fstab":    "UUID=" + SystemUUID + " / ext4 defaults,errors=remount-ro 0 1\n",
		"/etc/hostname": "lab\n",
		"/etc/default/u-boot": "U_BOOT_ROOT=\"root=UUID=" + SystemUUID + "\"\n" +
			"U_BOOT_PARAMETERS=\"ro console=ttyS0 panic=-1\"\nU_BOOT_TIMEOUT=\"1\"\n",
		"/etc/systemd/system/lab-agent.service": agentUnit,
		// A busy machine emulates slowly.
		"/etc/systemd/system.conf.d/lab.conf": "[Manager]\nDefaultTimeoutStartSec=30min\nDefaultDeviceTimeoutSec=30min\n",
		// Debian's kernels want a tool that makes an initramfs; this package says that
		// there is one, and brings what it would make.
		"/lab/DEBIAN/control": "Package: lab-initramfs\nVersion: 1\nArchitecture: all\nMaintainer: lab <root@localhost>\n" +
			"Provides: linux-initramfs-tool\nDescription: initramfs of the lab\n",
		// An emulated depmod unpacks all modules, which takes minutes at each installation
		// of a kernel. Ours has done it for both, below.
		"/usr/local/sbin/depmod": "#!/bin/sh\n",
	}
	for path, t := range text {
		at := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(at, []byte(t), 0o644); err != nil {
			return err
		}
	}
	if err := os.Chmod(filepath.Join(root, "usr/local/sbin/depmod"), 0o755); err != nil {
		return err
	}
	agent := filepath.Join(root, "usr/local/sbin/lab-agent")
	if err := copyFile(agent, guest); err != nil {
		return err
	}
	if err := os.Chmod(agent, 0o755); err != nil {
		return err
	}
	for _, k := range []*Kernel{s.Old, s.New} {
		at := filepath.Join(root, "lab/boot/initrd.img-"+k.Release)
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			return err
		}
		if err := s.initramfs(k, guest, at); err != nil {
			return err
		}
	}
	run := func(args ...string) error {
		c := exec.CommandContext(ctx, "chroot", append([]string{root}, args...)...)
		c.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C"}
		said := &lastLines{}
		c.Stdout, c.Stderr = said, said
		if err := c.Run(); err != nil {
			return fmt.Errorf("%s: %w: %s", args[0], err, said.buf)
		}
		return nil
	}
	if err := run("dpkg-deb", "--root-owner-group", "--build", "/lab", "/lab.deb"); err != nil {
		return err
	}
	install := []string{"dpkg", "--force-unsafe-io", "--install", "/lab.deb"}
	for _, deb := range s.OldDebs {
		if err := copyFile(filepath.Join(root, filepath.Base(deb)), deb); err != nil {
			return err
		}
		install = append(install, "/"+filepath.Base(deb))
	}
	if err := run(install...); err != nil {
		return err
	}
	for _, path := range append(install[3:], "/lab") {
		if err := os.RemoveAll(filepath.Join(root, path)); err != nil {
			return err
		}
	}
	for _, k := range []*Kernel{s.Old, s.New} {
		if err := putIndexes(root, k); err != nil {
			return err
		}
	}
	// Nobody logs in, and the first boot shall be like any other.
	if err := run("systemctl", "mask", "getty-static.service", "getty@tty1.service", "serial-getty@ttyS0.service", "e2scrub_reap.service",
		"apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "ldconfig.service", "systemd-hwdb-update.service", "systemd-journal-catalog-update.service"); err != nil {
		return err
	}
	if err := run("systemd-machine-id-setup"); err != nil {
		return err
	}
	return run("systemctl", "enable", "lab-agent.service")
}

// putIndexes puts what depmod makes of a kernel's modules.
func putIndexes(root string, k *Kernel) error {
	indexes, err := filepath.Glob(filepath.Join(k.ModulesDir(), "modules.*"))
	if err != nil {
		return err
	}
	to := filepath.Join(root, "usr/lib/modules", k.Release)
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for _, f := range indexes {
		if err := copyFile(filepath.Join(to, filepath.Base(f)), f); err != nil {
			return err
		}
		if err := os.Chmod(filepath.Join(to, filepath.Base(f)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// agentUnit starts the agent when its port is there, last.
const agentUnit = `[Unit]
Description=Agent of the lab
BindsTo=dev-virtio\x2dports-` + script.Port + `.device
After=dev-virtio\x2dports-` + script.Port + `.device

[Service]
ExecStart=/usr/local/sbin/lab-agent ` + script.Agent + `
Environment=HOME=/root

[Install]
WantedBy=multi-user.target
`

// initramfs makes the initramfs with which a kernel finds the root: it has its
// drivers as modules.
func (s *System) initramfs(k *Kernel, guest, path string) error {
	root := newInitramfs()
	root.files["/init"] = guest
	play := &script.Script{Root: &script.Root{Serial: systemSerial, Partition: 1, Type: "ext4", Init: "/sbin/init"}}
	modules, err := k.moduleFiles("virtio_mmio", "virtio_blk", "ext4")
	if err != nil {
		return err
	}
	for _, m := range modules {
		at := filepath.Join(k.Modules, m)
		root.files[at] = filepath.Join(k.ModulesDir(), m)
		play.Modules = append(play.Modules, at)
	}
	if err := root.script(play); err != nil {
		return err
	}
	return root.save(path)
}

// systemDisk makes the disk of a root.
func systemDisk(ctx context.Context, path, root string) error {
	mkfs, err := program("mkfs.ext4", "e2fsprogs")
	if err != nil {
		return err
	}
	if err := partition(path, systemMiB<<20); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, mkfs, "-q", "-F", "-m", "0", "-U", SystemUUID,
		"-E", fmt.Sprintf("root_owner=0:0,offset=%d", partitionStart), "-d", root, path, fmt.Sprintf("%dk", systemMiB<<10)).CombinedOutput()
	if err != nil {
		return fmt.Errorf("mkfs.ext4: %w: %s", err, out)
	}
	return nil
}
