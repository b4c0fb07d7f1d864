package crashenv

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/cavaliergopher/cpio"
	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/internal/boot"
	"github.com/panicroom-kdump/panicroom/internal/config"
	"github.com/panicroom-kdump/panicroom/internal/device"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/target"
)

const testRelease = "6.12.107+deb13-riscv64"

func link(to string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte(to), Mode: fs.ModeSymlink | 0o777}
}

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

// testRoot is QEMU's virt machine with a virtio disk, and a watchdog that is
// running.
func testRoot(more fstest.MapFS) fstest.MapFS {
	root := fstest.MapFS{
		"proc/self/mountinfo": file("27 1 254:1 / / rw - ext4 /dev/vda1 rw\n" +
			"28 27 254:2 / /srv ro - ext4 /dev/vda2 ro\n" +
			"29 27 0:40 / /tmp rw - tmpfs tmpfs rw\n" +
			"30 27 254:1 / /boot/efi rw - vfat /dev/vda1 rw,codepage=437,iocharset=ascii\n"),
		"proc/sys/kernel/osrelease":       file(testRelease + "\n"),
		"proc/sys/kernel/hostname":        file("starlight\n"),
		"proc/sys/kernel/random/boot_id":  file("01234567-89ab-cdef-0123-456789abcdef\n"),
		"boot/config-" + testRelease:      file("CONFIG_RD_GZIP=y\nCONFIG_MODULE_DECOMPRESS=y\nCONFIG_MODULE_COMPRESS_XZ=y\n# CONFIG_RD_ZSTD is not set\n"),
		"var/log/x":                       file(""),
		"var/crash":                       link("../data/crash"),
		"data/x":                          file(""),
		"etc/passwd":                      file(""),
		"loop":                            link("loop"),
		"sys/dev/block/254:1":             link("../../devices/platform/10008000.virtio_mmio/virtio7/block/vda/vda1"),
		"sys/dev/block/254:2":             link("../../devices/platform/10008000.virtio_mmio/virtio7/block/vda/vda1"),
		"sys/class/watchdog/watchdog0":    link("../../devices/platform/wdt/watchdog/watchdog0"),
		"sys/devices/platform/wdt/driver": link("../../../bus/platform/drivers/wdt"),
		"sys/devices/platform/wdt/watchdog/watchdog0/state":                       file("active\n"),
		"sys/bus/platform/drivers/wdt/module":                                     link("../../../../module/starfive_wdt"),
		"sys/devices/platform/10008000.virtio_mmio/driver":                        link("../../../bus/platform/drivers/virtio-mmio"),
		"sys/devices/platform/10008000.virtio_mmio/modalias":                      file("of:NvirtioT(null)Cvirtio,mmio\n"),
		"sys/devices/platform/10008000.virtio_mmio/virtio7/driver":                link("../../../../bus/virtio/drivers/virtio_blk"),
		"sys/devices/platform/10008000.virtio_mmio/virtio7/modalias":              file("virtio:d00000002v554D4551\n"),
		"sys/devices/platform/10008000.virtio_mmio/virtio7/block/vda/vda1/uevent": file("DEVNAME=vda1\n"),
		"sys/bus/virtio/drivers/virtio_blk/module":                                link("../../../../module/virtio_blk"),
		"sys/module/starfive_wdt/initstate":                                       file("live\n"),
		"sys/module/virtio_blk/initstate":                                         file("live\n"),
		"sys/module/not_there/initstate":                                          file("live\n"),
		// virtio-mmio has no module: it is built into the running kernel.
		"sys/bus/platform/drivers/virtio-mmio/bind": file(""),
	}
	maps.Copy(root, more)
	return root
}

