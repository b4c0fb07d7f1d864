package block

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/kerneltest"
)

const structs = `
super_block: pad s_inodes:16
inode: pad i_sb_list:16
bdev_inode: pad bdev:24 vfs_inode:24
block_device: pad bd_disk bd_nr_sectors
gendisk: pad disk_name:1*32 part0 queue
blk_mq_hw_ctx: pad tags sched_tags
blk_mq_tags: pad nr_tags:4 nr_reserved_tags:4 bitmap_tags:48 breserved_tags:48 rqs static_rqs
sbitmap_queue: pad sb:40
sbitmap: pad depth:4 shift:4 map_nr:4 map
sbitmap_word: pad word cleared
request: pad q cmd_flags:4 tag:4 __data_len:4 __sector start_time_ns state:4
xarray: pad xa_head
xa_node: pad shift:1 offset:1 parent slots:8*16
tk_read_base: pad xtime_nsec base shift:4
tk_fast: pad seq:4 base:32*2
`

// layouts of kernels that keep hardware queues in an xarray and in an array.
var layouts = map[string]string{
	"xarray": structs + "request_queue: pad hctx_table:16 nr_hw_queues:4",
	"array":  structs + "request_queue: pad queue_hw_ctx nr_hw_queues:4",
}

type machine struct {
	*kerneltest.Data
	super  uint64
	fast   uint64 // struct tk_fast
	inodes []uint64
}

func newMachine(layout string) *machine {
	m := &machine{Data: kerneltest.NewData()}
	m.Structs(layouts[layout])
	m.Enum("req_op", map[string]int64{
		"REQ_OP_READ": 0, "REQ_OP_WRITE": 1, "REQ_OP_FLUSH": 2, "REQ_OP_WRITE_ZEROES": 9, "REQ_OP_LAST": 36,
	})
	m.super = m.New("super_block")
	m.Words(m.Variable("blockdev_superblock", 8), m.super)
	m.fast = m.Variable("tk_fast_mono", 256)
	m.clock(0, 0)
	m.bdev(0, 0) // the root directory
	return m
}

// bdev makes a block device of a disk.
func (m *machine) bdev(disk, sectors uint64) uint64 {
	i := m.New("bdev_inode")
	b := m.of(i, "bdev_inode.bdev")
	m.Set(b, "block_device.bd_disk", disk)
	m.Set(b, "block_device.bd_nr_sectors", sectors)
	m.inodes = append(m.inodes, m.of(m.of(i, "bdev_inode.vfs_inode"), "inode.i_sb_list"))
	m.Ring(append([]uint64{m.of(m.super, "super_block.s_inodes")}, m.inodes...)...)
	return b
}

// disk makes a disk and gives its queue.
func (m *machine) disk(name string, sectors uint64) (disk, queue uint64) {
	disk, queue = m.New("gendisk"), m.New("request_queue")
	m.Put(m.of(disk, "gendisk.disk_name"), []byte(name))
	m.Set(disk, "gendisk.part0", m.bdev(disk, sectors))
	m.Set(disk, "gendisk.queue", queue)
	return disk, queue
}

// hwQueues gives a queue hardware queues.
func (m *machine) hwQueues(queue uint64, hw ...uint64) {
	m.Set(queue, "request_queue.nr_hw_queues", uint64(len(hw)))
	if m.Has("request_queue.queue_hw_ctx") {
		list := m.Bytes(8 * uint64(len(hw)))
		m.Set(queue, "request_queue.queue_hw_ctx", list)
		for i, at := range hw {
			m.Words(list+uint64(8*i), at)
		}
		return
	}
	xa := m.of(queue, "request_queue.hctx_table")
	if len(hw) == 1 {
		m.Set(xa, "xarray.xa_head", hw[0])
		return
	}
	node := m.New("xa_node")
	m.Set(xa, "xarray.xa_head", node|2)
	for i, at := range hw {
		m.Words(m.of(node, "xa_node.slots")+uint64(8*i), at)
	}
}

