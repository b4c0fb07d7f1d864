package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/internal/kexecline"
	"github.com/panicroom-kdump/panicroom/load"
)

// fakeKexec is kexec on a recorded machine, where nothing happens but is noted.
type fakeKexec struct {
	kexec
	out, errOut bytes.Buffer
	plans       []*load.Plan
	did         []string
	refuse      error // the kernel's answer
}

func newFakeKexec(root fs.FS) *fakeKexec {
	f := &fakeKexec{}
	f.kexec = kexec{stdout: &f.out, stderr: &f.errOut, root: root,
		execute: func(p *load.Plan) error {
			f.plans = append(f.plans, p)
			f.did = append(f.did, "load "+string(p.Purpose))
			return f.refuse
		},
		unload: func(p load.Purpose) error {
			f.did = append(f.did, "unload "+string(p))
			return f.refuse
		},
		boot: func(sync bool) error {
			f.did = append(f.did, fmt.Sprintf("boot, sync %v", sync))
			return f.refuse
		}}
	return f
}

func machineRoot(name string) fs.FS { return os.DirFS("../../load/testdata/machines/" + name) }

// emptyArchive is the smallest initramfs there is.
var emptyArchive = []byte("070701" + strings.Repeat("0", 12*8-1) + "b" + strings.Repeat("0", 8) + "TRAILER!!!\x00\x00\x00\x00")

// initramfsFile is some bytes that stand for an initramfs.
func initramfsFile(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "initrd")
	if err := os.WriteFile(path, emptyArchive, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The command lines of the seed, typed as they stand there, on Debian's 6.12.
func TestKexecOfTheSeed(t *testing.T) {
	initrd := initramfsFile(t)
	for _, c := range []struct {
		line string // of the seed; its files are ours
		code int
		says []string // on standard error
	}{
		{"kexec -slp /boot/Image", kexecFailed, []string{"kexec_file_load(2) cannot be used: kernel 6.12.107+deb13-riscv64 was built without CONFIG_KEXEC_FILE", "hint: let panicroom choose: --method auto, or -a for kexec"}},
		{"kexec -slp vmlinux", kexecFailed, []string{"built without CONFIG_KEXEC_FILE"}},
		{"kexec -clp vmlinux", kexecDone, []string{
			"the command line is the running kernel's, for none was given: console=ttyS0 earlycon=sbi panic=5\n",
			"warning: there is no initramfs"}},
		{"kexec -clp vmlinux --initrd=/boot/initrd --reuse-cmdline", kexecDone, nil},
		{"kexec --debug -clp vmlinux --initrd=/boot/initrd --reuse-cmdline", kexecDone, []string{
			"to do: load, for a panic\n", "the command line is --reuse-cmdline: console=ttyS0 earlycon=sbi panic=5\n",
			"\nsegments ", "\nchecked ", "loading 4 segments with kexec_load\n"}},
		{`kexec -clp vmlinux --initrd=/boot/initrd --reuse-cmdline"`, kexecFailed, []string{
			`no option is called "--reuse-cmdline\""`, "hint: there is a quotation mark or a space too much; --reuse-cmdline is an option\n"}},
	} {
		args := strings.Fields(c.line)[1:]
		for i, a := range args {
			switch a {
			case "/boot/Image", "vmlinux":
				args[i] = goldenImage
			case "--initrd=/boot/initrd":
				args[i] = "--initrd=" + initrd
			}
		}
		f := newFakeKexec(machineRoot("virt-6.12-sv57-2g"))
		if code := f.run(args); code != c.code {
			t.Errorf("%s: exit code %d; want %d\n%s", c.line, code, c.code, &f.errOut)
		}
		if f.out.Len() > 0 {
			t.Errorf("%s: %q on standard output", c.line, &f.out)
		}
		if c.says == nil && f.errOut.Len() > 0 {
			t.Errorf("%s says %q; want nothing", c.line, &f.errOut)
		}
		for _, s := range c.says {
			if !strings.Contains(f.errOut.String(), s) {
				t.Errorf("%s says\n%s\nwithout %q", c.line, &f.errOut, s)
			}
		}
		if c.code != kexecDone {
			if len(f.did) > 0 {
				t.Errorf("%s failed, and did %q", c.line, f.did)
			}
			continue
		}
		if diff := cmp.Diff([]string{"load crash"}, f.did); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.line, diff)
			continue
		}
		p := f.plans[0]
		if p.Cmdline != "console=ttyS0 earlycon=sbi panic=5" {
			t.Errorf("%s: the command line is %q: nothing but crashkernel= may be taken away and nothing added", c.line, p.Cmdline)
		}
		if has := p.Segment(load.SegmentInitramfs) != nil; has != strings.Contains(c.line, "--initrd") {
			t.Errorf("%s: an initramfs is loaded: %v", c.line, has)
		}
	}
}