// testModules is a modules directory; what is compressed is so in name only.
var testModules = fstest.MapFS{
	"modules.dep": file("kernel/drivers/block/virtio_blk.ko.xz: kernel/drivers/virtio/virtio.ko.xz\n" +
		"kernel/drivers/virtio/virtio.ko.xz:\n" +
		"kernel/drivers/virtio/virtio_mmio.ko.xz: kernel/drivers/virtio/virtio.ko.xz\n" +
		"kernel/drivers/watchdog/starfive-wdt.ko.xz:\n" +
		"kernel/fs/nls/nls_cp437.ko.xz:\nkernel/fs/nls/nls_ascii.ko.xz:\n" +
		"kernel/fs/fat/vfat.ko.xz:\n" +
		"kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz\n" +
		"kernel/fs/jbd2/jbd2.ko.xz:\n"),
	"modules.alias": file("alias fs-ext4 ext4\nalias ext3 ext4\n" +
		"alias virtio:d00000002v* virtio_blk\nalias of:N*T*Cvirtio,mmio* virtio_mmio\n"),
	"kernel/drivers/block/virtio_blk.ko.xz":      file("virtio_blk xz"),
	"kernel/drivers/virtio/virtio.ko.xz":         file("virtio xz"),
	"kernel/drivers/virtio/virtio_mmio.ko.xz":    file("virtio_mmio xz"),
	"kernel/drivers/watchdog/starfive-wdt.ko.xz": file("starfive_wdt xz"),
	"kernel/fs/nls/nls_cp437.ko.xz":              file("nls_cp437 xz"),
	"kernel/fs/nls/nls_ascii.ko.xz":              file("nls_ascii xz"),
	"kernel/fs/fat/vfat.ko.xz":                   file("vfat xz"),
	"kernel/fs/ext4/ext4.ko.xz":                  file("ext4 xz"),
	"kernel/fs/jbd2/jbd2.ko.xz":                  file("jbd2 xz"),
}

// ext4 is a disk with as much of an ext4 superblock as is looked at.
func ext4() []byte {
	b := make([]byte, 128<<10)
	sb := b[1024:]
	binary.LittleEndian.PutUint32(sb[4:], 1024)
	binary.LittleEndian.PutUint16(sb[0x38:], 0xef53)
	binary.LittleEndian.PutUint32(sb[0x60:], 0x40)
	copy(sb[0x68:], "0123456789abcdef")
	return b
}

// executable is the header of a riscv64 program, with an interpreter or not.
func executable(t *testing.T, dynamic bool) string {
	t.Helper()
	h := make([]byte, 64+56)
	copy(h, "\x7fELF\x02\x01\x01")
	le := binary.LittleEndian
	le.PutUint16(h[16:], 2)
	le.PutUint16(h[18:], 243)
	le.PutUint32(h[20:], 1)
	le.PutUint64(h[32:], 64)
	le.PutUint16(h[52:], 64)
	le.PutUint16(h[54:], 56)
	le.PutUint16(h[56:], 1)
	le.PutUint16(h[58:], 64)
	le.PutUint32(h[64:], 1) // PT_LOAD
	if dynamic {
		le.PutUint32(h[64:], 3) // PT_INTERP
	}
	name := filepath.Join(t.TempDir(), "panicroom")
	if err := os.WriteFile(name, h, 0o755); err != nil {
		t.Fatal(err)
	}
	return name
}

// inDir is a list of one target.
func inDir(dir string) []config.Target { return []config.Target{{Dir: dir, Deadline: time.Hour}} }

func testOptions(t *testing.T) Options {
	return Options{
		Targets: inDir("/var/crash"), Release: testRelease, Modules: testModules, Root: testRoot(nil), Level: 31, Final: PowerOff,
		Executable: executable(t, false), BTF: filepath.Join(t.TempDir(), "none"),
		Open: func(name string) (io.ReaderAt, io.Closer, error) {
			if name != "vda1" {
				return nil, nil, fs.ErrNotExist
			}
			return bytes.NewReader(ext4()), io.NopCloser(nil), nil
		},
	}
}

// unpack reads an initramfs.
func unpack(t *testing.T, archive []byte) (names []string, contents map[string]string) {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	contents = map[string]string{}
	r := cpio.NewReader(z)
	for {
		h, err := r.Next()
		if err == io.EOF {
			return names, contents
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, h.Name)
		contents[h.Name] = string(b)
	}
}

