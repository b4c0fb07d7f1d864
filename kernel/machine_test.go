package kernel

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

// ram is memory for tests: sparse pages of 4 KiB.
type ram map[vmcore.PhysAddr]*[4096]byte

func (m ram) ReadPhys(p []byte, addr vmcore.PhysAddr) (int, error) {
	done := 0
	for done < len(p) {
		page := m[addr&^4095]
		if page == nil {
			return done, fmt.Errorf("%#x: %w", uint64(addr), vmcore.ErrHole)
		}
		n := copy(p[done:], page[addr&4095:])
		done += n
		addr += vmcore.PhysAddr(n)
	}
	return done, nil
}

func (m ram) write(addr vmcore.PhysAddr, b []byte) {
	for len(b) > 0 {
		page := m[addr&^4095]
		if page == nil {
			page = new([4096]byte)
			m[addr&^4095] = page
		}
		n := copy(page[addr&4095:], b)
		b = b[n:]
		addr += vmcore.PhysAddr(n)
	}
}

// machine is a riscv64 machine for tests: memory, page tables and vmcoreinfo.
type machine struct {
	ram
	info []string
	mode mode
	next vmcore.PhysAddr // where the next page table goes
}

// mode is one of riscv64's page table modes with the layout of Linux 6.12.
type mode struct {
	bits               int
	pageOffset, vmemap VirtAddr
	levels             int
}

var modes = map[string]mode{
	"sv39": {39, 0xffffffd600000000, 0xffffffc500000000, 3},
	"sv48": {48, 0xffffaf8000000000, 0xffff8d8000000000, 4},
	"sv57": {57, 0xff60000000000000, 0xff1c000000000000, 5},
}

const (
	testImage   = VirtAddr(0xffffffff80000000) // maps testImagePA
	testImagePA = vmcore.PhysAddr(0x80200000)
	testRoot    = VirtAddr(0xffffffff81000000)
	testRootPA  = testImagePA + vmcore.PhysAddr(testRoot-testImage)
)

func newMachine(name string) *machine {
	m := &machine{ram: ram{}, mode: modes[name], next: 0x90000000}
	m.write(testRootPA, make([]byte, 4096))
	kernelOffset := uint64(testImage) - uint64(testImagePA)
	m.say("OSRELEASE=6.12.107-test")
	m.say("PAGESIZE=4096")
	m.say("SYMBOL(swapper_pg_dir)=%x", uint64(testRoot))
	m.say("NUMBER(VA_BITS)=%d", m.mode.bits)
	m.say("NUMBER(PAGE_OFFSET)=%#x", uint64(m.mode.pageOffset))
	m.say("NUMBER(phys_ram_base)=%d", uint64(0x80000000))
	m.say("NUMBER(KERNEL_LINK_ADDR)=%#x", uint64(testImage))
	m.say("NUMBER(va_kernel_pa_offset)=%#x", kernelOffset)
	return m
}

func (m *machine) say(format string, args ...any) {
	m.info = append(m.info, fmt.Sprintf(format, args...))
}

// put writes b at an address of the kernel image.
func (m *machine) put(va VirtAddr, b []byte) {
	m.write(testImagePA+vmcore.PhysAddr(va-testImage), b)
}

func (m *machine) put64(va VirtAddr, n uint64) {
	m.put(va, binary.LittleEndian.AppendUint64(nil, n))
}

// mapPage maps 1<<shift bytes at va to pa, making tables as needed.
func (m *machine) mapPage(va VirtAddr, pa vmcore.PhysAddr, shift int) {
	m.mapEntry(va, uint64(pa)>>12<<10|0xef, shift)
}

func (m *machine) mapEntry(va VirtAddr, entry uint64, shift int) {
	table := testRootPA
	for s := 12 + 9*(m.mode.levels-1); ; s -= 9 {
		at := table + vmcore.PhysAddr(uint64(va)>>s&511*8)
		if s == shift {
			m.write(at, binary.LittleEndian.AppendUint64(nil, entry))
			return
		}
		var b [8]byte
		if _, err := m.ReadPhys(b[:], at); err != nil {
			panic(err)
		}
		e := binary.LittleEndian.Uint64(b[:])
		if e == 0 {
			m.write(m.next, make([]byte, 4096))
			e = uint64(m.next)>>12<<10 | 1
			m.write(at, binary.LittleEndian.AppendUint64(nil, e))
			m.next += 4096
		}
		table = vmcore.PhysAddr(e >> 10 << 12)
	}
}

func (m *machine) kernel(t testing.TB, notes ...vmcore.Note) *Kernel {
	t.Helper()
	k, err := New(m, vmcore.MachineRISCV, []byte(strings.Join(m.info, "\n")+"\n"), notes, nil)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
