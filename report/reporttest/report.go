// Package reporttest makes a report with everything in it, for tests of how reports
// look.
package reporttest

import (
	"fmt"
	"strings"
	"time"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/block"
	"github.com/panicroom-kdump/panicroom/kernel/disasm"
	"github.com/panicroom-kdump/panicroom/kernel/fs"
	"github.com/panicroom-kdump/panicroom/kernel/lock"
	"github.com/panicroom-kdump/panicroom/kernel/mm"
	"github.com/panicroom-kdump/panicroom/kernel/net"
	"github.com/panicroom-kdump/panicroom/kernel/sched"
	"github.com/panicroom-kdump/panicroom/kernel/stack"
	"github.com/panicroom-kdump/panicroom/report"
)

// Hostile is what a dead kernel's memory may hold where a name should be.
const Hostile = "<script>bad()</script>\x1b[31m\x00\"'&\u202e]]>"

// Full is a report with everything in it, of a machine with so many tasks and CPUs (at
// least 6), and so many records of its log (at least 40). Among its strings are some
// that want to break out of whatever they are put in.
func Full(tasks, lines, cpus int) *report.Report {
	uid := int64(1000)
	at := time.Date(2026, 11, 25, 20, 59, 15, 0, time.UTC)
	frame := func(pc uint64, name string, module string) stack.Frame {
		return stack.Frame{PC: kernel.VirtAddr(0xffffffff80000000 + pc), FP: kernel.VirtAddr(0xff20000000343000 + pc&0xff0),
			Function: name, Offset: pc & 0xfe, Size: 0x1a4, Module: module}
	}
	var regs []kernel.Register
	for i, name := range []string{"epc", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1", "a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7",
		"s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11", "t3", "t4", "t5", "t6"} {
		regs = append(regs, kernel.Register{Name: name, Value: 0xff20000000343a20 + uint64(i)*0x111})
	}
	interrupted := frame(0x2345678, "disk_read", "gadget")
	interrupted.Interrupted = true
	interrupted.Regs = &stack.Regs{Addr: 0xff20000000343b00, Registers: regs, Cause: "load page fault", Code: 13, BadAddr: 0x18}
	doubtful := frame(0x114422, "vfs_read", "")
	doubtful.Doubt = "the frame lies below the one before it"
	tail := frame(0x114522, "ksys_read", "")
	tail.Tail = "__riscv_sys_read"
	user := stack.Frame{PC: 0x7fff95d7c0, Interrupted: true, Regs: &stack.Regs{Cause: "environment call from U-mode", Code: 8, User: true, Registers: regs}}
	crashed := &stack.Stack{Frames: []stack.Frame{
		frame(0xe470, "riscv_crash_save_regs", ""), frame(0x1006c6, "__crash_kexec", ""), frame(0x100700, "crash_kexec", ""),
		frame(0x6a10, "die", ""), frame(0xc244, "die_kernel_fault", ""), frame(0xc4aa, "no_context", ""), frame(0xc8e2, "handle_page_fault", ""),
		frame(0xa76722, "do_page_fault", ""), frame(0xa76776, "handle_exception", ""),
		interrupted, doubtful, tail, frame(0x114622, "walk", ""), frame(0x114622, "walk", ""), frame(0x114622, "walk", ""),
		frame(0xa69d60, "do_trap_ecall_u", ""), frame(0xa76776, "handle_exception", ""), user,
	}}
	sleeping := func(names ...string) stack.Stack {
		var s stack.Stack
		for i, n := range names {
			s.Frames = append(s.Frames, frame(uint64(0xa70000+i*0x10a2), n, ""))
		}
		return s
	}
	text := func(f stack.Frame) string {
		s := fmt.Sprintf("%s+%#x/%#x", f.Function, f.Offset, f.Size)
		if f.Module != "" {
			s += " [" + f.Module + "]"
		}
		return s
	}
	ref := func(pid int, comm string) sched.Ref {
		return sched.Ref{Addr: kernel.VirtAddr(0xff60000002000000 + uint64(pid)*0x1a00), PID: int32(pid), Comm: comm}
	}

	r := &report.Report{
		Warnings: []string{"the panic room's /init is not as it was loaded " + Hostile},
		Kernel: report.Kernel{Release: "6.12.117+deb13-riscv64", Version: "#1 SMP Debian 6.12.117-1 (2026-11-12)", BuildID: "0123456789abcdef0123456789abcdef01234567",
			Arch: "riscv64", Paging: "sv57", Taint: "Tainted: G W OE", Command: "root=/dev/vda1 ro console=ttyS0,115200 crashkernel=192M quiet " + Hostile},
		Machine: report.Machine{Hardware: "riscv-virtio,qemu (DT)", Hostname: "board7", CPUs: cpus},
		Crash: report.Crash{Kind: report.KindOops, Reason: "Fatal exception", Cause: "Unable to handle kernel NULL pointer dereference at virtual address 0000000000000018",
			Time: &at, Uptime: 305.123456, Task: &report.Task{Comm: "dd" + Hostile, PID: 4711, UID: &uid, CPU: 1}, Where: "disk_read+0x78/0x1a4 [gadget]",
			Why: report.Why{Class: report.ClassNull, Detail: "read through a null pointer, at offset 0x18", Source: "drivers/gadget.c:77", InInterrupt: true,
				Stuck: &report.Task{Comm: Hostile, PID: 9, CPU: 3}, Waited: 21.5}},
		Signature: &report.Signature{ID: "v1:4f1d22ab90c3e771", Kind: "oops", Frames: []string{"disk_read", "vfs_read", "ksys_read", "do_trap_ecall_u"}},
		Fault:     &report.Fault{PC: interrupted.PC, Address: 0x18, Meaning: "read through a null pointer, at offset 0x18"},
		Load:      &sched.Load{Uptime: 305123456789, Averages: [3]float64{3.5, 1.25, 0.5}, Tasks: tasks, States: map[string]int{"R": 3, "D": 34, "S": tasks - 40, "I": 3}},
		Missing:   []string{"names of functions: kallsyms: page left out of the dump", "slab caches: " + Hostile},
	}
	for _, t := range kernel.Taints(1<<7 | 1<<9 | 1<<12 | 1<<13 | 1<<40) {
		r.Kernel.Taints = append(r.Kernel.Taints, report.Taint{Letter: string(t.Letter), Meaning: t.Meaning})
	}
	for i, bytes := range []string{"411106e4", "22e0", "0008", "aa84", "8c610cc1", "83a78601", "1307f5ff", "639ce700", "8280"} {
		words := []string{"addi sp,sp,-16", "sd s0,0(sp)", "addi s0,sp,16", "mv s1,a0", "ld a1,0(a1)", "lw a5,24(a1)", "addi a4,a0,-1", "bne a4,a4,0xffffffff02345698", "ret"}[i]
		r.Fault.Code = append(r.Fault.Code, disasm.Instruction{Addr: interrupted.PC + kernel.VirtAddr(4*(i-5)), Bytes: bytes, Text: words, Fault: i == 5})
	}
	for _, f := range crashed.Frames[9:17] {
		r.Crash.Backtrace = append(r.Crash.Backtrace, report.Frame{Address: f.PC.String(), Text: text(f)})
	}

	// CPUs: one that crashed, two that copied, one in an interrupt, the others idle.
	for i := range cpus {
		c := report.CPU{Number: i, PC: report.Frame{Address: "0xffffffff80a74f36", Text: "default_idle_call+0x36/0xd4"}, Registers: []report.Register{{Name: "pc", Value: "0xffffffff80a74f36"}, {Name: "ra", Value: "0xffffffff80a74f2e"}},
			Stack: &stack.Stack{Frames: []stack.Frame{frame(0xa74f36, "default_idle_call", ""), frame(0x90000, "do_idle", ""), frame(0x90100, "cpu_startup_entry", "")}}}
		switch i {
		case 1:
			c.Crashed, c.PID, c.Comm, c.Stack = true, 4711, "dd"+Hostile, crashed
			c.PC, c.RA = report.Frame{Address: interrupted.PC.String(), Text: text(interrupted)}, &report.Frame{Address: "0xffffffff80114422", Text: "vfs_read+0xaa/0x1a4"}
			for _, reg := range regs {
				c.Registers = append(c.Registers, report.Register{Name: reg.Name, Value: fmt.Sprintf("%#x", reg.Value)})
			}
		case 2, 3:
			s := sleeping("copy_page", "wp_page_copy", "do_wp_page", "handle_mm_fault", "handle_page_fault", "do_page_fault", "handle_exception")
			c.PID, c.Comm, c.Stack, c.PC = uint32(100+i), "stress-ng", &s, report.Frame{Address: "0xffffffff80a70000", Text: "copy_page+0x0/0x1a4"}
		case 5:
			s := sleeping("net_rx_action", "handle_softirqs", "irq_exit_rcu", "handle_exception", "default_idle_call", "do_idle")
			s.Frames[4].Interrupted, s.Frames[4].Regs = true, &stack.Regs{Cause: "supervisor external interrupt", Code: 9}
			s.Broken = "address of the next frame, 0x10, is on no stack"
			c.Stack, c.PC = &s, report.Frame{Address: "0xffffffff80a70000", Text: "net_rx_action+0x0/0x1a4"}
		}
		if c.Crashed {
			r.CPUs = append([]report.CPU{c}, r.CPUs...)
		} else {
			r.CPUs = append(r.CPUs, c)
		}
		q := sched.RunQueue{CPU: i, Current: ref(int(c.PID), c.Comm), Clock: 305123456789, Running: 1}
		if i == 2 {
			q.Waiting = []sched.Ref{ref(17, "migration/2"), ref(210, "kworker/2:1"), ref(211, Hostile)}
			q.Waiting[0].Class, q.Waiting[1].Class = "rt", "fair"
			q.Running = 4
		}
		r.RunQueues = append(r.RunQueues, q)
	}

	for i := range tasks {
		t := sched.Task{Addr: kernel.VirtAddr(0xff60000002000000 + uint64(i)*0x1a00), PID: int32(i + 1), TGID: int32(i + 1), PPID: 1, UID: uint32(i % 7 * 1000),
			Comm: fmt.Sprintf("worker/%d", i), State: "S", CPU: i % cpus, Prio: 120, UserTime: uint64(i) * 12345678, SystemTime: uint64(i%90) * 9345678,
			Started: uint64(i) * 1e8, LastRan: uint64(300e9 + i*1e6), Idle: uint64(5e9), Stack: kernel.VirtAddr(0xff20000000000000 + uint64(i)*0x8000)}
		switch {
		case i < 60:
			t.Kernel, t.PPID, t.UID = true, 2, 0
			t.Comm = fmt.Sprintf("kworker/%d:0", i)
			t.State = "I"
		default:
			t.RSS, t.Size, t.MM = uint64(i%211)*733<<10, uint64(i%211)*3111<<10, t.Addr+0x100
		}
		switch i {
		case 0:
			t.Comm, t.PPID, t.Kernel, t.State, t.RSS, t.Size = "systemd", 0, false, "S", 11<<20, 160<<20
		case 77:
			t.Comm = Hostile
		case 102, 103:
			t.Comm, t.State, t.OnCPU = "stress-ng", "R", true
		case 4710:
			t.Comm, t.State, t.OnCPU = "dd", "R", true
		}
		if i >= 300 && i < 334 {
			t.State = "D"
		}
		r.Tasks = append(r.Tasks, t)
	}
	locked := report.Group{Longest: 185e9, Stack: sleeping("__schedule", "schedule", "schedule_preempt_disabled", "__mutex_lock.constprop.0", "__mutex_lock_slowpath", "mutex_lock", "do_unlinkat", "__riscv_sys_unlinkat", "do_trap_ecall_u", "handle_exception")}
	for i := range 31 {
		locked.Tasks = append(locked.Tasks, ref(301+i, "rm"))
	}
	r.Blocked = []report.Group{locked,
		{Tasks: []sched.Ref{ref(332, "jbd2/vda1-8"), ref(333, Hostile)}, Longest: 121e9, Stack: sleeping("__schedule", "schedule", "io_schedule", "bit_wait_io", "__wait_on_bit", "out_of_line_wait_on_bit", "__wait_on_buffer", "jbd2_journal_commit_transaction", "kjournald2", "kthread", "ret_from_fork")},
		{Tasks: []sched.Ref{ref(334, "sync")}, Longest: 3e9, Stack: sleeping("__schedule", "schedule", "io_schedule", "folio_wait_bit_common", "folio_wait_writeback", "__filemap_fdatawait_range")},
	}
	holder := ref(332, "jbd2/vda1-8")
	r.Locks = []lock.Lock{
		{Addr: 0xff60000003a1c0d8, Kind: "mutex", Owner: &holder, Waiters: locked.Tasks},
		{Addr: 0xffffffff81db0000, Kind: "rwsem", Name: "cgroup_threadgroup_rwsem", Readers: 2, Waiters: []sched.Ref{ref(12, Hostile)}},
	}
	r.Chains = []lock.Chain{
		{Tasks: []sched.Ref{ref(301, "rm"), holder}, Locks: []kernel.VirtAddr{0xff60000003a1c0d8}},
		{Tasks: []sched.Ref{ref(12, Hostile), ref(13, "b"), ref(12, Hostile)}, Locks: []kernel.VirtAddr{0xffffffff81db0000, 0xff60000003a1c0d8}, Deadlock: true},
	}

	const gib = 1 << 30
	r.Memory = &mm.Summary{Total: 16 * gib, Free: gib, Available: 2 * gib, Buffers: 64 << 20, Cached: 3 * gib, Anon: 8 * gib, Mapped: gib, Shmem: gib / 2,
		Dirty: 300 << 20, Writeback: 12 << 20, SlabReclaimable: gib, SlabUnreclaimable: 700 << 20, KernelStacks: 40 << 20, PageTables: 60 << 20, Vmalloc: 90 << 20,
		PerCPU: 12 << 20, SwapTotal: 2 * gib, SwapFree: gib, Committed: 11 * gib, CommitLimit: 10 * gib, AnonHuge: 2 * gib, Other: 1100 << 20,
		Huge:    []mm.HugePages{{Size: 2 << 20, Total: 512, Free: 500}},
		Zones:   []mm.Zone{{Name: "DMA32", Present: 2 * gib, Managed: 2*gib - 99<<20, Free: 5 << 20, Min: 12 << 20, Low: 15 << 20, High: 18 << 20, Orders: []uint64{100, 50, 20, 5, 1, 0, 0, 0, 0, 0, 0}}, {Name: "Normal", Present: 14 * gib, Managed: 14*gib - 99<<20, Free: gib - 5<<20, Min: 50 << 20, Low: 60 << 20, High: 70 << 20, Orders: []uint64{9, 8, 7, 6, 5, 4, 3, 2, 1, 1, 200}}},
		Missing: []string{"huge pages of 1 GiB: " + Hostile},
	}
	for i, name := range []string{"ext4_inode_cache", "dentry", "buffer_head", "kmalloc-1k", "radix_tree_node", "inode_cache", "kmalloc-512", "filp", "vm_area_struct", "task_struct", "anon_vma", Hostile} {
		r.Slabs = append(r.Slabs, mm.Cache{Name: name, Addr: kernel.VirtAddr(0xff60000001000000 + uint64(i)*0x100), Object: uint64(1184 - 90*i), Objects: uint64(500000 - 40000*i), Slabs: uint64(9000 - 700*i), Bytes: uint64(560-45*i) << 20})
	}
	r.Disks = []block.Disk{
		{Addr: 0xff60000001500000, Name: "vda", Bytes: 40 * gib, InFlight: []block.Request{{Addr: 0xff60000001600000, Op: "write", Sector: 83886080, Bytes: 512 << 10, Age: 121e9}, {Addr: 0xff60000001600400, Op: "flush", Age: 119e9}, {Addr: 0xff60000001600800, Op: Hostile, Sector: 8, Bytes: 4096}}},
		{Addr: 0xff60000001510000, Name: "vdb", Bytes: 4 * gib, Queued: []block.Request{{Addr: 0xff60000001600c00, Op: "read", Sector: 4096, Bytes: 64 << 10, Age: 2e9}}},
	}
	r.Mounts = []fs.Mount{
		{Addr: 0xff60000001700000, Device: "/dev/vda1", Point: "/", Type: "ext4", Flags: []string{"rw", "relatime"}},
		{Addr: 0xff60000001700200, Device: "proc", Point: "/proc", Type: "proc", Flags: []string{"rw", "nosuid", "nodev", "noexec"}},
		{Addr: 0xff60000001700400, Device: "server:/export", Point: "/mnt/" + Hostile, Type: "nfs4", Flags: []string{"ro"}},
	}
	r.Net = []net.Interface{
		{Addr: 0xff60000001800000, Name: "lo", Index: 1, MTU: 65536, Flags: []string{"up", "loopback"}, Addresses: []string{"127.0.0.1/8", "::1/128"}},
		{Addr: 0xff60000001810000, Name: "eth0", Index: 2, MTU: 1500, MAC: "52:54:00:12:34:56", Flags: []string{"up", "broadcast", "running"}, Addresses: []string{"10.0.2.15/24", "fe80::5054:ff:fe12:3456/64"}},
	}
	r.Modules = []report.Module{
		{Name: "gadget", Addr: 0xffffffff02346000, Base: 0xffffffff02345000, Size: 16384, State: "live", Taints: "OE"},
		{Name: "nfsv4", Addr: 0xffffffff02446000, Base: 0xffffffff02445000, Size: 1 << 20, State: "live"},
		{Name: Hostile, Size: 4096, State: "coming"},
		{Name: "ext4", Addr: 0xffffffff02546000, Base: 0xffffffff02545000, Size: 1 << 20, State: "live"},
	}
	r.Log.Records = lines + 17
	for i := range lines {
		level := []uint8{6, 6, 6, 5, 6, 4, 7, 3}[i*i%8]
		words := fmt.Sprintf("virtio_blk virtio%d: request %d of queue %d", i%4, i, i%3)
		switch {
		case i%401 == 400:
			words = Hostile
		case i == lines-30:
			words, level = "Unable to handle kernel NULL pointer dereference at virtual address 0000000000000018", 1
		case i > lines-30 && i < lines-3:
			words, level = fmt.Sprintf("[<%x>] %s", uint64(crashed.Frames[i%17].PC), text(crashed.Frames[i%17])), 0
		case i == lines-3:
			words, level = "Kernel panic - not syncing: Fatal exception", 0
		case i == 3:
			words = "Kernel command line: " + strings.Repeat("module.parameter=value ", 30) + "\nsecond line"
		}
		rec := kernel.LogRecord{Seq: uint64(i), Time: time.Duration(i) * 61 * time.Millisecond, Level: level, Text: words, Caller: kernel.Caller{Kind: 'T', ID: uint32(i % 300)}}
		r.Log.Tail = append(r.Log.Tail, rec.Line())
		r.Log.Levels += fmt.Sprint(rec.Level)
	}
	return r
}