func (m *machine) hwQueue(tags, sched uint64) uint64 {
	hw := m.New("blk_mq_hw_ctx")
	m.Set(hw, "blk_mq_hw_ctx.tags", tags)
	m.Set(hw, "blk_mq_hw_ctx.sched_tags", sched)
	return hw
}

// The tests' tags are 70, the first two of them reserved, 32 in a word.
const (
	testTags     = 70
	testReserved = 2
	testShift    = 5
)

func (m *machine) tags() uint64 {
	t := m.New("blk_mq_tags")
	m.Set(t, "blk_mq_tags.nr_tags", testTags)
	m.Set(t, "blk_mq_tags.nr_reserved_tags", testReserved)
	m.Set(t, "blk_mq_tags.rqs", m.Bytes(8*testTags))
	m.Set(t, "blk_mq_tags.static_rqs", m.Bytes(8*testTags))
	for member, depth := range map[string]uint64{"bitmap_tags": testTags - testReserved, "breserved_tags": testReserved} {
		sb := m.of(m.of(t, "blk_mq_tags."+member), "sbitmap_queue.sb")
		words := (depth + 1<<testShift - 1) >> testShift
		m.Set(sb, "sbitmap.depth", depth)
		m.Set(sb, "sbitmap.shift", testShift)
		m.Set(sb, "sbitmap.map_nr", words)
		m.Set(sb, "sbitmap.map", m.Bytes(24*words))
	}
	return t
}

// mark sets or clears the bit of a tag; clearing is by the word of those that
// were cleared lately.
func (m *machine) mark(tags, tag uint64, member string) {
	bitmap := "breserved_tags"
	if tag >= testReserved {
		bitmap, tag = "bitmap_tags", tag-testReserved
	}
	words := m.Word(m.of(m.of(m.of(tags, "blk_mq_tags."+bitmap), "sbitmap_queue.sb"), "sbitmap.map"))
	at := m.of(words+24*(tag>>testShift), "sbitmap_word."+member)
	m.Words(at, m.Word(at)|1<<(tag%(1<<testShift)))
}

// request makes a request of a queue.
func (m *machine) request(queue uint64, op uint32, sector, bytes, start, state uint64, tag int) uint64 {
	r := m.New("request")
	m.Set(r, "request.q", queue)
	m.Set(r, "request.cmd_flags", uint64(op)|0xabc00) // REQ_SYNC and others
	m.Set(r, "request.tag", uint64(tag))
	m.Set(r, "request.__data_len", uint64(bytes))
	m.Set(r, "request.__sector", uint64(sector))
	m.Set(r, "request.start_time_ns", uint64(start))
	m.Set(r, "request.state", uint64(state))
	return r
}

// put puts a request into the rqs or static_rqs of tags.
func (m *machine) put(tags uint64, member string, tag int, request uint64) {
	m.Words(m.Word(m.of(tags, "blk_mq_tags."+member))+uint64(8*tag), request)
}

// clock sets the time, in nanoseconds. While an update is under way, which an odd
// sequence tells, the second copy is the one that counts.
func (m *machine) clock(now, sequence uint64) {
	m.Set(m.fast, "tk_fast.seq", sequence)
	for i := range uint64(2) {
		at := m.of(m.fast, "tk_fast.base") + i*32
		m.Set(at, "tk_read_base.base", 1<<62)
		if i == sequence&1 {
			m.Set(at, "tk_read_base.base", now-5)
		}
		m.Set(at, "tk_read_base.xtime_nsec", 5<<8|17)
		m.Set(at, "tk_read_base.shift", 8)
	}
}

const second = 1e9

