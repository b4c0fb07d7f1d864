package lab

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/cavaliergopher/cpio"
	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/internal/fdt"
	"github.com/panicroom-kdump/panicroom/internal/vm"
)

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestModuleFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "modules.dep", "kernel/fs/ext4.ko.xz: kernel/fs/jbd2.ko.xz kernel/lib/crc16.ko.xz\nkernel/fs/jbd2.ko.xz:\n"+
		"kernel/lib/crc16.ko.xz:\nkernel/crypto/crc32c-generic.ko.xz:\nkernel/fs/post.ko.xz:\n")
	write(t, dir, "modules.softdep", "# comment\nsoftdep ext4 pre: crypto-crc32c post: post\n")
	write(t, dir, "modules.alias", "alias crypto-crc32c crc32c_generic\nalias pci:v* other\n")
	write(t, dir, "modules.builtin", "kernel/drivers/virtio/virtio_pci.ko\n")
	k := &Kernel{Root: dir, Modules: "/"}
	got, err := k.moduleFiles("virtio-pci", "ext4", "jbd2")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"kernel/crypto/crc32c-generic.ko.xz", "kernel/lib/crc16.ko.xz", "kernel/fs/jbd2.ko.xz", "kernel/fs/ext4.ko.xz"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("moduleFiles (-want +got):\n%s", diff)
	}
	if _, err := k.moduleFiles("nonesuch"); err == nil {
		t.Error("moduleFiles(nonesuch) is no error")
	}
}

func TestInitramfs(t *testing.T) {
	dir := t.TempDir()
	root := newInitramfs()
	root.files["/usr/bin/one"] = write(t, dir, "one", "first")
	if err := root.script(&script.Script{Steps: []script.Step{Run("true")}}); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "tree/etc/two", "second")
	if err := os.Symlink("two", filepath.Join(dir, "tree/etc/link")); err != nil {
		t.Fatal(err)
	}
	if err := root.tree(filepath.Join(dir, "tree"), nil); err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := root.write(&archive); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	var order []string
	r := cpio.NewReader(&archive)
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		order = append(order, h.Name)
		got[h.Name] = string(text) + h.Linkname
	}
	for name, want := range map[string]string{"usr/bin/one": "first", "etc/two": "second", "etc/link": "two", "lib": "usr/lib"} {
		if got[name] != want {
			t.Errorf("%s = %q; want %q (%q)", name, got[name], want, order)
		}
	}
	seen := map[string]bool{".": true}
	for _, name := range order {
		if !seen[filepath.Dir(name)] {
			t.Errorf("%s comes before its directory", name)
		}
		seen[name] = true
	}
}

