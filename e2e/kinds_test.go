//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/e2e/lab"
	"github.com/panicroom-kdump/panicroom/internal/vm"
	"github.com/panicroom-kdump/panicroom/report"
)

// crashKind is one way to crash a machine, and what the report must say of it.
type crashKind struct {
	name    string
	cmdline string
	steps   []script.Step
	// serial says that the key SysRq and c on the serial console end it: a panic in
	// an interrupt.
	serial bool

	kind        report.Kind
	class       report.Class
	detail      string // a regular expression
	source      string // file of the kernel's source
	task        string // whose CPU crashed
	stuck       string // the task that hung, or kept its CPU
	inInterrupt bool
	// frames are those of the signature. Of the same crash they are the same on each
	// kernel.
	frames []string
}

// culprit is a program in the guest that does harm.
const culprit = "/tmp/culprit"

// harm has a process of its own do it.
func harm(args ...string) script.Step {
	return named("harm", lab.Run(append([]string{culprit, script.Culprit}, args...)...))
}

// sysctl makes a setting of the kernel.
func sysctl(name, value string) script.Step {
	return script.Step{Name: name, Write: &script.Write{Path: "/proc/sys/" + name, Data: []byte(value)}}
}

// provoke has LKDTM, the kernel's own driver that crashes it, do one of its crashes.
func provoke(what string, before ...script.Step) []script.Step {
	return append(before, harm(script.HarmWrite, direct, what))
}

// direct is the file that tells LKDTM to crash at once.
const direct = "/sys/kernel/debug/provoke-crash/DIRECT"

// debianKinds are what can be done to a kernel of Debian, which has no LKDTM.
func debianKinds() []crashKind {
	return []crashKind{
		{
			name: "sysrq", steps: []script.Step{crashStep(1)},
			kind: report.KindSysrq, class: report.ClassRequest, task: "panicroom",
		},
		{
			name: "serial", serial: true, steps: []script.Step{harm(script.HarmWait)},
			kind: report.KindSysrq, class: report.ClassRequest, inInterrupt: true,
		},
		{
			name: "init", steps: []script.Step{{Name: "end", Exit: &script.Exit{Code: 3}}},
			kind: report.KindPanic, class: report.ClassInitKilled, detail: `^the first process ended with exit code 3$`, task: "init",
		},
		{
			name: "oom", steps: []script.Step{
				sysctl("vm/panic_on_oom", "1"),
				// More than there is, in parts of which none alone is refused.
				{Name: "fill", Burden: &script.Burden{Anon: 400, Huge: 400}},
			},
			kind: report.KindMemory, class: report.ClassOOM, detail: ` asked for 4 KiB$`,
		},
		{
			name: "hung", steps: []script.Step{
				sysctl("kernel/hung_task_panic", "1"), sysctl("kernel/hung_task_timeout_secs", "5"),
				{Name: "freeze", Freeze: &script.Freeze{Target: lab.CrashDir, Writers: 1}}, harm(script.HarmWait),
			},
			kind: report.KindLockup, class: report.ClassHungTask, detail: `^exe \(PID \d+\) waited for more than \d+ s$`,
			task: "khungtaskd", stuck: "exe",
		},
	}
}

