package kernel

import (
	"encoding/binary"
	"fmt"
	"iter"
	"strings"
	"time"
)

// LogRecord is one message of the kernel log, which may have several lines.
type LogRecord struct {
	Seq      uint64        `json:"seq"`
	Time     time.Duration `json:"nanoseconds"` // since boot
	Level    uint8         `json:"level"`       // KERN_EMERG 0 to KERN_DEBUG 7
	Facility uint8         `json:"facility"`    // 0 is the kernel, others are programs writing /dev/kmsg
	Caller   Caller        `json:"caller,omitzero"`
	Comm     string        `json:"comm,omitempty"` // name of the calling task where the kernel keeps it (CONFIG_PRINTK_EXECUTION_CTX)
	// Subsystem and Device name the device that the message is about, like
	// "block" and "b254:0"; "" for most messages.
	Subsystem string `json:"subsystem,omitempty"`
	Device    string `json:"device,omitempty"`
	Text      string `json:"text"` // as written, not escaped, without the last newline
}

// Caller is who wrote a record: task 17 ("T17") or, outside of tasks, CPU 3
// ("C3"). The zero value is unknown.
type Caller struct {
	Kind byte // 'T', 'C' or 0
	ID   uint32
}

// MarshalText is String, for JSON.
func (c Caller) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

func (c Caller) String() string {
	if c.Kind == 0 {
		return ""
	}
	return fmt.Sprintf("%c%d", c.Kind, c.ID)
}

// Line is the record as makedumpfile --dump-dmesg prints it, byte by byte,
// without the newline at the end: time, caller where the dump tells it, the
// text with unprintable bytes as \xNN and further lines indented.
func (r LogRecord) Line() string {
	head := r.stamp()
	if r.Caller.Kind != 0 {
		head += fmt.Sprintf("[%8s] ", r.Caller)
	}
	return r.line(head, strings.Repeat(" ", len(head)))
}

// ShortLine is the record as vmcore-dmesg of kexec-tools prints it: as Line,
// without the caller, and further lines are not indented.
func (r LogRecord) ShortLine() string { return r.line(r.stamp(), "") }

func (r LogRecord) stamp() string {
	return fmt.Sprintf("[%5d.%06d] ", uint64(r.Time)/1e9, uint64(r.Time)%1e9/1e3)
}

// line is the text behind a head, further lines behind an indent.
func (r LogRecord) line(head, indent string) string {
	var b strings.Builder
	b.Grow(len(head) + len(r.Text))
	b.WriteString(head)
	for i := range len(r.Text) {
		switch c := r.Text[i]; {
		case c == '\n':
			b.WriteByte('\n')
			b.WriteString(indent)
		case ' ' <= c && c <= '~', '\t' <= c && c <= '\r':
			b.WriteByte(c)
		default:
			const hex = "0123456789abcdef"
			b.WriteString(`\x`)
			b.WriteByte(hex[c>>4])
			b.WriteByte(hex[c&15])
		}
	}
	return b.String()
}

// Limits of the log's ring, which the kernel makes from log_buf_len= of at most
// 2 GiB, with a record for each 32 bytes: kernel/printk/printk.c (Linux 7.2).
const (
	maxLogTextBits = 31
	maxLogDescBits = 26
)

// Log yields the records of the kernel log from the oldest to the newest:
// struct printk_ringbuffer, kernel/printk/printk_ringbuffer.h (Linux 5.10 to
// 7.2). Records without text are left out, as are those that were being
// written at the crash. A record that cannot be read is yielded with an error
// and what is known of it; whoever goes on iterating gets the rest. Without a
// log at all there is one error; kernels before 5.10 have another log and give
// ErrNoInfo.
func (k *Kernel) Log() iter.Seq2[LogRecord, error] {
	return func(yield func(LogRecord, error) bool) {
		r, err := k.openLog()
		if err != nil {
			yield(LogRecord{}, fmt.Errorf("kernel log: %w", err))
			return
		}
		// Ids are counted in 62 bits; the ring holds at most count of them.
		n := (r.head - r.tail) & descIDMask
		if n >= r.count {
			err := fmt.Errorf("kernel log: %d records in a ring of %d: %w", n+1, r.count, ErrCorrupt)
			if !yield(LogRecord{}, err) {
				return
			}
			n = r.count - 1
		}
		for ; n != ^uint64(0); n-- {
			id := (r.head - n) & descIDMask
			rec, ok, err := r.record(id)
			if err != nil {
				err = fmt.Errorf("kernel log, record %#x: %w", id, err)
			} else if !ok {
				continue
			}
			if !yield(rec, err) {
				return
			}
		}
	}
}

