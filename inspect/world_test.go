package inspect

import (
	"encoding/binary"
	"testing"

	referee "github.com/cilium/ebpf/btf"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/kerneltest"
)

// world is a dead machine with some data, types and symbols.
type world struct {
	*kerneltest.Data
	base          uint64 // of what is made in the linear map
	first, second uint64 // struct task
}

const perCPU = 0x1000

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{Data: kerneltest.NewData()}
	w.base = w.Bytes(64)
	w.Structs("list_head: next prev\n" +
		"cpumask: bits:8*1\n" +
		"module_layout: base:8 size:4\n" +
		"module: state:4 list:list_head name:1*56 taints:8 core_layout:module_layout init_layout:module_layout\n" +
		"btf_module: list:list_head module btf\n" +
		"btf: data data_size:4")
	w.Words(w.Variable("__cpu_possible_mask", 8), 3)
	w.Words(w.Variable("__per_cpu_offset", 16), 0, perCPU)
	start := w.Variable("__per_cpu_start", 0)
	queues := w.Variable("runqueues", 64)
	w.Put(queues+perCPU, make([]byte, 64))
	w.Symbol("__per_cpu_end", start+perCPU)
	w.Variable("linux_banner", perCPU) // room for the other CPU's part
	banner := w.Variable("banner", 64)
	w.Put(banner, []byte("Linux version 7.2.0-test"))
	w.Words(w.Variable("jiffies", 8), 4294937296)
	code := w.Variable("schedule", 0x40)
	// addi sp,sp,-16; nop; ret; and what is none.
	w.Put(code, []byte{0x41, 0x11, 0x13, 0, 0, 0, 0x82, 0x80, 0, 0})
	w.Variable("schedule_timeout", 0x40)
	w.Variable("big", 512)
	w.first = w.Variable("first_task", 64)
	w.second = w.Bytes(64)
	for i, at := range []uint64{w.first, w.second} {
		b := binary.LittleEndian.AppendUint32(nil, uint32(100+i))
		b = append(append(b, make([]byte, 4)...), "worker/0\x00\x00\x00\x00\x00\x00\x00\x00"...)
		next := w.second
		if i == 1 {
			next = 0
		}
		w.Put(at, binary.LittleEndian.AppendUint64(b, next))
	}
	gadgets, one, two := w.Variable("gadgets", 16), w.Bytes(24), w.Bytes(24)
	w.Words(one, 1)
	w.Words(two, 2)
	w.Ring(gadgets, one+8, two+8)
	w.Words(queues, 2, w.first)
	w.Words(queues+perCPU, 0, w.second)
	w.modules(t)

	raw := types(t)
	btf := w.Variable("__start_BTF", uint64(len(raw)))
	w.Put(btf, raw)
	w.Symbol("__stop_BTF", btf+uint64(len(raw)))
	return w
}

// modules are two, the second of which is on its way, without types of their own.
func (w *world) modules(t testing.TB) {
	t.Helper()
	head := w.Variable("modules", 16)
	nodes := []uint64{head}
	for i, name := range []string{"gadget", "ext4"} {
		m := w.New("module")
		w.SetText(m, "module.name", name)
		w.Set(m, "module.state", uint64(1-i)%2)
		w.Set(m, "module.taints", uint64(1-i)<<12)
		nodes = append(nodes, m+w.Offset("module.list"))
	}
	w.Ring(nodes...)
	types := w.Variable("btf_modules", 16)
	w.Ring(types)
}

// kernel is the kernel in the machine.
func (w *world) kernel(t testing.TB) *kernel.Kernel {
	t.Helper()
	return w.Open(t, w)
}

func types(t testing.TB) []byte {
	t.Helper()
	i32 := &referee.Int{Name: "int", Size: 4, Encoding: referee.Signed}
	u64 := &referee.Int{Name: "unsigned long", Size: 8}
	char := &referee.Int{Name: "char", Size: 1}
	task := &referee.Struct{Name: "task", Size: 32}
	task.Members = []referee.Member{
		{Name: "pid", Type: i32},
		{Name: "comm", Type: &referee.Array{Index: i32, Nelems: 16, Type: char}, Offset: 64},
		{Name: "next", Type: &referee.Pointer{Target: task}, Offset: 192},
	}
	queue := &referee.Struct{Name: "queue", Size: 16, Members: []referee.Member{{Name: "running", Type: u64}, {Name: "current", Type: &referee.Pointer{Target: task}, Offset: 64}}}
	list := &referee.Struct{Name: "list_head", Size: 16}
	list.Members = []referee.Member{{Name: "next", Type: &referee.Pointer{Target: list}}, {Name: "prev", Type: &referee.Pointer{Target: list}, Offset: 64}}
	entry := &referee.Struct{Name: "module_entry", Size: 24, Members: []referee.Member{{Name: "number", Type: u64}, {Name: "list", Type: list, Offset: 64}}}
	b, err := referee.NewBuilder([]referee.Type{
		task, queue,
		entry, &referee.Struct{Name: "task_extra", Size: 4, Members: []referee.Member{{Name: "pid", Type: i32}}},
		&referee.Enum{Name: "color", Size: 4, Values: []referee.EnumValue{{Name: "RED"}, {Name: "BLUE", Value: 7}}},
		&referee.Func{Name: "schedule", Type: &referee.FuncProto{Return: i32, Params: []referee.FuncParam{{Name: "task", Type: &referee.Pointer{Target: task}}}}, Linkage: referee.StaticFunc},
		&referee.Var{Name: "runqueues", Type: queue, Linkage: referee.GlobalVar},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := b.Marshal(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
