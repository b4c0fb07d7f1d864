package dumpline

import (
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

// line is what a command line means, with what most of them leave as it is.
func line(l Line) *Line {
	if l.Do == "" {
		l.Do = Create
	}
	if l.Levels == nil {
		l.Levels = []int{0}
	}
	if l.Messages == 0 {
		l.Messages = defaultMessages
	}
	if l.Limit == 0 {
		l.Limit = math.MaxUint64
	}
	return &l
}

func lines(s ...string) []string { return s }

// Command lines as programs and people call makedumpfile, each with where it
// stands.
func TestRealCommandLines(t *testing.T) {
	const core = "/proc/vmcore"
	for _, c := range []struct {
		from string
		args string
		want *Line
	}{
		{"kdump-utils, gen-kdump-conf.sh and kdump.sh, dump_fs", "-l --message-level 7 -d 31 /proc/vmcore /kdumproot/vmcore-incomplete",
			line(Line{Core: core, Out: lines("/kdumproot/vmcore-incomplete"), Levels: []int{31}, Compression: "lzo"})},
		{"kdump-utils, kdump.sh, dump_fs on more than one CPU", "-l --message-level 7 -d 31 --num-threads=4 /proc/vmcore v",
			line(Line{Core: core, Out: lines("v"), Levels: []int{31}, Compression: "lzo", Threads: 4})},
		{"kdump-utils, gen-kdump-conf.sh for s390x", "-c --message-level 7 -d 31 /proc/vmcore v",
			line(Line{Core: core, Out: lines("v"), Levels: []int{31}, Compression: "zlib"})},
		{"kdump-utils, kdump.sh, dump_raw and dump_ssh", "-l --message-level 7 -d 31 -F /proc/vmcore",
			line(Line{Core: core, Out: lines(), Levels: []int{31}, Compression: "lzo", Flatten: true})},
		{"kdump-utils, mkdumprd, verify_core_collector", "--check-params -l --message-level 7 -d 31 vmcore dumpfile",
			line(Line{Check: true, Core: "vmcore", Out: lines("dumpfile"), Levels: []int{31}, Compression: "lzo"})},
		{"kdump-utils, mkdumprd, verify_core_collector of a raw target", "--check-params -F -l --message-level 7 -d 31 vmcore",
			line(Line{Check: true, Core: "vmcore", Out: lines(), Levels: []int{31}, Compression: "lzo", Flatten: true})},
		{"kdump-utils, kdumpctl, save_raw", "-R /var/crash/2026-11-25-17:15/vmcore",
			line(Line{Do: Rearrange, Out: lines("/var/crash/2026-11-25-17:15/vmcore")})},
		{"kdump-utils, tests/check_vmcore", "--dump-dmesg /var/crash/vmcore /var/crash/vmcore-dmesg.txt.2",
			line(Line{Do: Dmesg, Core: "/var/crash/vmcore", Out: lines("/var/crash/vmcore-dmesg.txt.2")})},
		{"Red Hat's documentation, kdump.conf", "-l --message-level 1 -d 31 /proc/vmcore v",
			line(Line{Core: core, Out: lines("v"), Levels: []int{31}, Compression: "lzo", Messages: Progress})},
		{"openSUSE/kdump, kdump-save, the log", "-F --message-level 8 --dump-dmesg /proc/vmcore",
			line(Line{Do: Dmesg, Core: core, Out: lines(), Flatten: true, Messages: Debug})},
		{"openSUSE/kdump, kdump-save, compressed", "-F -c --num-threads 2 --message-level 6 -d 31 /proc/vmcore",
			line(Line{Core: core, Out: lines(), Flatten: true, Compression: "zlib", Threads: 2, Messages: Common | Errors, Levels: []int{31}})},
		{"openSUSE/kdump, kdump-save, ELF and verbose", "-F -E --message-level 15 -d 0 /proc/vmcore",
			line(Line{Core: core, Out: lines(), Flatten: true, ELF: true, Messages: 15})},
		{"openSUSE/kdump, kdump-save, snappy", "-F -p --message-level 6 -d 31 /proc/vmcore",
			line(Line{Core: core, Out: lines(), Flatten: true, Compression: "snappy", Messages: 6, Levels: []int{31}})},
		{"openSUSE/kdump 0.8, kdumptool, the log", "--dump-dmesg -F /proc/vmcore",
			line(Line{Do: Dmesg, Core: core, Out: lines(), Flatten: true})},
		{"kdump-tools, kdump-config, dump_dmesg", "--dump-dmesg /proc/vmcore /var/crash/202611251715/dmesg.202611251715",
			line(Line{Do: Dmesg, Core: core, Out: lines("/var/crash/202611251715/dmesg.202611251715")})},
		{"kdump-tools, kdump-config, kdump_save_core", "-F -c -d 31 /proc/vmcore",
			line(Line{Core: core, Out: lines(), Flatten: true, Compression: "zlib", Levels: []int{31}})},
		{"kdump-tools, kdump-config, with MAKEDUMP_ARGS=\"-c -d 31\"", "-c -d 31 -F /proc/vmcore",
			line(Line{Core: core, Out: lines(), Flatten: true, Compression: "zlib", Levels: []int{31}})},
		{"kdump-tools, kdump-config, the log in place of a dump", "-c -d 31 --message-level 0 --dump-dmesg -F /proc/vmcore",
			&Line{Do: Dmesg, Core: core, Out: lines(), Flatten: true, Compression: "zlib", Levels: []int{31}, Limit: math.MaxUint64}},
		{"kdumpst, kdump-collect.sh, the log", "--dump-dmesg /proc/vmcore c/dmesg.txt",
			line(Line{Do: Dmesg, Core: core, Out: lines("c/dmesg.txt")})},
		{"kdumpst, kdump-collect.sh", "-z -d 31 /proc/vmcore c/vmcore.compressed",
			line(Line{Core: core, Out: lines("c/vmcore.compressed"), Compression: "zstd", Levels: []int{31}})},
		{"vpsfree-cz-configuration, crashdump", "-c -d 16 --num-threads 8 /proc/vmcore t/dumpfile",
			line(Line{Core: core, Out: lines("t/dumpfile"), Compression: "zlib", Levels: []int{16}, Threads: 8})},
		{"vpsfree-cz-configuration, crashdump to several disks", "-c -d 16 --split /proc/vmcore t1/dumpfile1 t2/dumpfile2 t3/dumpfile3",
			line(Line{Core: core, Out: lines("t1/dumpfile1", "t2/dumpfile2", "t3/dumpfile3"), Compression: "zlib", Levels: []int{16}})},
		{"retrace-server, the dump's level", "-D --dump-dmesg vmcore dmesg",
			line(Line{Do: Dmesg, Core: "vmcore", Out: lines("dmesg"), Messages: defaultMessages | Debug})},
		{"retrace-server, strip_extra_pages", "-c -d 31 -x vmlinux --message-level 0 vmcore vmcore.stripped",
			&Line{Do: Create, Core: "vmcore", Out: lines("vmcore.stripped"), Compression: "zlib", Levels: []int{31}, Limit: math.MaxUint64}},
		{"avocado-misc-tests, makedumpfile.py", "-b 8 -d 31 -l vmcore dump2",
			line(Line{Core: "vmcore", Out: lines("dump2"), Levels: []int{31}, Compression: "lzo"})},
		{"avocado-misc-tests, makedumpfile.py", "--split --splitblock-size 1024 -d 31 -l vmcore dump3 dump4",
			line(Line{Core: "vmcore", Out: lines("dump3", "dump4"), Levels: []int{31}, Compression: "lzo"})},
		{"avocado-misc-tests, makedumpfile.py", "--reassemble dump3 dump4 dump5",
			line(Line{Do: Reassemble, Parts: lines("dump3", "dump4"), Out: lines("dump5")})},
		{"avocado-misc-tests, makedumpfile.py", "--cyclic-buffer 1024 vmcore dump10",
			line(Line{Core: "vmcore", Out: lines("dump10")})},
		{"avocado-misc-tests, makedumpfile.py", "-d 31 -c vmcore dump51 --message-level 21",
			line(Line{Core: "vmcore", Out: lines("dump51"), Compression: "zlib", Levels: []int{31}, Messages: Progress | Errors | Report})},
		{"kdump tests of RHEL, an estimate", "-l -d 31 /proc/kcore vmcore --dry-run --show-stats",
			line(Line{Core: "/proc/kcore", Out: lines("vmcore"), Compression: "lzo", Levels: []int{31}, DryRun: true, Messages: defaultMessages | Report})},
		{"kdump tests of RHEL, an estimate", "-F -l -d 31 /proc/kcore --dry-run --show-stats",
			line(Line{Core: "/proc/kcore", Out: lines(), Flatten: true, Compression: "lzo", Levels: []int{31}, DryRun: true, Messages: defaultMessages | Report})},
		{"Red Hat's documentation, how large a dump would be", "--mem-usage /proc/kcore",
			line(Line{Do: MemUsage, Core: "/proc/kcore", Out: lines()})},
		{"makedumpfile(8)", "-d 11,31 -x vmlinux /proc/vmcore dumpfile",
			line(Line{Core: core, Out: lines("dumpfile"), Levels: []int{11, 31}})},
		{"makedumpfile(8)", "-f -d 31 -x vmlinux /proc/vmcore dumpfile",
			line(Line{Core: core, Out: lines("dumpfile"), Levels: []int{31}, Force: true})},
		{"makedumpfile(8)", "-d 31 -i vmcoreinfo /proc/vmcore dumpfile",
			line(Line{Core: core, Out: lines("dumpfile"), Levels: []int{31}, VMCoreInfo: "vmcoreinfo"})},
		{"makedumpfile(8)", "--work-dir /tmp --non-mmap -z -d 31 /proc/vmcore dumpfile",
			line(Line{Core: core, Out: lines("dumpfile"), Levels: []int{31}, Compression: "zstd"})},
		{"a script", "-v", &Line{Do: Version}},
		{"a person", "-d 64 --help", &Line{Do: Help}},
	} {
		got, err := Parse(strings.Fields(c.args))
		if err != nil {
			t.Errorf("%s: makedumpfile %s: %v", c.from, c.args, err)
			continue
		}
		if diff := cmp.Diff(c.want, got, cmpopts.IgnoreFields(Line{}, "Ignored"), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: makedumpfile %s (-want +got):\n%s", c.from, c.args, diff)
		}
	}
}

func TestMeaning(t *testing.T) {
	at := uint64(0xffffffff80002000)
	for _, c := range []struct {
		args string
		want *Line
	}{
		{"a b", line(Line{})},
		{"-cl a b", line(Line{Compression: "lzo"})},
		{"-d31 -zlc a b", line(Line{Levels: []int{31}, Compression: "zlib"})},
		{"a b -d 0", line(Line{})},
		{"-d 1,17,31 a b", line(Line{Levels: []int{1, 17, 31}})},
		{"-L 5 a b", line(Line{Limit: 5})},
		{"-L 0x10 a b", line(Line{Limit: 16})},
		{"-L 500M a b", line(Line{Limit: 500 << 20})},
		{"-L 2g a b", line(Line{Limit: 2 << 30})},
		{"--num 3 a b", line(Line{Threads: 3})},
		{"--vtop 0xffffffff80002000 a b", line(Line{Vtop: &at})},
		{"--message-level 0 -D --show-stats a b", line(Line{Messages: Debug | Report})},
		{"-D --message-level 16 a b", line(Line{Messages: Debug | Report})},
		{"--message-level 31 a b", line(Line{Messages: 31})},
		{"--dump-dmesg --partial-dmesg -L 1M a b", line(Line{Do: Dmesg, Partial: true, Limit: 1 << 20})},
	} {
		c.want.Core, c.want.Out = "a", []string{"b"}
		got, err := Parse(strings.Fields(c.args))
		if err != nil {
			t.Errorf("makedumpfile %s: %v", c.args, err)
		} else if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("makedumpfile %s (-want +got):\n%s", c.args, diff)
		}
	}
	got, err := Parse(strings.Fields("-F -d 1,31 a"))
	if err != nil || !slices.Equal(got.Levels, []int{1}) || len(got.Warnings) != 1 {
		t.Errorf("a list of levels down a pipe: %+v, %v; want the first and a warning", got, err)
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		args string
		err  error
		says string // in the error and its hints
	}{
		{"", getopt.ErrUsage, "[OPTION]... VMCORE DUMPFILE"},
		{"a", getopt.ErrUsage, "1 files are named"},
		{"a b c", getopt.ErrUsage, "3 files are named"},
		{"-F a b", getopt.ErrUsage, "-F VMCORE"},
		{"--split a b", getopt.ErrUsage, "--split VMCORE DUMPFILE DUMPFILE..."},
		{"-R", getopt.ErrUsage, "-R DUMPFILE"},
		{"-R a b", getopt.ErrUsage, "-R DUMPFILE"},
		{"--reassemble a", getopt.ErrUsage, "--reassemble DUMPFILE... DUMPFILE"},
		{"--mem-usage a b", getopt.ErrUsage, "--mem-usage /proc/kcore"},
		{"--dump-dmesg -F a b", getopt.ErrUsage, "--dump-dmesg -F VMCORE"},
		{"-k a b", getopt.ErrUsage, "no option is called -k"},
		{"--nosuch a b", getopt.ErrUsage, `no option is called "--nosuch"`},
		{"-d 32 a b", getopt.ErrUsage, "a level is a number from 0 to 31"},
		{"-d -1 a b", getopt.ErrUsage, "-d -1 is no dump level"},
		{"-d 31, a b", getopt.ErrUsage, "is no dump level"},
		{"-d " + strings.Repeat("1,", 40) + "1 a b", getopt.ErrUsage, "is no dump level"},
		{"-d all a b", getopt.ErrUsage, "is no dump level"},
		{"a b -d", getopt.ErrUsage, "needs a value: -d LEVEL"},
		{"-L 0 a b", getopt.ErrUsage, "-L 0 is no size"},
		{"-L 16E a b", getopt.ErrUsage, "-L 16E is no size"},
		{"-L lots a b", getopt.ErrUsage, "or like 500M"},
		{"--num-threads -1 a b", getopt.ErrUsage, "--num-threads -1 is no number"},
		{"--message-level 32 a b", getopt.ErrUsage, "from 0 to 31"},
		{"--vtop here a b", getopt.ErrUsage, "--vtop here is no address"},
		{"-E -c a b", getopt.ErrUsage, "an ELF core, -E, has no compression"},
		{"--split -F a b c", getopt.ErrUsage, "--split and -F do not go together"},
		{"--split -E a b c", getopt.ErrUsage, "--split and -E do not go together"},
		{"-R -c a", getopt.ErrUsage, "-R and -c do not go together"},
		{"--reassemble -d 31 a b", getopt.ErrUsage, "--reassemble and -d do not go together"},
		{"--reassemble --dry-run a b", getopt.ErrUsage, "--reassemble and --dry-run do not go together"},
		{"--dump-dmesg --dry-run a b", getopt.ErrUsage, "--dump-dmesg and --dry-run do not go together"},
		{"--partial-dmesg a b", getopt.ErrUsage, "no --dump-dmesg asks for it"},
		{"-R --reassemble a b", getopt.ErrUsage, "ask for two different things"},
		{"-F -L 1G a", getopt.ErrUnsupported, "cannot be made smaller"},
		{"-g info -x vmlinux", getopt.ErrUnsupported, "the kernel itself puts VMCOREINFO into every dump"},
		{"--config secrets.conf -x vmlinux a b", getopt.ErrUnsupported, "nothing is erased within pages here"},
		{"--eppic m.c -x vmlinux a b", getopt.ErrUnsupported, "nothing is erased"},
		{"--extension amdgpu.so a b", getopt.ErrUnsupported, "an option of its git"},
		{"-X a b", getopt.ErrUnsupported, "Xen"},
		{"-e --work-dir /tmp a b", getopt.ErrUnsupported, "-e: it leaves page structs out"},
		{"--diskset=a --diskset=b c", getopt.ErrUnsupported, "sadump"},
	} {
		args := strings.Fields(c.args)
		got, err := Parse(args)
		getopttest.Error(t, args, got == nil, err, c.err, c.says)
	}
	got, err := Parse([]string{"-c", "", "b"})
	getopttest.Error(t, []string{"-c", "", "b"}, got == nil, err, getopt.ErrUsage, "the name of a file is empty")
	got, err = Parse([]string{"-i", "", "a", "b"})
	getopttest.Error(t, []string{"-i", "", "a", "b"}, got == nil, err, getopt.ErrUsage, "-i names no file")
}