// logRing is the printk ring buffer of a dump.
type logRing struct {
	k           *Kernel
	count       uint64 // of descriptors, a power of two
	head, tail  uint64 // ids
	descs       *window
	infos       *window
	text        VirtAddr
	textBits    uint
	textScratch []byte

	// Layout of the structs.
	descSize, state, begin, next uint64
	infoSize                     uint64
	seq, ts, textLen             uint64
	facility, level, comm        field
	caller                       field
	subsystem, device            field
}

// field is where a member is; size 0 means the kernel has none.
type field struct{ offset, size uint64 }

// A descriptor's state_var: two bits of state, 62 bits of id.
const (
	descIDMask     = 1<<62 - 1
	descCommitted  = 1
	descFinalized  = 2
	descStateShift = 62
)

// logLayout collects the layout of structs from vmcoreinfo; err is the first
// that was missing or out of bounds.
type logLayout struct {
	info *VMCoreInfo
	err  error
}

// maxLogStruct bounds the structs of the log: the largest has 112 bytes in 7.2.
const maxLogStruct = 1024

func (l *logLayout) size(name string) uint64 {
	n, ok := l.info.Size(name)
	switch {
	case l.err != nil:
	case !ok:
		l.err = fmt.Errorf("SIZE(%s): %w", name, ErrNoInfo)
	case n == 0 || n > maxLogStruct:
		l.err = fmt.Errorf("SIZE(%s)=%d: %w", name, n, ErrCorrupt)
	}
	return n
}

// offset sums the offsets of members within each other; all of the innermost
// one's size must be inside limit.
func (l *logLayout) offset(limit, size uint64, names ...string) uint64 {
	var sum uint64
	for _, name := range names {
		n, ok := l.info.Offset(name)
		switch {
		case l.err != nil:
		case !ok:
			l.err = fmt.Errorf("OFFSET(%s): %w", name, ErrNoInfo)
		case n > maxLogStruct:
			l.err = fmt.Errorf("OFFSET(%s)=%d: %w", name, n, ErrCorrupt)
		}
		sum += n
	}
	if l.err == nil && sum+size > limit {
		l.err = fmt.Errorf("%s ends at %d of %d: %w", names[0], sum+size, limit, ErrCorrupt)
	}
	return sum
}

func (k *Kernel) openLog() (*logRing, error) {
	prb, ok := k.info.Symbol("prb")
	if !ok {
		return nil, fmt.Errorf("SYMBOL(prb): %w", ErrNoInfo)
	}
	l := &logLayout{info: k.info}
	r := &logRing{k: k}
	const dr, tr = "printk_ringbuffer.desc_ring", "printk_ringbuffer.text_data_ring"
	size := l.size("printk_ringbuffer")
	countBits := l.offset(size, 4, dr, "prb_desc_ring.count_bits")
	descs := l.offset(size, 8, dr, "prb_desc_ring.descs")
	infos := l.offset(size, 8, dr, "prb_desc_ring.infos")
	head := l.offset(size, 8, dr, "prb_desc_ring.head_id", "atomic_long_t.counter")
	tail := l.offset(size, 8, dr, "prb_desc_ring.tail_id", "atomic_long_t.counter")
	sizeBits := l.offset(size, 4, tr, "prb_data_ring.size_bits")
	data := l.offset(size, 8, tr, "prb_data_ring.data")

	r.descSize = l.size("prb_desc")
	r.state = l.offset(r.descSize, 8, "prb_desc.state_var", "atomic_long_t.counter")
	r.begin = l.offset(r.descSize, 8, "prb_desc.text_blk_lpos", "prb_data_blk_lpos.begin")
	r.next = l.offset(r.descSize, 8, "prb_desc.text_blk_lpos", "prb_data_blk_lpos.next")

	r.infoSize = l.size("printk_info")
	r.seq = l.offset(r.infoSize, 8, "printk_info.seq")
	r.ts = l.offset(r.infoSize, 8, "printk_info.ts_nsec")
	r.textLen = l.offset(r.infoSize, 2, "printk_info.text_len")
	if l.err != nil {
		return nil, l.err
	}
	r.optional()

	p, err := k.ReadPointer(prb)
	if err != nil {
		return nil, fmt.Errorf("prb: %w", err)
	}
	ring := make([]byte, size)
	if err := k.ReadVirt(ring, p); err != nil {
		return nil, fmt.Errorf("printk_ringbuffer at %#x: %w", p, err)
	}
	le := binary.LittleEndian
	bits := uint(le.Uint32(ring[countBits:]))
	r.textBits = uint(le.Uint32(ring[sizeBits:]))
	if bits > maxLogDescBits || r.textBits > maxLogTextBits {
		return nil, fmt.Errorf("ring of 2^%d records and 2^%d bytes: %w", bits, r.textBits, ErrCorrupt)
	}
	r.count = 1 << bits
	r.head, r.tail = le.Uint64(ring[head:])&descIDMask, le.Uint64(ring[tail:])&descIDMask
	r.descs = newWindow(k, VirtAddr(le.Uint64(ring[descs:])), r.count*r.descSize)
	r.infos = newWindow(k, VirtAddr(le.Uint64(ring[infos:])), r.count*r.infoSize)
	r.text = VirtAddr(le.Uint64(ring[data:]))
	return r, nil
}

