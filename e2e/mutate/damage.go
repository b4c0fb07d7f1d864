package mutate

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

const pageSize = 4096

// patch is bytes that stand in place of others.
type patch struct {
	at   uint64
	data []byte
}

func (p patch) over(b []byte, at uint64) {
	if p.at < at+uint64(len(b)) && at < p.at+uint64(len(p.data)) {
		if p.at >= at {
			copy(b[p.at-at:], p.data)
		} else {
			copy(b, p.data[at-p.at:])
		}
	}
}

// damager makes up damage; all of it comes out of one seed.
type damager struct {
	*rand.Rand
	say strings.Builder // what was done, for people
}

func newDamager(seed uint64, run int) *damager {
	return &damager{Rand: rand.New(rand.NewPCG(seed, uint64(run)))}
}

// often is how much is done to one dump: mostly little, so that one thing alone
// is wrong, sometimes a lot.
func (d *damager) often() int {
	n := 1
	for n < 64 && d.IntN(3) > 0 {
		n += 1 + d.IntN(n)
	}
	return n
}

// number makes one number of a struct into another that programs stumble over.
func (d *damager) number(old uint64, other func() uint64) uint64 {
	switch d.IntN(9) {
	case 0:
		return 0
	case 1:
		return ^uint64(0)
	case 2:
		return d.Uint64()
	case 3:
		return uint64(d.IntN(4096))
	case 4:
		return 1 << d.IntN(64)
	case 5:
		return 1<<(1+d.IntN(63)) - 1
	case 6:
		return old + uint64(8*(d.IntN(64)-32))
	case 7:
		return other()
	}
	return old ^ 1<<d.IntN(64)
}

// bytes changes what was read at a place. old is what is there, other gives
// numbers that stand elsewhere.
func (d *damager) bytes(s span, old []byte, other func() uint64) patch {
	p := patch{at: s.at, data: append([]byte(nil), old...)}
	switch at := d.IntN(len(old)); d.IntN(4) {
	case 0:
		p.data[at] ^= 1 << d.IntN(8)
		fmt.Fprintf(&d.say, "bit of %#x; ", s.at+uint64(at))
	case 1:
		n := min(1+d.IntN(64), len(old)-at)
		clear(p.data[at : at+n])
		fmt.Fprintf(&d.say, "zeros at %#x, %d; ", s.at+uint64(at), n)
	default:
		size := 1 << d.IntN(4)
		at &^= size - 1
		if at+size > len(old) {
			at, size = d.IntN(len(old)), 1
		}
		var b [8]byte
		copy(b[:], old[at:at+size])
		n := d.number(binary.LittleEndian.Uint64(b[:]), other)
		binary.LittleEndian.PutUint64(b[:], n)
		copy(p.data[at:at+size], b[:])
		fmt.Fprintf(&d.say, "%#x at %#x, %d; ", n, s.at+uint64(at), size)
	}
	return p
}

// damagedFile is a file with patches, cut off at a size.
type damagedFile struct {
	io.ReaderAt
	size    int64
	patches []patch
}

func (f *damagedFile) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= f.size {
		return 0, io.EOF
	}
	var end error
	if int64(len(p)) > f.size-off {
		p, end = p[:f.size-off], io.EOF
	}
	n, err := f.ReaderAt.ReadAt(p, off)
	for _, patch := range f.patches {
		patch.over(p[:n], uint64(off))
	}
	if err == nil {
		err = end
	}
	return n, err
}

// file damages the file of a dump.
func (d *damager) file(r io.ReaderAt, size int64, from *places) *damagedFile {
	f := &damagedFile{ReaderAt: r, size: size}
	if d.IntN(8) == 0 {
		f.size = d.Int64N(size + 1)
		fmt.Fprintf(&d.say, "cut to %d bytes; ", f.size)
		if d.IntN(2) == 0 {
			return f
		}
	}
	read := func(s span) []byte {
		old := make([]byte, min(s.len, 1<<16))
		n, _ := r.ReadAt(old, int64(s.at))
		return old[:n]
	}
	other := func() uint64 {
		s := from.pick(d.Rand)
		s.len = 8
		var b [8]byte
		copy(b[:], read(s))
		return binary.LittleEndian.Uint64(b[:])
	}
	for range d.often() {
		s := from.pick(d.Rand)
		switch d.IntN(6) {
		case 0: // a stretch of zeros
			n := 1 << d.IntN(17)
			f.patches = append(f.patches, patch{s.at, make([]byte, n)})
			fmt.Fprintf(&d.say, "%d zeros at %#x; ", n, s.at)
		case 1: // what stands elsewhere
			like := from.pick(d.Rand)
			like.len = max(s.len, 16)
			f.patches = append(f.patches, patch{s.at, read(like)})
			fmt.Fprintf(&d.say, "%#x as at %#x; ", s.at, like.at)
		default:
			if old := read(s); len(old) > 0 {
				f.patches = append(f.patches, d.bytes(s, old, other))
			}
		}
	}
	return f
}

