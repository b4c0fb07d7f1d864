package boot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/cavaliergopher/cpio"
	"github.com/google/go-cmp/cmp"
)

func TestArchive(t *testing.T) {
	write := func() ([]byte, *Archive) {
		var b bytes.Buffer
		a := NewArchive(&b)
		for _, err := range []error{
			a.File("/init", 0o755, 5, strings.NewReader("hello")),
			a.File("/lib/modules/a.ko", 0o644, 3, strings.NewReader("abc")),
			a.Dir("/lib/modules"),
			a.Dir("/proc"),
			a.Symlink("/init", "/bin/panicroom"),
			a.CharDevice("/dev/console", 0o600, 5, 1),
			a.Close(),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		return b.Bytes(), a
	}
	data, a := write()
	if a.Size() != int64(len(data)) || a.Unpacked() != 2*4096 {
		t.Errorf("Size() = %d, Unpacked() = %d; want %d, %d", a.Size(), a.Unpacked(), len(data), 2*4096)
	}
	if again, _ := write(); !bytes.Equal(again, data) {
		t.Error("the same calls made other bytes")
	}
	type entry struct {
		Name, Link, Data string
		Mode             cpio.FileMode
	}
	var got []entry
	inodes := map[int64]bool{}
	for r := cpio.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if inodes[h.Inode] {
			// The kernel takes equal numbers for hard links.
			t.Errorf("inode %d of %s is not its own", h.Inode, h.Name)
		}
		inodes[h.Inode] = true
		got = append(got, entry{h.Name, h.Linkname, string(content), h.Mode})
	}
	want := []entry{
		{"init", "", "hello", cpio.TypeReg | 0o755},
		{"lib", "", "", cpio.TypeDir | 0o755},
		{"lib/modules", "", "", cpio.TypeDir | 0o755},
		{"lib/modules/a.ko", "", "abc", cpio.TypeReg | 0o644},
		{"proc", "", "", cpio.TypeDir | 0o755},
		{"bin", "", "", cpio.TypeDir | 0o755},
		{"bin/panicroom", "/init", "", cpio.TypeSymlink | 0o777},
		{"dev", "", "", cpio.TypeDir | 0o755},
		{"dev/console", "", "", cpio.TypeChar | 0o600},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("archive (-want +got):\n%s", diff)
	}
}

// TestArchiveBytes holds the format to its words: what the reader above does
// not show.
func TestArchiveBytes(t *testing.T) {
	var b bytes.Buffer
	a := NewArchive(&b)
	if err := errors.Join(a.CharDevice("console", 0o600, 5, 0x101), a.Close()); err != nil {
		t.Fatal(err)
	}
	want := "070701" + // magic
		"00000001" + "00002180" + "00000000" + "00000000" + "00000001" + // inode, mode, uid, gid, links
		"00000000" + "00000000" + "00000000" + "00000000" + // mtime, size, device of the file
		"00000005" + "00000101" + "00000008" + "00000000" + // number of the node, length of the name, check
		"console\x00\x00\x00" +
		"070701" + strings.Repeat("0", 4*8) + "00000001" + strings.Repeat("0", 6*8) + "0000000b" + "00000000" +
		"TRAILER!!!\x00\x00\x00\x00"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("archive (-want +got):\n%s", diff)
	}
}

func TestArchiveRefuses(t *testing.T) {
	a := NewArchive(io.Discard)
	none := strings.NewReader("")
	if err := errors.Join(a.File("/dir/file", 0o644, 0, none), a.Dir("/dir"), a.Dir("dir")); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"the same file":     a.File("dir/./file", 0o644, 0, none),
		"a directory there": a.Dir("/dir/file"),
		"a file there":      a.File("/dir", 0o644, 0, none),
		"below a file":      a.File("/dir/file/x", 0o644, 0, none),
		"the root":          a.File("/", 0o644, 0, none),
		"out of the root":   a.File("/../..", 0o644, 0, none),
		"the trailer":       a.File("TRAILER!!!", 0o644, 0, none),
		"a NUL":             a.File("a\x00b", 0o644, 0, none),
		"a long name":       a.File(strings.Repeat("a", 4096), 0o644, 0, none),
		"a large file":      a.File("large", 0o644, 1<<32, none),
		"a negative size":   a.File("negative", 0o644, -1, none),
		"an empty link":     a.Symlink("", "link"),
	} {
		if !errors.Is(err, ErrArchive) {
			t.Errorf("%s: %v; want %v", what, err, ErrArchive)
		}
	}
	if err := errors.Join(a.File("after", 0o644, 0, none), a.Close()); err != nil {
		t.Errorf("a refusal spoiled the archive: %v", err)
	}
	if err := a.File("closed", 0o644, 0, none); !errors.Is(err, ErrArchive) {
		t.Errorf("File after Close: %v", err)
	}
}

