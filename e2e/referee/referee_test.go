package referee

import (
	"bytes"
	"compress/zlib"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

var le = binary.LittleEndian

// info612 are the lines of Debian's riscv64 6.12 that the rules read.
const info612 = `OSRELEASE=6.12.0-test
SIZE(page)=64
OFFSET(page.flags)=0
OFFSET(page.mapping)=24
OFFSET(page._mapcount)=48
OFFSET(page.private)=40
OFFSET(page.compound_head)=8
LENGTH(zone.free_area)=11
NUMBER(PG_lru)=5
NUMBER(PG_private)=14
NUMBER(PG_swapcache)=10
NUMBER(PG_swapbacked)=17
NUMBER(PG_head_mask)=64
NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)=-184549376
NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)=-268435456
NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)=-201326592
NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)=-251658240
NUMBER(SECTION_SIZE_BITS)=27
NUMBER(VA_BITS)=39
NUMBER(va_kernel_pa_offset)=0xfffffffeffe00000
NUMBER(PAGE_OFFSET)=0xffffffd600000000
NUMBER(phys_ram_base)=2147483648
NUMBER(VMALLOC_START)=0xffffffc600000000
NUMBER(VMALLOC_END)=0xffffffd600000000
NUMBER(VMEMMAP_START)=0xffffffc500000000
NUMBER(VMEMMAP_END)=0xffffffc600000000
NUMBER(MODULES_VADDR)=0xffffffff00000000
NUMBER(MODULES_END)=0xffffffff80000000
SYMBOL(vmemmap)=ffffffc4fe000000
SYMBOL(swapper_pg_dir)=ffffffff7fe10000
SYMBOL(mem_section)=ffffffc600001000
SIZE(mem_section)=16
LENGTH(mem_section)=2048
OFFSET(mem_section.section_mem_map)=0
`

func parseInfo(text string) vmcoreinfo {
	v := vmcoreinfo{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		v[key] = value
	}
	return v
}

const (
	lru        = 1 << 5
	head       = 1 << 6
	swapcache  = 1 << 10
	private    = 1 << 14
	swapbacked = 1 << 17
	noType     = 0xffffffff
)

func TestRules(t *testing.T) {
	l, err := newPageLayout(parseInfo(info612))
	if err != nil {
		t.Fatal(err)
	}
	tail4 := structPage{flags: 4, compound: 1, mapcount: noType}
	for _, c := range []struct {
		name  string
		page  structPage
		next  structPage
		class Class
		pages uint64
	}{
		{"kernel data", structPage{mapcount: noType}, structPage{}, Kept, 1},
		{"free, order 10", structPage{mapcount: 0xf0000000, private: 10}, structPage{}, Free, 1024},
		{"free with the owner's bits", structPage{mapcount: 0xf0000123, private: 0}, structPage{}, Free, 1},
		{"free of an impossible order", structPage{mapcount: 0xf0000000, private: 11}, structPage{}, Kept, 1},
		{"page cache", structPage{flags: lru, mapcount: noType}, structPage{}, Cache, 1},
		{"large folio of page cache", structPage{flags: lru | head, mapcount: noType}, tail4, Cache, 16},
		{"head flag without a tail", structPage{flags: lru | head, mapcount: noType}, structPage{flags: 4}, Cache, 1},
		{"buffers", structPage{flags: lru | private, mapcount: noType}, structPage{}, CachePrivate, 1},
		{"shmem in swap", structPage{flags: swapbacked | swapcache, mapcount: 0}, structPage{}, Cache, 1},
		{"swap-backed alone", structPage{flags: swapbacked, mapcount: 0}, structPage{}, Kept, 1},
		{"anonymous", structPage{flags: lru | swapbacked, mapping: 0xff600001, mapcount: 0}, structPage{}, User, 1},
		{"anonymous, huge", structPage{flags: lru | head, mapping: 1, mapcount: noType}, structPage{flags: 9, compound: 1}, User, 512},
		{"slab", structPage{mapcount: 0xf5000000, mapping: 0x1001}, structPage{}, Kept, 1},
		{"slab of order 4", structPage{flags: head, mapcount: 0xf5000000}, tail4, Kept, 16},
		{"hugetlb", structPage{flags: head, mapcount: 0xf4000000}, structPage{flags: 9, compound: 1}, User, 512},
		{"offline", structPage{mapcount: 0xf1000000}, structPage{}, Offline, 1},
		{"page table", structPage{mapcount: 0xf2000000}, structPage{}, Kept, 1},
		{"a type nobody knows", structPage{mapcount: 0xf9000000}, structPage{}, Kept, 1},
	} {
		if class, pages := l.rules(c.page, c.next); class != c.class || pages != c.pages {
			t.Errorf("%s: %v, %d pages; want %v, %d", c.name, class, pages, c.class, c.pages)
		}
	}
}

func TestLevels(t *testing.T) {
	for _, c := range []struct {
		level int
		out   string // classes left out
	}{
		{0, ""}, {1, ""}, {2, "cache"}, {4, "cache cache-private"}, {8, "user"},
		{16, "free unaccepted"}, {31, "free unaccepted cache cache-private user"},
	} {
		var out []string
		for class := Kept; class < Poisoned; class++ {
			if class.excludedAt(c.level) {
				out = append(out, class.String())
			}
		}
		if got := strings.Join(out, " "); got != c.out {
			t.Errorf("level %d leaves out %q; want %q", c.level, got, c.out)
		}
	}
}

// oldRules: up to 6.11 a page type is a cleared bit, and must match whole.
func TestRulesBeforeTypedPages(t *testing.T) {
	text := strings.NewReplacer("BUDDY_MAPCOUNT_VALUE)=-268435456", "BUDDY_MAPCOUNT_VALUE)=-129",
		"NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)=-184549376", "NUMBER(PG_slab)=7").Replace(info612)
	l, err := newPageLayout(parseInfo(text))
	if err != nil {
		t.Fatal(err)
	}
	if class, n := l.rules(structPage{mapcount: 0xffffff7f, private: 3}, structPage{}); class != Free || n != 8 {
		t.Errorf("buddy: %v, %d", class, n)
	}
	if class, _ := l.rules(structPage{mapcount: noType}, structPage{}); class != Kept {
		t.Errorf("no type: %v; want kept", class)
	}
	if class, _ := l.rules(structPage{flags: 1 << 7, mapping: 1, mapcount: noType}, structPage{}); class != Kept {
		t.Errorf("slab by flag: %v; want kept", class)
	}
}

// machine is a little riscv64 machine: RAM from 2 GiB on, sv39.
type machine struct {
	ram  []byte
	info string
}

const ramBase = 0x80000000

func newMachine(pages int) *machine {
	return &machine{ram: make([]byte, pages*pageSize), info: info612}
}

func (m *machine) put64(pa, v uint64)       { le.PutUint64(m.ram[pa-ramBase:], v) }
func pointTo(pfn uint64) uint64             { return pfn<<10 | 1 }
func leafTo(pfn uint64) uint64              { return pfn<<10 | 0xcf }
func (m *machine) page(index uint64) []byte { return m.ram[index*pageSize:][:pageSize] }

// core writes the machine as /proc/vmcore shows it.
func (m *machine) core(t *testing.T) *core {
	t.Helper()
	note := func(name string, kind uint32, desc []byte) []byte {
		b := le.AppendUint32(nil, uint32(len(name)+1))
		b = le.AppendUint32(b, uint32(len(desc)))
		b = le.AppendUint32(b, kind)
		b = append(b, name...)
		b = append(b, make([]byte, 4-len(name)%4)...)
		b = append(b, desc...)
		return append(b, make([]byte, (4-len(desc)%4)%4)...)
	}
	notes := append(note("CORE", 1, make([]byte, 376)), note("VMCOREINFO", 0, []byte(m.info))...)
	const notesAt, ramAt = 0x1000, 0x4000
	b := make([]byte, ramAt)
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 4)   // ET_CORE
	le.PutUint16(b[18:], 243) // EM_RISCV
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[32:], 64)
	le.PutUint16(b[52:], 64)
	le.PutUint16(b[54:], 56)
	le.PutUint16(b[56:], 2)
	ph := func(i int, kind uint32, offset, phys, size uint64) {
		p := b[64+56*i:]
		le.PutUint32(p, kind)
		le.PutUint64(p[8:], offset)
		le.PutUint64(p[24:], phys)
		le.PutUint64(p[32:], size)
		le.PutUint64(p[40:], size)
	}
	ph(0, 4, notesAt, 0, uint64(len(notes)))
	ph(1, 1, ramAt, ramBase, uint64(len(m.ram)))
	copy(b[notesAt:], notes)
	path := filepath.Join(t.TempDir(), "core")
	if err := os.WriteFile(path, append(b, m.ram...), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := openCore(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.close() })
	return c
}