// usual makes a machine with a disk without a scheduler, of two hardware queues,
// and two with one that share their tags.
func usual(layout string) (m *machine, want []Disk) {
	m = newMachine(layout)

	sdb, sdbQueue := m.disk("sdb", 100)
	sda, sdaQueue := m.disk("sda", 1<<21)
	m.bdev(sda, 1000) // a partition
	vda, vdaQueue := m.disk("vda", 1<<32)
	dm, _ := m.disk("dm-0", 77)

	a, b := m.tags(), m.tags()
	m.hwQueues(vdaQueue, m.hwQueue(a, 0), m.hwQueue(b, 0))
	begin := func(tags, queue uint64, tag int, op uint32, sector, bytes, start, state uint64) uint64 {
		r := m.request(queue, op, sector, bytes, start, state, tag)
		m.put(tags, "static_rqs", tag, r)
		m.put(tags, "rqs", tag, r)
		m.mark(tags, uint64(tag), "word")
		return r
	}
	r1 := begin(a, vdaQueue, 0, 1, 8, 4096, 100*second, requestInFlight) // a reserved tag
	r2 := begin(a, vdaQueue, 69, 0, 16, 512, 90*second, requestInFlight) // the last one
	r3 := begin(b, vdaQueue, 40, 9, 24, 0, 99*second, requestInFlight)
	r4 := begin(b, vdaQueue, 41, 77, 32, 8192, 0, requestIdle)   // not begun
	begin(b, vdaQueue, 42, 1, 40, 512, 98*second, 2)             // answered
	begin(b, vdaQueue, 43, 1, 48, 512, 98*second, requestIdle+7) // whatever that is
	r := begin(b, vdaQueue, 44, 1, 56, 512, 98*second, requestInFlight)
	m.mark(b, 44, "cleared") // ended: its tag is free
	// A tag without a bit.
	m.put(b, "rqs", 50, r)

	driver, sched := m.tags(), m.tags()
	shared := m.hwQueue(driver, sched)
	m.hwQueues(sdaQueue, shared)
	m.hwQueues(sdbQueue, m.hwQueue(driver, sched))
	given := func(queue uint64, tag, driverTag int, sector uint64) uint64 {
		r := m.request(queue, 1, sector, 1024, 95*second, requestInFlight, driverTag)
		m.put(sched, "static_rqs", tag, r)
		m.put(driver, "rqs", driverTag, r)
		m.mark(sched, uint64(tag), "word")
		m.mark(driver, uint64(driverTag), "word")
		return r
	}
	s1 := given(sdaQueue, 10, 20, 1000)
	s2 := given(sdbQueue, 11, 21, 2000)
	// What waits in the scheduler, and what was left behind under a tag.
	s3 := m.request(sdaQueue, 1, 3000, 2048, 94*second, requestIdle, -1)
	m.put(sched, "static_rqs", 12, s3)
	m.mark(sched, 12, "word")
	m.put(driver, "rqs", 22, s1)
	m.mark(driver, 22, "word")
	// A flush has a request of its own.
	s4 := m.request(sdaQueue, 2, noSector, 0, 93*second, requestInFlight, 23)
	m.put(driver, "rqs", 23, s4)
	m.mark(driver, 23, "word")
	// The driver's own requests of the adapter belong to no disk.
	other := m.request(m.New("request_queue"), 34, 0, 0, 1, requestInFlight, 24)
	m.put(driver, "rqs", 24, other)
	m.mark(driver, 24, "word")

	return m, []Disk{
		{Addr: kernel.VirtAddr(dm), Name: "dm-0", Bytes: 77 * 512},
		{
			Addr: kernel.VirtAddr(sda), Name: "sda", Bytes: 1 << 30,
			InFlight: []Request{{kernel.VirtAddr(s4), "flush", 0, 0, 7 * second}, {kernel.VirtAddr(s1), "write", 1000, 1024, 5 * second}},
			Queued:   []Request{{kernel.VirtAddr(s3), "write", 3000, 2048, 6 * second}},
		},
		{Addr: kernel.VirtAddr(sdb), Name: "sdb", Bytes: 51200, InFlight: []Request{{kernel.VirtAddr(s2), "write", 2000, 1024, 5 * second}}},
		{
			Addr: kernel.VirtAddr(vda), Name: "vda", Bytes: 2 << 40,
			InFlight: []Request{{kernel.VirtAddr(r2), "read", 16, 512, 10 * second}, {kernel.VirtAddr(r3), "write zeroes", 24, 0, 1 * second}, {kernel.VirtAddr(r1), "write", 8, 4096, 0}},
			Queued:   []Request{{kernel.VirtAddr(r4), "operation 77", 32, 8192, 0}},
		},
	}
}

