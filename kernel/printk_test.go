package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// logBuilder makes a printk ring buffer in a machine as the kernel would, wraps
// and all: kernel/printk/printk_ringbuffer.c.
type logBuilder struct {
	m                  *machine
	countBits, txtBits uint
	perfectFit         bool // blocks may end at the end of the ring, Linux 7.2
	context            bool // CONFIG_PRINTK_EXECUTION_CTX
	id, first          uint64
	lpos               uint64
}

const (
	logPrb   = testImage + 0x100000 // the pointer
	logRb    = testImage + 0x100100
	logDescs = testImage + 0x110000
	logInfos = testImage + 0x120000
	logText  = testImage + 0x200000
)

func newLog(m *machine, countBits, txtBits uint) *logBuilder {
	// Ids and positions begin just before they wrap for the first time.
	b := &logBuilder{m: m, countBits: countBits, txtBits: txtBits}
	b.id = (1<<62 - 1<<countBits - 3) & descIDMask
	b.first = b.id
	b.lpos = -(uint64(1) << txtBits)
	return b
}

func (b *logBuilder) infoSize() int {
	if b.context {
		return 112
	}
	return 88
}

type logMessage struct {
	text     string
	ts       time.Duration
	level    byte
	facility byte
	caller   uint32
	comm     string
	sub, dev string
	state    uint64 // 0: finalized, 4: reserved
	lpos     uint64 // 1 or 3: data-less with this mark
	cut      int    // text_len is this much longer than the block
}

func (b *logBuilder) add(msg logMessage) {
	le := binary.LittleEndian
	size := uint64(1) << b.txtBits
	begin, next := msg.lpos, msg.lpos
	if msg.lpos == 0 {
		n := (8 + uint64(len(msg.text)) + 7) &^ 7
		begin, next = b.lpos, b.lpos+n
		last := next
		if b.perfectFit {
			last--
		}
		at := begin & (size - 1)
		if begin>>b.txtBits != last>>b.txtBits {
			next = next&^(size-1) + n
			at = 0
		}
		b.lpos = next
		block := le.AppendUint64(nil, b.id)
		b.m.put(logText+VirtAddr(at), append(block, msg.text...))
	}
	state := msg.state
	if state == 0 {
		state = descFinalized
	}
	index := VirtAddr(b.id & (1<<b.countBits - 1))
	desc := le.AppendUint64(nil, state<<62|b.id)
	desc = le.AppendUint64(desc, begin)
	b.m.put(logDescs+index*24, le.AppendUint64(desc, next))

	info := make([]byte, b.infoSize())
	le.PutUint64(info, b.id-b.first)
	le.PutUint64(info[8:], uint64(msg.ts))
	le.PutUint16(info[16:], uint16(len(msg.text)+msg.cut))
	info[18] = msg.facility
	info[19] = msg.level<<5 | 2
	le.PutUint32(info[20:], msg.caller)
	dev := 24
	if b.context {
		copy(info[28:44], msg.comm)
		dev = 44
	}
	copy(info[dev:dev+16], msg.sub)
	copy(info[dev+16:dev+64], msg.dev)
	b.m.put(logInfos+index*VirtAddr(b.infoSize()), info)
	b.id = (b.id + 1) & descIDMask
}

