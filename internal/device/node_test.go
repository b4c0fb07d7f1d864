package device

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"
)

func TestNode(t *testing.T) {
	fsys := fstest.MapFS{
		"dev/vdb1":                        {Mode: fs.ModeDevice | 0o600},
		"dev/disk/by-partuuid/0a1b-02":    link("../../vdb1"),
		"dev/disk/by-partlabel/crash":     link("../../vdb1"),
		`dev/disk/by-label/two\x20words`:  link("../../vdb1"),
		"dev/disk/by-partlabel/elsewhere": link("../../../etc/passwd"),
		"dev/disk/by-partlabel/round":     link("round"),
		"dev/disk/by-partlabel/absolute":  link("/dev/vdb1"),
		"etc/passwd":                      file(""),
	}
	for name, want := range map[string]string{"/dev/vdb1": "vdb1", "PARTUUID=0A1B-02": "vdb1", "LABEL=crash": "vdb1",
		"LABEL=two words": "vdb1", "LABEL=absolute": "vdb1", "/dev/disk/by-partlabel/crash": "vdb1"} {
		if got, err := Node(fsys, name); err != nil || got != want {
			t.Errorf("Node(%q) = %q, %v; want %q", name, got, err, want)
		}
	}
	for _, name := range []string{"", "vdb1", "UUID=x", "LABEL=", "LABEL=../x", "LABEL=nonesuch", "LABEL=elsewhere", "LABEL=round", "/dev/nonesuch", "/etc/passwd"} {
		if got, err := Node(fsys, name); err == nil {
			t.Errorf("Node(%q) = %q; want an error", name, got)
		}
	}
}

func TestBlockNamed(t *testing.T) {
	b, err := BlockNamed(sysfs, "vda1")
	if err != nil || b.Major != 254 || b.Minor != 1 || b.Name != "vda1" || !strings.HasSuffix(b.Path, "block/vda/vda1") {
		t.Errorf("BlockNamed = %+v, %v", b, err)
	}
	if b, err := BlockNamed(sysfs, "nonesuch"); err == nil {
		t.Errorf("BlockNamed of nothing = %+v", b)
	}
}
