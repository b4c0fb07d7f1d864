package host

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func TestParseIomem(t *testing.T) {
	got, err := ParseIomem([]byte("80000000-ffffffff : System RAM\n" +
		"  80202000-8206a337 : Kernel image\n" +
		"    80202000-80c76977 : Kernel code\n" +
		"  ebc00000-fbbfffff : Crash kernel\n" +
		"400000000-7ffffffff : pcie@30000000 : more\n" +
		"fffffffffffff000-ffffffffffffffff : top\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Resource{
		{Range{0x80000000, 0x100000000}, "System RAM", 0},
		{Range{0x80202000, 0x8206a338}, "Kernel image", 1},
		{Range{0x80202000, 0x80c76978}, "Kernel code", 2},
		{Range{0xebc00000, 0xfbc00000}, "Crash kernel", 1},
		{Range{0x400000000, 0x800000000}, "pcie@30000000 : more", 0},
		{Range{0xfffffffffffff000, 0xffffffffffffffff}, "top", 0},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ParseIomem (-want +got):\n%s", diff)
	}
	for _, bad := range []string{"x", "1-2", "2-1 : a", "1-g : a", "1:2 : a", "-1-2 : a"} {
		if _, err := ParseIomem([]byte(bad)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("ParseIomem(%q): %v; want ErrCorrupt", bad, err)
		}
	}
}

func FuzzParseIomem(f *testing.F) {
	f.Add([]byte("80000000-ffffffff : System RAM\n  80202000-8206a337 : Kernel image\n"))
	f.Add([]byte("00000000-00000000 : System RAM\n"))
	f.Add([]byte("fffffffffffff000-ffffffffffffffff : top\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		list, err := ParseIomem(b)
		if err != nil && list != nil {
			t.Errorf("list and error %v", err)
		}
		for _, r := range list {
			if r.Start > r.End || r.Depth < 0 {
				t.Errorf("resource %+v", r)
			}
		}
	})
}

func TestParseCPUList(t *testing.T) {
	for _, c := range []struct {
		in   string
		want []int
		bad  bool
	}{
		{in: "", want: nil},
		{in: "0", want: []int{0}},
		{in: "0-3", want: []int{0, 1, 2, 3}},
		{in: "0,2,4-5,9", want: []int{0, 2, 4, 5, 9}},
		{in: "3-1", bad: true},
		{in: "0,0", bad: true},
		{in: "1,0", bad: true},
		{in: "0-4000000000", bad: true},
		{in: "a", bad: true},
		{in: "0,", bad: true},
	} {
		got, err := ParseCPUList(c.in)
		if (err != nil) != c.bad || !cmp.Equal(got, c.want) {
			t.Errorf("ParseCPUList(%q) = %v, %v; want %v", c.in, got, err, c.want)
		}
	}
}

func FuzzParseCPUList(f *testing.F) {
	for _, s := range []string{"", "0", "0-3,8", "0,2-4,65535", "1,0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		list, err := ParseCPUList(s)
		if err != nil && list != nil {
			t.Errorf("list and error %v", err)
		}
		for i, cpu := range list {
			if cpu < 0 || cpu >= maxCPU || i > 0 && cpu <= list[i-1] {
				t.Fatalf("ParseCPUList(%q) = %v", s, list)
			}
		}
	})
}

func TestRanges(t *testing.T) {
	got := Subtract([]Range{{0, 10}, {10, 20}, {30, 40}}, []Range{{5, 6}, {15, 32}, {39, 50}})
	if diff := cmp.Diff([]Range{{0, 5}, {6, 15}, {32, 39}}, got); diff != "" {
		t.Errorf("Subtract (-want +got):\n%s", diff)
	}
	if got := Subtract([]Range{{5, 6}}, []Range{{0, 100}}); len(got) != 0 {
		t.Errorf("Subtract of everything = %v", got)
	}
}

