package report

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/kerneltest"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// open makes a kernel of the data.
func open(t *testing.T, d *kerneltest.Data) *kernel.Kernel {
	t.Helper()
	layout, err := kernel.ParseLayout(d.Layout())
	if err != nil {
		t.Fatal(err)
	}
	k, err := kernel.New(d, vmcore.MachineRISCV, d.Info(), nil, &kernel.Options{Layout: layout})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// bugStructs are those of a kernel whose bugs are found by distances.
const bugStructs = `
bug_entry: bug_addr_disp:4 file_disp:4 line:2 flags:2
module_memory: base size:4
module: state:4 list:16 name:1*56 mem:module_memory*2 bug_table num_bugs:4
list_head: next prev
`

// putBugs writes a table of bugs at an address: one for each pc, all in the file
// whose name lies at file.
func putBugs(d *kerneltest.Data, at, file uint64, pcs ...uint64) {
	for i, pc := range pcs {
		var b [12]byte
		binary.LittleEndian.PutUint32(b[0:], uint32(pc-at))
		binary.LittleEndian.PutUint32(b[4:], uint32(file-(at+4)))
		binary.LittleEndian.PutUint16(b[8:], uint16(100+i))
		binary.LittleEndian.PutUint16(b[10:], uint16(i%2))
		d.Put(at, b[:])
		at += 16 // the size that kerneltest rounds to
	}
}

// bugMachine is a kernel with 1000 bugs, and a module with 3.
func bugMachine() (d *kerneltest.Data, table, text, module, moduleText uint64) {
	d = kerneltest.NewData()
	d.Structs(bugStructs)
	file := d.Variable("file", 64)
	d.Put(file, []byte("mm/slub.c\x00"))
	text = d.Variable("text", 4096)
	table = d.Variable("__start___bug_table", 16*1000)
	d.Symbol("__stop___bug_table", table+16*1000)
	var pcs []uint64
	for i := range uint64(1000) {
		pcs = append(pcs, text+4*i)
	}
	putBugs(d, table, file, pcs...)

	modules := d.Variable("modules", 16)
	module = d.New("module")
	// Code of modules, their tables and strings are near each other.
	moduleText = d.Bytes(4096)
	bugs := d.Bytes(16 * 3)
	name := d.Bytes(64)
	d.Put(name, []byte("drivers/gadget.c\x00"))
	putBugs(d, bugs, name, moduleText+0x10, moduleText+0x20, moduleText+0x30)
	d.SetText(module, "module.name", "gadget")
	d.Set(module, "module.bug_table", bugs)
	d.Set(module, "module.num_bugs", 3)
	mem := module + d.Offset("module.mem")
	d.Set(mem, "module_memory.base", moduleText)
	d.Set(mem, "module_memory.size", 4096)
	d.Ring(modules, module+d.Offset("module.list"))
	return d, table, text, module, moduleText
}

func TestBugAt(t *testing.T) {
	d, _, text, _, moduleText := bugMachine()
	k := open(t, d)
	for _, c := range []struct {
		pc      uint64
		want    string
		warning bool
	}{
		{text, "mm/slub.c:100", false},
		{text + 4, "mm/slub.c:101", true},
		{text + 4*999, "mm/slub.c:1099", true},
		{moduleText + 0x30, "drivers/gadget.c:102", false},
	} {
		bug, err := BugAt(k, kernel.VirtAddr(c.pc))
		if err != nil || bug.String() != c.want || bug.Warning != c.warning {
			t.Errorf("bug at %#x = %v, %v, %v; want %s", c.pc, bug, bug.Warning, err, c.want)
		}
	}
	for _, pc := range []uint64{text + 1, moduleText + 0x11, 0, ^uint64(0)} {
		if bug, err := BugAt(k, kernel.VirtAddr(pc)); !errors.Is(err, kernel.ErrNotFound) {
			t.Errorf("bug at %#x = %v, %v; want none", pc, bug, err)
		}
	}
}

// Nothing in the table is trusted.
func TestBugAtDamaged(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(d *kerneltest.Data, table, module uint64)
		want   error
	}{
		{"table lost", func(d *kerneltest.Data, table, _ uint64) { d.Lose(table + 4096) }, vmcore.ErrHole},
		{"no places", func(d *kerneltest.Data, _, _ uint64) { d.Forget("bug_entry.file_disp") }, kernel.ErrNotFound},
		{"no table", func(d *kerneltest.Data, _, _ uint64) { d.Forget("bug_entry") }, kernel.ErrNoInfo},
		{"many bugs in a module", func(d *kerneltest.Data, _, module uint64) { d.Set(module, "module.num_bugs", 1<<31) }, kernel.ErrCorrupt},
		{"a module's table lost", func(d *kerneltest.Data, _, module uint64) { d.Set(module, "module.bug_table", 0) }, kernel.ErrNotMapped},
	} {
		t.Run(c.name, func(t *testing.T) {
			d, table, _, module, moduleText := bugMachine()
			c.damage(d, table, module)
			bug, err := BugAt(open(t, d), kernel.VirtAddr(moduleText+0x20))
			if !errors.Is(err, c.want) {
				t.Errorf("BugAt = %v, %v; want %v", bug, err, c.want)
			}
		})
	}
}

func TestInterrupted(t *testing.T) {
	d := kerneltest.NewData()
	d.Structs("thread_info: flags preempt_count:4 cpu:4\ntask_struct: other thread_info:thread_info")
	for count, want := range map[uint64]bool{
		0: false, 1: false, 3: false,
		0x10001:  true,  // an interrupt
		0x110001: false, // an exception of the kernel
		0x100:    true,  // a softirq
		0x200:    false, // softirqs are off
		0x120002: true,  // an exception in an interrupt
	} {
		task := d.New("task_struct")
		d.Set(task+d.Offset("task_struct.thread_info"), "thread_info.preempt_count", count)
		got, err := interrupted(open(t, d), kernel.VirtAddr(task))
		if err != nil || got != want {
			t.Errorf("preempt_count %#x: in interrupt %v, %v; want %v", count, got, err, want)
		}
	}
	if _, err := interrupted(open(t, d), 0); err == nil {
		t.Error("task at 0: no error")
	}
}
