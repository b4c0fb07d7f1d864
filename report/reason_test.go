package report

import (
	"bytes"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/stack"
)

// stamped puts the time 50 before every line.
func stamped(text string) string {
	var b strings.Builder
	for line := range strings.Lines(strings.TrimSpace(text)) {
		b.WriteString("[ 50.0] " + line)
	}
	return b.String()
}

// TestClasses has the words of many kernels: what is given is what
// distinguishes them.
func TestClasses(t *testing.T) {
	for _, c := range []struct {
		name, log      string
		kind           Kind
		class          Class
		detail, source string
	}{
		{
			"riscv null", "Unable to handle kernel access to user memory without uaccess routines at virtual address 0000000000000018\nOops [#1]\n" +
				"epc : f+0x1/0x2\nstatus: 0000000200000120 badaddr: 0000000000000018 cause: 000000000000000d",
			KindOops, ClassNull, "read through a null pointer, at offset 0x18", "",
		},
		{
			"riscv, freed memory", "Unable to handle kernel paging request at virtual address 6b6b6b6b6b6b6b7b\nOops [#1]\n" +
				"status: 0000000200000120 badaddr: 6b6b6b6b6b6b6b7b cause: 000000000000000f",
			KindOops, ClassUseAfterFree, "write through a pointer out of freed memory (0x6b)", "",
		},
		{
			"riscv, list poison", "Unable to handle kernel paging request at virtual address dead000000000108\nOops [#1]\n" +
				"status: 0000000200000120 badaddr: dead000000000108 cause: 000000000000000f",
			KindOops, ClassListPoison, "write through the pointer of an entry that was taken off its list (LIST_POISON1)", "",
		},
		{
			"riscv, instruction", "Oops - illegal instruction [#1]\nepc : f+0x1/0x2\nstatus: 0000000200000120 badaddr: 0000000000000000 cause: 0000000000000002",
			KindOops, ClassIllegal, "an instruction that the CPU does not know", "",
		},
		{
			"riscv, bus", "Oops - store (or AMO) access fault [#1]\nstatus: 0000000200000120 badaddr: ff20000000110000 cause: 0000000000000007",
			KindOops, ClassAccessFault, "write at 0xff20000000110000, which the machine refused", "",
		},
		{
			"riscv, misaligned", "Oops - load address misaligned [#1]\nstatus: 0000000200000120 badaddr: ff20000000110001 cause: 0000000000000004",
			KindOops, ClassMisaligned, "read at 0xff20000000110001, which is not aligned", "",
		},
		{
			"x86 null", "BUG: kernel NULL pointer dereference, address: 0000000000000008\n#PF: supervisor write access in kernel mode\nOops: Oops: 0002 [#1] SMP",
			KindOops, ClassNull, "write through a null pointer, at offset 0x8", "",
		},
		{
			"x86 no address", "general protection fault, probably for non-canonical address 0x5a5a5a5a5a5a5a62: 0000 [#1] SMP",
			KindOops, ClassUninitialized, "access through a pointer out of memory that was never written (0x5a)", "",
		},
		{
			"x86 protection", "general protection fault: 0000 [#1] SMP", KindOops, ClassProtection, "", "",
		},
		{
			"arm64 read-only", "Unable to handle kernel write to read-only memory at virtual address ffff800080a00000\nInternal error: Oops: 000000009600004f [#1] SMP",
			KindOops, ClassWriteProtect, "write at 0xffff800080a00000, which is read-only", "",
		},
		{
			"BUG", "------------[ cut here ]------------\nkernel BUG at mm/slub.c:546!\nOops: invalid opcode: 0000 [#1] SMP",
			KindBug, ClassAssertion, "", "mm/slub.c:546",
		},
		{
			"list", "list_del corruption. prev->next should be ffff888100000000, but was dead000000000100. (prev=ffff888100001000)\n" +
				"------------[ cut here ]------------\nkernel BUG at lib/list_debug.c:62!\nKernel BUG [#1]",
			KindBug, ClassList, "", "lib/list_debug.c:62",
		},
		{
			"list, as a warning", "------------[ cut here ]------------\nlist_add double add: new=ffff888100000000, prev=ffff888100000000, next=ffff888100001000.\n" +
				"WARNING: CPU: 1 PID: 9 at lib/list_debug.c:35 __list_add_valid_or_report+0x1/0x2\nKernel panic - not syncing: kernel: panic_on_warn set ...",
			KindBug, ClassList, "", "lib/list_debug.c:35",
		},
		{
			"usercopy", "usercopy: Kernel memory exposure attempt detected from SLUB object 'x' (offset 0, size 9)!\n------------[ cut here ]------------\nkernel BUG at mm/usercopy.c:102!\nKernel BUG [#1]",
			KindBug, ClassUserCopy, "", "mm/usercopy.c:102",
		},
		{
			"KASAN", "==================================================================\nBUG: KASAN: slab-use-after-free in f+0x1/0x2\n" +
				"==================================================================\nKernel panic - not syncing: KASAN: panic_on_warn set ...",
			KindBug, ClassSanitizer, "", "",
		},
		{
			"UBSAN", "UBSAN: array-index-out-of-bounds in drivers/x/y.c:12:3\nindex 9 is out of range for type 'int [8]'\n---[ end trace ]---\nKernel panic - not syncing: UBSAN: panic_on_warn set ...",
			KindBug, ClassSanitizer, "", "drivers/x/y.c:12",
		},
		{
			"slab", "BUG kmalloc-64 (Not tainted): Poison overwritten", KindBug, ClassSlab, "", "",
		},
		{
			"stack protector", "Kernel panic - not syncing: stack-protector: Kernel stack is corrupted in: f+0x1/0x2", KindBug, ClassStackSmash, "", "",
		},
		{
			"warning of 6.12", "WARNING: CPU: 1 PID: 2 at kernel/x.c:3 f+0x1/0x2\nKernel panic - not syncing: kernel: panic_on_warn set ...",
			KindWarning, ClassWarning, "", "kernel/x.c:3",
		},
		{
			"warning of 7.2", "WARNING: kernel/x.c:3 at f+0x1/0x2, CPU#1: my task/2\nKernel panic - not syncing: kernel: panic_on_warn set ...",
			KindWarning, ClassWarning, "", "kernel/x.c:3",
		},
		{
			"reference count", "refcount_t: underflow; use-after-free.\nWARNING: CPU: 1 PID: 2 at lib/refcount.c:28 f+0x1/0x2\nKernel panic - not syncing: kernel: panic_on_warn set ...",
			KindWarning, ClassRefcount, "", "lib/refcount.c:28",
		},
		{
			"warnings", "WARNING: CPU: 1 PID: 2 at kernel/x.c:3 f+0x1/0x2\nKernel panic - not syncing: kernel: system warned too often (kernel.warn_limit is 1)",
			KindWarning, ClassTooMany, "", "kernel/x.c:3",
		},
		{
			"hung task", "INFO: task kworker/u8:3:107 blocked for more than 122 seconds.\ntask:kworker/u8:3 state:D\nKernel panic - not syncing: hung_task: blocked tasks",
			KindLockup, ClassHungTask, "kworker/u8:3 (PID 107) waited for more than 122 s", "",
		},
		{
			"hung task of 7.2", "INFO: task my task:107 blocked in I/O wait for more than 10 seconds.\nKernel panic - not syncing: hung_task: blocked tasks",
			KindLockup, ClassHungTask, "my task (PID 107) waited for more than 10 s", "",
		},
		{
			"soft lockup", "watchdog: BUG: soft lockup - CPU#3 stuck for 22s! [my task 1:77]\nKernel panic - not syncing: softlockup: hung tasks",
			KindLockup, ClassSoftLockup, "CPU 3 was kept in the kernel for 22 s by my task 1 (PID 77)", "",
		},
		{
			"hard lockup of 6.12", "watchdog: Watchdog detected hard LOCKUP on cpu 1\nKernel panic - not syncing: Hard LOCKUP",
			KindLockup, ClassHardLockup, "CPU 1 took no interrupt", "",
		},
		{
			"hard lockup of 7.2", "watchdog: CPU0: Watchdog detected hard LOCKUP on cpu 1\nKernel panic - not syncing: Hard LOCKUP",
			KindLockup, ClassHardLockup, "CPU 1 took no interrupt", "",
		},
		{
			"stall", "rcu: INFO: rcu_sched self-detected stall on CPU\nrcu: \t1-....: (2099 ticks this GP) idle=1\nrcu: \t(t=2100 jiffies g=1 q=2 ncpus=2)\nKernel panic - not syncing: RCU Stall",
			KindLockup, ClassRCUStall, "CPU 1 let no grace period end", "",
		},
		{
			"stall of a task", "rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:\nrcu: \tTasks blocked on level-0 rcu_node (CPUs 0-1): P67\nKernel panic - not syncing: RCU Stall",
			KindLockup, ClassRCUStall, "PID 67 let no grace period end", "",
		},
		{
			"a stall, then a soft lockup", "rcu: INFO: rcu_sched self-detected stall on CPU\nwatchdog: BUG: soft lockup - CPU#3 stuck for 22s! [x:77]\nKernel panic - not syncing: softlockup: hung tasks",
			KindLockup, ClassSoftLockup, "CPU 3 was kept in the kernel for 22 s by x (PID 77)", "",
		},
		{
			"a stall, then an oops", "rcu: INFO: rcu_sched self-detected stall on CPU\nOops - illegal instruction [#1]", KindOops, ClassIllegal, "an instruction that the CPU does not know", "",
		},
		{
			"memory of all", "x invoked oom-killer: gfp_mask=0x1, order=0, oom_score_adj=0\nKernel panic - not syncing: Out of memory: system-wide panic_on_oom is enabled",
			KindMemory, ClassOOM, "x asked for 4 KiB", "",
		},
		{
			"memory of a group", "x invoked oom-killer: gfp_mask=0x1, order=2, oom_score_adj=0\nmemory: usage 4096kB, limit 4096kB, failcnt 9\nKernel panic - not syncing: Out of memory: compulsory panic_on_oom is enabled",
			KindMemory, ClassOOMCgroup, "x asked for 16 KiB", "",
		},
		{
			"nobody to kill", "x invoked oom-killer: gfp_mask=0x1, order=0, oom_score_adj=0\nOut of memory and no killable processes...\nKernel panic - not syncing: System is deadlocked on memory",
			KindMemory, ClassOOMNoVictim, "", "",
		},
		{"init", "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000100", KindPanic, ClassInitKilled, "the first process ended with exit code 1", ""},
		{"init by a signal", "Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000089", KindPanic, ClassInitKilled, "the first process was killed by signal 9", ""},
		{
			"init by an oops", "Oops - illegal instruction [#1]\n---[ end trace 0000000000000000 ]---\nKernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b",
			KindOops, ClassIllegal, "an instruction that the CPU does not know", "",
		},
		{"no root", "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)", KindPanic, ClassNoRoot, "", ""},
		{"hardware", "Kernel panic - not syncing: Fatal hardware error!", KindPanic, ClassHardware, "", ""},
		{"SError", "Kernel panic - not syncing: Asynchronous SError Interrupt", KindPanic, ClassHardware, "", ""},
		{"watchdog", "Kernel panic - not syncing: watchdog pretimeout event", KindPanic, ClassWatchdog, "", ""},
		{"other words", "Kernel panic - not syncing: dumptest", KindPanic, ClassOther, "", ""},
		{"an oops whose words are lost", "Kernel panic - not syncing: Fatal exception in interrupt", KindOops, ClassException, "", ""},
		{"sysrq", "sysrq: Trigger a crash\nKernel panic - not syncing: sysrq triggered crash", KindSysrq, ClassRequest, "", ""},
		{
			"overflow", "Insufficient stack space to handle exception!\nstatus: 0000000200000120 badaddr: ff20000000197e60 cause: 000000000000000f\nKernel panic - not syncing: Kernel stack overflow",
			KindOops, ClassStackOverflow, "the kernel's stack was used up", "",
		},
		{"nonsense", "kernel BUG at \nWARNING: at at at:at\nINFO: task  blocked for more than seconds\nwatchdog: BUG: soft lockup - CPU# stuck [:]", KindBug, ClassAssertion, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := build(&dead{log: parseLog(t, stamped(c.log))}, nil)
			got := r.Crash
			if got.Kind != c.kind || got.Class != c.class || got.Detail != c.detail || got.Source != c.source {
				t.Errorf("got %s/%s, %q, at %q;\nwant %s/%s, %q, at %q", got.Kind, got.Class, got.Detail, got.Source, c.kind, c.class, c.detail, c.source)
			}
		})
	}
}