// optional finds the members of struct printk_info that a log is a log without.
func (r *logRing) optional() {
	info := r.k.info
	has := func(offset, size uint64, ok bool) field {
		if !ok || offset > r.infoSize || size > r.infoSize-offset {
			return field{}
		}
		return field{offset, size}
	}
	caller, ok := info.Offset("printk_info.caller_id")
	r.caller = has(caller, 4, ok)
	// Between text_len and caller_id are facility, and flags and level in one
	// byte; vmcoreinfo does not name them.
	ok = ok && r.textLen < caller && caller-r.textLen == 4
	r.facility = has(r.textLen+2, 1, ok)
	r.level = has(r.textLen+3, 1, ok)

	dev, ok := info.Offset("printk_info.dev_info")
	// caller_id2 and comm[16] come next in kernels with
	// CONFIG_PRINTK_EXECUTION_CTX (7.0 and newer).
	r.comm = has(caller+8, 16, ok && r.caller.size > 0 && caller < dev && dev-caller == 4+4+16)
	sub, ok2 := info.Offset("dev_printk_info.subsystem")
	n, ok3 := info.Length("printk_info_subsystem")
	r.subsystem = has(dev+sub, n, ok && ok2 && ok3 && dev <= maxLogStruct && sub <= maxLogStruct)
	d, ok2 := info.Offset("dev_printk_info.device")
	n, ok3 = info.Length("printk_info_device")
	r.device = has(dev+d, n, ok && ok2 && ok3 && dev <= maxLogStruct && d <= maxLogStruct)
}

// record reads the record with an id; ok is false when there is nothing to
// show. With an error the record has what was read before it.
func (r *logRing) record(id uint64) (rec LogRecord, ok bool, err error) {
	le := binary.LittleEndian
	index := id & (r.count - 1)
	desc, err := r.descs.bytes(index*r.descSize, r.descSize)
	if err != nil {
		return rec, false, err
	}
	state := le.Uint64(desc[r.state:])
	if state&descIDMask != id {
		return rec, false, nil
	}
	if s := state >> descStateShift; s != descCommitted && s != descFinalized {
		return rec, false, nil
	}
	begin, next := le.Uint64(desc[r.begin:]), le.Uint64(desc[r.next:])
	size := uint64(1) << r.textBits
	if begin&(size-1) == next&(size-1) {
		// Without text, or the text found no room: the positions are odd
		// numbers that mark both (EMPTY_LINE_LPOS, FAILED_LPOS).
		return rec, false, nil
	}

	info, err := r.infos.bytes(index*r.infoSize, r.infoSize)
	if err != nil {
		return rec, false, err
	}
	textLen := uint64(le.Uint16(info[r.textLen:]))
	r.describe(&rec, info)

	// A block is the id again, then the text. One that does not fit before
	// the end of the ring is at its start; one may also end exactly there.
	start, end := begin&(size-1), (next-1)&(size-1)+1
	if begin>>r.textBits != (next-1)>>r.textBits {
		start = 0
	}
	start += 8
	if start > end {
		return rec, false, fmt.Errorf("text from %#x to %#x: %w", begin, next, ErrCorrupt)
	}
	// A text longer than its block was truncated by the kernel.
	n := min(textLen, end-start)
	if uint64(len(r.textScratch)) < n {
		r.textScratch = make([]byte, n)
	}
	if err := r.k.ReadVirt(r.textScratch[:n], r.text+VirtAddr(start)); err != nil {
		return rec, false, err
	}
	rec.Text = string(r.textScratch[:n])
	return rec, true, nil
}

// describe fills in all but the text.
func (r *logRing) describe(rec *LogRecord, info []byte) {
	le := binary.LittleEndian
	get := func(f field) []byte { return info[f.offset:][:f.size] }
	rec.Seq = le.Uint64(info[r.seq:])
	rec.Time = time.Duration(le.Uint64(info[r.ts:]))
	if b := get(r.facility); len(b) > 0 {
		rec.Facility = b[0]
	}
	if b := get(r.level); len(b) > 0 {
		rec.Level = b[0] >> 5
	}
	if b := get(r.caller); len(b) > 0 {
		const cpu = 1 << 31
		id := le.Uint32(b)
		rec.Caller = Caller{'T', id &^ cpu}
		if id&cpu != 0 {
			rec.Caller.Kind = 'C'
		}
	}
	rec.Comm = cString(get(r.comm))
	rec.Subsystem = cString(get(r.subsystem))
	rec.Device = cString(get(r.device))
}
