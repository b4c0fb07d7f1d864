package kernel

import (
	"errors"
	"testing"
)

func TestCheck(t *testing.T) {
	const uts = testImage + 0x600000
	m := newMachine("sv57")
	m.say("SYMBOL(_stext)=%x", uint64(testImage+0x2000))
	m.say("SYMBOL(init_uts_ns)=%x", uint64(uts))
	m.say("OFFSET(uts_namespace.name)=8")
	name := make([]byte, 6*65)
	for i, s := range []string{"Linux", "host\xff", "6.12.107-test", "#1 SMP", "riscv64", "(none)"} {
		copy(name[65*i:], s)
	}
	m.put(uts+8, name)
	k := m.kernel(t)
	if err := k.Check(); !errors.Is(err, ErrNotMapped) {
		t.Errorf("Check without page tables: %v; want ErrNotMapped", err)
	}
	m.mapPage(testImage, testImagePA, 21)
	if err := k.Check(); err != nil {
		t.Errorf("Check: %v", err)
	}
	u, err := k.Utsname()
	want := Utsname{"Linux", "host?", "6.12.107-test", "#1 SMP", "riscv64", "(none)"}
	if err != nil || u != want {
		t.Errorf("Utsname = %+v, %v; want %+v", u, err, want)
	}
	m.mapPage(testImage, testImagePA+1<<21, 21)
	if err := k.Check(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Check with text elsewhere: %v; want ErrCorrupt", err)
	}
	m.mapPage(testImage, testImagePA, 21)
	m.put(uts+8+2*65, []byte("6.12.108"))
	if err := k.Check(); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Check with another release: %v; want ErrCorrupt", err)
	}
}