// TestAddresses checks what addresses tell of the pointer that led there.
func TestAddresses(t *testing.T) {
	arch := (&dead{}).Arch() // sv48
	mapped := func(va kernel.VirtAddr) bool { return va>>32 == 0xffffffff }
	for _, c := range []struct {
		address uint64
		access  access
		class   Class
		words   string
	}{
		{0, accessExecute, ClassNull, "call of a null function pointer"},
		{0, accessRead, ClassNull, "read through a null pointer"},
		{0xffff, "", ClassNull, "access through a null pointer, at offset 0xffff"},
		{0x10000, accessRead, ClassUserAccess, "read at 0x10000, which is memory of a program"},
		{0x00007fff_ffffffff, accessWrite, ClassUserAccess, "write at 0x7fffffffffff, which is memory of a program"},
		{0x00008000_00000000, accessWrite, ClassNonCanonical, "write through 0x800000000000, which is no address"},
		{0xffff7fff_ffffffff, accessRead, ClassNonCanonical, "read through 0xffff7fffffffffff, which is no address"},
		{0xffff8000_00000000, accessRead, ClassPageFault, "read at 0xffff800000000000, where nothing is"},
		{0xffffffff_ffffffea, accessRead, ClassErrorPointer, "read through an error code that was taken for a pointer (error 22)"},
		{0xffffffff_fffff001, accessRead, ClassErrorPointer, "read through an error code that was taken for a pointer (error 4095)"},
		{0xffffffff_fffff000, accessRead, ClassPageFault, "read at 0xfffffffffffff000, where nothing is"},
		{0xffffffff_80000000, accessWrite, ClassWriteProtect, "write at 0xffffffff80000000, which is read-only"},
		{0xffffffff_80000000, accessExecute, ClassNoExecute, "jump to 0xffffffff80000000, which is not code"},
		{0xffff8000_00000000, accessExecute, ClassPageFault, "jump to 0xffff800000000000, where nothing is"},
		{0xdead0000_0000012a, accessWrite, ClassListPoison, "write through the pointer of an entry that was taken off its list (LIST_POISON2)"},
		{0xdead0000_000000f5, accessRead, ClassPoison, "read through a pointer that was made invalid (0xdead0000000000f5)"},
		{0x122, accessRead, ClassListPoison, "read through the pointer of an entry that was taken off its list"},
		{0xaaaaaaaa_aaaaaaaa, accessExecute, ClassUseAfterFree, "call through a pointer out of a page that was freed (0xaa)"},
	} {
		f := fault{access: c.access, address: c.address, addressed: true}
		if class, words := f.decode(arch, mapped); class != c.class || words != c.words {
			t.Errorf("%s at %#x: %s, %q; want %s, %q", c.access, c.address, class, words, c.class, c.words)
		}
	}
}

