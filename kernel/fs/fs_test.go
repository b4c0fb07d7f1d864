package fs

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/kerneltest"
)

const structs = `
task_struct: pad nsproxy
nsproxy: pad mnt_ns
vfsmount: pad mnt_root mnt_sb mnt_flags:4
super_block: pad s_type s_flags s_subtype
file_system_type: pad name
dentry: pad d_parent d_name:24
qstr: pad len:4 name
path: pad mnt dentry
file: pad f_path:24
`

// layouts of a kernel whose mounts are in a tree, and of one with a list.
var layouts = map[string]string{
	"tree": structs + `
mnt_namespace: pad mounts
mount: pad mnt_parent mnt_mountpoint mnt:40 mnt_devname mnt_node:24`,
	"list": structs + `
mnt_namespace: pad list:16 mounts:4
mount: pad mnt_parent mnt_mountpoint mnt:40 mnt_devname mnt_list:16`,
}

// machine is one with mounts.
type machine struct {
	*kerneltest.Data
	task, ns uint64
	mounts   []uint64
}

func newMachine(layout string) *machine {
	m := &machine{Data: kerneltest.NewData()}
	m.Structs(layouts[layout])
	m.task, m.ns = m.Variable("init_task", 64), m.New("mnt_namespace")
	proxy := m.New("nsproxy")
	m.Set(m.task, "task_struct.nsproxy", proxy)
	m.Set(proxy, "nsproxy.mnt_ns", m.ns)
	return m
}

// dentry makes a dentry, its own parent if that is 0.
func (m *machine) dentry(parent uint64, name string) uint64 {
	d := m.New("dentry")
	if parent == 0 {
		parent = d
	}
	m.Set(d, "dentry.d_parent", parent)
	q := m.of(d, "dentry.d_name")
	m.Set(q, "qstr.len", uint64(len(name)))
	// No NUL behind: what counts is the length.
	m.Set(q, "qstr.name", m.text(name+"#"))
	return d
}

// mount makes a mount and returns it with its root.
func (m *machine) mount(parent, point uint64, device, kind, subtype string, flags, super uint32) (at, root uint64) {
	at, root = m.New("mount"), m.dentry(0, "/")
	if parent == 0 {
		parent, point = at, root
	}
	m.Set(at, "mount.mnt_parent", parent)
	m.Set(at, "mount.mnt_mountpoint", point)
	if device != "" {
		m.Set(at, "mount.mnt_devname", m.text(device))
	}
	v, sb, fstype := m.of(at, "mount.mnt"), m.New("super_block"), m.New("file_system_type")
	m.Set(v, "vfsmount.mnt_root", root)
	m.Set(v, "vfsmount.mnt_sb", sb)
	m.Set(v, "vfsmount.mnt_flags", uint64(flags))
	m.Set(sb, "super_block.s_type", fstype)
	m.Set(sb, "super_block.s_flags", uint64(super))
	if subtype != "" {
		m.Set(sb, "super_block.s_subtype", m.text(subtype))
	}
	m.Set(fstype, "file_system_type.name", m.text(kind))
	m.mounts = append(m.mounts, at)
	return at, root
}

// link links the mounts in the order of their making.
func (m *machine) link(layout string) *machine {
	if layout == "list" {
		m.Set(m.ns, "mnt_namespace.mounts", uint64(len(m.mounts)))
		nodes := []uint64{m.of(m.ns, "mnt_namespace.list")}
		for _, at := range m.mounts {
			nodes = append(nodes, m.of(at, "mount.mnt_list"))
		}
		m.Ring(nodes...)
		return m
	}
	// The middle one on top.
	var tree func(nodes []uint64, parent uint64) uint64
	tree = func(nodes []uint64, parent uint64) uint64 {
		if len(nodes) == 0 {
			return 0
		}
		mid := len(nodes) / 2
		at := m.of(nodes[mid], "mount.mnt_node")
		m.Words(at, parent|1)
		m.Words(at+8, tree(nodes[mid+1:], at))
		m.Words(at+16, tree(nodes[:mid], at))
		return at
	}
	m.Words(m.of(m.ns, "mnt_namespace.mounts"), tree(m.mounts, 0))
	return m
}

