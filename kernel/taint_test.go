package kernel

import (
	"errors"
	"strings"
	"testing"
)

func TestTaints(t *testing.T) {
	letters := func(mask uint64) string {
		var b strings.Builder
		for _, reason := range Taints(mask) {
			if reason.Meaning == "" {
				t.Errorf("%c of %#x means nothing", reason.Letter, mask)
			}
			b.WriteByte(reason.Letter)
		}
		return b.String()
	}
	for mask, want := range map[uint64]string{
		0: "", 1 << 9: "W", 1<<12 | 1<<13 | 1: "POE", 1 << 63: "?",
		1<<20 - 1: "PFSRMBUDAWCIOELKXTNJ",
	} {
		if got := letters(mask); got != want {
			t.Errorf("Taints(%#x) = %q; want %q", mask, got, want)
		}
	}
}

func TestBootFacts(t *testing.T) {
	const mask, line, text, name = testImage + 0x5000, testImage + 0x5008, testImage + 0x5010, testImage + 0x5100
	m := newMachine("sv48")
	putSymbols(m, kallsymsBaseRelative, []Symbol{
		{Addr: testImage + 0x2000, Type: 'T', Name: "_stext"},
		{Addr: mask, Type: 'd', Name: "tainted_mask"},
		{Addr: line, Type: 'D', Name: "saved_command_line"},
		{Addr: name, Type: 'd', Name: "dump_stack_arch_desc_str"},
		{Addr: testImage + 0x6000, Type: 'D', Name: "_end"},
	})
	m.put64(mask, 1<<9|1<<12)
	m.put64(line, uint64(text))
	m.put(text, []byte("quiet panic=-1\x00"))
	m.put(name, []byte("riscv-virtio,qemu (DT)\x00"))
	k := m.kernel(t)
	if got, err := k.Tainted(); got != 1<<9|1<<12 || err != nil {
		t.Errorf("Tainted = %#x, %v", got, err)
	}
	if got, err := k.CommandLine(); got != "quiet panic=-1" || err != nil {
		t.Errorf("CommandLine = %q, %v", got, err)
	}
	if got, err := k.Hardware(); got != "riscv-virtio,qemu (DT)" || err != nil {
		t.Errorf("Hardware = %q, %v", got, err)
	}
	if _, err := newMachine("sv48").kernel(t).Tainted(); !errors.Is(err, ErrNoInfo) {
		t.Errorf("Tainted without symbols: %v; want ErrNoInfo", err)
	}
}