func TestArchiveRefusesShortFiles(t *testing.T) {
	a := NewArchive(io.Discard)
	if err := a.File("/x", 0o644, 10, strings.NewReader("short")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("File = %v; want %v", err, io.ErrUnexpectedEOF)
	}
	if err := a.File("/", 0o644, 0, strings.NewReader("")); err == nil {
		t.Error("a file with the root's name was taken")
	}
}

func TestCodecs(t *testing.T) {
	plain := bytes.Repeat([]byte("panic room "), 1000)
	for _, codec := range []Codec{None, Gzip, Zstd, XZ} {
		var b bytes.Buffer
		w, err := Compress(&b, codec)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(plain); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		for limit, fits := range map[int64]bool{int64(len(plain)): true, int64(len(plain)) - 1: false} {
			r, err := Decompress(bytes.NewReader(b.Bytes()), codec, limit)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if fits && (err != nil || !bytes.Equal(got, plain)) {
				t.Errorf("%q: %d bytes, %v; want %d", codec, len(got), err, len(plain))
			}
			if !fits && err == nil {
				t.Errorf("%q: no error over the limit", codec)
			}
		}
	}
	if _, err := Compress(io.Discard, "rar"); !errors.Is(err, ErrCodec) {
		t.Errorf("Compress(rar) = %v; want %v", err, ErrCodec)
	}
}

func TestChoiceOfCodecs(t *testing.T) {
	for _, c := range []struct {
		config            string // symbols that are y
		initramfs, module Codec
	}{
		{"", None, None},
		{"CONFIG_RD_ZSTD CONFIG_RD_GZIP CONFIG_MODULE_DECOMPRESS CONFIG_MODULE_COMPRESS_XZ", Zstd, XZ}, // Debian 13
		{"CONFIG_RD_GZIP CONFIG_RD_XZ CONFIG_MODULE_COMPRESS_XZ", Gzip, None},
		{"CONFIG_RD_XZ", XZ, None},
		{"CONFIG_MODULE_DECOMPRESS CONFIG_MODULE_COMPRESS_ZSTD", None, Zstd},
	} {
		config := func(symbol string) (string, bool) {
			ok := slices.Contains(strings.Fields(c.config), symbol)
			return map[bool]string{true: "y"}[ok], ok
		}
		if got := InitramfsCodec(config); got != c.initramfs {
			t.Errorf("InitramfsCodec(%s) = %q; want %q", c.config, got, c.initramfs)
		}
		if got := ModuleCodec(config); got != c.module {
			t.Errorf("ModuleCodec(%s) = %q; want %q", c.config, got, c.module)
		}
	}
	if got := InitramfsCodec(nil); got != Gzip {
		t.Errorf("InitramfsCodec of an unknown kernel = %q; want %q", got, Gzip)
	}
	if got := ModuleCodec(nil); got != None {
		t.Errorf("ModuleCodec of an unknown kernel = %q; want none", got)
	}
}

