package kernel

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

// prstatus is the content of a crash note whose registers count up from first.
func prstatus(pid uint32, first uint64) []byte {
	b := make([]byte, prstatusRegs)
	binary.LittleEndian.PutUint32(b[prstatusPID:], pid)
	for i := range uint64(32) {
		b = binary.LittleEndian.AppendUint64(b, first+i)
	}
	return append(b, make([]byte, 8)...)
}

func TestCPUs(t *testing.T) {
	m := newMachine("sv48")
	syms := append(testSymbols()[:6],
		Symbol{Name: "crash_notes", Type: 'B', Addr: testImage + 0x700000},
		Symbol{Name: "panic_cpu", Type: 'D', Addr: testImage + 0x700100},
		Symbol{Name: "nr_cpu_ids", Type: 'D', Addr: testImage + 0x700200},
		Symbol{Name: "__per_cpu_offset", Type: 'D', Addr: testImage + 0x701000},
		Symbol{Name: "_end", Type: 'B', Addr: testImage + 0x710000})
	putSymbols(m, kallsymsPlaceRelative, syms)
	// CPUs 0, 2 and 5 are possible, 0 and 5 left notes, which are swapped.
	const buffers = testImage + 0x800000
	m.put64(testImage+0x700000, uint64(buffers))
	m.put64(testImage+0x700100, 5)
	m.put64(testImage+0x700200, 6)
	m.put(testImage+0x701000, make([]byte, 4096))
	notes := []vmcore.Note{
		{Name: "CORE", Type: 1, Desc: prstatus(77, 5000)},
		{Name: "VMCOREINFO", Desc: []byte("x")},
		{Name: "CORE", Type: 1, Desc: prstatus(0, 100)},
		{Name: "CORE", Type: 2, Desc: prstatus(1, 1)},
	}
	for cpu, desc := range map[VirtAddr][]byte{0: notes[2].Desc, 2: nil, 5: notes[0].Desc} {
		m.put64(testImage+0x701000+8*cpu, uint64(0x1000*cpu))
		note := binary.LittleEndian.AppendUint32(nil, 5)
		note = binary.LittleEndian.AppendUint32(note, uint32(len(desc)))
		note = append(note, "\x01\x00\x00\x00CORE\x00\x00\x00\x00"...)
		m.put(buffers+0x1000*cpu, append(note, desc...))
	}
	k := m.kernel(t, notes...)
	cpus, err := k.CPUs()
	if err != nil || len(cpus) != 2 {
		t.Fatalf("CPUs = %v, %v; want two", cpus, err)
	}
	c := cpus[0]
	if c.Number != 5 || c.PID != 77 || c.PC != 5000 || c.RA != 5001 || c.SP != 5002 || c.FP != 5008 {
		t.Errorf("first CPU = %+v", c)
	}
	if last := c.Registers[31]; last != (Register{"t6", 5031}) {
		t.Errorf("last register = %v; want t6 5031", last)
	}
	if cpus[1].Number != 0 || cpus[1].PC != 100 {
		t.Errorf("second CPU = %+v", cpus[1])
	}
	if n, err := k.PanicCPU(); n != 5 || err != nil {
		t.Errorf("PanicCPU = %d, %v; want 5", n, err)
	}
	m.put64(testImage+0x700100, 0xffffffff) // PANIC_CPU_INVALID
	if n, err := k.PanicCPU(); !errors.Is(err, ErrNotFound) {
		t.Errorf("PanicCPU = %d, %v; want ErrNotFound", n, err)
	}
}

func TestCPUsWithoutSymbols(t *testing.T) {
	m := newMachine("sv39")
	if _, err := m.kernel(t).CPUs(); !errors.Is(err, ErrNotFound) {
		t.Errorf("no notes: %v; want ErrNotFound", err)
	}
	cpus, err := m.kernel(t,
		vmcore.Note{Name: "CORE", Type: 1, Desc: prstatus(1, 1)[:300]},
		vmcore.Note{Name: "CORE", Type: 1, Desc: prstatus(2, 2)}).CPUs()
	if !errors.Is(err, ErrCorrupt) || len(cpus) != 1 || cpus[0].PID != 2 || cpus[0].Number != -1 {
		t.Errorf("CPUs with a short note = %+v, %v; want the other one and ErrCorrupt", cpus, err)
	}
}
