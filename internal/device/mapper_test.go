package device

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/internal/sys"
)

// physicalVolume is as much of a physical volume of LVM as is looked at.
func physicalVolume(sector int, id string) []byte {
	b := make([]byte, 8192)
	l := b[sector*512:]
	copy(l, "LABELONE")
	l[8] = byte(sector)
	l[20] = 32
	copy(l[24:], "LVM2 001")
	copy(l[32:], id)
	return b
}

const (
	volumeID   = "0a1b2c3d4e5f6g7h8i9j0k1l2m3n4o5p"
	volumeUUID = "0a1b2c-3d4e-5f6g-7h8i-9j0k-1l2m-3n4o5p"
)

func TestPhysicalVolume(t *testing.T) {
	for sector := range 4 {
		if got, err := PhysicalVolume(bytes.NewReader(physicalVolume(sector, volumeID))); err != nil || got != volumeUUID {
			t.Errorf("label in sector %d: %q, %v; want %q", sector, got, err, volumeUUID)
		}
	}
	far := physicalVolume(1, volumeID)
	far[512+20], far[512+21] = 0xff, 0x01
	for name, b := range map[string][]byte{"zeros": make([]byte, 8192), "no UUID": physicalVolume(1, "\x00"), "too far": far, "sector 4": physicalVolume(4, volumeID)} {
		if got, err := PhysicalVolume(bytes.NewReader(b)); !errors.Is(err, ErrNoVolume) {
			t.Errorf("%s: %q, %v; want ErrNoVolume", name, got, err)
		}
	}
}

func TestLinear(t *testing.T) {
	volume := func(major, minor uint32) (string, error) {
		return map[uint32]string{1: "one", 17: "two"}[minor], nil
	}
	m, err := Linear("vg-crash", []sys.MapperTarget{
		{Start: 0, Length: 8192, Type: "linear", Params: "254:1 2048"},
		{Start: 8192, Length: 4096, Type: "linear", Params: "254:17 34816"},
		{Start: 12288, Length: 100, Type: "linear", Params: "254:1 99999"},
	}, volume)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(&Mapped{[]Part{{8192, "one", 2048}, {4096, "two", 34816}, {100, "one", 99999}}}, m); diff != "" {
		t.Errorf("Linear (-want +got):\n%s", diff)
	}
	if err := m.Check(); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"one", "two"}, m.Volumes()); diff != "" {
		t.Errorf("Volumes (-want +got):\n%s", diff)
	}
	// The same device, of disks with other numbers.
	if diff := cmp.Diff([]sys.MapperTarget{
		{Start: 0, Length: 8192, Type: "linear", Params: "253:5 2048"},
		{Start: 8192, Length: 4096, Type: "linear", Params: "8:1 34816"},
		{Start: 12288, Length: 100, Type: "linear", Params: "253:5 99999"},
	}, m.Table(map[string]string{"one": "253:5", "two": "8:1"})); diff != "" {
		t.Errorf("Table (-want +got):\n%s", diff)
	}
	for _, c := range []struct {
		name  string
		table []sys.MapperTarget
		is    error
	}{
		{"nothing", nil, ErrStacked},
		{"encrypted", []sys.MapperTarget{{Length: 8, Type: "crypt", Params: "aes-xts-plain64 :64:logon:cryptsetup 0 254:1 4096"}}, ErrStacked},
		{"thin", []sys.MapperTarget{{Length: 8, Type: "thin", Params: "254:3 1"}}, ErrStacked},
		{"a gap", []sys.MapperTarget{{Start: 8, Length: 8, Type: "linear", Params: "254:1 0"}}, nil},
		{"no numbers", []sys.MapperTarget{{Length: 8, Type: "linear", Params: "/dev/vda 0"}}, nil},
		{"no place", []sys.MapperTarget{{Length: 8, Type: "linear", Params: "254:1 x"}}, nil},
	} {
		if m, err := Linear("vg-crash", c.table, volume); err == nil || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: %+v, %v; want %v", c.name, m, err, c.is)
		}
	}
	if _, err := Linear("vg-crash", []sys.MapperTarget{{Length: 8, Type: "linear", Params: "254:1 0"}}, func(_, _ uint32) (string, error) { return "", ErrNoVolume }); !errors.Is(err, ErrNoVolume) {
		t.Errorf("a device that is no volume: %v; want ErrNoVolume", err)
	}
	if (&Mapped{}).Check() == nil || (&Mapped{[]Part{{1, "", 0}}}).Check() == nil {
		t.Error("Check takes nothing for something")
	}
}

func TestIsMapped(t *testing.T) {
	fsys := fstest.MapFS{"sys/devices/virtual/block/dm-0/dm/name": file("vg-crash\n"), "sys/class/block/dm-0/dev": file("252:0\n"), "sys/class/block/vda!x/dev": file("odd\n")}
	if !IsMapped(fsys, &Block{Path: "sys/devices/virtual/block/dm-0"}) || IsMapped(fsys, &Block{Path: "sys/devices/virtual/block/md0"}) {
		t.Error("IsMapped takes one for the other")
	}
	if n, err := Number(fsys, "/dev/dm-0"); err != nil || n != "252:0" {
		t.Errorf("Number = %q, %v; want 252:0", n, err)
	}
	if n, err := Number(fsys, "/dev/vda/x"); err == nil || strings.Contains(n, "odd") {
		t.Errorf("Number = %q, %v; want an error", n, err)
	}
}
