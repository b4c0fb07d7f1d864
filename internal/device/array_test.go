package device

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"
)

func TestMember(t *testing.T) {
	for _, at := range []int{0, 4096} {
		b := make([]byte, 8192)
		binary.LittleEndian.PutUint32(b[at:], 0xa92b4efc)
		binary.LittleEndian.PutUint32(b[at+4:], 1)
		copy(b[at+16:], "the array's own!")
		copy(b[at+168:], "0123456789abcdef")
		if got, err := Member(bytes.NewReader(b)); err != nil || got != "30313233-3435-3637-3839-616263646566" {
			t.Errorf("superblock at %d: %q, %v", at, got, err)
		}
		b[at+4] = 0 // 0.90
		if got, err := Member(bytes.NewReader(b)); !errors.Is(err, ErrNoMember) {
			t.Errorf("old superblock: %q, %v; want ErrNoMember", got, err)
		}
	}
}

func TestArrayOf(t *testing.T) {
	fsys := func(more fstest.MapFS) fstest.MapFS {
		m := fstest.MapFS{
			"sys/devices/virtual/block/md0/md/level":            file("raid1\n"),
			"sys/devices/virtual/block/md0/md/metadata_version": file("1.2\n"),
			"sys/devices/virtual/block/md0/md/degraded":         file("0\n"),
			"sys/devices/virtual/block/md0/slaves/vda":          link("../../../../vda"),
			"sys/devices/virtual/block/md0/slaves/vdb":          link("../../../../vdb"),
			"sys/class/block/vda/dev":                           file("254:0\n"),
			"sys/class/block/vdb/dev":                           file("254:16\n"),
		}
		maps.Copy(m, more)
		return m
	}
	b := &Block{Name: "md0", Path: "sys/devices/virtual/block/md0"}
	member := func(major, minor uint32) (string, error) {
		return map[uint32]string{0: "one", 16: "two"}[minor], nil
	}
	if !IsArray(fsys(nil), b) || IsArray(fsys(nil), &Block{Path: "sys/devices/virtual/block/dm-0"}) {
		t.Error("IsArray takes one for the other")
	}
	a, err := ArrayOf(fsys(nil), b, member)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&Array{Level: "raid1", Minor: 2, Members: []string{"one", "two"}}, a); diff != "" {
		t.Errorf("ArrayOf (-want +got):\n%s", diff)
	}
	for name, text := range map[string]string{"level": "raid5\n", "metadata_version": "1.0\n", "degraded": "1\n"} {
		if a, err := ArrayOf(fsys(fstest.MapFS{b.Path + "/md/" + name: file(text)}), b, member); !errors.Is(err, ErrStacked) {
			t.Errorf("%s %q: %+v, %v; want ErrStacked", name, text, a, err)
		}
	}
	if _, err := ArrayOf(fsys(nil), b, func(_, _ uint32) (string, error) { return "", ErrNoMember }); !errors.Is(err, ErrNoMember) {
		t.Errorf("a slave that is no member: %v", err)
	}
}