func TestEditDTB(t *testing.T) {
	tree := fdt.New()
	tree.Root.SetU32("#address-cells", 2)
	tree.Root.SetU32("#size-cells", 2)
	for _, name := range []string{"cpu@0", "cpu@1"} {
		cpu := tree.Ensure("/cpus/" + name)
		cpu.SetString("device_type", "cpu")
		cpu.SetString("mmu-type", "riscv,sv48")
	}
	memory := tree.Ensure("/memory@80000000")
	memory.SetString("device_type", "memory")
	reg, err := memory.EncodeRanges(fdt.Range{Address: 0x80000000, Size: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	memory.Set("reg", reg)
	blob, err := tree.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	edited, err := editDTB(blob, 57, 2, 0x1234)
	if err != nil {
		t.Fatal(err)
	}
	if tree, err = fdt.Parse(edited); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"cpu@0", "cpu@1"} {
		cpu := tree.Find("/cpus/" + name)
		mmu, _ := cpu.String("mmu-type")
		node, _ := cpu.Uint("numa-node-id")
		if mmu != "riscv,sv57" || node != uint64(i) {
			t.Errorf("%s: mmu-type %s in node %d; want riscv,sv57 in node %d", name, mmu, node, i)
		}
	}
	for i, path := range []string{"/memory@80000000", "/memory@a0000000"} {
		n := tree.Find(path)
		if n == nil {
			t.Fatalf("no %s", path)
		}
		regs, err := n.Regs()
		node, _ := n.Uint("numa-node-id")
		if err != nil || len(regs) != 1 || regs[0].Size != 1<<29 || node != uint64(i) {
			t.Errorf("%s: %v, %v, node %d; want 512 MiB in node %d", path, regs, err, node, i)
		}
	}
	if seed, _ := tree.Find("/chosen").Uint("kaslr-seed"); seed != 0x1234 {
		t.Errorf("kaslr-seed %#x; want 0x1234", seed)
	}
	if d := tree.Find("/distance-map"); d == nil {
		t.Error("no /distance-map")
	}
}

// What the guest says comes in pieces that are not lines.
func TestEvents(t *testing.T) {
	o := &Outcome{Dir: t.TempDir()}
	log, err := os.Create(filepath.Join(o.Dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	var seen int
	e := &events{outcome: o, log: log, see: func(script.Event) { seen++ }}
	for _, piece := range []string{
		`{"kind":"facts","step":0,"uptime":1,"facts":{"release":"6.12","mmu":"sv57","cpus":2}}` + "\n" + `{"kind":"begin",`,
		`"step":0,"text":"one","uptime":2}` + "\n", `{"kind":"stdout","step":0,"text":"a\n","uptime":2}` + "\n",
		`{"kind":"stderr","step":0,"text":"b\n","uptime":2}` + "\n" + `{"kind":"end","step":0,"exit":3,"uptime":4.5}` + "\n",
		`{"kind":"begin","step":1,"text":"two","uptime":5}` + "\n",
	} {
		if n, err := e.Write([]byte(piece)); n != len(piece) || err != nil {
			t.Fatalf("Write = %d, %v", n, err)
		}
	}
	if e.err != nil || seen != 6 {
		t.Errorf("%d events, error %v; want 6 and none", seen, e.err)
	}
	want := []Result{
		{Name: "one", Ended: true, Exit: 3, Stdout: "a\n", Stderr: "b\n", Took: 2500 * time.Millisecond},
		{Name: "two"},
	}
	if diff := cmp.Diff(want, o.Results); diff != "" {
		t.Errorf("results (-want +got):\n%s", diff)
	}
	if o.Facts == nil || o.Facts.MMU != "sv57" {
		t.Errorf("facts %+v", o.Facts)
	}
	if _, err := e.Write([]byte("no JSON\n")); err != nil || e.err == nil {
		t.Errorf("Write of nonsense = %v, error %v; want the latter", err, e.err)
	}
}

func TestOutcomeOfConsole(t *testing.T) {
	lines := func(texts ...string) (all []vm.Line) {
		for _, s := range texts {
			all = append(all, vm.Line{Text: s})
		}
		return all
	}
	alive := &Outcome{Lines: lines("Linux version 6.12", "reboot: Power down")}
	if alive.Panicked() || alive.CrashKernel() != -1 || !alive.PoweredOff() {
		t.Errorf("panicked %v, crash kernel %d, powered off %v", alive.Panicked(), alive.CrashKernel(), alive.PoweredOff())
	}
	crashed := &Outcome{Lines: lines("Linux version 6.12", "Kernel panic - not syncing: x", "Linux version 6.12",
		`stock: {"kind":"begin","step":0,"text":"dump"}`, `stock: {"kind":"end","step":0,"exit":1}`, "reboot: Restarting system")}
	if !crashed.Panicked() || crashed.CrashKernel() != 2 || crashed.PoweredOff() || !crashed.Restarted() {
		t.Errorf("panicked %v, crash kernel %d, powered off %v, restarted %v", crashed.Panicked(), crashed.CrashKernel(), crashed.PoweredOff(), crashed.Restarted())
	}
	got, _ := crashed.StockResults()
	if diff := cmp.Diff([]Result{{Name: "dump", Ended: true, Exit: 1}}, got); diff != "" {
		t.Errorf("StockResults (-want +got):\n%s", diff)
	}
}