// builtKinds are LKDTM's crashes.
func builtKinds() []crashKind {
	const bugs = "drivers/misc/lkdtm/bugs.c"
	frames := func(first string) []string { return []string{first, "lkdtm_do_action", "direct_entry"} }
	return []crashKind{
		{
			name: "panic", steps: provoke("PANIC"),
			kind: report.KindPanic, class: report.ClassOther, task: "culprit", frames: frames("lkdtm_PANIC"),
		},
		{
			name: "bug", steps: provoke("BUG"),
			kind: report.KindBug, class: report.ClassAssertion, source: bugs, task: "culprit", frames: frames("lkdtm_BUG"),
		},
		{
			name: "warning", steps: provoke("WARNING", sysctl("kernel/panic_on_warn", "1")),
			kind: report.KindWarning, class: report.ClassWarning, source: bugs, task: "culprit", frames: frames("lkdtm_WARNING"),
		},
		{
			name: "exception", steps: provoke("EXCEPTION"),
			kind: report.KindOops, class: report.ClassNull, detail: `^write through a null pointer$`, task: "culprit", frames: frames("lkdtm_EXCEPTION"),
		},
		{
			name: "access-null", steps: provoke("ACCESS_NULL"),
			kind: report.KindOops, class: report.ClassNull, detail: `^read through a null pointer$`, task: "culprit", frames: frames("lkdtm_ACCESS_NULL"),
		},
		{
			name: "exec-null", steps: provoke("EXEC_NULL"),
			kind: report.KindOops, class: report.ClassNull, detail: `^call of a null function pointer$`, task: "culprit", frames: []string{"execute_location"},
		},
		{
			name: "write-ro", steps: provoke("WRITE_RO"),
			kind: report.KindOops, class: report.ClassWriteProtect, detail: `^write at 0xffffffff[0-9a-f]+, which is read-only$`, task: "culprit", frames: frames("lkdtm_WRITE_RO"),
		},
		{
			name: "exec-data", steps: provoke("EXEC_DATA"),
			kind: report.KindOops, class: report.ClassNoExecute, detail: `^jump to 0xffffffff[0-9a-f]+, which is not code$`, task: "culprit",
		},
		{
			name: "access-userspace", steps: provoke("ACCESS_USERSPACE"),
			kind: report.KindOops, class: report.ClassUserAccess, detail: `^read at 0x[0-9a-f]+, which is memory of a program$`, task: "culprit", frames: frames("lkdtm_ACCESS_USERSPACE"),
		},
		{
			name: "exhaust-stack", steps: provoke("EXHAUST_STACK"),
			kind: report.KindOops, class: report.ClassStackOverflow, task: "culprit", frames: []string{"recursive_loop"},
		},
		{
			name: "corrupt-stack", steps: provoke("CORRUPT_STACK"),
			kind: report.KindBug, class: report.ClassStackSmash, task: "culprit", frames: []string{"lkdtm_CORRUPT_STACK"},
		},
		{
			name: "list-add", steps: provoke("CORRUPT_LIST_ADD"),
			kind: report.KindBug, class: report.ClassList, source: "lib/list_debug.c", task: "culprit", frames: frames("lkdtm_CORRUPT_LIST_ADD"),
		},
		{
			name: "list-del", steps: provoke("CORRUPT_LIST_DEL"),
			kind: report.KindBug, class: report.ClassList, source: "lib/list_debug.c", task: "culprit", frames: frames("lkdtm_CORRUPT_LIST_DEL"),
		},
		{
			name: "hung", steps: provoke("HUNG_TASK", sysctl("kernel/hung_task_panic", "1"), sysctl("kernel/hung_task_timeout_secs", "5")),
			kind: report.KindLockup, class: report.ClassHungTask, detail: `^culprit \(PID \d+\) waited for more than \d+ s$`,
			task: "khungtaskd", stuck: "culprit", frames: frames("lkdtm_HUNG_TASK"),
		},
		{
			name: "softlockup", steps: provoke("SOFTLOCKUP", sysctl("kernel/softlockup_panic", "1"), sysctl("kernel/watchdog_thresh", "2")),
			kind: report.KindLockup, class: report.ClassSoftLockup, detail: `^CPU [01] was kept in the kernel for \d+ s by culprit \(PID \d+\)$`,
			task: "culprit", stuck: "culprit", frames: frames("lkdtm_SOFTLOCKUP"),
		},
		{
			name: "stall", steps: []script.Step{
				sysctl("kernel/soft_watchdog", "0"), sysctl("kernel/panic_on_rcu_stall", "1"),
				{Name: "timeout", Write: &script.Write{Path: "/sys/module/rcupdate/parameters/rcu_cpu_stall_timeout", Data: []byte("3")}},
				harm(script.HarmStall, direct, "SOFTLOCKUP"),
			},
			kind: report.KindLockup, class: report.ClassRCUStall, detail: `^CPU [01] let no grace period end$`, frames: frames("lkdtm_SOFTLOCKUP"),
		},
		{
			// Without NMIs the CPU does not tell where it is.
			name: "hardlockup", steps: provoke("HARDLOCKUP", sysctl("kernel/hardlockup_panic", "1"), sysctl("kernel/watchdog_thresh", "2")),
			kind: report.KindLockup, class: report.ClassHardLockup, detail: `^CPU [01] took no interrupt while it ran culprit \(PID \d+\)$`, stuck: "culprit",
		},
		{
			// At the first interrupt of a device, not at the tenth.
			name: "interrupt", cmdline: "lkdtm.cpoint_count=1", steps: []script.Step{harm(script.HarmWrite, "/sys/kernel/debug/provoke-crash/INT_HW_IRQ_EN", "PANIC"), harm(script.HarmWait)},
			kind: report.KindPanic, class: report.ClassOther, inInterrupt: true,
			frames: []string{"lkdtm_PANIC", "lkdtm_do_action", "lkdtm_kprobe_handler"},
		},
	}
}

// quickKinds are those that stand for all without PANICROOM_FULL=1: each needs a
// machine of its own.
var quickKinds = []string{"trixie/hung", "trixie/init", "sid/oom", "sid/serial"}