func TestKexecLoads(t *testing.T) {
	initrd := initramfsFile(t)
	given, err := os.ReadFile(initrd)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args    string
		did     []string
		cmdline string
	}{
		{"-p k --initrd=i --command-line=a", []string{"load crash"}, "a"},
		{"-p k --initrd=i --append=b --command-line=a", []string{"load crash"}, "a b"},
		{"-p k --initrd=i --append= ", []string{"load crash"}, ""},
		{"-p k --initrd=i --reuse-cmdline --append=nr_cpus=1", []string{"load crash"}, "console=ttyS0 earlycon=sbi panic=5 nr_cpus=1"},
		{"-l k --initrd=i --reuse-cmdline", []string{"load reboot"}, "console=ttyS0 earlycon=sbi panic=5 crashkernel=128M"},
		{"-f k --initrd=i --append=a", []string{"load reboot", "boot, sync true"}, "a"},
		{"-fy k --initrd=i --append=a", []string{"load reboot", "boot, sync false"}, "a"},
		{"-p k --initrd=i --append=a --type=image-riscv --mem-min=0x80000000 --mem-max=0xffffffff", []string{"load crash"}, "a"},
		{"-p -a -i k --initrd=i --append=a --args-linux", []string{"load crash"}, "a"},
	} {
		var args []string
		for _, a := range strings.Fields(c.args) {
			switch a {
			case "k":
				a = goldenImage
			case "--initrd=i":
				a = "--initrd=" + initrd
			}
			args = append(args, a)
		}
		f := newFakeKexec(machineRoot("virt-6.12-sv57-2g"))
		if code := f.run(args); code != kexecDone || f.errOut.Len() > 0 || f.out.Len() > 0 {
			t.Errorf("kexec %s: %d, %q, %q", c.args, code, &f.out, &f.errOut)
		}
		if diff := cmp.Diff(c.did, f.did); diff != "" {
			t.Errorf("kexec %s (-want +got):\n%s", c.args, diff)
			continue
		}
		if p := f.plans[0]; p.Cmdline != c.cmdline || !bytes.Equal(p.Segment(load.SegmentInitramfs).Data, given) {
			t.Errorf("kexec %s: command line %q, segments %+v; want %q and the initramfs as it was given", c.args, p.Cmdline, p.Segments, c.cmdline)
		}
	}
}