// TestClassesAreDocumented checks that docs/kinds.md has every kind and class.
func TestClassesAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../docs/kinds.md")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, name := range []string{"reason.go", "report.go"} {
		code, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\b(?:Class|Kind) += "([a-z-]+)"`).FindAllSubmatch(code, -1) {
			n++
			if !bytes.Contains(doc, append(append([]byte("`"), m[1]...), '`')) && !bytes.Contains(doc, append([]byte("## "), m[1]...)) {
				t.Errorf("%s is not in docs/kinds.md", m[1])
			}
		}
	}
	if n < 50 {
		t.Errorf("found %d kinds and classes in the code; the test has to be mended", n)
	}
}

// TestGuess checks what the stack alone tells.
func TestGuess(t *testing.T) {
	fault := func(code uint64, names string) *stack.Stack {
		s := frames(names)
		for i := range s.Frames {
			if s.Frames[i].Interrupted {
				s.Frames[i].Regs = &stack.Regs{Code: code}
			}
		}
		return s
	}
	for _, c := range []struct {
		s     *stack.Stack
		kind  Kind
		class Class
	}{
		{frames("riscv_crash_save_regs __crash_kexec panic sysrq_handle_crash __handle_sysrq"), KindSysrq, ClassRequest},
		{frames("riscv_crash_save_regs __crash_kexec panic out_of_memory __alloc_pages_noprof"), KindMemory, ClassOOM},
		{frames("panic watchdog_timer_fn __hrtimer_run_queues !spin run"), KindLockup, ClassSoftLockup},
		{frames("panic handle_bad_stack !memset walk walk"), KindOops, ClassStackOverflow},
		{frames("__crash_kexec vpanic panic gadget_check vfs_read"), KindPanic, ClassOther},
		{fault(riscvBreakpoint, "!gadget_check vfs_read"), KindBug, ClassAssertion},
		{fault(riscvLoadPage, "!gadget_check vfs_read"), KindOops, ClassException},
		{fault(1<<63|5, "!default_idle_call do_idle"), KindUnknown, ""},
		{frames("default_idle_call do_idle"), KindUnknown, ""},
		{nil, KindUnknown, ""},
	} {
		if kind, class := guess(c.s); kind != c.kind || class != c.class {
			t.Errorf("%+v: %s, %s; want %s, %s", c.s, kind, class, c.kind, c.class)
		}
	}
}