func TestBuild(t *testing.T) {
	env, err := Build(t.Context(), testOptions(t))
	if err != nil {
		t.Fatal(err)
	}
	p := env.Plan
	if diff := cmp.Diff([]Target{{Kind: Directory, UUID: "30313233-3435-3637-3839-616263646566", Type: "ext4", Options: "errors=remount-ro",
		Dir: "/data/crash", Path: "/data/crash", Device: "/dev/vda1", Seconds: 3600, Modules: []string{"virtio", "virtio_blk", "jbd2", "ext4", "starfive_wdt"}}}, p.Targets); diff != "" {
		t.Errorf("target (-want +got):\n%s", diff)
	}
	var modules []string
	for _, m := range p.Modules {
		modules = append(modules, m.Name)
		if !m.Compressed || m.File != "/modules/"+m.Name+".ko.xz" {
			t.Errorf("module %+v; want it compressed as it was", m)
		}
	}
	if want := []string{"virtio", "virtio_blk", "jbd2", "ext4", "starfive_wdt"}; !slices.Equal(modules, want) {
		t.Errorf("modules %q; want %q", modules, want)
	}
	if !p.Watchdog || p.Level != 31 || p.Final != PowerOff || p.Host.Name != "starlight" || p.Host.BootID == "" ||
		p.Host.Release != testRelease || p.Deadlines.of(PhaseDump) == 0 {
		t.Errorf("plan %+v", p)
	}
	if len(env.Missing) != 1 || !strings.Contains(env.Missing[0], "types") {
		t.Errorf("missing %q; want the types of the kernel", env.Missing)
	}
	names, contents := unpack(t, env.Initramfs)
	for _, want := range []string{"init", "plan.json", "dev/console", "dev/null", "modules/ext4.ko.xz", "proc", "sys", "dev", "run", "target"} {
		if !slices.Contains(names, want) {
			t.Errorf("the initramfs has %q; want %s", names, want)
		}
	}
	if got := contents["modules/virtio_blk.ko.xz"]; got != "virtio_blk xz" {
		t.Errorf("module virtio_blk is %q", got)
	}
	got, err := ParsePlan([]byte(contents["plan.json"]))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(p, got); diff != "" {
		t.Errorf("the packed plan (-want +got):\n%s", diff)
	}
	if sum := sha256.Sum256([]byte(contents["plan.json"])); sum != env.Seal {
		t.Errorf("seal %x; the packed plan has %x", env.Seal, sum)
	}
	var files []string
	for _, f := range p.Files {
		files = append(files, f.Name)
		text := contents[f.Name[1:]]
		if want := newFile(f.Name, int64(len(text)), sumOf(text)); f != want {
			t.Errorf("file %+v; the initramfs has %+v", f, want)
		}
	}
	if want := []string{"/modules/virtio.ko.xz", "/modules/virtio_blk.ko.xz", "/modules/jbd2.ko.xz", "/modules/ext4.ko.xz",
		"/modules/starfive_wdt.ko.xz", "/init"}; !slices.Equal(files, want) {
		t.Errorf("files %q; want %q", files, want)
	}
	if env.Unpacked < uint64(len(names))<<10 || env.Unpacked > 1<<20 {
		t.Errorf("unpacked %d bytes", env.Unpacked)
	}
	again, err := Build(t.Context(), testOptions(t))
	if err != nil {
		t.Fatal(err)
	}
	again.Plan.Host.Made = p.Host.Made
	if diff := cmp.Diff(p, again.Plan); diff != "" {
		t.Errorf("a second plan (-first +second):\n%s", diff)
	}
}

func sumOf(text string) []byte {
	sum := sha256.Sum256([]byte(text))
	return sum[:]
}

