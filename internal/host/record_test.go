package host

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/internal/fdt"
)

func TestRecord(t *testing.T) {
	fsys := board()
	tree := fdt.New()
	tree.Ensure("/chosen").Set("rng-seed", []byte("not for others"))
	blob, err := tree.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	fsys["sys/firmware/fdt"] = &fstest.MapFile{Data: blob}
	const start = 0xffffffc500000000
	k := tables(t, map[uint64]map[int]uint64{0x81e00000: {start >> 30 & 511: pte(0xc0000000, riscvValid|3<<1)}})
	k.vmcoreinfo = []byte("PAGESIZE=4096\nSYMBOL(swapper_pg_dir)=ffffffff81c00000\nNUMBER(va_kernel_pa_offset)=0xfffffffeffe00000\n" +
		"NUMBER(VA_BITS)=39\nNUMBER(VMEMMAP_START)=0xffffffc500000000\nNUMBER(VMEMMAP_END)=0xffffffc600000000\n")
	if _, err := k.page(0x81e00000); err != nil {
		t.Fatal(err)
	}
	fsys["proc/kcore"] = &fstest.MapFile{Data: append(k.compact(), "memory of others"...)}

	dir := filepath.Join(t.TempDir(), "board")
	recorded, err := Record(fsys, dir)
	if err != nil {
		t.Fatal(err)
	}
	if want := []Range{{0xc0000000, 0x100000000}}; !cmp.Equal(recorded.Vmemmap[:1], want) {
		t.Errorf("Vmemmap = %v; want %v", recorded.Vmemmap, want)
	}
	again, err := Read(os.DirFS(dir), nil)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(again.FDT, []byte("not for others")) {
		t.Error("the seed was recorded")
	}
	again.FDT = recorded.FDT
	if diff := cmp.Diff(recorded, again); diff != "" {
		t.Errorf("Read of what was recorded (-was +is):\n%s", diff)
	}
	err = fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if info, err := d.Info(); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v; others may look into it", path, info.Mode(), err)
		}
		if d.IsDir() {
			return nil
		}
		b, err := os.ReadFile(filepath.Join(dir, path))
		if bytes.Contains(b, []byte("of others")) {
			t.Errorf("%s has more than was read", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	if _, err := Record(fsys, dir); err == nil {
		t.Error("Record over a directory that exists succeeded")
	}
}