// withValue is the option with a value that it takes.
func withValue(o getopt.Option) []string {
	switch o.Value {
	case "":
		return []string{o.Name()}
	case "SIZE":
		return []string{o.Name(), "1M"}
	case "FILE", "DIR":
		return []string{o.Name(), "f"}
	}
	return []string{o.Name(), "2"}
}

// Every option of the table is what its line says.
func TestTable(t *testing.T) {
	getopttest.Table(t, Program(), func(o getopt.Option) ([]getopt.Option, error) {
		args := withValue(o)
		switch o.Name() {
		case optRearrange, optMemUsage, optFlatten:
			args = append(args, "a")
		case optSplit:
			args = append(args, "a", "b", "c")
		case optPartial:
			args = append(args, optDmesg, "a", "b")
		default:
			args = append(args, "a", "b")
		}
		l, err := Parse(args)
		if err != nil {
			return nil, err
		}
		return l.Ignored, nil
	})
}

// Options that say different things may stand in any order, before and after
// the files.
func TestOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	good := 0
	for range 2000 {
		words := [][]string{{"core"}, {"dump"}}
		for _, o := range Program().Options {
			if r.IntN(8) > 0 || o.Support == getopt.Refused || o.Group == Asking {
				continue
			}
			switch o.Name() {
			case optLZO, optSnappy, optZstd: // the last counts
				continue
			}
			words = append(words, withValue(o))
		}
		want, wantErr := Parse(slices.Concat(words...))
		// The files keep their order.
		r.Shuffle(len(words), func(i, j int) { words[i], words[j] = words[j], words[i] })
		core := slices.IndexFunc(words, func(w []string) bool { return w[0] == "core" })
		dump := slices.IndexFunc(words, func(w []string) bool { return w[0] == "dump" })
		if core > dump {
			words[core], words[dump] = words[dump], words[core]
		}
		got, err := Parse(slices.Concat(words...))
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("%q: %v; in another order %v", words, err, wantErr)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("%q (-another order +this):\n%s", words, diff)
		}
		if err == nil {
			good++
		}
	}
	if good < 200 {
		t.Errorf("%d of 2000 command lines are right: this test shows little", good)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"-l\x00--message-level\x007\x00-d\x0031\x00/proc/vmcore\x00v", "-F\x00-c\x00-d31\x00a", "--split\x00a\x00b\x00c",
		"-R\x00a", "--reassemble\x00a\x00b", "-L\x001M\x00a\x00b", "--\x00-d\x00-l", "--dump-dmesg\x00-F\x00a", "-d\x001,31\x00a\x00b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		args := strings.Split(s, "\x00")
		l, err := Parse(args)
		if err != nil {
			getopttest.Error(t, args, l == nil, err, nil, "")
			return
		}
		if l.Do == Help || l.Do == Version {
			return
		}
		if len(l.Levels) == 0 || slices.Max(l.Levels) > MaxLevel || slices.Min(l.Levels) < 0 || l.Limit == 0 || l.Threads < 0 {
			t.Errorf("%q: %+v", args, l)
		}
		if (len(l.Out) == 0) != (l.Flatten || l.Do == MemUsage) {
			t.Errorf("%q: written to %q", args, l.Out)
		}
		if (l.Core == "") != (l.Do == Rearrange || l.Do == Reassemble) || (len(l.Parts) > 0) != (l.Do == Reassemble) {
			t.Errorf("%q: %+v", args, l)
		}
		if slices.Contains(append(append([]string{}, l.Parts...), l.Out...), "") {
			t.Errorf("%q: a file without a name", args)
		}
	})
}
