package kernel

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

// CPU is a processor at the moment of the crash, as its crash note has it.
type CPU struct {
	// Number is the CPU's number, or -1 when the dump does not tell: notes are
	// not numbered, and those of CPUs that were off are missing.
	Number int
	PID    uint32 // of the task that ran on it; 0 is the idle task
	// Registers are in the architecture's order ([Arch.Registers]).
	Registers []Register
	// PC, SP, FP and RA are four of them: where it was, its stack, its frame
	// and where it would have returned to (0 if the architecture has none).
	PC, SP, FP, RA VirtAddr
}

// Register is a register of a CPU.
type Register struct {
	Name  string
	Value uint64
}

// registerJSON is a Register in JSON: the value in hexadecimal with 0x, since JSON's
// readers round large numbers.
type registerJSON struct {
	Name  string   `json:"name"`
	Value VirtAddr `json:"value"`
}

// MarshalJSON writes the value in hexadecimal.
func (r Register) MarshalJSON() ([]byte, error) {
	return json.Marshal(registerJSON{r.Name, VirtAddr(r.Value)})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (r *Register) UnmarshalJSON(b []byte) error {
	var j registerJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	*r = Register{j.Name, uint64(j.Value)}
	return nil
}

// Struct elf_prstatus of 64-bit kernels, include/linux/elfcore.h (Linux 7.2).
const (
	notePrstatus = 1 // NT_PRSTATUS
	prstatusPID  = 32
	prstatusRegs = 112
)

// maxCPUs bounds what per-CPU data is searched: NR_CPUS is at most 8192.
const maxCPUs = 8192

// CPUs are the registers of all CPUs that left a crash note, in the order of
// the notes. The error is ErrNotFound when there is no note at all, and
// ErrCorrupt together with what could be read when one is too short.
func (k *Kernel) CPUs() ([]CPU, error) {
	var (
		cpus  []CPU
		descs [][]byte
		short error
	)
	a := k.arch
	for _, n := range k.notes {
		if n.Name != "CORE" || n.Type != notePrstatus {
			continue
		}
		if len(cpus) == maxCPUs {
			short = fmt.Errorf("more than %d crash notes: %w", maxCPUs, ErrCorrupt)
			break
		}
		if want := prstatusRegs + 8*len(a.Registers); len(n.Desc) < want {
			short = fmt.Errorf("crash note of %d bytes, at least %d expected: %w", len(n.Desc), want, ErrCorrupt)
			continue
		}
		c := CPU{Number: -1, PID: binary.LittleEndian.Uint32(n.Desc[prstatusPID:])}
		for i, name := range a.Registers {
			v := binary.LittleEndian.Uint64(n.Desc[prstatusRegs+8*i:])
			c.Registers = append(c.Registers, Register{name, v})
			switch name {
			case a.PC:
				c.PC = VirtAddr(v)
			case a.SP:
				c.SP = VirtAddr(v)
			case a.FP:
				c.FP = VirtAddr(v)
			case a.RA:
				c.RA = VirtAddr(v)
			}
		}
		cpus = append(cpus, c)
		descs = append(descs, n.Desc)
	}
	if len(cpus) == 0 && short == nil {
		return nil, fmt.Errorf("crash notes of CPUs: %w", ErrNotFound)
	}
	k.numberCPUs(cpus, descs)
	return cpus, short
}

// numberCPUs finds out which CPU left which note by comparing the notes with
// the per-CPU buffers that they were copied from (crash_notes,
// kernel/crash_core.c in Linux 7.2). Without symbols the numbers stay unknown.
func (k *Kernel) numberCPUs(cpus []CPU, descs [][]byte) {
	syms, _ := k.Lookup("crash_notes", "__per_cpu_offset", "nr_cpu_ids")
	notes, ok := syms["crash_notes"]
	offsets, ok2 := syms["__per_cpu_offset"]
	if !ok || !ok2 {
		return
	}
	buffers, err := k.ReadPointer(notes)
	if err != nil {
		return
	}
	count := uint32(maxCPUs)
	if addr, ok := syms["nr_cpu_ids"]; ok {
		if n, err := k.ReadUint32(addr); err == nil {
			count = min(n, maxCPUs)
		}
	}
	index := make(map[string]int, len(descs))
	size := 0
	for i, d := range descs {
		index[string(d)] = i
		size = max(size, len(d))
	}
	// A buffer begins with a note like any: three sizes, "CORE" padded to 8.
	const header = 12 + 8
	buf := make([]byte, header+size)
	for cpu := range count {
		off, err := k.ReadUint64(offsets + VirtAddr(8*cpu))
		if err != nil {
			return
		}
		if err := k.ReadVirt(buf[:header], buffers+VirtAddr(off)); err != nil {
			continue
		}
		n := int(binary.LittleEndian.Uint32(buf[4:])) // n_descsz
		if n == 0 || n > size || k.ReadVirt(buf[header:header+n], buffers+VirtAddr(off+header)) != nil {
			continue
		}
		if i, ok := index[string(buf[header:header+n])]; ok && cpus[i].Number < 0 {
			// CPUs that cannot exist share the offset 0 and come to nothing new.
			cpus[i].Number = int(cpu)
		}
	}
}

// PanicCPU is the number of the CPU that panicked: panic_cpu, kernel/panic.c
// (Linux 4.5 to 7.2). The error is ErrNotFound when none did.
func (k *Kernel) PanicCPU() (int, error) {
	syms, err := k.Lookup("panic_cpu")
	addr, ok := syms["panic_cpu"]
	if !ok {
		if err == nil {
			err = fmt.Errorf("symbol panic_cpu: %w", ErrNotFound)
		}
		return -1, err
	}
	n, err := k.ReadUint32(addr)
	if err != nil {
		return -1, fmt.Errorf("panic_cpu: %w", err)
	}
	if n >= maxCPUs {
		return -1, fmt.Errorf("panic_cpu is %d: %w", int32(n), ErrNotFound)
	}
	return int(n), nil
}

// Notes are the notes that k was opened with.
func (k *Kernel) Notes() []vmcore.Note { return k.notes }