// usual makes the mounts of an ordinary machine: the root filesystem over the
// one of the initramfs, others below.
func usual(layout string) *machine {
	m := newMachine(layout)
	first, firstRoot := m.mount(0, 0, "rootfs", "rootfs", "", 0, 0)
	root, rootDir := m.mount(first, firstRoot, "/dev/vda1", "ext4", "", 1<<5, 0)
	home := m.dentry(rootDir, "home")
	user := m.dentry(home, strings.Repeat("u", 255))
	m.mount(root, user, "host:/", "fuse", "sshfs", 1|2|4|1<<6, 1<<4|1<<25)
	_, _ = m.mount(root, m.dentry(rootDir, "proc"), "", "proc", "", 1<<3|1<<4|1<<7, 1)
	return m.link(layout)
}

func usualMounts() []string {
	return []string{
		"rootfs / rootfs [rw]",
		"/dev/vda1 / ext4 [rw relatime]",
		"host:/ /home/" + strings.Repeat("u", 255) + " fuse.sshfs [ro sync lazytime nosuid nodev noexec]",
		"none /proc proc [ro noatime nodiratime nosymfollow]",
	}
}

func inWords(all []Mount) (lines []string) {
	for _, m := range all {
		lines = append(lines, fmt.Sprint(m.Device, " ", m.Point, " ", m.Type, " ", m.Flags))
	}
	return lines
}

func TestMounts(t *testing.T) {
	for layout := range layouts {
		t.Run(layout, func(t *testing.T) {
			m := usual(layout)
			all, err := Mounts(m.Open(t, m))
			if got, want := inWords(all), usualMounts(); err != nil || !slices.Equal(got, want) {
				t.Errorf("%q, %v; want %q", got, err, want)
			}
			for i, at := range m.mounts {
				if uint64(all[i].Addr) != at {
					t.Errorf("%s is at %v; want %v", all[i].Point, all[i].Addr, at)
				}
			}
		})
	}
}