// tree is a module tree with a chain, a circle, soft dependencies and aliases.
func tree() fstest.MapFS {
	m := fstest.MapFS{
		"modules.dep": {Data: []byte(`kernel/fs/ext4/ext4.ko.xz: kernel/lib/crc16.ko.xz kernel/fs/jbd2/jbd2.ko.xz kernel/fs/mbcache.ko.xz
kernel/fs/jbd2/jbd2.ko.xz:
kernel/fs/mbcache.ko.xz:
kernel/lib/crc16.ko.xz:
kernel/crypto/crc32c_generic.ko.xz:
kernel/drivers/block/virtio_blk.ko.xz:
kernel/a-b.ko: kernel/c.ko
kernel/c.ko: kernel/a-b.ko
kernel/broken.ko: kernel/missing.ko
kernel/host.ko: kernel/core.ko
kernel/core.ko:
kernel/late.ko:
kernel/weak.ko:
kernel/wishful.ko:
kernel/fs/f2fs/f2fs.ko:
kernel/crypto/crc32_generic.ko:
`)},
		"modules.builtin": {Data: []byte("kernel/drivers/virtio/virtio.ko\nkernel/lib/crc32.ko\n")},
		"modules.softdep": {Data: []byte("# Soft dependencies\nsoftdep ext4 pre: crc32c nothing\n" +
			"softdep core pre: host post: late\nsoftdep wishful pre: broken\nsoftdep f2fs pre: crc32\n")},
		"modules.weakdep":         {Data: []byte("weakdep late weak\n")},
		"modules.alias":           {Data: []byte("alias crc32c crc32c_generic\nalias crc32 crc32_generic\nalias virtio:d00000002v* virtio_blk\nalias fs-ext4 ext4\nalias lib-crc both\n")},
		"modules.builtin.modinfo": {Data: []byte("virtio.license=GPL\x00virtio.alias=pci:v00001AF4d*\x00virtio.alias=lib-crc\x00")},
		"kernel/c.ko":             {Data: []byte("module c")},
	}
	return m
}

func TestClosure(t *testing.T) {
	mods, err := OpenModules(tree())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		names []string
		want  string
	}{
		{[]string{"virtio-blk"}, "virtio_blk"},
		{[]string{"virtio"}, ""}, // built in
		{[]string{"ext4"}, "crc32c_generic mbcache jbd2 crc16 ext4"},
		{[]string{"jbd2", "ext4", "jbd2"}, "jbd2 crc32c_generic mbcache crc16 ext4"},
		{[]string{"a_b"}, "c a_b"},
		{[]string{"fs-ext4", "virtio:d00000002v00001AF4"}, "crc32c_generic mbcache jbd2 crc16 ext4 virtio_blk"},
		{[]string{"pci:v00001AF4d00001000"}, ""}, // built in, by alias
		{[]string{"lib-crc"}, ""},
		// What core wants before it needs core itself; late wants weak.
		{[]string{"core"}, "core weak late host"},
		{[]string{"host"}, "core weak late host"},
		{[]string{"wishful"}, "wishful"},         // its wish is broken
		{[]string{"f2fs"}, "crc32_generic f2fs"}, // a library of that name is built in
	} {
		got, err := mods.Closure(c.names...)
		if err != nil {
			t.Errorf("Closure(%q): %v", c.names, err)
			continue
		}
		var names []string
		for _, m := range got {
			names = append(names, m.Name)
		}
		if s := strings.Join(names, " "); s != c.want {
			t.Errorf("Closure(%q) = %q; want %q", c.names, s, c.want)
		}
	}
	soft, err := mods.Closure("ext4", "late")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range soft {
		if want := m.Name == "crc32c_generic" || m.Name == "weak"; m.Soft != want {
			t.Errorf("%s is soft: %v; want %v", m.Name, m.Soft, want)
		}
	}
	if both, err := mods.Closure("ext4", "crc32c_generic"); err != nil || both[0].Name != "crc32c_generic" || both[0].Soft {
		t.Errorf("Closure(ext4, crc32c_generic) = %v, %v; what is asked for is not soft", both, err)
	}
	for _, name := range []string{"nosuch", "broken", "virtio:d00000001v00001AF4", "nothing"} {
		if _, err := mods.Closure(name); !errors.Is(err, ErrNoModule) {
			t.Errorf("Closure(%q) = %v; want %v", name, err, ErrNoModule)
		}
	}
}