func TestKexecActs(t *testing.T) {
	for _, c := range []struct {
		args []string
		did  string
	}{
		{[]string{"-u"}, "unload reboot"},
		{[]string{"-s", "-p", "-u"}, "unload crash"},
		{[]string{"-e"}, "boot, sync true"},
		{[]string{"-e", "-x", "-y"}, "boot, sync false"},
	} {
		f := newFakeKexec(machineRoot("virt-6.12-sv57-2g"))
		if code := f.run(c.args); code != kexecDone || !slices.Equal(f.did, []string{c.did}) || f.errOut.Len() > 0 {
			t.Errorf("kexec %q = %d, did %q, said %q; want %q", c.args, code, f.did, &f.errOut, c.did)
		}
		// Whatever fails, it is 1.
		f = newFakeKexec(machineRoot("virt-6.12-sv57-2g"))
		f.refuse = &load.RuleError{Rule: load.RuleLoaded, Detail: "nothing is loaded", Remedy: []string{"load something"}}
		if code := f.run(c.args); code != kexecFailed || !strings.Contains(f.errOut.String(), "nothing is loaded\nhint: load something\n") {
			t.Errorf("kexec %q that fails = %d, said %q", c.args, code, &f.errOut)
		}
	}
	// -f does not start what was not loaded.
	f := newFakeKexec(machineRoot("virt-6.12-sv57-2g"))
	f.refuse = &load.KernelError{Method: load.ByLoad, Err: syscall.EADDRNOTAVAIL, After: load.Gone}
	if code := f.run([]string{"-f", goldenImage}); code != kexecFailed || !slices.Equal(f.did, []string{"load reboot"}) {
		t.Errorf("kexec -f = %d, did %q, said %q", code, f.did, &f.errOut)
	}
	// -d is said and the rest done.
	f = newFakeKexec(machineRoot("virt-6.12-sv57-2g"))
	if code := f.run([]string{"-d", "-i", "-e", "--initrd=x"}); code != kexecDone || !slices.Equal(f.did, []string{"boot, sync true"}) ||
		!strings.Contains(f.errOut.String(), "--no-checks has no effect: ") || !strings.Contains(f.errOut.String(), "warning: --initrd: not looked at") {
		t.Errorf("kexec -d -i -e = %d, did %q, said %q", code, f.did, &f.errOut)
	}
}

// A call that the kernel turns down before it has changed anything is followed
// by the other, unless one was insisted on.
func TestKexecFallsBack(t *testing.T) {
	for args, want := range map[string]int{"-p": 2, "-a -p": 2, "-c -p": 1} {
		f := newFakeKexec(machineRoot("virt-6.12-sv57-2g"))
		f.refuse = &load.KernelError{Method: load.ByLoad, Err: syscall.ENOSYS, After: load.Untouched}
		f.root = withFile{f.root, "boot/config-6.12.107+deb13-riscv64", "CONFIG_KEXEC=y\nCONFIG_KEXEC_FILE=y\nCONFIG_CRASH_DUMP=y\nCONFIG_PROC_VMCORE=y\n"}
		if code := f.run(append(strings.Fields(args), goldenImage)); code != kexecFailed || len(f.plans) != want {
			t.Errorf("kexec %s = %d after %d tries; want %d\n%s", args, code, len(f.plans), want, &f.errOut)
		} else if want == 2 && f.plans[1].Method != load.ByFile {
			t.Errorf("kexec %s tried %s the second time", args, f.plans[1].Method)
		}
	}
}

// withFile is a file system with another text in one file.
type withFile struct {
	fs.FS
	name, text string
}

func (w withFile) Open(name string) (fs.File, error) {
	if name == w.name {
		return fstest.MapFS{name: {Data: []byte(w.text)}}.Open(name)
	}
	return w.FS.Open(name)
}