func TestDisks(t *testing.T) {
	for layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			m, want := usual(layout)
			// The last tick was a while before the youngest request.
			m.clock(97*second, 0)
			got, err := Disks(m.Open(t, m))
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%+v, %v\nwant %+v", got, err, want)
			}
			m.Set(m.of(m.fast, "tk_fast.base"), "tk_read_base.shift", 33)
			got, err = Disks(m.Open(t, m))
			if !errors.Is(err, kernel.ErrCorrupt) {
				t.Errorf("clock with a shift of 33: %v; want an error", err)
			}
			for _, d := range got {
				for _, r := range slices.Concat(d.InFlight, d.Queued) {
					if r.Age != 0 {
						t.Errorf("%s: age %d without a clock", d.Name, r.Age)
					}
				}
			}
		})
	}
}

// A request that was begun in the far future was not.
func TestFuture(t *testing.T) {
	m := newMachine("array")
	_, q := m.disk("vda", 8)
	tags := m.tags()
	m.hwQueues(q, m.hwQueue(tags, 0))
	for tag, start := range map[int]uint64{3: 1 << 63, 4: 10 * second} {
		m.put(tags, "rqs", tag, m.request(q, 0, 0, 0, start, requestInFlight, tag))
		m.mark(tags, uint64(tag), "word")
	}
	m.clock(12*second, 1)
	got, err := Disks(m.Open(t, m))
	if err != nil || len(got) != 1 || len(got[0].InFlight) != 2 || got[0].InFlight[0].Age != 2*second || got[0].InFlight[1].Age != 0 {
		t.Errorf("%+v, %v; want ages 2 s and unknown", got, err)
	}
}

func TestDamaged(t *testing.T) {
	first := func(m *machine) uint64 {
		tags, q := m.tags(), uint64(0)
		_, q = m.disk("bad", 1)
		m.hwQueues(q, m.hwQueue(tags, 0))
		return tags
	}
	for _, c := range []struct {
		what, want string
		damage     func(m *machine)
	}{
		{"too many tags", "tags", func(m *machine) { m.Set(first(m), "blk_mq_tags.nr_tags", maxTags+1) }},
		{"more reserved than there are", "reserved", func(m *machine) { m.Set(first(m), "blk_mq_tags.nr_reserved_tags", 71) }},
		{"wide words", "bitmap", func(m *machine) {
			m.Set(m.of(m.of(first(m), "blk_mq_tags.bitmap_tags"), "sbitmap_queue.sb"), "sbitmap.shift", 7)
		}},
		{"more bits than tags", "bitmap", func(m *machine) {
			m.Set(m.of(m.of(first(m), "blk_mq_tags.bitmap_tags"), "sbitmap_queue.sb"), "sbitmap.depth", 69)
		}},
		{"request nowhere", "request", func(m *machine) {
			tags := first(m)
			m.put(tags, "rqs", 5, 8)
			m.mark(tags, 5, "word")
		}},
		{"too many queues", "hardware queues", func(m *machine) {
			_, q := m.disk("bad", 1)
			m.Set(q, "request_queue.nr_hw_queues", maxHWQueues+1)
		}},
		{"too many sectors", "sectors", func(m *machine) { m.disk("bad", 1<<55) }},
	} {
		t.Run(c.what, func(t *testing.T) {
			m, want := usual("array")
			c.damage(m)
			m.clock(97*second, 1)
			got, err := Disks(m.Open(t, m))
			if err == nil || !strings.Contains(err.Error(), c.want) || c.what != "request nowhere" && !errors.Is(err, kernel.ErrCorrupt) {
				t.Errorf("error %v; want one of %q", err, c.want)
			}
			got = slices.DeleteFunc(got, func(d Disk) bool { return d.Name == "bad" })
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%+v\nwant %+v", got, want)
			}
		})
	}
}

