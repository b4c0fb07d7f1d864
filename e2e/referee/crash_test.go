package referee

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// session is what crash 9.0.2 prints of a machine of 1024 pages, with the words of
// its pages as raw has them.
func session(m *machine, pages []uint64) string {
	var b strings.Builder
	section := func(name, text string) {
		fmt.Fprintf(&b, "hexadecimal: %x\n    decimal: 0\n%s\n", crashMark+slices.Index(crashQuestions, name), text)
	}
	section("sys", `      KERNEL: /tmp/vmlinux
    DUMPFILE: /tmp/vmcore  [PARTIAL DUMP]
        CPUS: 1
     RELEASE: 6.12.0-test
       PANIC: "Kernel panic - not syncing: sysrq triggered crash"`)
	section("log", "[    0.000000] Linux version 6.12.0-test\n[   60.0] Kernel panic - not syncing: sysrq triggered crash")
	section("bt", "PID: 131      TASK: ff6000000301d000  CPU: 1    COMMAND: \"panicroom\"\n #0 [ff200000002abc30] panic at ffffffff80a2f1f0\n")
	section("ps", "      PID    PPID  CPU       TASK        ST  %MEM      VSZ      RSS  COMM\n        2       0   0  ff60000001228000  IN   0.0        0        0  [kthreadd]\n>     131       1   1  ff6000000301d000  RU   1.0  1238112    10112  panicroom")
	section("mod", "     MODULE       NAME                     TEXT_BASE         SIZE  OBJECT FILE\nffffffff01c0a0c0  qemu_fw_cfg        ffffffff01c08000    24576  (not loaded)  [CONFIG_KALLSYMS]")
	var text strings.Builder
	for _, i := range pages {
		p := m.page(i)
		for off := uint64(0); off < pageSize; off += 16 {
			fmt.Fprintf(&text, "        %x:  %016x %016x   ................\n", ramBase+i*pageSize+off, le.Uint64(p[off:]), le.Uint64(p[off+8:]))
		}
	}
	section("pages", text.String())
	section("end", "")
	return b.String()
}

// What crash says is judged: a session that is right has no finding, and each thing
// that can be wrong with it is found.
func TestJudgeCrash(t *testing.T) {
	m := newMachine(64)
	for i := range m.ram {
		m.ram[i] = byte(i * 7)
	}
	j := &Judge{c: m.core(t)}
	pages := []uint64{3, 40}
	frames := []uint64{ramBase/pageSize + 3, ramBase/pageSize + 40}
	bad := func(text string) string {
		r := &Report{}
		r.judgeCrash(j, []byte(text), frames, true)
		var names []string
		for _, f := range r.Findings {
			if !f.OK {
				names = append(names, f.Check)
			}
		}
		return strings.Join(names, "; ")
	}
	right := session(m, pages)
	if got := bad(right); got != "" {
		t.Errorf("a right session: %s", got)
	}
	for _, c := range []struct{ old, new, want string }{
		{"RELEASE: 6.12.0-test", "RELEASE: 6.12.1-test", "crash, sys: the kernel"},
		{"CPUS: 1", "CPUS: 2", "crash, sys: the CPUs"},
		{"version 6.12.0-test", "", "crash, log: from the first line"},
		{`COMMAND: "panicroom"`, `COMMAND: "swapper/0"`, "crash, bt: the task that died"},
		{">     131", "      131", "crash, ps: what ran when it died"},
		{"qemu_fw_cfg", "", "crash, mod: modules"},
		{fmt.Sprintf("%016x", le.Uint64(m.page(40)[160:])), strings.Repeat("0", 16), "crash shows pages as the raw copy has them"},
		{fmt.Sprintf("%x:", ramBase+40*pageSize), "rd: page excluded:", "crash shows pages as the raw copy has them"},
	} {
		text := strings.ReplaceAll(right, c.old, c.new)
		if text == right {
			t.Fatalf("%q is not in the session", c.old)
		}
		if got := bad(text); got != c.want {
			t.Errorf("%q for %q: found %q; want %q", c.new, c.old, got, c.want)
		}
	}
}

// The member's name is found wherever it stands, and not when it is part of another.
func TestCrashKnowsModules(t *testing.T) {
	for _, c := range []struct {
		name string
		at   int
		text string
		want bool
	}{
		{"where two reads meet", 1<<20 - 5, "\x00num_gpl_syms\x00", true},
		{"at the end", 3<<20 + 1, "\x00num_gpl_syms\x00", true},
		{"another name", 100, "\x00num_gpl_syms_old\x00", false},
		{"nowhere", 0, "", false},
	} {
		path := filepath.Join(t.TempDir(), "vmlinux")
		if err := os.WriteFile(path, append(bytes.Repeat([]byte("x"), c.at), c.text...), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := crashKnowsModules(path); got != c.want || err != nil {
			t.Errorf("%s: %v, %v; want %v", c.name, got, err, c.want)
		}
	}
}