// done writes the ring's head and what vmcoreinfo says.
func (b *logBuilder) done() {
	count := uint64(1) << b.countBits
	b.m.put64(logPrb, uint64(logRb))
	b.m.put64(logRb, uint64(b.countBits))
	b.m.put64(logRb+8, uint64(logDescs))
	b.m.put64(logRb+16, uint64(logInfos))
	head := (b.id - 1) & descIDMask
	tail := b.first
	if (head-tail)&descIDMask >= count {
		tail = (head - count + 1) & descIDMask
	}
	b.m.put64(logRb+24, head)
	b.m.put64(logRb+32, tail)
	b.m.put64(logRb+48, uint64(b.txtBits))
	b.m.put64(logRb+56, uint64(logText))
	b.m.put(logText+1<<b.txtBits-1, []byte{0xee}) // there is memory
	b.m.put(logText, nil)
	b.m.say("SYMBOL(prb)=%x", uint64(logPrb))
	dev := 24
	if b.context {
		dev = 44
	}
	b.m.say(`SIZE(printk_ringbuffer)=88
OFFSET(printk_ringbuffer.desc_ring)=0
OFFSET(printk_ringbuffer.text_data_ring)=48
SIZE(prb_desc_ring)=48
OFFSET(prb_desc_ring.count_bits)=0
OFFSET(prb_desc_ring.descs)=8
OFFSET(prb_desc_ring.infos)=16
OFFSET(prb_desc_ring.head_id)=24
OFFSET(prb_desc_ring.tail_id)=32
SIZE(prb_desc)=24
OFFSET(prb_desc.state_var)=0
OFFSET(prb_desc.text_blk_lpos)=8
OFFSET(prb_data_blk_lpos.begin)=0
OFFSET(prb_data_blk_lpos.next)=8
SIZE(printk_info)=%d
OFFSET(printk_info.seq)=0
OFFSET(printk_info.ts_nsec)=8
OFFSET(printk_info.text_len)=16
OFFSET(printk_info.caller_id)=20
OFFSET(printk_info.dev_info)=%d
OFFSET(dev_printk_info.subsystem)=0
LENGTH(printk_info_subsystem)=16
OFFSET(dev_printk_info.device)=16
LENGTH(printk_info_device)=48
OFFSET(prb_data_ring.size_bits)=0
OFFSET(prb_data_ring.data)=8
OFFSET(atomic_long_t.counter)=0`, b.infoSize(), dev)
}

// logOf is a builder whose text ring is memory throughout.
func logOf(m *machine, countBits, txtBits uint) *logBuilder {
	m.put(logText, make([]byte, 1<<txtBits))
	m.put(logDescs, make([]byte, 24<<countBits))
	m.put(logInfos, make([]byte, 112<<countBits))
	return newLog(m, countBits, txtBits)
}

func readLog(t *testing.T, k *Kernel) []LogRecord {
	t.Helper()
	var got []LogRecord
	for r, err := range k.Log() {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, r)
	}
	return got
}

func TestLog(t *testing.T) {
	for _, context := range []bool{false, true} {
		m := newMachine("sv48")
		b := logOf(m, 5, 10)
		b.context = context
		b.add(logMessage{text: "first", level: 5, caller: 0})
		b.add(logMessage{text: "on CPU 3\nsecond line", ts: 12*time.Second + 345678*time.Microsecond + 999, level: 3, caller: 1<<31 | 3})
		b.add(logMessage{text: "of a program", caller: 9, level: 6, facility: 3})
		b.add(logMessage{text: "being written", state: 4})
		b.add(logMessage{text: "", lpos: 3})
		b.add(logMessage{text: "no room", lpos: 1})
		b.add(logMessage{text: "reusable", state: 3})
		b.add(logMessage{text: "committed", state: 1, comm: "swapper/0", sub: "block", dev: "b254:0"})
		b.add(logMessage{text: "cut", cut: 100, caller: 1234567890})
		b.done()
		k := m.kernel(t)
		want := []LogRecord{
			{Level: 5, Caller: Caller{'T', 0}, Text: "first"},
			{Seq: 1, Time: 12345678999, Level: 3, Caller: Caller{'C', 3}, Text: "on CPU 3\nsecond line"},
			{Seq: 2, Level: 6, Facility: 3, Caller: Caller{'T', 9}, Text: "of a program"},
			{Seq: 7, Caller: Caller{'T', 0}, Text: "committed", Subsystem: "block", Device: "b254:0"},
			{Seq: 8, Caller: Caller{'T', 1234567890}, Text: "cut\x00\x00\x00\x00\x00"},
		}
		if context {
			want[3].Comm = "swapper/0"
		}
		if d := cmp.Diff(want, readLog(t, k)); d != "" {
			t.Errorf("context %v (-want +got):\n%s", context, d)
		}
	}
}

