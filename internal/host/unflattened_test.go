package host

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/internal/fdt"
)

// hiddenTree is a machine whose kernel shows the live device tree only.
func hiddenTree() fstest.MapFS {
	fsys := board()
	delete(fsys, "sys/firmware/fdt")
	for name, v := range map[string]string{
		"name":                           "\x00",
		"#address-cells":                 "\x00\x00\x00\x02",
		"#size-cells":                    "\x00\x00\x00\x02",
		"chosen/name":                    "chosen\x00",
		"chosen/rng-seed":                "seed of this machine",
		"chosen/bootargs":                "console=ttyS0\x00",
		"reserved-memory/name":           "reserved-memory\x00",
		"reserved-memory/ranges":         "",
		"reserved-memory/sbi@0/no-map":   "",
		"memory@80000000/reg":            "\x00\x00\x00\x00\x80\x00\x00\x00\x00\x00\x00\x00\x80\x00\x00\x00",
		"memory@80000000/device_type":    "memory\x00",
		"memory@80000000/numa,node,id-x": "\x01\x02\x03\x04",
	} {
		fsys[unflattenedDir+"/"+name] = &fstest.MapFile{Data: []byte(v)}
	}
	return fsys
}

func TestUnflattened(t *testing.T) {
	m, err := Read(hiddenTree(), nil)
	if err != nil {
		t.Fatal(err)
	}
	tree, err := fdt.Parse(m.FDT)
	if err != nil {
		t.Fatal(err)
	}
	if s, _ := tree.Find("/chosen").String("bootargs"); s != "console=ttyS0" {
		t.Errorf("bootargs %q", s)
	}
	if n := tree.Find("/reserved-memory/sbi@0"); n == nil || !n.Has("no-map") {
		t.Error("the empty property no-map is lost")
	}
	if tree.Find("/chosen").Has("name") {
		t.Error("the kernel's own property name is in the tree")
	}
	regs, err := tree.Find("/memory@80000000").Regs()
	if diff := cmp.Diff([]fdt.Range{{Address: 0x80000000, Size: 0x80000000}}, regs); err != nil || diff != "" {
		t.Errorf("memory %v (-want +got):\n%s", err, diff)
	}
	dir := filepath.Join(t.TempDir(), "m")
	if _, err := Record(hiddenTree(), dir); err != nil {
		t.Fatal(err)
	}
	again, err := Read(os.DirFS(dir), nil)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(again.FDT, []byte("seed of")) || len(again.FDT) != len(m.FDT) {
		t.Errorf("recorded tree has %d bytes; want %d without the seed", len(again.FDT), len(m.FDT))
	}
}

func TestUnflattenedDeep(t *testing.T) {
	fsys := hiddenTree()
	name := unflattenedDir
	for range maxDepth + 1 {
		name += "/n"
	}
	fsys[name+"/p"] = &fstest.MapFile{Data: []byte{1}}
	if _, err := Read(fsys, nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Read: %v; want ErrCorrupt", err)
	}
	secret := denied{hiddenTree(), unflattenedDir + "/chosen/bootargs"}
	if _, err := Read(secret, nil); !errors.Is(err, ErrNotRoot) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Read of a tree that only root may see: %v; want ErrNotRoot", err)
	}
}
