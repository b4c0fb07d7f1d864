package report

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/panicroom-kdump/panicroom/kernel/stack"
)

// signatureFrames is how many functions a signature has at most. The one at
// fault and two that called it tell crashes apart; each more is one more place
// where another compiler inlines otherwise.
const signatureFrames = 3

// sign makes the signature of the crash: from the stack of what is at fault, and
// from the log's backtrace where there is none.
func (r *Report) sign(in *incident, crashed, stuck *stack.Stack) *Signature {
	c := &r.Crash
	if c.Kind == KindUnknown {
		return nil
	}
	var names []string
	switch {
	case !tracedKind(c.Kind, c.Class):
	case c.Class == ClassHungTask, c.Class == ClassHardLockup, c.Class == ClassRCUStall && in.stuckCPU != int64(in.cpu):
		names = namesOf(stuck)
	default:
		names = namesOf(crashed)
	}
	if len(names) == 0 && tracedKind(c.Kind, c.Class) && !in.elsewhere() {
		names = in.names()
	}
	return signature(string(c.Kind), string(c.Class), names)
}

// elsewhere tells that the log's backtrace is of the CPU that found another one stuck.
func (in *incident) elsewhere() bool {
	switch in.class {
	case ClassHardLockup:
		return !in.told
	case ClassRCUStall:
		return !in.told && in.stuckCPU != int64(in.cpu)
	}
	return false
}

// tracedKind tells whether functions say anything about crashes of a kind. Who
// asks for memory last, or at what moment somebody asks for a crash, is chance.
func tracedKind(kind Kind, class Class) bool {
	switch {
	case kind == KindSysrq, kind == KindMemory:
		return false
	case class == ClassInitKilled, class == ClassNoRoot, class == ClassNoInit, class == ClassTooMany:
		return false
	}
	return true
}

// signature makes the signature of a crash of a kind and class out of the names
// of the functions that called each other, the innermost first. A name may be
// as in a backtrace, with its offset and its module.
func signature(kind, class string, frames []string) *Signature {
	s := &Signature{Kind: kind, Frames: significant(frames, signatureFrames)}
	if classCounts(Kind(kind)) && class != "" {
		s.Kind += "/" + class
	}
	switch Class(class) {
	case ClassStackOverflow, ClassStackSmash:
		// How deep it was, and so where it came from, is chance in the one case. In
		// the other it was overwritten.
		s.Frames = s.Frames[:min(len(s.Frames), 1)]
	}
	h := sha256.New()
	h.Write([]byte("v1\n" + s.Kind + "\n"))
	for _, f := range s.Frames {
		h.Write([]byte(f + "\n"))
	}
	s.ID = "v1:" + hex.EncodeToString(h.Sum(nil)[:8])
	return s
}

// classCounts tells whether the class belongs to the signature. What a bad
// pointer has in it is chance: the same bug reads through a null pointer today
// and out of freed memory tomorrow.
func classCounts(kind Kind) bool {
	switch kind {
	case KindOops, KindBug, KindWarning, KindSysrq:
		return false
	}
	return true
}

// significant keeps the names that say where it happened: those of the
// machinery of crashes are left out, and it ends where somebody else was
// interrupted.
func significant(frames []string, limit int) []string {
	kept := []string{}
	for _, f := range frames {
		name := plainName(f)
		switch {
		case name == "":
			continue
		case boundary(name):
			if len(kept) > 0 {
				return kept
			}
			continue
		case machinery(name), len(kept) > 0 && kept[len(kept)-1] == name:
			continue // recursion is one frame: how deep it was is chance
		}
		if kept = append(kept, name); len(kept) == limit {
			return kept
		}
	}
	return kept
}

// plainName is the name of the function as the source has it, with the module:
// without offset, without what compilers add to copies and parts, and without
// the architecture of a system call.
func plainName(text string) string {
	name, rest, _ := strings.Cut(strings.TrimSpace(text), "+")
	name, module, inModule := strings.Cut(name, " [")
	if !inModule {
		_, module, inModule = strings.Cut(rest, " [")
	}
	// GCC: f.isra.0, f.constprop.2, f.part.0, f.cold, f.lto_priv.1; LLVM:
	// f.llvm.1234, f.__uniq.1234.
	name, _, _ = strings.Cut(name, ".")
	for _, p := range []string{"__riscv_", "__arm64_", "__x64_", "__ia32_", "__do_", "__se_"} {
		if call, ok := strings.CutPrefix(name, p); ok && strings.HasPrefix(call, "sys_") {
			name = call
		}
	}
	if !identifier(name) {
		return ""
	}
	// Some logs have a build id behind the module's name.
	module, _, _ = strings.Cut(strings.TrimSuffix(module, "]"), " ")
	if inModule && identifier(module) {
		return name + " [" + module + "]"
	}
	return name
}