func TestByAlias(t *testing.T) {
	mods, err := OpenModules(tree())
	if err != nil {
		t.Fatal(err)
	}
	if got := mods.ByAlias("virtio:d00000002v00001AF4"); !slices.Equal(got, []string{"virtio_blk"}) {
		t.Errorf("ByAlias(block device) = %q", got)
	}
	if got := mods.ByAlias("lib-crc"); !slices.Equal(got, []string{"both", "virtio"}) || !mods.Builtin("virtio") {
		t.Errorf("ByAlias(lib-crc) = %q; want the built-in one last", got)
	}
	if m, _ := mods.Lookup("ext4"); !slices.Equal(m.Deps, []string{"mbcache", "jbd2", "crc16"}) {
		t.Errorf("ext4 needs %q, in this order", m.Deps)
	}
	if got := mods.ByAlias("virtio:d00000001v00001AF4"); len(got) != 0 {
		t.Errorf("ByAlias(network) = %q; want none", got)
	}
}

func TestReadModule(t *testing.T) {
	fsys := tree()
	var z bytes.Buffer
	w, err := Compress(&z, Zstd)
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(w, "module z")
	w.Close()
	fsys["kernel/z.ko.zst"] = &fstest.MapFile{Data: z.Bytes()}
	fsys["modules.dep"].Data = append(fsys["modules.dep"].Data, "kernel/z.ko.zst:\n"...)
	mods, err := OpenModules(fsys)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name       string
		keep       Codec
		want       string
		compressed bool
	}{
		{"c", None, "module c", false},
		{"c", Zstd, "module c", false},
		{"z", None, "module z", false},
		{"z", XZ, "module z", false},
		{"z", Zstd, z.String(), true},
	} {
		m, ok := mods.Lookup(c.name)
		if !ok {
			t.Fatalf("no module %s", c.name)
		}
		data, compressed, err := mods.Read(m, c.keep)
		if err != nil || string(data) != c.want || compressed != c.compressed {
			t.Errorf("Read(%s, %q) = %q, %v, %v; want %q, %v", c.name, c.keep, data, compressed, err, c.want, c.compressed)
		}
	}
}

func TestBadTrees(t *testing.T) {
	if _, err := OpenModules(fstest.MapFS{}); !errors.Is(err, ErrModuleTree) {
		t.Errorf("no files: %v; want %v", err, ErrModuleTree)
	}
	for _, dep := range []string{"no colon\n", "/etc/passwd.ko:\n", "../x.ko:\n", "kernel/x.so:\n", "kernel/x.ko.rar:\n"} {
		if _, err := OpenModules(fstest.MapFS{"modules.dep": {Data: []byte(dep)}}); !errors.Is(err, ErrModuleTree) {
			t.Errorf("%q: %v; want %v", dep, err, ErrModuleTree)
		}
	}
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, name string
		want          bool
	}{
		{"", "", true},
		{"*", "", true},
		{"*", "a/b", true},
		{"a*b*c", "axxbyybzc", true},
		{"a*b*c", "axxbyybz", false},
		{"of:N*T*Cvirtio,mmioC*", "of:NxTyCvirtio,mmioCz", true},
		{"pci:v*d*sv*sd*bc01sc06i01*", "pci:v00001AF4d00001000sv00001AF4sd00000001bc01sc06i01", true},
		{"usb:v05ACp[02][0-9]*", "usb:v05ACp21", true},
		{"x[!a]", "xa", false},
		{"x[!a]", "xb", true},
		{"x[]]", "x]", true},
		{"x[a", "x[a", true},
		{`a\*`, "a*", true},
		{`a\*`, "ab", false},
		{"a?", "a", false},
	} {
		if got := Match(c.pattern, c.name); got != c.want {
			t.Errorf("Match(%q, %q) = %v; want %v", c.pattern, c.name, got, c.want)
		}
	}
}