// A reader of /proc/mounts has its place in the list.
func TestCursor(t *testing.T) {
	m := usual("list")
	cursor := m.New("mount")
	m.Set(m.of(cursor, "mount.mnt"), "vfsmount.mnt_flags", mountCursor)
	m.mounts = slices.Insert(m.mounts, 2, cursor)
	m.link("list")
	all, err := Mounts(m.Open(t, m))
	if got, want := inWords(all), usualMounts(); err != nil || !slices.Equal(got, want) {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}

// What is damaged in one mount is said, and the others are there.
func TestDamagedMount(t *testing.T) {
	for _, c := range []struct {
		what   string
		damage func(m *machine, third uint64)
		want   string
	}{
		{"directories in a circle", func(m *machine, third uint64) {
			a, b := m.dentry(0, "a"), m.dentry(0, "b")
			m.Set(a, "dentry.d_parent", b)
			m.Set(b, "dentry.d_parent", a)
			m.Set(third, "mount.mnt_mountpoint", a)
		}, "host:/  fuse.sshfs [ro sync lazytime nosuid nodev noexec]"},
		{"mounts in a circle", func(m *machine, third uint64) {
			v := m.of(m.mounts[1], "mount.mnt")
			d := m.dentry(0, "x")
			m.Set(v, "vfsmount.mnt_root", d)
			m.Set(m.mounts[1], "mount.mnt_mountpoint", d)
			m.Set(third, "mount.mnt_mountpoint", d)
			m.Set(m.mounts[1], "mount.mnt_parent", third)
			m.Set(m.of(third, "mount.mnt"), "vfsmount.mnt_root", d)
		}, "host:/  fuse.sshfs [ro sync lazytime nosuid nodev noexec]"},
		{"long name", func(m *machine, third uint64) {
			d := m.dentry(0, "d")
			m.Set(m.of(d, "dentry.d_name"), "qstr.len", 256)
			m.Set(third, "mount.mnt_mountpoint", d)
		}, "host:/  fuse.sshfs [ro sync lazytime nosuid nodev noexec]"},
		{"superblock nowhere", func(m *machine, third uint64) {
			m.Set(m.of(third, "mount.mnt"), "vfsmount.mnt_sb", 8)
		}, "host:/ /home/" + strings.Repeat("u", 255) + "  []"},
	} {
		t.Run(c.what, func(t *testing.T) {
			m := usual("tree")
			c.damage(m, m.mounts[2])
			all, err := Mounts(m.Open(t, m))
			if err == nil || len(all) != 4 {
				t.Fatalf("%d mounts, %v; want 4 and an error", len(all), err)
			}
			if got := inWords(all)[2]; got != c.want {
				t.Errorf("the damaged one is %q; want %q", got, c.want)
			}
			if got, want := inWords(all)[0], usualMounts()[0]; got != want {
				t.Errorf("the first one is %q; want %q", got, want)
			}
		})
	}
}

func TestFile(t *testing.T) {
	m := usual("tree")
	root := m.mounts[1]
	rootDir := m.Word(m.of(m.of(root, "mount.mnt"), "vfsmount.mnt_root"))
	file := func(mount, dentry uint64) uint64 {
		f := m.New("file")
		p := m.of(f, "file.f_path")
		m.Set(p, "path.mnt", m.of(mount, "mount.mnt"))
		m.Set(p, "path.dentry", dentry)
		return f
	}
	deep := rootDir
	for range 17 {
		deep = m.dentry(deep, strings.Repeat("d", 255))
	}
	p, err := NewPaths(m.Open(t, m))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		file uint64
		want string
		err  error
	}{
		{file(root, rootDir), "/", nil},
		{file(root, m.dentry(m.dentry(rootDir, "bin"), "init")), "/bin/init", nil},
		{file(root, m.dentry(0, "memfd:x")), "memfd:x", nil},
		{file(root, deep), "", kernel.ErrCorrupt},
		{file(root, m.dentry(rootDir, "a\nb")), "/a?b", nil},
	} {
		if got, err := p.File(kernel.VirtAddr(c.file)); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("%q, %v; want %q, %v", got, err, c.want, c.err)
		}
	}
}

// A kernel whose structs are unknown gives an error that names what is missing.
func TestNoTypes(t *testing.T) {
	m := usual("tree")
	m.Forget("dentry.d_parent")
	if _, err := Mounts(m.Open(t, m)); !errors.Is(err, kernel.ErrNoInfo) || !strings.Contains(err.Error(), "dentry.d_parent") {
		t.Errorf("%v; want the missing member", err)
	}
}

func FuzzMounts(f *testing.F) {
	trees := map[bool]*machine{false: usual("list"), true: usual("tree")}
	f.Add(false, []byte{})
	f.Add(true, []byte{1, 0, 40, 7, 0, 90, 200, 0, 3})
	f.Fuzz(func(t *testing.T, tree bool, damage []byte) {
		m := trees[tree]
		all, _ := Mounts(m.Open(t, m.Damage(damage[:min(len(damage), 300)])))
		for _, mount := range all {
			if len(mount.Point) > maxPath+1 || len(mount.Device) > maxDevice {
				t.Errorf("mount of %d and %d bytes", len(mount.Point), len(mount.Device))
			}
		}
	})
}

// of is where a struct has a member.
func (m *machine) of(at uint64, member string) uint64 { return at + m.Offset(member) }

// text is the address of a string.
func (m *machine) text(s string) uint64 {
	at := m.Bytes(uint64(len(s)) + 1)
	m.Put(at, []byte(s))
	return at
}
