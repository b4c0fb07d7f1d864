package kexecline

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/panicroom-kdump/panicroom/internal/getopt"
	"github.com/panicroom-kdump/panicroom/internal/getopt/getopttest"
)

func ptr(s string) *string { return &s }

// line is what a command line means, with what most of them leave as it is.
func line(l Line) *Line {
	if l.Method == "" {
		l.Method = Auto
	}
	l.MemMax = math.MaxUint64
	return &l
}

// Command lines as they are typed and as programs call kexec; the last are each
// from the file named.
func TestRealCommandLines(t *testing.T) {
	const running = "BOOT_IMAGE=/boot/vmlinuz-6.12 root=/dev/vda1 ro"
	for _, c := range []struct {
		from string
		args []string
		want *Line
	}{
		{"seed", []string{"-slp", "/boot/Image"},
			line(Line{Do: Load, Crash: true, Kernel: "/boot/Image", Method: ByFile})},
		{"seed", []string{"-slp", "vmlinux"},
			line(Line{Do: Load, Crash: true, Kernel: "vmlinux", Method: ByFile})},
		{"seed", []string{"-clp", "vmlinux"},
			line(Line{Do: Load, Crash: true, Kernel: "vmlinux", Method: ByLoad})},
		{"seed", []string{"-clp", "vmlinux", "--initrd=/boot/initrd", "--reuse-cmdline"},
			line(Line{Do: Load, Crash: true, Kernel: "vmlinux", Initrd: "/boot/initrd", Cmdline: Cmdline{Reuse: true}, Method: ByLoad})},
		{"seed", []string{"--debug", "-clp", "vmlinux", "--initrd=/boot/initrd", "--reuse-cmdline"},
			line(Line{Do: Load, Crash: true, Kernel: "vmlinux", Initrd: "/boot/initrd", Cmdline: Cmdline{Reuse: true}, Method: ByLoad, Debug: true})},

		{"kdump-utils, kdumpctl, load_kdump", []string{"-p", "--command-line=" + running, "--initrd=/boot/initramfs-6.12kdump.img", "/boot/vmlinuz-6.12"},
			line(Line{Do: Load, Crash: true, Kernel: "/boot/vmlinuz-6.12", Initrd: "/boot/initramfs-6.12kdump.img", Cmdline: Cmdline{Text: ptr(running)}})},
		{"kdump-utils, kdumpctl, with KEXEC_ARGS of other architectures", []string{"-s", "-p", "--command-line=" + running, "--initrd=i", "k"},
			line(Line{Do: Load, Crash: true, Kernel: "k", Initrd: "i", Cmdline: Cmdline{Text: ptr(running)}, Method: ByFile})},
		{"kdump-utils, early-kdump.sh", []string{"-p", "--command-line=" + running, "--initrd=i", "k"},
			line(Line{Do: Load, Crash: true, Kernel: "k", Initrd: "i", Cmdline: Cmdline{Text: ptr(running)}})},
		{"kdump-utils, kdumpctl, stop_kdump", []string{"-p", "-u"}, line(Line{Do: Unload, Crash: true})},
		{"kdump-utils, kdumpctl, stop_kdump under Secure Boot", []string{"-s", "-p", "-u"}, line(Line{Do: Unload, Crash: true, Method: ByFile})},
		{"openSUSE/kdump, init/load.sh", []string{"-p", "/boot/Image-6.12", "--append=" + running + " panic=1", "--initrd=/var/lib/kdump/initrd", "-a"},
			line(Line{Do: Load, Crash: true, Kernel: "/boot/Image-6.12", Initrd: "/var/lib/kdump/initrd", Cmdline: Cmdline{Append: ptr(running + " panic=1")}})},
		{"openSUSE/kdump, init/unload.sh", []string{"-a", "-p", "-u"}, line(Line{Do: Unload, Crash: true})},
		{"kdump-tools, kdump-config, kdump_load", []string{"-p", "--command-line=" + running, "--initrd=/var/lib/kdump/initrd.img", "/var/lib/kdump/vmlinuz"},
			line(Line{Do: Load, Crash: true, Kernel: "/var/lib/kdump/vmlinuz", Initrd: "/var/lib/kdump/initrd.img", Cmdline: Cmdline{Text: ptr(running)}})},
		{"kdump-tools, kdump-config, an ELF kernel and KDUMP_KEXEC_ARGS=\"-c -d\"", []string{"-p", "-s", "--args-linux", "-c", "-d", "--command-line=" + running, "--initrd=i", "vmlinux"},
			line(Line{Do: Load, Crash: true, Kernel: "vmlinux", Initrd: "i", Cmdline: Cmdline{Text: ptr(running)}, Method: ByLoad, Debug: true})},
		{"kdump-tools, kdump-config, KDUMP_KEXEC_ARGS=\"-s --reuse-cmdline\"", []string{"-p", "-s", "--reuse-cmdline", "--command-line=" + running, "k"},
			line(Line{Do: Load, Crash: true, Kernel: "k", Cmdline: Cmdline{Text: ptr(running)}, Method: ByFile,
				Warnings: []string{"--command-line is the command line; --reuse-cmdline beside it is not obeyed"}})},
		{"kdump-steamos, kdumpst-load.sh", []string{"-s", "-p", "k", "--initrd", "i", "--append=" + running},
			line(Line{Do: Load, Crash: true, Kernel: "k", Initrd: "i", Cmdline: Cmdline{Append: ptr(running)}, Method: ByFile})},
		{"kexec-tools of Debian, kexec-load.init", []string{"-l", "/vmlinuz", "--initrd=/initrd.img", "--append=root=/dev/vda1 ro"},
			line(Line{Do: Load, Kernel: "/vmlinuz", Initrd: "/initrd.img", Cmdline: Cmdline{Append: ptr("root=/dev/vda1 ro")}})},
		{"kexec-tools of Debian, kexec.init; systemd, shutdown.c", []string{"-e"}, line(Line{Do: Exec})},
		{"init scripts of RHEL", []string{"-e", "-x"}, line(Line{Do: Exec})},
		{"systemd, systemctl kexec", []string{"--load", "/boot/k", "--append", "root=UUID=1 ro", "--initrd", "/boot/i"},
			line(Line{Do: Load, Kernel: "/boot/k", Initrd: "/boot/i", Cmdline: Cmdline{Append: ptr("root=UUID=1 ro")}})},
		{"nixpkgs, kexec-boot.sh", []string{"--load", "--initrd=./initrd", "--command-line=init=/nix/store/i loglevel=4", "--", "./kernel"},
			line(Line{Do: Load, Kernel: "./kernel", Initrd: "./initrd", Cmdline: Cmdline{Text: ptr("init=/nix/store/i loglevel=4")}})},
		{"nixpkgs, kexec-boot.sh", []string{"-v"}, &Line{Do: Version}},
		{"petitboot, boot.c", []string{"-l", "--initrd=/tmp/i", "--dtb=/tmp/d", "--append=console=hvc0", "/tmp/k"},
			line(Line{Do: Load, Kernel: "/tmp/k", Initrd: "/tmp/i", DTB: "/tmp/d", Cmdline: Cmdline{Append: ptr("console=hvc0")}})},
		{"LTP, ima_kexec.sh", []string{"-s", "-l", "/boot/k", "--reuse-cmdline"},
			line(Line{Do: Load, Kernel: "/boot/k", Cmdline: Cmdline{Reuse: true}, Method: ByFile})},
		{"LTP, ima_kexec.sh", []string{"-su"}, line(Line{Do: Unload, Method: ByFile})},
		{"a bug report", []string{"-p", "--initrd=/boot/i", "/boot/k", "-s"},
			line(Line{Do: Load, Crash: true, Kernel: "/boot/k", Initrd: "/boot/i", Method: ByFile})},
	} {
		got, err := Parse(c.args)
		if err != nil {
			t.Errorf("%s: kexec %q: %v", c.from, c.args, err)
			continue
		}
		if diff := cmp.Diff(c.want, got, cmpopts.IgnoreFields(Line{}, "Ignored")); diff != "" {
			t.Errorf("%s: kexec %q (-want +got):\n%s", c.from, c.args, diff)
		}
	}
}