func TestKexecRefuses(t *testing.T) {
	for _, c := range []struct {
		machine string
		args    []string
		says    string
	}{
		{"virt-6.12-none-1g", []string{"-p", goldenImage}, "no memory is reserved"},
		{"virt-6.12-sv57-2g", []string{"-p", "/nonesuch"}, "/nonesuch"},
		{"virt-6.12-sv57-2g", []string{"-p", goldenImage, "--initrd=/nonesuch"}, "/nonesuch"},
		{"virt-6.12-sv57-2g", []string{"-p", goldenImage, "--dtb=/nonesuch"}, "/nonesuch"},
		{"virt-6.12-sv57-2g", []string{"-p", "kexec_test.go"}, "not a kernel image"},
		{"virt-6.12-sv57-2g", []string{"-p", goldenImage, "-t", "elf-riscv"}, "is of the type image-riscv (gzip, Image), and --type says elf-riscv"},
		{"virt-6.12-sv57-2g", []string{"-p", goldenImage, "--mem-max=0x90000000"}, `"within"`},
		{"virt-6.12-sv57-2g", []string{"-p", goldenImage, "--append=crashkernel=64M"}, `"crashkernel=64M" must not stand`},
		{"virt-6.12-sv57-2g", []string{"-p", goldenImage, "--reset-vga"}, "not supported: --reset-vga"},
		{"virt-6.12-sv57-2g", []string{"--nonesuch"}, `wrong usage: no option is called "--nonesuch"`},
		{"virt-6.12-sv57-2g", nil, "nothing is asked for\nhint: kexec --help"},
	} {
		f := newFakeKexec(machineRoot(c.machine))
		if code := f.run(c.args); code != kexecFailed || f.did != nil {
			t.Errorf("kexec %q = %d, did %q", c.args, code, f.did)
		}
		if got := f.errOut.String(); !strings.HasPrefix(got, "kexec: ") || !strings.Contains(got, c.says) {
			t.Errorf("kexec %q says\n%s\nwithout %q", c.args, got, c.says)
		}
	}
}

func TestKexecAnswers(t *testing.T) {
	slots := func(crash, reboot string) fs.FS {
		return fstest.MapFS{"sys/kernel/kexec_crash_loaded": {Data: []byte(crash)}, "sys/kernel/kexec_loaded": {Data: []byte(reboot)}}
	}
	for _, c := range []struct {
		root fs.FS
		args string
		code int
		out  string
	}{
		{slots("1\n", "0\n"), "-S", kexecLoaded, ""},
		{slots("0\n", "1\n"), "-S", kexecEmpty, ""},
		{slots("1\n", "0\n"), "-S -p", kexecLoaded, ""},
		{slots("1\n", "0\n"), "-S -l", kexecEmpty, ""},
		{slots("0\n", "1\n"), "-l --status", kexecLoaded, ""},
		{fstest.MapFS{}, "-S", kexecUnknown, ""},
		{machineRoot("virt-6.12-sv57-2g"), "--print-ckr-size", kexecDone, "134217728\n"},
		{machineRoot("virt-6.12-8g-high"), "--print-ckr-size", kexecDone, "268435456\n"},
		{machineRoot("virt-6.12-none-1g"), "--print-ckr-size", kexecDone, "0\n"},
		{fstest.MapFS{}, "-h", kexecDone, kexecline.HelpText()},
		{fstest.MapFS{}, "-v", kexecDone, "kexec-tools 2.0.32 compatible, panicroom " + buildVersion().Version + "\n"},
	} {
		f := newFakeKexec(c.root)
		if code := f.run(strings.Fields(c.args)); code != c.code || f.out.String() != c.out || f.did != nil {
			t.Errorf("kexec %s = %d, %q, did %q; want %d, %q", c.args, code, &f.out, f.did, c.code, c.out)
		}
		if said := f.errOut.Len() > 0; said != (c.code == kexecUnknown) {
			t.Errorf("kexec %s says %q", c.args, &f.errOut)
		}
	}
}

// TestMain lets the tests' own binary be the command where it is called so.
func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == "kexec" {
		main()
		return
	}
	os.Exit(m.Run())
}

// The name of the file is the command.
func TestCalledAsKexec(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "kexec")
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(path, "--version").Output()
	if err != nil || !strings.HasPrefix(string(out), "kexec-tools 2.0.32 compatible, panicroom ") {
		t.Errorf("kexec --version says %q, %v", out, err)
	}
	out, err = exec.Command(path, "--nonesuch").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != kexecFailed || !strings.HasPrefix(string(out), "kexec: wrong usage: ") {
		t.Errorf("kexec --nonesuch says %q, %v", out, err)
	}
}