// identifier tells whether s can be a name in C.
func identifier(s string) bool {
	for _, c := range []byte(s) {
		if c != '_' && c != '$' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return s != ""
}

// boundary tells whether a function is where the kernel was entered: what is
// below it on the stack is another matter.
func boundary(name string) bool {
	return slices.Contains(boundaries, name)
}

// machinery tells whether a function is one through which every crash of some
// kind goes.
func machinery(name string) bool {
	if slices.Contains(machineries, name) {
		return true
	}
	for _, p := range machineryPrefixes {
		if strings.HasPrefix(name, p) {
			return true
		}
	}
	return false
}

// boundaries are the functions that interrupts, exceptions and system calls come
// in by.
var boundaries = strings.Fields(`
	handle_exception ret_from_exception do_trap_ecall_u do_irq handle_riscv_irq
	riscv_intc_irq riscv_intc_aia_irq call_on_irq_stack generic_handle_arch_irq
	do_page_fault handle_page_fault do_trap_break do_trap_insn_illegal do_trap_load_fault
	do_trap_store_fault do_trap_insn_fault do_trap_load_misaligned do_trap_store_misaligned
	do_trap_unknown do_trap_ecall_s do_trap_insn_misaligned handle_bad_stack handle_kernel_stack_overflow
	irqentry_enter irqentry_exit
	el0_svc el0_svc_common el0t_64_sync el0t_64_sync_handler el1h_64_irq el1h_64_irq_handler
	el1h_64_sync el1h_64_sync_handler el1_interrupt do_el0_svc invoke_syscall
	do_syscall_64 entry_SYSCALL_64_after_hwframe entry_SYSCALL_64 x64_sys_call
	asm_exc_page_fault exc_page_fault asm_exc_invalid_op exc_invalid_op asm_exc_general_protection
	exc_general_protection asm_exc_divide_error asm_common_interrupt common_interrupt
	asm_sysvec_apic_timer_interrupt sysvec_apic_timer_interrupt
	ret_from_fork ret_from_fork_asm ret_from_fork_kernel ret_from_fork_kernel_asm ret_from_kernel_thread
	secondary_start_sbi smp_callin _start _start_kernel
`)

// machineries are left out wherever they are: panicking, printing, what finds
// lockups and corruption, and the inner life of what is called everywhere.
var machineries = strings.Fields(`
	panic vpanic nmi_panic die die_kernel_fault make_task_dead oops_end no_context bad_area
	__die __die_body page_fault_oops kernelmode_fixup_or_oops __bad_area_nosemaphore bad_area_nosemaphore
	do_error_trap do_trap do_trap_error handle_break do_user_addr_fault do_mem_abort do_translation_fault
	die_addr crash_kexec __crash_kexec machine_kexec crash_save_cpu crash_setup_regs riscv_crash_save_regs
	machine_crash_shutdown crash_smp_send_stop
	dump_stack dump_stack_lvl show_stack dump_backtrace walk_stackframe show_regs __show_regs
	sched_show_task show_trace_log_lvl
	__warn report_bug __report_bug warn_slowpath_fmt warn_slowpath_null __warn_printk __warn_printf
	check_panic_on_warn BUG_func
	__list_add_valid __list_add_valid_or_report __list_del_entry_valid __list_del_entry_valid_or_report
	usercopy_abort __check_heap_object __check_object_size check_heap_object __fortify_panic __fortify_report
	fortify_panic refcount_warn_saturate __stack_chk_fail handle_cfi_failure
	kasan_report kasan_check_range print_report end_report kfence_report_error
	__asan_load1 __asan_load2 __asan_load4 __asan_load8 __asan_store1 __asan_store2 __asan_store4 __asan_store8
	memcpy memset memmove memcmp __memcpy __memset __memmove __pi_memcpy __pi_memset __pi_memmove memchr
	strlen strcmp strncmp strnlen strscpy strcpy __pi_strlen __pi_strcmp __pi_strncmp
	watchdog_timer_fn watchdog_hardlockup_check watchdog_buddy_check_hardlockup watchdog_overflow_callback
	check_hung_task check_hung_uninterruptible_tasks hung_task_info watchdog
	rcu_sched_clock_irq check_cpu_stall print_cpu_stall print_other_cpu_stall rcu_dump_cpu_stacks
	rcu_stall_kick_kthreads panic_on_rcu_stall rcu_check_gp_kthread_starvation
	update_process_times tick_sched_handle tick_nohz_handler tick_sched_timer hrtimer_interrupt
	__hrtimer_run_queues riscv_timer_interrupt handle_percpu_devid_irq generic_handle_domain_irq
	generic_handle_irq handle_irq_desc handle_irq_event_percpu __handle_irq_event_percpu handle_irq_event
	handle_IPI ipi_handler ipi_mux_process handle_backtrace nmi_cpu_backtrace nmi_trigger_cpumask_backtrace
	arch_trigger_cpumask_backtrace riscv_backtrace_ipi generic_smp_call_function_single_interrupt
	__flush_smp_call_function_queue flush_smp_call_function_queue smp_call_function_single
	irq_exit_rcu irq_exit irq_enter irq_enter_rcu handle_softirqs __do_softirq do_softirq do_softirq_own_stack
	schedule __schedule __schedule_loop context_switch __switch_to preempt_schedule preempt_schedule_common
	preempt_schedule_irq preempt_schedule_notrace __cond_resched schedule_timeout schedule_timeout_uninterruptible
	schedule_timeout_interruptible schedule_timeout_killable schedule_preempt_disabled schedule_hrtimeout
	schedule_hrtimeout_range schedule_hrtimeout_range_clock io_schedule io_schedule_timeout io_schedule_prepare
	wait_for_completion wait_for_completion_io wait_for_completion_killable wait_for_completion_timeout
	wait_for_common __wait_for_common do_wait_for_common __wait_on_bit __wait_on_bit_lock out_of_line_wait_on_bit
	out_of_line_wait_on_bit_lock bit_wait bit_wait_io
	mutex_lock __mutex_lock mutex_lock_nested __mutex_lock_slowpath __mutex_lock_common mutex_lock_io
	down_read down_write __down_read __down_write __down_read_common __down_write_common rwsem_down_read_slowpath
	rwsem_down_write_slowpath percpu_rwsem_wait __percpu_down_read percpu_down_write percpu_down_read
	down __down __down_common rt_mutex_slowlock rt_mutex_lock
	queued_spin_lock_slowpath native_queued_spin_lock_slowpath queued_read_lock_slowpath queued_write_lock_slowpath
	ticket_spin_lock cpu_relax
`)

// machineryPrefixes are the beginnings of families of such functions.
var machineryPrefixes = []string{"_raw_spin_", "_raw_read_", "_raw_write_", "__raw_spin_", "arch_spin_"}

// namesOf are the functions on a stack that can be trusted. A jump to where no
// code is has no function but that which jumped, as in the log.
func namesOf(s *stack.Stack) []string {
	if s == nil {
		return nil
	}
	var names []string
	for i, f := range s.Frames {
		if f.Interrupted && f.Function == "" && len(significant(names, 1)) == 0 {
			for _, f := range s.Frames[i+1:] {
				if f.Function != "" {
					return []string{nameOf(f)}
				}
			}
		}
		if f.Function != "" && f.Doubt == "" {
			names = append(names, nameOf(f))
		}
	}
	return names
}

// names are the functions of the log's backtrace. Where an exception has left
// none, they are the one at fault and the one that it would have gone back to.
func (in *incident) names() []string {
	if in.where == "" && in.fault.hasPC {
		return []string{in.fault.caller}
	}
	var names []string
	for i, f := range in.frames {
		// A call does not return to the beginning of a function: the kernel names
		// the one behind it. Where there are symbols this is mended before.
		if !strings.HasPrefix(f.Text, "? ") && (i == 0 || !atStart(f.Text)) {
			names = append(names, f.Text)
		}
	}
	if len(names) == 0 || in.class == ClassStackOverflow {
		names = append([]string{in.where, in.fault.caller}, names...)
	}
	return names
}

func nameOf(f stack.Frame) string {
	if f.Module != "" {
		return f.Function + " [" + f.Module + "]"
	}
	return f.Function
}