func FuzzModules(f *testing.F) {
	fsys := tree()
	modinfo := fsys["modules.builtin.modinfo"].Data
	f.Add(fsys["modules.dep"].Data, fsys["modules.softdep"].Data, fsys["modules.alias"].Data, modinfo)
	f.Add([]byte("a.ko: a.ko\n"), []byte("softdep a pre: a post: a\n"), []byte("alias [ a\n"), modinfo)
	f.Add([]byte("a.ko: b.ko\nb.ko:\nc.ko: a.ko\n"), []byte("softdep b pre: c post: a\n"), []byte("alias c a\n"), modinfo)
	f.Fuzz(func(t *testing.T, dep, soft, alias, modinfo []byte) {
		mods, err := OpenModules(fstest.MapFS{
			"modules.dep": {Data: dep}, "modules.softdep": {Data: soft}, "modules.alias": {Data: alias},
			"modules.builtin.modinfo": {Data: modinfo},
		})
		if (err == nil) != (mods != nil) {
			t.Fatalf("OpenModules = %v, %v", mods, err)
		}
		if err != nil {
			return
		}
		for name := range mods.modules {
			got, err := mods.Closure(name)
			if err != nil {
				continue
			}
			at := map[string]int{}
			for i, m := range got {
				if _, twice := at[m.Name]; twice {
					t.Fatalf("Closure(%q) has %q twice", name, m.Name)
				}
				at[m.Name] = i
			}
			if _, ok := at[name]; !ok {
				t.Fatalf("Closure(%q) is without it", name)
			}
			for _, m := range got {
				for _, d := range m.Deps {
					if i, ok := at[d]; !ok || i > at[m.Name] && !inCircle(mods, d, m.Name) {
						t.Fatalf("Closure(%q): %q comes before %q, which it needs", name, m.Name, d)
					}
				}
			}
		}
		mods.ByAlias("virtio:d00000002v00001AF4")
	})
}

// inCircle tells whether from needs to, at any distance.
func inCircle(mods *ModuleTree, from, to string) bool {
	seen := map[string]bool{}
	var reach func(string) bool
	reach = func(name string) bool {
		if name == to {
			return true
		}
		if seen[name] {
			return false
		}
		seen[name] = true
		return slices.ContainsFunc(mods.modules[name].Deps, reach)
	}
	return reach(from)
}

// matchSlowly is what Match must say, in the plainest way, for patterns of
// literals, ? and *.
func matchSlowly(pattern, name string) bool {
	switch {
	case pattern == "":
		return name == ""
	case pattern[0] == '*':
		return matchSlowly(pattern[1:], name) || name != "" && matchSlowly(pattern, name[1:])
	case name == "":
		return false
	}
	return (pattern[0] == '?' || pattern[0] == name[0]) && matchSlowly(pattern[1:], name[1:])
}

func FuzzMatch(f *testing.F) {
	f.Add("a*b*c", "axxbyybzc")
	f.Add("*[!a-f]?", "xg1")
	f.Add("[", "[")
	f.Fuzz(func(t *testing.T, pattern, name string) {
		got := Match(pattern, name)
		if a := newAlias(pattern, "m"); a.matches(name) != got {
			t.Fatalf("the alias %q matches %q: %v; Match says %v", pattern, name, !got, got)
		}
		if len(pattern) > 12 || len(name) > 12 || strings.ContainsAny(pattern, `[\\`) {
			return
		}
		if want := matchSlowly(pattern, name); got != want {
			t.Fatalf("Match(%q, %q) = %v; want %v", pattern, name, got, want)
		}
	})
}

func BenchmarkByAlias(b *testing.B) {
	var aliases strings.Builder
	for i := range 20000 {
		fmt.Fprintf(&aliases, "alias pci:v%08Xd*sv*sd*bc*sc*i* m%d\n", i, i%500)
	}
	mods, err := OpenModules(fstest.MapFS{"modules.dep": {}, "modules.alias": {Data: []byte(aliases.String())}})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if got := mods.ByAlias("pci:v00001AF4d00001000sv00001AF4sd00000001bc01sc06i01"); len(got) != 1 {
			b.Fatalf("ByAlias = %q", got)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		Match("pci:v00008086d*sv*sd*bc*sc*i*", "pci:v00001AF4d00001000sv00001AF4sd00000001bc01sc06i01")
	}
}
