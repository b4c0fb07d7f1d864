package device

import (
	"io/fs"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
)

const mountinfo = `22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro
40 27 254:2 / /var rw,noatime shared:2 master:3 - xfs /dev/vda2 rw,attr2
41 40 0:40 /@crash /var/crash rw - btrfs /dev/vdb rw,space_cache=v2,subvolid=256,subvol=/@crash
42 27 0:41 / /mnt/with\040space rw - tmpfs tmpfs rw
43 27 254:3 /srv/dumps /dumps ro - ext4 /dev/vda3 rw
44 43 254:4 / /dumps rw - vfat /dev/vda4 rw,codepage=437,iocharset=ascii
45 27 0:50 / /variant rw - nfs4 server:/export rw
`

func TestFindMount(t *testing.T) {
	fsys := fstest.MapFS{"proc/self/mountinfo": {Data: []byte(mountinfo)}}
	for _, c := range []struct{ dir, source, inside string }{
		{"/", "/dev/vda1", "/"},
		{"/home/crash", "/dev/vda1", "/home/crash"},
		{"/var", "/dev/vda2", "/"},
		{"/var/log/../log", "/dev/vda2", "/log"},
		{"/variable", "/dev/vda1", "/variable"},
		{"/variant/x", "server:/export", "/x"},
		{"/var/crash/a", "/dev/vdb", "/@crash/a"},
		{"/mnt/with space/x", "tmpfs", "/x"},
		{"/dumps/x", "/dev/vda4", "/x"}, // mounted over /dev/vda3
	} {
		m, inside, err := FindMount(fsys, c.dir)
		if err != nil || m.Source != c.source || inside != c.inside {
			t.Errorf("FindMount(%s) = %+v, %q, %v; want %s, %q", c.dir, m, inside, err, c.source, c.inside)
		}
	}
	if _, _, err := FindMount(fsys, "relative"); err == nil {
		t.Error("FindMount of a relative path: nil; want an error")
	}
	if _, _, err := FindMount(fstest.MapFS{}, "/"); err == nil {
		t.Error("FindMount without mountinfo: nil; want an error")
	}
}

func TestMountReadOnly(t *testing.T) {
	mounts, err := ParseMounts(strings.NewReader(mountinfo))
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range mounts {
		if got, want := m.ReadOnly(), m.Source == "/dev/vda3"; got != want {
			t.Errorf("ReadOnly of mount %d = %v; want %v", i, got, want)
		}
	}
}

func TestMountModules(t *testing.T) {
	m := Mount{Type: "vfat", SuperOptions: "rw,codepage=437,iocharset=ascii,shortname=mixed"}
	if got, want := m.Modules(), []string{"fs-vfat", "nls_cp437", "nls_ascii"}; !reflect.DeepEqual(got, want) {
		t.Errorf("Modules = %q; want %q", got, want)
	}
}

func TestParseMountsRefuses(t *testing.T) {
	for _, line := range []string{
		"x", "1 2 3 4 5 6 7 8 9 10", "22 27 0:21 / /proc rw,relatime - proc proc", "22 27 21 / /proc rw - proc proc rw",
		"22 27 0:99999999999 / /proc rw - proc proc rw",
	} {
		if m, err := ParseMounts(strings.NewReader(line)); err == nil {
			t.Errorf("ParseMounts(%q) = %+v; want an error", line, m)
		}
	}
}

func FuzzParseMounts(f *testing.F) {
	f.Add(mountinfo)
	f.Add(`1 2 3:4 \04 \134 rw - a b c`)
	f.Fuzz(func(t *testing.T, text string) {
		mounts, err := ParseMounts(strings.NewReader(text))
		if err != nil {
			return
		}
		if m, inside, err := findMount(mounts, "/var/crash"); err == nil && (m == nil || inside == "" || inside[0] != '/') {
			t.Errorf("findMount = %+v, %q", m, inside)
		}
	})
}

// link is a symbolic link of a test's file tree.
func link(to string) *fstest.MapFile {
	return &fstest.MapFile{Data: []byte(to), Mode: fs.ModeSymlink | 0o777}
}

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }
