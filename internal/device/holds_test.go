package device

import (
	"bytes"
	"encoding/binary"
	"testing"
)

func TestHolds(t *testing.T) {
	const size = 4<<20 + 12345
	disk := func(at int64, data string) []byte {
		b := make([]byte, size)
		copy(b[at:], data)
		return b
	}
	md := make([]byte, 4)
	binary.LittleEndian.PutUint32(md, 0xa92b4efc)
	fat := disk(0, "\xeb\x58\x90mkfs.fat")
	fat[510], fat[511] = 0x55, 0xaa
	for _, c := range []struct {
		name string
		disk []byte
		want string
	}{
		{"nothing", disk(0, ""), ""},
		{"what lies in the middle is old", disk(2<<20, "old"), ""},
		{"ours", disk(0, DumpsMagic+"\x01\x00\x00\x00\x14\x00\x00\x00"+"0123456789abcdef"), "panicroom 30313233-3435-3637-3839-616263646566"},
		{"LUKS", disk(0, "LUKS\xba\xbe"), "an encrypted volume (LUKS)"},
		{"LVM", disk(512, "LABELONE"), "a volume of LVM"},
		{"swap", disk(4086, "SWAPSPACE2"), "swap"},
		{"GPT", disk(512, "EFI PART"), "a partition table (GPT)"},
		{"a boot sector", fat, "a partition table or boot sector"},
		{"MD 1.2", disk(4096, string(md)), "a member of a RAID array"},
		{"MD 1.0", disk((size-8<<10)&^4095, string(md)), "a member of a RAID array"},
		{"MD 0.90", disk(size&^(64<<10-1)-64<<10, string(md)), "a member of a RAID array"},
		{"text", disk(100, "hello"), "data of an unknown kind"},
		{"text at the end", disk(size-5, "hello"), "data of an unknown kind"},
	} {
		if got, err := Holds(bytes.NewReader(c.disk), size); err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.want)
		}
	}
	if got, err := Holds(bytes.NewReader(nil), 0); err != nil || got != "" {
		t.Errorf("no bytes at all: %q, %v", got, err)
	}
}

func FuzzHolds(f *testing.F) {
	f.Add([]byte("LUKS\xba\xbe"), int64(4096))
	f.Add(make([]byte, 4096), int64(1<<20))
	f.Fuzz(func(t *testing.T, b []byte, size int64) {
		what, err := Holds(bytes.NewReader(b), min(max(0, size), 8<<20))
		if err != nil {
			t.Skip(err)
		}
		if what == "" && len(b) > 0 && size >= int64(len(b)) && len(b) <= begins && bytes.ContainsFunc(b, func(r rune) bool { return r != 0 }) {
			t.Errorf("Holds = nothing, and there are %d bytes", len(b))
		}
	})
}

func TestNetDrivers(t *testing.T) {
	got, err := NetDrivers(netfs, "end0")
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Module != "dwmac" || got[1].Module != "motorcomm" {
		t.Errorf("drivers of end0: %+v; want those of the device and of its PHY", got)
	}
	got, err = NetDrivers(netfs, "vf0")
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || got[0].Module != "ice" || got[1].Module != "iavf" {
		t.Errorf("drivers of vf0: %+v; want that of the physical function first", got)
	}
	for _, name := range []string{"", "..", "a/b", "nonesuch"} {
		if d, err := NetDrivers(netfs, name); err == nil {
			t.Errorf("NetDrivers(%q) = %+v; want an error", name, d)
		}
	}
}