// What is the same in other words.
func TestSpellings(t *testing.T) {
	want := line(Line{Do: Load, Crash: true, Kernel: "k", Initrd: "i", DTB: "d", Method: ByLoad, Type: ELF, Debug: true,
		Cmdline: Cmdline{Append: ptr("a b")}})
	for _, args := range [][]string{
		{"-p", "-c", "-d", "-t", "elf-riscv", "--initrd", "i", "--dtb", "d", "--append", "a b", "k"},
		{"-cdpt", "elf-riscv", "--initrd=i", "--dtb=d", "--append=a b", "k"},
		{"-cdptelf-riscv", "k", "--ramdisk=i", "--devicetreeblob=d", "--append=a b"},
		{"k", "--load-panic", "--kexec-syscall", "--debug", "--type=elf-riscv", "--initrd=i", "--dtb=d", "--append=a b"},
		{"k", "--load-pa", "-c", "--de", "--ty", "elf-riscv", "--init", "i", "--dt", "d", "--app", "a b"},
		{"-p", "-c", "-d", "-t", "elf-riscv", "--initrd=i", "--dtb=d", "--append=a b", "--", "k"},
	} {
		got, err := Parse(args)
		if err != nil {
			t.Errorf("%q: %v", args, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", args, diff)
		}
	}
	// A value may look like an option, and a kernel after -- too.
	got, err := Parse([]string{"-l", "--append", "--", "--", "-k"})
	if err != nil || got.Kernel != "-k" || *got.Cmdline.Append != "--" {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestMeaning(t *testing.T) {
	for _, c := range []struct {
		args string
		want Line
	}{
		{"-h", Line{Do: Help}},
		{"-p k --reset-vga --help", Line{Do: Help}},
		{"--version -p", Line{Do: Version}},
		{"--print-ckr-size", Line{Do: Size, Crash: true}},
		{"-S", Line{Do: Status, Crash: true}},
		{"-S -d", Line{Do: Status, Crash: true, Debug: true}}, // asks after the other slot in kexec-tools
		{"-Sp", Line{Do: Status, Crash: true}},
		{"-lS", Line{Do: Status}},
		{"-u", Line{Do: Unload}},
		{"-u -l", Line{Do: Unload}},
		{"-u -p", Line{Do: Unload, Crash: true}}, // in kexec-tools only in the other order
		{"-f k", Line{Do: LoadExec, Kernel: "k"}},
		{"-f -e", Line{Do: Exec}},
		{"-e -f k", Line{Do: LoadExec, Kernel: "k"}},
		{"-l -y -x -i k", Line{Do: Load, Kernel: "k", NoSync: true}},
		{"-s -c -l k", Line{Do: Load, Kernel: "k", Method: ByLoad}},
		{"-c -s -l k", Line{Do: Load, Kernel: "k", Method: ByFile}},
		{"-c -l k -a", Line{Do: Load, Kernel: "k", Method: Auto}},
		{"-p k --initrd=a --ramdisk=b", Line{Do: Load, Crash: true, Kernel: "k", Initrd: "b",
			Warnings: []string{`--ramdisk "b" counts, --initrd "a" before it does not`}}},
		{"-e --initrd=a --append=x", Line{Do: Exec, Initrd: "a", Cmdline: Cmdline{Append: ptr("x")},
			Warnings: []string{"--append, --initrd: not looked at, nothing is loaded"}}},
	} {
		want := &c.want
		if want.Do != Help && want.Do != Version {
			want = line(c.want)
		}
		got, err := Parse(strings.Fields(c.args))
		if err != nil {
			t.Errorf("kexec %s: %v", c.args, err)
		} else if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(Line{}, "Ignored")); diff != "" {
			t.Errorf("kexec %s (-want +got):\n%s", c.args, diff)
		}
	}
	got, err := Parse(strings.Fields("-p k --mem-min=0x80000000 --mem-max 4294967295"))
	if err != nil || got.MemMin != 0x80000000 || got.MemMax != 0xffffffff {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		args []string
		err  error
		says string // in the error and its hints
	}{
		{nil, getopt.ErrUsage, "nothing is asked for"},
		{[]string{"-d"}, getopt.ErrUsage, "nothing is asked for"},
		{[]string{"-D", "-p", "k"}, getopt.ErrUsage, "no option is called -D"},
		{[]string{"-?"}, getopt.ErrUsage, "no option is called -?"},
		{[]string{"-pZs", "k"}, getopt.ErrUsage, `no option is called -Z, as in "-pZs"`},
		{[]string{"-p\x00", "k"}, getopt.ErrUsage, `no option is called -\x00`},
		{[]string{"-initrd=i", "-p", "k"}, getopt.ErrUsage, "long options have two dashes: --initrd"},
		{[]string{"--nosuch"}, getopt.ErrUsage, `no option is called "--nosuch"`},
		{[]string{"--=x"}, getopt.ErrUsage, `no option is called "--"`},
		// As it stands in the seed, with a quotation mark too much.
		{[]string{"-clp", "vmlinux", "--initrd=/boot/initrd", `--reuse-cmdline"`}, getopt.ErrUsage, "a quotation mark or a space too much; --reuse-cmdline is an option"},
		{[]string{"--mem", "1"}, getopt.ErrUsage, "--mem is ambiguous: --mem-min, --mem-max"},
		{[]string{"--reuse"}, getopt.ErrUsage, "--reuse is ambiguous: --reuse-cmdline, --reuseinitrd"},
		{[]string{"--console"}, getopt.ErrUsage, "--console is ambiguous: --console-vga, --console-serial"},
		{[]string{"--load=k"}, getopt.ErrUsage, "--load takes no value"},
		{[]string{"-p", "k", "--initrd"}, getopt.ErrUsage, "needs a value: --initrd=FILE"},
		{[]string{"-p", "k", "-t"}, getopt.ErrUsage, "needs a value: -t TYPE"},
		{[]string{"-p", "k", "--initrd="}, getopt.ErrUsage, "--initrd names no file"},
		{[]string{"-p", "k", "--dtb", ""}, getopt.ErrUsage, "--dtb names no file"},
		{[]string{"-p", ""}, getopt.ErrUsage, "the name of the kernel is empty"},
		{[]string{"-p"}, getopt.ErrUsage, "no kernel is named"},
		{[]string{"-f"}, getopt.ErrUsage, "no kernel is named"},
		{[]string{"-l", "k", "--append=root=/dev/vda1", "ro", "quiet"}, getopt.ErrUsage, "needs quotation marks"},
		{[]string{"-p", "k", "--mem-min=low"}, getopt.ErrUsage, "--mem-min=low is no address"},
		{[]string{"-p", "k", "--mem-max=0x1g"}, getopt.ErrUsage, "--mem-max=0x1g is no address"},
		{[]string{"-p", "k", "--mem-min=2", "--mem-max=1"}, getopt.ErrUsage, "--mem-min 0x2 is above --mem-max 0x1"},
		{[]string{"-p", "k", "-t", "bzImage64"}, getopt.ErrUnsupported, "elf-riscv, image-riscv and vmlinuz-riscv"},
		{[]string{"k"}, getopt.ErrUnsupported, "shutdown -r now"},
		{[]string{"-u", "-e"}, getopt.ErrUsage, "-u unloads"},
		{[]string{"-u", "-p", "k"}, getopt.ErrUsage, "-u takes no kernel"},
		{[]string{"-e", "k"}, getopt.ErrUsage, "kexec -f FILE"},
		{[]string{"-e", "-p"}, getopt.ErrUsage, "started by a panic"},
		{[]string{"-p", "-f", "k"}, getopt.ErrUsage, "started by a panic"},
		{[]string{"-l", "-e", "k"}, getopt.ErrUsage, "-l only loads"},
		{[]string{"-f", "-l", "k"}, getopt.ErrUsage, "-l only loads"},
		{[]string{"-p", "k", "--reuseinitrd"}, getopt.ErrUnsupported, "name the file with --initrd"},
		{[]string{"-p", "k", "--hot"}, getopt.ErrUnsupported, "--hot (--hotplug): no riscv64 kernel"},
		{[]string{"-p", "k", "--serial=ttyS0"}, getopt.ErrUnsupported, "console=ttyS0"},
		{[]string{"-p", "k", "--noefi"}, getopt.ErrUnsupported, "an option of x86"},
	} {
		got, err := Parse(c.args)
		getopttest.Error(t, c.args, got == nil, err, c.err, c.says)
	}
}

// Every option of the table is what its line says.
func TestTable(t *testing.T) {
	getopttest.Table(t, Program(), func(o getopt.Option) ([]getopt.Option, error) {
		args := []string{"-p", "k", "--" + o.Long}
		switch {
		case o.Long == optType:
			args[2] += "=" + string(Image)
		case o.Value != "":
			args[2] += "=0x10"
		case o.Long == optExec, o.Long == optForce:
			args[0] = "-y" // not for a panic kernel
			args[1] = "-f"
			args = append(args, "k")
		case o.Long == optUnload:
			args[1] = "-y"
		}
		l, err := Parse(args)
		if err != nil {
			return nil, err
		}
		return l.Ignored, nil
	})
}

// Options that say different things may stand in any order, before and after
// the kernel; in kexec-tools -p forgets the flags of what stands before it.
func TestOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		words := [][]string{{"kernel"}}
		for _, o := range Program().Options {
			if r.IntN(4) > 0 || o.Support == getopt.Refused || o.Group == Asking && r.IntN(8) > 0 {
				continue
			}
			switch o.Long {
			case optSyscall, optFile, optRamdisk, optTreeBlob: // the last counts
				continue
			}
			word := []string{"--" + o.Long}
			if o.Short != 0 && r.IntN(2) == 0 {
				word[0] = "-" + string(o.Short)
			}
			switch o.Value {
			case "":
			case "TYPE":
				word = append(word, string(Image))
			default:
				word = append(word, fmt.Sprint(len(words)))
			}
			words = append(words, word)
		}
		want, wantErr := Parse(slices.Concat(words...))
		r.Shuffle(len(words), func(i, j int) { words[i], words[j] = words[j], words[i] })
		got, err := Parse(slices.Concat(words...))
		if fmt.Sprint(err) != fmt.Sprint(wantErr) {
			t.Fatalf("%q: %v; in another order %v", words, err, wantErr)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%q (-another order +this):\n%s", words, diff)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"-slp\x00/boot/Image", "-clp\x00vmlinux\x00--initrd=i\x00--reuse-cmdline", "-e", "--mem-min\x000x1\x00-l\x00k", "--\x00-p", "-t"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		args := strings.Split(s, "\x00")
		l, err := Parse(args)
		if err != nil {
			getopttest.Error(t, args, l == nil, err, nil, "")
			return
		}
		if (l.Kernel != "") != (l.Do == Load || l.Do == LoadExec) {
			t.Errorf("%q: %+v", args, l)
		}
	})
}