// TestLogWraps fills small rings again and again with texts of many lengths:
// what is left must be the newest texts, whole.
func TestLogWraps(t *testing.T) {
	for _, perfect := range []bool{false, true} {
		m := newMachine("sv39")
		b := logOf(m, 3, 9)
		b.perfectFit = perfect
		var all []string
		exact := false
		for i := range 200 {
			text := fmt.Sprintf("%d:%0*d", i, i*7%40, i)
			all = append(all, text)
			b.add(logMessage{text: text})
			exact = exact || b.lpos%512 == 0
		}
		if perfect && !exact {
			t.Fatal("no block ended at the end of the ring: the test tests nothing")
		}
		b.done()
		var got []string
		for _, r := range readLog(t, m.kernel(t)) {
			got = append(got, r.Text)
		}
		if d := cmp.Diff(all[len(all)-8:], got); d != "" {
			t.Errorf("perfect fit %v (-want +got):\n%s", perfect, d)
		}
	}
}

func TestLogRecordLine(t *testing.T) {
	for _, c := range []struct {
		r           LogRecord
		want, short string
	}{
		{LogRecord{Text: "x"}, "[    0.000000] x", "[    0.000000] x"},
		{LogRecord{Time: 123456*time.Second + 7*time.Microsecond, Text: ""}, "[123456.000007] ", "[123456.000007] "},
		{LogRecord{Caller: Caller{'T', 159}, Text: "a\tb\nc\x00\x7f\xc3\xa4\x1b"},
			"[    0.000000] [    T159] a\tb\n                          c\\x00\\x7f\\xc3\\xa4\\x1b", "[    0.000000] a\tb\nc\\x00\\x7f\\xc3\\xa4\\x1b"},
		{LogRecord{Caller: Caller{'C', 1234567890}, Text: "y"}, "[    0.000000] [C1234567890] y", "[    0.000000] y"},
	} {
		if got := c.r.Line(); got != c.want {
			t.Errorf("Line() = %q; want %q", got, c.want)
		}
		if got := c.r.ShortLine(); got != c.short {
			t.Errorf("ShortLine() = %q; want %q", got, c.short)
		}
	}
}

func TestLogErrors(t *testing.T) {
	m := newMachine("sv48")
	for _, err := range m.kernel(t).Log() {
		if !errors.Is(err, ErrNoInfo) {
			t.Errorf("without prb: %v; want ErrNoInfo", err)
		}
	}
	b := logOf(m, 4, 10)
	b.add(logMessage{text: "one"})
	b.add(logMessage{text: "two"})
	b.done()
	m.put64(logRb+32, 77) // a tail far away
	var texts []string
	failed := 0
	for r, err := range m.kernel(t).Log() {
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Errorf("%v; want ErrCorrupt", err)
			}
			failed++
			continue
		}
		texts = append(texts, r.Text)
	}
	if failed != 1 || len(texts) != 2 {
		t.Errorf("wrong tail: %d errors and texts %q; want one error and both texts", failed, texts)
	}
	m.put64(logRb+48, 60) // a ring of 2^60 bytes
	for _, err := range m.kernel(t).Log() {
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("huge ring: %v; want ErrCorrupt", err)
		}
	}
}

func FuzzLog(f *testing.F) {
	f.Add([]byte("hello\nworld"), uint64(0), uint64(24), []byte(nil))
	f.Add([]byte{0xff}, uint64(0xfffffffffffffff8), uint64(8), []byte{3, 0, 0, 0})
	f.Fuzz(func(t *testing.T, text []byte, begin, next uint64, head []byte) {
		m := newMachine("sv39")
		b := logOf(m, 3, 9)
		for range 8 {
			b.add(logMessage{text: string(text[:min(len(text), 500)])})
		}
		b.done()
		index := VirtAddr((b.id - 1) & 7)
		m.put64(logDescs+index*24+8, begin)
		m.put64(logDescs+index*24+16, next)
		m.put(logRb, head[:min(len(head), 88)])
		n := 0
		for r, err := range m.kernel(t).Log() {
			if err == nil && r.Text == "" {
				continue
			}
			r.Line()
			if n++; n > 100 {
				break
			}
		}
	})
}

func BenchmarkLog(b *testing.B) {
	m := newMachine("sv57")
	l := logOf(m, 8, 14)
	for i := range 256 {
		l.add(logMessage{text: fmt.Sprintf("message %d of the benchmark", i)})
	}
	l.done()
	k := m.kernel(b)
	b.ReportAllocs()
	for b.Loop() {
		for r, err := range k.Log() {
			if err != nil {
				b.Fatal(err)
			}
			_ = r.Line()
		}
	}
}