// damagedMemory is memory with patches, pages that cannot be read and pages in
// place of others.
type damagedMemory struct {
	kernel.Memory
	patches map[uint64][]patch // by page
	kinds   map[uint64]error   // why a page cannot be read
	instead map[uint64]uint64  // pages that show another one
}

func (m *damagedMemory) ReadPhys(p []byte, addr vmcore.PhysAddr) (int, error) {
	for done := 0; done < len(p); {
		at := uint64(addr) + uint64(done)
		pfn, off := at/pageSize, at%pageSize
		n := min(len(p)-done, int(pageSize-off))
		if kind := m.kinds[pfn]; kind != nil {
			return done, &vmcore.AddrError{Addr: vmcore.PhysAddr(at), Kind: kind}
		}
		from := at
		if other, ok := m.instead[pfn]; ok {
			from = other*pageSize + off
		}
		part := p[done : done+n]
		if got, err := m.Memory.ReadPhys(part, vmcore.PhysAddr(from)); err != nil {
			return done + got, err
		}
		for _, patch := range m.patches[pfn] {
			patch.over(part, at)
		}
		done += n
	}
	return len(p), nil
}

func (m *damagedMemory) patch(p patch) {
	for pfn := p.at / pageSize; pfn <= (p.at+uint64(len(p.data))-1)/pageSize; pfn++ {
		m.patches[pfn] = append(m.patches[pfn], p)
	}
}

// memory damages the dead machine's memory.
func (d *damager) memory(mem kernel.Memory, from *places) *damagedMemory {
	m := &damagedMemory{mem, map[uint64][]patch{}, map[uint64]error{}, map[uint64]uint64{}}
	read := func(s span) []byte {
		old := make([]byte, min(s.len, 1<<16))
		n, _ := mem.ReadPhys(old, vmcore.PhysAddr(s.at))
		return old[:n]
	}
	other := func() uint64 {
		s := from.pick(d.Rand)
		s.len = 8
		var b [8]byte
		copy(b[:], read(s))
		return binary.LittleEndian.Uint64(b[:])
	}
	for range d.often() {
		s := from.pick(d.Rand)
		pfn := s.at / pageSize
		switch d.IntN(16) {
		case 0:
			m.patch(patch{pfn * pageSize, make([]byte, pageSize)})
			fmt.Fprintf(&d.say, "page %#x of zeros; ", pfn)
		case 1:
			m.instead[pfn] = from.pick(d.Rand).at / pageSize
			fmt.Fprintf(&d.say, "page %#x as page %#x; ", pfn, m.instead[pfn])
		case 2:
			kinds := []error{vmcore.ErrHole, vmcore.ErrExcluded, vmcore.ErrUnreadable}
			m.kinds[pfn] = kinds[d.IntN(len(kinds))]
			fmt.Fprintf(&d.say, "page %#x: %v; ", pfn, m.kinds[pfn])
		default:
			if old := read(s); len(old) > 0 {
				m.patch(d.bytes(s, old, other))
			}
		}
	}
	return m
}

// text damages vmcoreinfo: a number in one of its lines, or any bit of it.
func (d *damager) text(info []byte) []byte {
	lines := strings.Split(string(info), "\n")
	i := d.IntN(len(lines))
	fmt.Fprintf(&d.say, "vmcoreinfo %q; ", lines[i])
	name, value, ok := strings.Cut(lines[i], "=")
	switch d.IntN(4) {
	case 0:
		lines[i] = ""
	case 1:
		b := []byte(strings.Join(lines, "\n"))
		b[d.IntN(len(b))] ^= 1 << d.IntN(8)
		return b
	default:
		var old uint64
		fmt.Sscan("0x"+strings.TrimPrefix(value, "0x"), &old) // 0 will do
		n := d.number(old, d.Uint64)
		if lines[i] = fmt.Sprintf("%s=%x", name, n); !ok || strings.HasPrefix(name, "NUMBER") {
			lines[i] = fmt.Sprintf("%s=%d", name, int64(n))
		}
	}
	return []byte(strings.Join(lines, "\n"))
}

// notes damages the notes of CPUs.
func (d *damager) notes(notes []vmcore.Note) []vmcore.Note {
	var all []vmcore.Note
	for _, n := range notes {
		n.Desc = append([]byte(nil), n.Desc...)
		switch {
		case len(n.Desc) == 0 || d.IntN(2) == 0:
		case d.IntN(4) == 0:
			n.Desc = n.Desc[:d.IntN(len(n.Desc))]
		default:
			at := d.IntN(len(n.Desc)/8+1) * 8
			if at+8 <= len(n.Desc) {
				old := binary.LittleEndian.Uint64(n.Desc[at:])
				binary.LittleEndian.PutUint64(n.Desc[at:], d.number(old, d.Uint64))
			}
		}
		all = append(all, n)
	}
	d.say.WriteString("notes; ")
	return all
}
