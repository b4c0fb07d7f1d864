package kernel

import (
	"errors"
	"testing"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

func TestLogCleared(t *testing.T) {
	const at = testImage + 0x100000
	for _, c := range []struct {
		what  string
		say   string
		words []uint64
		want  uint64
		err   error
	}{
		{"6.12, never cleared", "SIZE(latched_seq)=24\nOFFSET(latched_seq.val)=8", []uint64{0, 0, 0}, 0, nil},
		{"6.12, the first is whole", "SIZE(latched_seq)=24\nOFFSET(latched_seq.val)=8", []uint64{0x77<<32 | 4, 17, 99}, 17, nil},
		{"6.12, dead while it wrote the first", "SIZE(latched_seq)=24\nOFFSET(latched_seq.val)=8", []uint64{0x77<<32 | 3, 99, 16}, 16, nil},
		{"5.10", "", []uint64{18}, 18, nil},
		{"a latch without an offset", "SIZE(latched_seq)=24", []uint64{0}, 0, ErrNoInfo},
		{"a latch with an offset out of the world", "SIZE(latched_seq)=24\nOFFSET(latched_seq.val)=4096", []uint64{0}, 0, ErrNoInfo},
	} {
		m := newMachine("sv57")
		m.say("SYMBOL(clear_seq)=%x\n%s", uint64(at), c.say)
		for i, w := range c.words {
			m.put64(at+VirtAddr(8*i), w)
		}
		got, err := m.kernel(t).LogCleared()
		if got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%s: %d, %v; want %d, %v", c.what, got, err, c.want, c.err)
		}
	}
	m := newMachine("sv57")
	if got, err := m.kernel(t).LogCleared(); !errors.Is(err, ErrNoInfo) {
		t.Errorf("a kernel that does not say it: %d, %v", got, err)
	}
	m.say("SYMBOL(clear_seq)=%x", uint64(testImage+0x10000000))
	if got, err := m.kernel(t).LogCleared(); err == nil || errors.Is(err, vmcore.ErrUnsupported) {
		t.Errorf("no memory there: %d, %v", got, err)
	}
}
