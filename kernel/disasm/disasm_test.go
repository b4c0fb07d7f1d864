package disasm

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

const (
	function = kernel.VirtAddr(0xffffffff80010ff0) // near the end of a page
	other    = function + 0x100
)

// code is a dead kernel with two functions, the first of which has these bytes.
type code struct {
	bytes []byte
	gone  kernel.VirtAddr // a page that cannot be read
}

var errGone = errors.New("page excluded from the dump")

func (c code) ReadVirt(p []byte, va kernel.VirtAddr) error {
	for i := range p {
		at := va + kernel.VirtAddr(i)
		if c.gone != 0 && at&^4095 == c.gone {
			return errGone
		}
		p[i] = 0
		if off := uint64(at - function); off < uint64(len(c.bytes)) {
			p[i] = c.bytes[off]
		}
	}
	return nil
}

func (c code) SymbolAt(va kernel.VirtAddr) (kernel.Symbol, uint64, error) {
	switch {
	case va >= other && va < other+0x100:
		return kernel.Symbol{Name: "other", Module: "mod", Addr: other, Size: 0x100}, uint64(va - other), nil
	case va >= function && va < function+kernel.VirtAddr(len(c.bytes)):
		return kernel.Symbol{Name: "function", Addr: function, Size: uint64(len(c.bytes))}, uint64(va - function), nil
	}
	return kernel.Symbol{}, 0, kernel.ErrNotFound
}

func bytesOf(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// A function, as GNU objdump 2.44 reads it:
//
//	1101           addi sp,sp,-32
//	ec06           sd   ra,24(sp)
//	e822           sd   s0,16(sp)
//	1000           addi s0,sp,32
//	00053783       ld   a5,0(a0)
//	c399           beqz a5,+6
//	9782           jalr a5
//	00001597       auipc a1,0x1
//	0e858593       addi a1,a1,232
//	00000097       auipc ra,0x0
//	0e8080e7       jalr 232(ra)
//	0ff0000f       fence
//	9002           ebreak
//	8082           ret
const sample = `
	0111 06ec 22e8 0010 83370500 99c3 8297
	97150000 9385850e 97000000 e780800e 0f00f00f 0290 8280`

func texts(all []Instruction) []string {
	var s []string
	for _, i := range all {
		mark := "  "
		if i.Fault {
			mark = "=>"
		}
		s = append(s, fmt.Sprintf("%s%#x %s %s", mark, uint64(i.Addr-function), i.Bytes, i.Text))
	}
	return s
}

func TestAround(t *testing.T) {
	c := code{bytes: bytesOf(t, sample)}
	got, err := around(c, riscv64(), function+12, 100, 100)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"  0x0 0111 addi sp,sp,-32",
		"  0x2 06ec sd ra,24(sp)",
		"  0x4 22e8 sd s0,16(sp)",
		"  0x6 0010 addi s0,sp,32",
		"  0x8 83370500 ld a5,0(a0)",
		"=>0xc 99c3 beqz a5,0xffffffff80011002 <function+0x12>",
		"  0xe 8297 jalr a5",
		"  0x10 97150000 auipc a1,0x1",
		"  0x14 9385850e addi a1,a1,232 <0xffffffff800120e8>",
		"  0x18 97000000 auipc ra,0x0",
		"  0x1c e780800e jalr 232(ra) <other [mod]>",
		"  0x20 0f00f00f fence",
		"  0x24 0290 ebreak",
		"  0x26 8280 ret",
	}
	if d := cmp.Diff(want, texts(got)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}

	got, err = around(c, riscv64(), function+0x1c, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{want[9], "=>" + want[10][2:], want[11], want[12]}, texts(got)); d != "" {
		t.Errorf("a part (-want +got):\n%s", d)
	}
	// What the one before says is known, though it is not shown.
	got, err = around(c, riscv64(), function+0x1c, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"=>" + want[10][2:]}, texts(got)); d != "" {
		t.Errorf("one (-want +got):\n%s", d)
	}
}