func TestTranslate(t *testing.T) {
	// swapper_pg_dir at page 16 (ffffffff7fe10000 - va_kernel_pa_offset =
	// 80010000), a middle table at 17, a last table at 18.
	m := newMachine(1024)
	root, middle, last := uint64(ramBase+16*pageSize), uint64(ramBase+17*pageSize), uint64(ramBase+18*pageSize)
	va := uint64(0xffffffc600000000)
	m.put64(root+va>>30&511*8, pointTo(middle/pageSize))
	m.put64(middle+8*0, pointTo(last/pageSize))
	m.put64(middle+8*1, leafTo((ramBase+0x200000)/pageSize)|1<<63|3<<61) // N and PBMT bits are no address
	m.put64(last+8*3, leafTo(ramBase/pageSize+42))
	m.put64(last+8*4, leafTo(ramBase/pageSize+43)&^1)
	m.put64(root+8*511, leafTo(ramBase>>12&^(1<<18-1))) // 1 GiB

	c := m.core(t)
	s, err := newSpace(c)
	if err != nil {
		t.Fatal(err)
	}
	for _, q := range []struct{ va, want uint64 }{
		{va + 3*pageSize + 5, ramBase + 42*pageSize + 5},
		{va + 0x200000 + 0x12345, ramBase + 0x200000 + 0x12345},
		{0xffffffffc0000000 + 0x1234567, ramBase + 0x1234567},
	} {
		if got, err := s.translate(q.va); err != nil || got != q.want {
			t.Errorf("translate(%#x) = %#x, %v; want %#x", q.va, got, err, q.want)
		}
	}
	for _, bad := range []uint64{va, va + 4*pageSize, va + 0x400000, 0x0000004000000000, 0xffff000000000000} {
		if got, err := s.translate(bad); err == nil {
			t.Errorf("translate(%#x) = %#x; want an error", bad, got)
		}
	}
	tables, leaves := map[uint64]bool{}, map[uint64]uint64{}
	if err := s.walk(func(va, pfn, pages uint64, table bool) {
		if table {
			tables[pfn] = true
		} else {
			leaves[va] = pages
		}
	}); err != nil {
		t.Fatal(err)
	}
	if len(tables) != 3 || len(leaves) != 3 || leaves[va+0x200000] != 512 || leaves[va+3*pageSize] != 1 || leaves[0xffffffffc0000000] != 1<<18 {
		t.Errorf("walk found %d tables and %#x", len(tables), leaves)
	}
}