// However many requests a damaged dump claims to have, a bounded number is
// reported.
func TestTooMany(t *testing.T) {
	m := newMachine("array")
	_, q := m.disk("vda", 8)
	var hw []uint64
	r := m.request(q, 1, 0, 512, 1, requestIdle, -1)
	words := m.Bytes(24 * 320)
	array := m.Bytes(8 * maxTags)
	for i := range uint64(320) {
		m.Words(m.of(words+24*i, "sbitmap_word.word"), 1<<32-1)
	}
	for i := range uint64(maxTags) {
		m.Words(array+8*i, r)
	}
	for range 40 {
		tags := m.tags()
		m.Set(tags, "blk_mq_tags.nr_tags", maxTags)
		m.Set(tags, "blk_mq_tags.nr_reserved_tags", 0)
		m.Set(tags, "blk_mq_tags.rqs", array)
		m.Set(tags, "blk_mq_tags.static_rqs", array)
		sb := m.of(m.of(tags, "blk_mq_tags.bitmap_tags"), "sbitmap_queue.sb")
		m.Set(sb, "sbitmap.depth", maxTags)
		m.Set(sb, "sbitmap.map_nr", 320)
		m.Set(sb, "sbitmap.map", words)
		m.Set(m.of(m.of(tags, "blk_mq_tags.breserved_tags"), "sbitmap_queue.sb"), "sbitmap.depth", 0)
		hw = append(hw, m.hwQueue(tags, 0))
	}
	m.hwQueues(q, hw...)
	m.clock(second, 0)
	got, err := Disks(m.Open(t, m))
	if !errors.Is(err, errTooMany) || len(got) != 1 {
		t.Errorf("%d disks, %v; want one and %v", len(got), err, errTooMany)
	}
}

// While the clock is written the other copy counts.
func TestClock(t *testing.T) {
	m := newMachine("array")
	for _, sequence := range []uint64{4, 5} {
		m.clock(12*second, sequence)
		if got, err := clock(m.Open(t, m)); got != 12*second || err != nil {
			t.Errorf("sequence %d: %d, %v; want 12 s", sequence, got, err)
		}
	}
}

// Kernels before 6.1 do not call their operations so.
func TestOldOps(t *testing.T) {
	m, want := usual("xarray")
	m.Enum("req_op", nil)
	m.clock(97*second, 0)
	got, err := Disks(m.Open(t, m))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v\nwant %+v", got, err, want)
	}
}

func FuzzDisks(f *testing.F) {
	machines := map[bool]*machine{}
	machines[true], _ = usual("xarray")
	machines[false], _ = usual("array")
	f.Add(true, []byte{})
	f.Add(false, []byte{1, 0, 40, 7, 0, 90, 200, 0, 3})
	f.Fuzz(func(t *testing.T, xarray bool, damage []byte) {
		m := machines[xarray]
		all, _ := Disks(m.Open(t, m.Damage(damage[:min(len(damage), 300)])))
		n := 0
		for _, d := range all {
			n += len(d.InFlight) + len(d.Queued)
		}
		if n > maxRequests {
			t.Errorf("%d requests", n)
		}
	})
}

// of is where a struct has a member.
func (m *machine) of(at uint64, member string) uint64 { return at + m.Offset(member) }