// board is a machine with gaps in its CPU numbers, without /proc/kcore.
func board() fstest.MapFS {
	fsys := fstest.MapFS{}
	for name, text := range map[string]string{
		"proc/sys/kernel/osrelease":                    "6.12.107+deb13-riscv64\n",
		"proc/sys/kernel/arch":                         "riscv64\n",
		"proc/cmdline":                                 "console=ttyS0 crashkernel=128M\n",
		"proc/cpuinfo":                                 "processor\t: 0\nhart\t\t: 0\nisa\t\t: rv64imafdch\nmmu\t\t: sv57\n",
		"proc/meminfo":                                 "MemTotal:        1854904 kB\nMemFree:         1700000 kB\n",
		"proc/iomem":                                   "80000000-ffffffff : System RAM\n  80202000-8206a337 : Kernel image\n  ebc00000-f3bfffff : Crash kernel\n",
		"sys/firmware/fdt":                             "blob",
		"sys/kernel/kexec_crash_size":                  "134217728\n",
		"sys/kernel/kexec_crash_loaded":                "0\n",
		"sys/kernel/kexec_loaded":                      "1\n",
		"proc/sys/kernel/kexec_load_disabled":          "0\n",
		"proc/sys/kernel/kexec_load_limit_panic":       "7\n",
		"sys/kernel/security/lockdown":                 "none [integrity] confidentiality\n",
		"proc/sysrq-trigger":                           "",
		"sys/devices/system/cpu/possible":              "0,3-4\n",
		"sys/devices/system/cpu/present":               "0,3\n",
		"sys/devices/system/cpu/online":                "0\n",
		"sys/devices/system/cpu/cpu0/crash_notes":      "fddc3600\n",
		"sys/devices/system/cpu/cpu0/crash_notes_size": "408\n",
		"sys/devices/system/cpu/cpu3/crash_notes":      "fdde3600\n",
		"sys/devices/system/cpu/cpu3/crash_notes_size": "408\n",
		"sys/kernel/vmcoreinfo":                        "0x0000000088ed0000 1024\n",
		"boot/config-6.12.107+deb13-riscv64":           "CONFIG_KEXEC=y\n# CONFIG_KEXEC_FILE is not set\nCONFIG_CMA_SIZE_MBYTES=128\nCONFIG_OTHER=y\n",
		"proc/kallsyms": "ffffffff80002000 T _text\nffffffff80002000 T _stext\nffffffff81c00000 B swapper_pg_dir\n" +
			"ffffffff81e6b000 B _end\n0000000000000000 t late [mod]\n",
	} {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	return fsys
}

func TestRead(t *testing.T) {
	got, err := Read(board(), nil)
	if err != nil {
		t.Fatal(err)
	}
	got.Unknown = nil
	want := &Machine{
		Arch: "riscv64", Release: "6.12.107+deb13-riscv64", Cmdline: "console=ttyS0 crashkernel=128M",
		PageSize: 4096, MMU: "sv57", MemTotal: 1854904 << 10,
		Iomem: []Resource{
			{Range{0x80000000, 0x100000000}, "System RAM", 0},
			{Range{0x80202000, 0x8206a338}, "Kernel image", 1},
			{Range{0xebc00000, 0xf3c00000}, "Crash kernel", 1},
		},
		FDT:        []byte("blob"),
		Possible:   []int{0, 3, 4},
		Present:    []int{0, 3},
		Online:     []int{0},
		CrashNotes: []Note{{0, 0xfddc3600, 408}, {3, 0xfdde3600, 408}},
		VMCoreInfo: Range{0x88ed0000, 0x88ed1024},
		CrashSize:  128 << 20, KexecLoaded: true, LimitPanic: 7, LimitReboot: Unlimited, Lockdown: "integrity",
		Symbols: map[string]uint64{"_text": 0xffffffff80002000, "_end": 0xffffffff81e6b000,
			"swapper_pg_dir": 0xffffffff81c00000},
		PageTable: 0x81e00000,
		Config: map[string]string{"CONFIG_KEXEC": "y", "CONFIG_KEXEC_FILE": "n", "CONFIG_CMA_SIZE_MBYTES": "128",
			"CONFIG_CRASH_DUMP": "n", "CONFIG_PROC_VMCORE": "n", "CONFIG_RELOCATABLE": "n", "CONFIG_RANDOMIZE_BASE": "n",
			"CONFIG_STRICT_KERNEL_RWX": "n", "CONFIG_RISCV_BOOT_SPINWAIT": "n"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("Read (-want +got):\n%s", diff)
	}
}

func TestReadUnknown(t *testing.T) {
	fsys := board()
	delete(fsys, "sys/firmware/fdt")
	delete(fsys, "sys/devices/system/cpu/cpu3/crash_notes")
	m, err := Read(fsys, nil)
	if err != nil {
		t.Fatal(err)
	}
	var facts []string
	for _, u := range m.Unknown {
		facts = append(facts, u.Fact)
	}
	want := []string{"device tree (/sys/firmware/fdt)", "crash notes of CPU 3", "crash notes of CPU 4", "kernel memory (/proc/kcore)"}
	if diff := cmp.Diff(want, facts); diff != "" {
		t.Errorf("unknown facts (-want +got):\n%s", diff)
	}
}

// denied is a file that only root may read.
type denied struct {
	fs.FS
	name string
}

func (d denied) Open(name string) (fs.File, error) {
	if name == d.name {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrPermission}
	}
	return d.FS.Open(name)
}

func TestReadNotRoot(t *testing.T) {
	zeros := board()
	zeros["proc/iomem"] = &fstest.MapFile{Data: []byte("00000000-00000000 : System RAM\n  00000000-00000000 : Kernel image\n")}
	for name, fsys := range map[string]fs.FS{
		"iomem of zeros":      zeros,
		"device tree of root": denied{board(), "sys/firmware/fdt"},
		"notes of root":       denied{board(), "sys/devices/system/cpu/cpu0/crash_notes"},
		"iomem of root":       denied{board(), "proc/iomem"},
	} {
		_, err := Read(fsys, nil)
		if !errors.Is(err, ErrNotRoot) {
			t.Errorf("%s: %v; want ErrNotRoot", name, err)
			continue
		}
		var h interface{ Hints() []string }
		if !errors.As(err, &h) || len(h.Hints()) == 0 {
			t.Errorf("%s: %v has no hints", name, err)
		}
	}
}

func TestReadCorrupt(t *testing.T) {
	for name, text := range map[string]string{
		"proc/iomem":                              "no lines\n",
		"proc/meminfo":                            "MemTotal: many\n",
		"sys/kernel/vmcoreinfo":                   "0x12\n",
		"sys/kernel/kexec_crash_size":             "big\n",
		"sys/devices/system/cpu/possible":         "0-\n",
		"sys/devices/system/cpu/cpu0/crash_notes": "zz\n",
		"proc/sys/kernel/kexec_load_limit_panic":  "no\n",
		"proc/cmdline":                            strings.Repeat("x", maxSmall+1),
	} {
		fsys := board()
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
		if _, err := Read(fsys, nil); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v; want ErrCorrupt", name, err)
		}
	}
}

// Memory that a driver has added belongs into the dump like any other.
func TestSystemRAM(t *testing.T) {
	m := &Machine{}
	var err error
	m.Iomem, err = ParseIomem([]byte("80000000-bfffffff : System RAM\n" +
		"140000000-17fffffff : virtio0\n" +
		"  140000000-15fffffff : System RAM (virtio_mem)\n" +
		"200000000-23fffffff : dax0.0\n" +
		"  200000000-23fffffff : System RAM (kmem)\n" +
		"300000000-33fffffff : System RAMdisk\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Range{{0x80000000, 0xc0000000}, {0x140000000, 0x160000000}, {0x200000000, 0x240000000}}
	if diff := cmp.Diff(want, m.SystemRAM()); diff != "" {
		t.Errorf("SystemRAM (-want +got):\n%s", diff)
	}
}