// put writes a struct page as info612 has it.
func (p structPage) put(b []byte) {
	le.PutUint64(b, p.flags)
	le.PutUint64(b[8:], p.compound)
	le.PutUint64(b[24:], p.mapping)
	le.PutUint64(b[40:], p.private)
	le.PutUint32(b[48:], p.mapcount)
}

// classified builds a machine of 64 pages whose struct pages are given, and
// classifies it.
func classified(t *testing.T, pages map[uint64]structPage) *census {
	t.Helper()
	m := newMachine(64)
	root, middle, last, vmemmap := uint64(16), uint64(17), uint64(18), uint64(19)
	sections, section := uint64(20), uint64(21)
	pfn := func(index uint64) uint64 { return ramBase/pageSize + index }
	pa := func(index uint64) uint64 { return ramBase + index*pageSize }
	// vmemmap is -128 MiB/4096*64 below VMEMMAP_START, so that the first
	// frame, 0x80000, has its struct page at VMEMMAP_START.
	m.put64(pa(root)+0xffffffc500000000>>30&511*8, pointTo(pfn(middle)))
	m.put64(pa(middle), pointTo(pfn(last)))
	m.put64(pa(last), leafTo(pfn(vmemmap)))
	// vmalloc space holds mem_section and its one root.
	m.put64(pa(root)+0xffffffc600000000>>30&511*8, pointTo(pfn(22)))
	m.put64(pa(22), pointTo(pfn(23)))
	m.put64(pa(23)+8*1, leafTo(pfn(sections)))
	m.put64(pa(23)+8*2, leafTo(pfn(section)))
	m.put64(pa(sections), 0xffffffc600002000)
	m.put64(pa(section)+16*16, 0xffffffc4fe000000|0xf)
	for i := range uint64(64) {
		p, ok := pages[i]
		if !ok {
			p.mapcount = noType
		}
		b := m.page(vmemmap)[i*64:]
		p.put(b)
	}
	s, err := newSpace(m.core(t))
	if err != nil {
		t.Fatal(err)
	}
	z, err := classify(s)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func TestClassify(t *testing.T) {
	z := classified(t, map[uint64]structPage{
		0:  {mapcount: 0xf0000000, private: 2}, // four free pages
		8:  {flags: lru | head, mapcount: noType},
		9:  {flags: 1, compound: 0xffffffc500000200 | 1, mapcount: noType},
		20: {flags: lru | swapbacked, mapping: 1, mapcount: 0},
		24: {flags: head, mapcount: 0xf5000000},
		25: {flags: 2, compound: 0xffffffc500000600 | 1, mapcount: noType},
		26: {compound: 0xffffffc500000600 | 1, mapcount: noType},
		27: {compound: 0xffffffc500000600 | 1, mapcount: noType},
		40: {flags: 1 << 13, mapcount: noType},
		63: {mapcount: 0xf0000000, private: 4}, // reaches beyond memory
	})
	base := uint64(ramBase / pageSize)
	for i := range uint64(64) {
		want := Kept
		switch i {
		case 0, 1, 2, 3, 63:
			want = Free
		case 8, 9:
			want = Cache
		case 20:
			want = User
		}
		if got := z.class[base+i]; got != want {
			t.Errorf("page %d: %v; want %v", i, got, want)
		}
		if got, want := z.slab[base+i], i >= 24 && i < 28; got != want {
			t.Errorf("page %d: slab %v; want %v", i, got, want)
		}
		if got, want := z.reserved[base+i], i == 40; got != want {
			t.Errorf("page %d: reserved %v; want %v", i, got, want)
		}
	}
	if z.class[base-1] != Absent || z.count[Free] != 5 {
		t.Errorf("below memory: %v; %d free", z.class[base-1], z.count[Free])
	}
}

// A dump that is wrong in one page must be found wrong.
func TestComparePages(t *testing.T) {
	z := classified(t, map[uint64]structPage{0: {mapcount: 0xf0000000, private: 2}})
	base := uint64(ramBase / pageSize)
	dump := func() *diskdump {
		n := len(z.class)/8 + 4096
		d := &diskdump{maxPFN: uint64(len(z.class)), exists: make([]byte, n), dumped: make([]byte, n)}
		for i := range uint64(64) {
			d.exists[(base+i)/8] |= 1 << ((base + i) % 8)
			if i >= 4 {
				d.dumped[(base+i)/8] |= 1 << ((base + i) % 8)
			}
		}
		return d
	}
	flip := func(bitmap []byte, pfn uint64) { bitmap[pfn/8] ^= 1 << (pfn % 8) }
	bad := func(d *diskdump, unreadable ...Range) string {
		var names []string
		for _, f := range comparePages(z, d, 16, unreadable) {
			if !f.OK {
				names = append(names, f.Check)
			}
		}
		return strings.Join(names, "; ")
	}
	if got := bad(dump()); got != "" {
		t.Errorf("a right dump: %s", got)
	}
	for _, c := range []struct {
		name string
		do   func(*diskdump)
		want string
	}{
		{"page dropped", func(d *diskdump) { flip(d.dumped, base+5) }, "every page the rules keep is in the dump"},
		{"free page kept", func(d *diskdump) { flip(d.dumped, base+1) }, "no page the rules take is in the dump"},
		{"first bitmap lacks one", func(d *diskdump) { flip(d.exists, base+1) }, "first bitmap = pages of the machine"},
		{"page beyond", func(d *diskdump) { flip(d.exists, base+65) }, "nothing beyond the last page"},
	} {
		d := dump()
		c.do(d)
		if got := bad(d); got != c.want {
			t.Errorf("%s: found %q; want %q", c.name, got, c.want)
		}
	}
	d := dump()
	flip(d.dumped, base+7)
	if got := bad(d, Range{ramBase + 7*pageSize, ramBase + 8*pageSize}); got != "" {
		t.Errorf("a page said to be unreadable: %s", got)
	}
}

// writeDiskdump writes pages (by frame number, all below 512) as makedumpfile
// does, compressed in turn by nothing, zlib and zstd.
func writeDiskdump(t *testing.T, pages map[uint64][]byte) string {
	t.Helper()
	b := make([]byte, 4*pageSize)
	copy(b, "KDUMP   ")
	le.PutUint32(b[8:], 6)
	copy(b[12+4*65:], "riscv64")
	le.PutUint32(b[428:], pageSize)
	le.PutUint32(b[432:], 1)
	le.PutUint32(b[436:], 2)
	le.PutUint32(b[pageSize+8:], 31)
	le.PutUint64(b[pageSize+96:], 512)
	var data []byte
	var descs []byte
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	for pfn := range uint64(512) {
		p, ok := pages[pfn]
		if !ok {
			continue
		}
		b[2*pageSize+int(pfn/8)] |= 1 << (pfn % 8)
		b[3*pageSize+int(pfn/8)] |= 1 << (pfn % 8)
		flags, out := uint32(0), p
		switch pfn % 3 {
		case 1:
			var w bytes.Buffer
			zw := zlib.NewWriter(&w)
			zw.Write(p)
			zw.Close()
			flags, out = 1, w.Bytes()
		case 2:
			flags, out = 0x20, z.EncodeAll(p, nil)
		}
		descs = le.AppendUint64(descs, uint64(4*pageSize+24*len(pages)+len(data)))
		descs = le.AppendUint32(descs, uint32(len(out)))
		descs = le.AppendUint32(descs, flags)
		descs = le.AppendUint64(descs, 0)
		data = append(data, out...)
	}
	path := filepath.Join(t.TempDir(), "dump")
	if err := os.WriteFile(path, append(append(b, descs...), data...), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestDiskdump(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	pages := map[uint64][]byte{}
	for _, pfn := range []uint64{0, 1, 7, 8, 9, 100, 101, 102, 511} {
		pages[pfn] = bytes.Repeat(fmt.Appendf(nil, "%016x", rng.Uint64()), pageSize/16)
	}
	d, err := openDiskdump(writeDiskdump(t, pages))
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	if d.level != 31 || d.machine != "riscv64" || d.maxPFN != 512 {
		t.Errorf("level %d, machine %q, %d pages", d.level, d.machine, d.maxPFN)
	}
	buf := make([]byte, 0, pageSize)
	for pfn := range uint64(520) {
		got, err := d.page(pfn, buf)
		if want, ok := pages[pfn]; !ok {
			if err == nil {
				t.Errorf("page %d: read; want an error", pfn)
			}
		} else if err != nil || !bytes.Equal(got, want) {
			t.Errorf("page %d: %v, equal %v", pfn, err, bytes.Equal(got, want))
		}
	}
}

// One changed byte in one page must be found.
func TestContents(t *testing.T) {
	m := newMachine(8)
	pages := map[uint64][]byte{}
	c := m.core(t)
	c.loads[0].phys = 0 // frames below 512, for the little dump
	for pfn := range uint64(8) {
		pages[pfn] = bytes.Clone(m.page(pfn))
	}
	for _, changed := range []bool{false, true} {
		if changed {
			pages[5][17] = 1
		}
		d, err := openDiskdump(writeDiskdump(t, pages))
		if err != nil {
			t.Fatal(err)
		}
		r := &Report{}
		err = r.contents(c, d)
		d.close()
		if err != nil || len(r.Findings) != 1 || r.Findings[0].OK == changed {
			t.Errorf("changed %v: %+v, %v", changed, r.Findings, err)
		}
	}
}

func TestCompareFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	a, b, empty := write("a", "one\ntwo\n"), write("b", "one\ntwo!\n"), write("empty", "")
	for _, c := range []struct {
		x, y string
		ok   bool
	}{{a, a, true}, {a, b, false}, {empty, empty, false}, {a, empty, false}} {
		if f, err := compareFiles("log", c.x, c.y); err != nil || f.OK != c.ok {
			t.Errorf("%s %s: %+v, %v", c.x, c.y, f, err)
		}
	}
}