// TestKinds crashes machines in every way there is, and reads of each what happened:
// from the dump on this machine, and in the report that the panic kernel made of it.
func TestKinds(t *testing.T) {
	t.Parallel()
	for _, suite := range []string{"trixie", "sid", "built-trixie", "built-sid"} {
		kinds := debianKinds()
		if strings.HasPrefix(suite, "built-") {
			kinds = builtKinds()
		}
		for _, k := range kinds {
			name := suite + "/" + k.name
			if !full() && !slices.Contains(quickKinds, name) {
				continue
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				k.test(t, suite)
			})
		}
	}
}

func (c crashKind) test(t *testing.T, suite string) {
	k := kernel(t, suite)
	s := &lab.Scenario{
		Name: "kinds-" + suite + "-" + c.name, Kernel: k, CPUs: 2, MemMiB: 768, Crashkernel: "144M", Cmdline: c.cmdline,
		Disk: &lab.Disk{SizeMiB: 1024}, Programs: []string{panicRoom(t, k)},
		Steps: append([]script.Step{
			{Name: "culprit", Write: &script.Write{Path: culprit, Copy: "/init", Mode: 0o755}},
			sysctl("kernel/panic_on_oops", "1"), sysctl("kernel/sysrq", "1"),
			loadStep(),
		}, c.steps...),
	}
	if c.serial {
		pressSysRq(t, s, "harm", "c")
	}
	o := run(t, s)
	if o.CrashKernel() < 0 || !o.PoweredOff() {
		t.Fatalf("the panic kernel did not start, or not end\n%s", o.Story())
	}
	crashes, err := o.Crashes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(crashes) != 1 || strings.HasSuffix(crashes[0], "-incomplete") {
		t.Fatalf("saved crashes %q; want one, complete\n%s", crashes, o.Story())
	}
	saved := readSaved(t, crashes[0])
	_, crashed := openDump(t, saved.file("vmcore"))
	here, err := report.Make(crashed, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(saved.file("report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var there report.Report
	if err := json.Unmarshal(text, &there); err != nil {
		t.Fatal(err)
	}
	t.Run("host", func(t *testing.T) { c.check(t, here) })
	t.Run("panic kernel", func(t *testing.T) { c.check(t, &there) })
	if t.Failed() {
		t.Logf("%s\n%s", o.Story(), saved.report)
	}
}

// check compares a report with what happened.
func (c crashKind) check(t *testing.T, r *report.Report) {
	t.Helper()
	got := r.Crash
	if got.Kind != c.kind || got.Class != c.class || got.InInterrupt != c.inInterrupt {
		t.Errorf("%s, %s, in interrupt %v; want %s, %s, %v", got.Kind, got.Class, got.InInterrupt, c.kind, c.class, c.inInterrupt)
	}
	if !regexp.MustCompile(c.detail).MatchString(got.Detail) {
		t.Errorf("detail %q; want %s", got.Detail, c.detail)
	}
	if file, _, _ := strings.Cut(got.Source, ":"); file != c.source {
		t.Errorf("source %q; want a line of %q", got.Source, c.source)
	}
	if c.task != "" && (got.Task == nil || got.Task.Comm != c.task || got.Task.CPU < 0) {
		t.Errorf("task %+v; want %s", got.Task, c.task)
	}
	if c.stuck != "" && (got.Stuck == nil || got.Stuck.Comm != c.stuck) {
		t.Errorf("stuck is %+v; want %s", got.Stuck, c.stuck)
	}
	switch {
	case r.Signature == nil:
		t.Error("no signature")
	case c.frames != nil && !slices.Equal(r.Signature.Frames, c.frames):
		t.Errorf("frames %q; want %q", r.Signature.Frames, c.frames)
	}
	if c.frames != nil && !strings.HasPrefix(got.Where, c.frames[0]+"+") && got.Where != "" {
		t.Errorf("at %s; want it in %s", got.Where, c.frames[0])
	}
}

// pressSysRq sends a break over the serial console and types a key when a step
// begins.
func pressSysRq(t *testing.T, s *lab.Scenario, step, key string) {
	t.Helper()
	begun := make(chan struct{}, 1)
	s.OnEvent = func(e script.Event) {
		if e.Kind == script.Begin && e.Text == step {
			begun <- struct{}{}
		}
	}
	s.OnStart = func(m *vm.Machine) {
		go func() {
			select {
			case <-begun:
			case <-t.Context().Done():
				return
			}
			if err := errors.Join(m.Break(t.Context()), m.Type(key)); err != nil {
				t.Error(err)
			}
		}()
	}
}
