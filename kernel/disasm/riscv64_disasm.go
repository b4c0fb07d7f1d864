package disasm

import (
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/arch/riscv64/riscv64asm"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// riscv64 is the instructions of RISC-V: 2 bytes, or 4 when the lowest two bits
// are set (unprivileged specification, section 1.5, 20240411).
func riscv64() *arch {
	return &arch{
		align: 2,
		length: func(code []byte) int {
			if code[0]&3 == 3 {
				return 4
			}
			return 2
		},
		text: riscv64Text,
	}
}

// riscv64Registers are the names of registers in the calling convention.
var riscv64Registers = strings.Fields(`
	zero ra sp gp tp t0 t1 t2 s0 s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11 t3 t4 t5 t6
	ft0 ft1 ft2 ft3 ft4 ft5 ft6 ft7 fs0 fs1 fa0 fa1 fa2 fa3 fa4 fa5 fa6 fa7 fs2 fs3 fs4 fs5 fs6 fs7 fs8 fs9 fs10 fs11 ft8 ft9 ft10 ft11`)

// riscv64Lock: the decoder notes in a table of its own what it has met.
var riscv64Lock sync.Mutex

// decode is the decoder, which must not be believed to stand every sequence of
// bits.
func decode(code []byte) (inst riscv64asm.Inst, text string, ok bool) {
	riscv64Lock.Lock()
	defer riscv64Lock.Unlock()
	defer func() {
		if recover() != nil {
			inst, text, ok = riscv64asm.Inst{}, "", false
		}
	}()
	inst, err := riscv64asm.Decode(code)
	if err != nil || inst.Len != len(code) {
		return inst, "", false
	}
	if imm, ok := inst.Args[1].(riscv64asm.Uimm); ok && inst.Op == riscv64asm.LUI {
		imm.Imm &= 1<<20 - 1 // the short form comes with its sign in front
		inst.Args[1] = imm
	}
	text = riscv64asm.GNUSyntax(inst)
	if operands, linked := strings.CutPrefix(text, "jalr x1,"); linked {
		text = "jalr " + operands
	}
	return inst, text, true
}

// privileged is the text of those instructions of supervisors and machines that
// programs do not have, and the decoder neither: RISC-V privileged specification,
// sections 3.3 and 12.2 (20240411). "" if it is none.
func privileged(code []byte) string {
	if len(code) != 4 {
		return ""
	}
	x := binary.LittleEndian.Uint32(code)
	switch x {
	case 0x10200073:
		return "sret"
	case 0x30200073:
		return "mret"
	case 0x10500073:
		return "wfi"
	case 0x18000073:
		return "sfence.w.inval"
	case 0x18100073:
		return "sfence.inval.ir"
	}
	op := map[uint32]string{0x12000073: "sfence.vma", 0x16000073: "sinval.vma"}[x&0xfe007fff]
	rs1, rs2 := x>>15&31, x>>20&31
	switch {
	case op == "":
		return ""
	case rs1 == 0 && rs2 == 0:
		return op
	case rs2 == 0:
		return op + " " + riscv64Registers[rs1]
	}
	return op + " " + riscv64Registers[rs1] + "," + riscv64Registers[rs2]
}

func riscv64Text(code, before []byte, addr kernel.VirtAddr, name func(kernel.VirtAddr) string) string {
	inst, text, ok := decode(code)
	if !ok {
		return privileged(code)
	}
	text = named(text)
	// A jump has the distance as its last operand.
	if d, ok := distance(inst); ok {
		to := addr + kernel.VirtAddr(d)
		cut := strings.LastIndexAny(text, ", ") + 1
		text = text[:cut] + to.String()
		if n := name(to); n != "" {
			text += " <" + n + ">"
		}
		return text
	}
	if len(before) == 0 {
		return text
	}
	// The upper part of an address may come before.
	up, _, ok := decode(before)
	if !ok || up.Op != riscv64asm.AUIPC {
		return text
	}
	base, low, ok := reach(inst)
	if upper, isReg := up.Args[0].(riscv64asm.Reg); !ok || !isReg || upper != base {
		return text
	}
	high, isImm := up.Args[1].(riscv64asm.Uimm)
	if !isImm {
		return text
	}
	to := addr - kernel.VirtAddr(len(before)) + kernel.VirtAddr(int64(int32(high.Imm<<12))+low)
	if n := name(to); n != "" {
		return fmt.Sprintf("%s <%s>", text, n)
	}
	return fmt.Sprintf("%s <%v>", text, to)
}

// distance is how far a jump or branch goes from where it is.
func distance(inst riscv64asm.Inst) (int64, bool) {
	n := -1
	switch inst.Op {
	case riscv64asm.JAL:
		n = 1
	case riscv64asm.BEQ, riscv64asm.BNE, riscv64asm.BLT, riscv64asm.BGE, riscv64asm.BLTU, riscv64asm.BGEU:
		n = 2
	default:
		return 0, false
	}
	imm, ok := inst.Args[n].(riscv64asm.Simm)
	return int64(imm.Imm), ok
}

// reach is the register and the distance of a load, store, jump or addition.
func reach(inst riscv64asm.Inst) (base riscv64asm.Reg, low int64, ok bool) {
	for _, a := range inst.Args {
		if m, isMem := a.(riscv64asm.RegOffset); isMem {
			return m.OfsReg, int64(m.Ofs.Imm), true
		}
	}
	if inst.Op != riscv64asm.ADDI {
		return 0, 0, false
	}
	base, ok1 := inst.Args[1].(riscv64asm.Reg)
	imm, ok2 := inst.Args[2].(riscv64asm.Simm)
	return base, int64(imm.Imm), ok1 && ok2
}

// named replaces the numbers of registers, x10 or f8, by their names.
func named(text string) string {
	var b strings.Builder
	word := func(c byte) bool {
		return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c == '.'
	}
	for i := 0; i < len(text); {
		end := i
		for end < len(text) && word(text[end]) {
			end++
		}
		if end == i {
			b.WriteByte(text[i])
			i++
			continue
		}
		w := text[i:end]
		if n, err := strconv.Atoi(w[1:]); err == nil && n >= 0 && n < 32 && (w[0] == 'x' || w[0] == 'f') {
			if w[0] == 'f' {
				n += 32
			}
			w = riscv64Registers[n]
		}
		b.WriteString(w)
		i = end
	}
	return b.String()
}