// A test of a damaged panic room wants one that works.
func TestBuildCorrupt(t *testing.T) {
	opts := testOptions(t)
	opts.Test = &Test{Corrupt: true}
	env, err := Build(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(opts.Executable)
	if err != nil {
		t.Fatal(err)
	}
	_, contents := unpack(t, env.Initramfs)
	if contents["init"] != string(good)+"!" {
		t.Errorf("init has %d bytes, the binary %d", len(contents["init"]), len(good))
	}
	if f := env.Plan.Files[len(env.Plan.Files)-1]; f != newFile(initFile, int64(len(good)), sumOf(string(good))) {
		t.Errorf("the plan has %+v", f)
	}
}

// Another kernel than the running one may have in modules what is built into
// this one.
func TestBuildOtherKernel(t *testing.T) {
	opts := testOptions(t)
	opts.Release = "7.2.13"
	opts.Config = func(symbol string) (string, bool) {
		return "y", symbol == "CONFIG_MODULE_DECOMPRESS" || symbol == "CONFIG_MODULE_COMPRESS_XZ"
	}
	env, err := Build(t.Context(), opts)
	if err != nil {
		t.Fatal(err)
	}
	var modules []string
	for _, m := range env.Plan.Modules {
		modules = append(modules, m.Name)
	}
	if want := []string{"virtio", "virtio_mmio", "virtio_blk", "jbd2", "ext4", "starfive_wdt"}; !slices.Equal(modules, want) {
		t.Errorf("modules %q; want %q", modules, want)
	}
}

func TestBuildFails(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Options)
		is     error
		hint   string
	}{
		{"read-only", func(o *Options) { o.Targets = inDir("/srv/crash") }, target.ErrReadOnly, "mount -o remount,rw /srv"},
		{"tmpfs", func(o *Options) { o.Targets = inDir("/tmp/crash") }, device.ErrNotBlock, "local disk"},
		{"relative", func(o *Options) { o.Targets = inDir("crash") }, nil, ""},
		{"a file", func(o *Options) { o.Targets = inDir("/etc/passwd") }, nil, ""},
		{"links in a circle", func(o *Options) { o.Targets = inDir("/loop/crash") }, nil, ""},
		{"unknown filesystem", func(o *Options) {
			o.Open = func(string) (io.ReaderAt, io.Closer, error) {
				return bytes.NewReader(make([]byte, 1<<20)), io.NopCloser(nil), nil
			}
		}, device.ErrUnknownFilesystem, "ext4"},
		{"dynamic", func(o *Options) { o.Executable = executable(t, true) }, ErrDynamic, ""},
		{"no program", func(o *Options) { o.Executable = "build_test.go" }, nil, ""},
		{"no modules", func(o *Options) { o.Modules = fstest.MapFS{} }, boot.ErrModuleTree, ""},
		{"module missing", func(o *Options) {
			o.Root = testRoot(fstest.MapFS{"sys/bus/platform/drivers/wdt/module": link("../../../../module/not_there")})
		}, boot.ErrNoModule, ""},
	} {
		opts := testOptions(t)
		c.change(&opts)
		env, err := Build(t.Context(), opts)
		if err == nil || env != nil || (c.is != nil && !errors.Is(err, c.is)) {
			t.Errorf("%s: %v, %v; want %v", c.name, env, err, c.is)
		}
		if hints := strings.Join(ui.Hints(err), "\n"); !strings.Contains(hints, c.hint) {
			t.Errorf("%s: hints %q; want %q", c.name, hints, c.hint)
		}
	}
}

func TestMountOptions(t *testing.T) {
	for _, c := range []struct {
		m    device.Mount
		want string
	}{
		{device.Mount{Type: "ext4", SuperOptions: "rw,errors=panic"}, "errors=remount-ro"},
		{device.Mount{Type: "xfs", SuperOptions: "rw,attr2"}, ""},
		{device.Mount{Type: "btrfs", SuperOptions: "rw,subvolid=256,subvol=/@"}, "subvolid=5"},
		{device.Mount{Type: "vfat", SuperOptions: "rw,codepage=437,iocharset=ascii"}, "codepage=437,iocharset=ascii"},
		{device.Mount{Type: "vfat", SuperOptions: "rw,fmask=0022,dmask=0022,codepage=437,iocharset=ascii,shortname=mixed,utf8,errors=remount-ro"}, "codepage=437,iocharset=ascii,utf8"},
	} {
		if got := mountOptions(&c.m); got != c.want {
			t.Errorf("mountOptions(%s) = %q; want %q", c.m.Type, got, c.want)
		}
	}
}

func TestOthersRead(t *testing.T) {
	for _, c := range []struct {
		kind, options string
		want          bool
	}{
		{"vfat", "rw,fmask=0022,dmask=0022", true},
		{"vfat", "rw,fmask=0077,dmask=0077", false},
		{"vfat", "rw,fmask=0133", true},
		{"vfat", "rw,fmask=0137", true}, // the group
		{"vfat", "rw,fmask=0177", false},
		{"vfat", "rw", true},
		{"ext4", "rw", false},
	} {
		if _, got := othersRead(&device.Mount{Type: c.kind, SuperOptions: c.options}); got != c.want {
			t.Errorf("othersRead(%s %s) = %v; want %v", c.kind, c.options, got, c.want)
		}
	}
}

func TestCmdline(t *testing.T) {
	params := Cmdline(4)
	text := String(params)
	for _, p := range params {
		if p.Reason == "" {
			t.Errorf("%s has no reason", p.Text)
		}
	}
	if !strings.Contains(text, " nr_cpus=4 ") || !strings.Contains(String(Cmdline(0)), " nr_cpus=1 ") {
		t.Errorf("Cmdline(4) = %q", text)
	}
	// Half of what the oldest kernels take is for the console and the hardware.
	if len(text) > 512 {
		t.Errorf("%d bytes of command line; want at most 512", len(text))
	}
	// arch/riscv looks for these anywhere in the text (load).
	for _, trap := range []string{"nokaslr", "no4lvl", "no5lvl"} {
		if strings.Contains(text, trap) {
			t.Errorf("%q has %q in it", text, trap)
		}
	}
}
