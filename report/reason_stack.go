package report

import (
	"slices"
	"strings"

	"github.com/panicroom-kdump/panicroom/kernel/stack"
)

// signs are functions that are on the stack of a CPU that crashed in some way, the
// surest first. They tell what the log would, if it were there.
var signs = []struct {
	functions string // any of them
	kind      Kind
	class     Class
}{
	{"handle_bad_stack handle_kernel_stack_overflow", KindOops, ClassStackOverflow},
	{"sysrq_handle_crash", KindSysrq, ClassRequest},
	{"out_of_memory mem_cgroup_out_of_memory check_panic_on_oom", KindMemory, ClassOOM},
	{"watchdog_timer_fn", KindLockup, ClassSoftLockup},
	{"watchdog_hardlockup_check watchdog_buddy_check_hardlockup watchdog_overflow_callback", KindLockup, ClassHardLockup},
	{"panic_on_rcu_stall check_cpu_stall rcu_sched_clock_irq", KindLockup, ClassRCUStall},
	{"check_hung_uninterruptible_tasks", KindLockup, ClassHungTask},
	{"__stack_chk_fail", KindBug, ClassStackSmash},
	{"check_panic_on_warn __warn", KindWarning, ClassWarning},
	{"panic vpanic", KindPanic, ClassOther},
}

// guess says of which kind the crash was by the stack of the CPU that crashed: the
// log is lost, or has no word of it.
func guess(s *stack.Stack) (Kind, Class) {
	if s == nil {
		return KindUnknown, ""
	}
	names := namesOf(s)
	for _, sign := range signs {
		for name := range strings.FieldsSeq(sign.functions) {
			if slices.Contains(names, name) {
				return sign.kind, sign.class
			}
		}
	}
	if regs := faultRegs(s); regs != nil && len(s.Frames) > 0 && s.Frames[0].Interrupted {
		// die() has the CPU's note made of the registers of the fault.
		if regs.Code == riscvBreakpoint {
			return KindBug, ClassAssertion
		}
		return KindOops, ClassException
	}
	return KindUnknown, ""
}