func TestAroundElsewhere(t *testing.T) {
	c := code{bytes: bytesOf(t, sample)}
	// In the middle of an instruction, and in no function.
	for _, pc := range []kernel.VirtAddr{function + 10, function - 0x100} {
		got, err := around(c, riscv64(), pc, 4, 2)
		if err != nil || len(got) != 3 || got[0].Addr != pc || !got[0].Fault {
			t.Errorf("at %v: %v, %v; want it and two more", pc, texts(got), err)
		}
	}
	if _, err := around(c, riscv64(), function+1, 4, 2); !errors.Is(err, kernel.ErrNotFound) {
		t.Errorf("at an odd address: %v; want ErrNotFound", err)
	}
	// The page behind is missing.
	c.gone = (function + 4096) &^ 4095
	got, err := around(c, riscv64(), function+8, 1, 20)
	if !errors.Is(err, errGone) || len(got) != 4 {
		t.Errorf("before a missing page: %v, %v; want what is there, and why there is no more", texts(got), err)
	}
	got, err = around(c, riscv64(), function+0x12, 4, 4)
	if !errors.Is(err, errGone) || len(got) != 0 {
		t.Errorf("in a missing page: %v, %v", texts(got), err)
	}
	if _, err := newArch(vmcore.Machine(62)); !errors.Is(err, kernel.ErrUnsupported) {
		t.Errorf("x86_64: %v; want ErrUnsupported", err)
	}
}

func TestText(t *testing.T) {
	name := func(va kernel.VirtAddr) string { return "at" + fmt.Sprintf("%x", uint64(va)) }
	for bytes, want := range map[string]string{
		"7d79":        "lui s2,0xfffff",
		"7d 53":       "li t1,-1",
		"27 20 b5 00": "fsw fa1,0(a0)",
		"6f f0 df ff": "j 0xffc <atffc>",
		"e3 0e 00 fe": "beqz zero,0xffc <atffc>",
		"73 00 50 10": "wfi",
		"2f 25 05 10": "lr.w a0,(a0)",
		"00 00":       "unimp",
		"ff ff ff ff": "",
		"73 60 01 10": "csrsi sstatus,2",
		"57 70 10 0d": "vsetvli zero,zero,e32,m2,ta,ma",
		"07 64 05 02": "vle32.v v8,(a0)",
	} {
		if got := riscv64Text(bytesOf(t, bytes), nil, 0x1000, name); got != want {
			t.Errorf("%s is %q; want %q", bytes, got, want)
		}
	}
}

// Whatever the bits, there is an answer.
func TestEveryInstruction(t *testing.T) {
	name := func(kernel.VirtAddr) string { return "" }
	var auipc [4]byte
	binary.LittleEndian.PutUint32(auipc[:], 0x97)
	known := 0
	try := func(b []byte) {
		// The decoder itself is asked too: it must not need to be caught.
		if _, _, ok := decode(b); ok {
			known++
			if riscv64Text(b, auipc[:], 0, name) == "" {
				t.Errorf("%x has no text", b)
			}
		} else if s := riscv64Text(b, nil, 0, name); s != privileged(b) {
			t.Errorf("%x is no instruction but %q", b, s)
		}
	}
	for n := 0; n < 1<<16; n += 5 {
		if n&3 != 3 {
			try([]byte{byte(n), byte(n >> 8)})
		}
	}
	if known < 8000 {
		t.Errorf("%d short instructions are known", known)
	}
	r := rand.New(rand.NewPCG(1, 2))
	known = 0
	for range 20_000 {
		var b [4]byte
		binary.LittleEndian.PutUint32(b[:], r.Uint32()|3)
		try(b[:])
	}
	if known < 2000 {
		t.Errorf("%d long instructions of 20000 are known", known)
	}
}

func FuzzAround(f *testing.F) {
	f.Add(bytesOf(f, sample), uint16(12), 4, 4)
	f.Add([]byte{0xff, 0xff, 0xff}, uint16(0), -1, 1<<30)
	f.Fuzz(func(t *testing.T, b []byte, off uint16, before, after int) {
		c := code{bytes: b[:min(len(b), 256)], gone: (function + 4096) &^ 4095 * kernel.VirtAddr(off%2)}
		pc := function + kernel.VirtAddr(off)
		all, err := around(c, riscv64(), pc, before, after)
		if err == nil && len(all) == 0 {
			t.Fatal("nothing and no reason")
		}
		for i, in := range all {
			if i > 0 && all[i-1].Addr+kernel.VirtAddr(len(all[i-1].Bytes)/2) != in.Addr {
				t.Fatalf("a gap before %v", in)
			}
			if in.Fault != (in.Addr == pc) {
				t.Fatalf("%+v; asked for %v", in, pc)
			}
		}
	})
}

func BenchmarkAround(b *testing.B) {
	c := code{bytes: bytesOf(b, sample)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := around(c, riscv64(), function+12, 4, 4); err != nil {
			b.Fatal(err)
		}
	}
}
