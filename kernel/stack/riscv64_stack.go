package stack

import (
	"encoding/binary"
	"fmt"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// riscv64 is how riscv64 kernels use stacks: arch/riscv/kernel/stacktrace.c,
// entry.S and include/asm/{ptrace,thread_info}.h (Linux 6.1, 6.12 and 7.2).
// They are built with frame pointers, always.
func riscv64() *arch {
	return &arch{
		machine:  vmcore.MachineRISCV,
		callerFP: 16, callerPC: 8, leafFP: 8,
		registers: []string{
			"epc", "ra", "sp", "gp", "tp", "t0", "t1", "t2", "s0", "s1",
			"a0", "a1", "a2", "a3", "a4", "a5", "a6", "a7",
			"s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11",
			"t3", "t4", "t5", "t6",
		},
		pc: "epc", ra: "ra", sp: "sp", fp: "s0",
		status: "status", cause: "cause", badAddr: "badaddr",
		current:   "tp",
		regsAlign: 16,

		entry: "handle_exception",
		// The label at the end exists since 6.4; before, forks follow.
		entryEnd: []string{"ret_from_exception_end", "ret_from_fork"},
		first: []string{
			"ret_from_fork",                                      // until 6.15
			"ret_from_kernel_thread",                             // until 6.3
			"ret_from_fork_kernel_asm", "ret_from_fork_user_asm", // since 6.16
			"_start_kernel", "secondary_start_sbi", // idle tasks
		},
		irqStack: "irq_stack_ptr", overflowStack: "overflow_stack", overflowSize: 4096,
		graphReturn: "return_to_handler",
		probeReturn: []string{"arch_rethook_trampoline", "__kretprobe_trampoline"}, // since 6.3, and before

		call: riscv64Call, callBytes: 8,
		framed:     riscv64Framed,
		explain:    riscv64Cause,
		user:       func(status uint64) bool { return status>>8&1 == 0 }, // SPP
		threadSize: 16 << 10,
	}
}

// Encodings: RISC-V unprivileged specification, chapters 2 (jal, jalr, auipc,
// addi) and 27 (compressed instructions), 20240411.
const (
	opJAL, opJALR, opAUIPC, opImm = 0x6f, 0x67, 0x17, 0x13

	regRA, regSP, regFP = 1, 2, 8
)

// riscv64Call decodes a call at the end of code: jal and jalr that leave the
// return address in ra, the latter with an auipc before it when the target is
// known, or its short form.
func riscv64Call(code []byte, ra kernel.VirtAddr) call {
	n := len(code)
	var x uint32
	if n >= 4 {
		x = binary.LittleEndian.Uint32(code[n-4:])
	}
	linked := n >= 4 && x>>7&31 == regRA
	if linked && x&0x7f == opJAL {
		return call{true, ra - 4 + kernel.VirtAddr(riscv64JumpOffset(x))}
	}
	jalr := linked && x&0x707f == opJALR
	if jalr && n >= 8 {
		if hi := binary.LittleEndian.Uint32(code[n-8:]); hi&0x7f == opAUIPC && hi>>7&31 == x>>15&31 {
			off := int64(int32(hi&^0xfff)) + int64(int32(x)>>20)
			return call{true, ra - 8 + kernel.VirtAddr(off)}
		}
	}
	if jalr {
		return call{ok: true}
	}
	if n >= 2 {
		// c.jalr: 1001, a register that is not zero, 00000, 10.
		short := binary.LittleEndian.Uint16(code[n-2:])
		return call{ok: short&0xf07f == 0x9002 && short&0x0f80 != 0}
	}
	return call{}
}

// riscv64JumpOffset is the offset in a jal.
func riscv64JumpOffset(x uint32) int64 {
	off := x>>21&0x3ff<<1 | x>>20&1<<11 | x>>12&0xff<<12 | x>>31<<20
	return int64(int32(off<<11) >> 11)
}

// riscv64Framed looks for "addi s0, sp, n", with which functions set up their
// frame pointer, in either length.
func riscv64Framed(code []byte) bool {
	for len(code) >= 2 {
		short := binary.LittleEndian.Uint16(code)
		if short&3 != 3 {
			// c.addi4spn: 000, an offset that is not zero, s0 as 000, 00.
			if short&0xe01f == 0 && short&0x1fe0 != 0 {
				return true
			}
			code = code[2:]
			continue
		}
		if len(code) < 4 {
			break
		}
		if x := binary.LittleEndian.Uint32(code); x&0xfffff == regSP<<15|regFP<<7|opImm {
			return true
		}
		code = code[4:]
	}
	return false
}

// riscv64Cause is scause in words: RISC-V privileged specification, section
// 12.1.8, and for hypervisors 18.2, of 20240411.
func riscv64Cause(code uint64) (words string, badAddr bool) {
	if code == ^uint64(0) {
		return "", false // the kernel's sign for a system call that is done
	}
	const interrupt = 1 << 63
	if code&interrupt != 0 {
		switch n := code &^ interrupt; n {
		case 1:
			return "supervisor software interrupt", false
		case 5:
			return "supervisor timer interrupt", false
		case 9:
			return "supervisor external interrupt", false
		case 12:
			return "guest external interrupt", false
		case 13:
			return "counter overflow interrupt", false
		default:
			return fmt.Sprintf("interrupt %d", n), false
		}
	}
	switch code {
	case 0:
		return "instruction address misaligned", true
	case 1:
		return "instruction access fault", true
	case 2:
		return "illegal instruction", false
	case 3:
		return "breakpoint", false
	case 4:
		return "load address misaligned", true
	case 5:
		return "load access fault", true
	case 6:
		return "store address misaligned", true
	case 7:
		return "store access fault", true
	case 8:
		return "system call", false
	case 9:
		return "call from supervisor mode", false
	case 12:
		return "instruction page fault", true
	case 13:
		return "load page fault", true
	case 15:
		return "store page fault", true
	case 18:
		return "software check", false
	case 19:
		return "hardware error", false
	case 20:
		return "instruction guest page fault", true
	case 21:
		return "load guest page fault", true
	case 22:
		return "virtual instruction", false
	case 23:
		return "store guest page fault", true
	}
	return fmt.Sprintf("exception %d", code), false
}
