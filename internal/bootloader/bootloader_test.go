package bootloader

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata/plans anew")

// tell is a plan as people see it.
func tell(p *Plan) string {
	var b strings.Builder
	for _, f := range p.Found {
		fmt.Fprintf(&b, "found %s, used %v: %s\n", f.Loader, f.Used, f.Why)
	}
	for _, k := range p.Kept {
		fmt.Fprintf(&b, "kept %s: %q\n", k.Path, k.Values)
	}
	for _, n := range p.Notes {
		fmt.Fprintf(&b, "note: %s\n", n)
	}
	for _, e := range p.Edits {
		fmt.Fprintf(&b, "edit %s: %s; was %q\n%s", e.Path, e.Why, e.Was, e.Diff)
	}
	for _, c := range p.Commands() {
		fmt.Fprintf(&b, "run %q\n", c)
	}
	return strings.ReplaceAll(b.String(), "\r", "<CR>")
}

// snapshot is every file of a folder.
func snapshot(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		all[strings.TrimPrefix(path, root)] = fmt.Sprintf("%v %s", info.Mode(), text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func make1(t *testing.T, root, store, value string, replace bool) *Plan {
	t.Helper()
	r, err := OpenRecord(store)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Make(os.DirFS(root), Wanted{Value: value, Replace: replace}, r)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func apply(t *testing.T, p *Plan, root, store, value string) {
	t.Helper()
	if err := p.Apply(root, store, value); err != nil {
		t.Fatal(err)
	}
}

// Each machine: what is planned is as recorded, done twice it is done once, and
// undone it leaves no trace.
func TestMachines(t *testing.T) {
	machines, err := os.ReadDir("testdata/machines")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range machines {
		for _, replace := range []bool{false, true} {
			name := m.Name()
			if replace {
				name += "-replace"
			}
			t.Run(name, func(t *testing.T) {
				root, store := t.TempDir(), filepath.Join(t.TempDir(), "store")
				if err := os.CopyFS(root, os.DirFS(filepath.Join("testdata/machines", m.Name()))); err != nil {
					t.Fatal(err)
				}
				before := snapshot(t, root)
				p := make1(t, root, store, "144M", replace)
				golden := filepath.Join("testdata/plans", name+".txt")
				if *update {
					if err := os.WriteFile(golden, []byte(tell(p)), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(golden)
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(string(want), tell(p)); d != "" {
					t.Error(d)
				}
				if d := cmp.Diff(before, snapshot(t, root)); d != "" {
					t.Errorf("planning changed files: %s", d)
				}
				apply(t, p, root, store, "144M")
				if again := make1(t, root, store, "144M", replace); len(again.Edits) > 0 {
					t.Errorf("done twice:\n%s", tell(again))
				}
				// Another size later needs no leave: the value is panicroom's own.
				other := make1(t, root, store, "160M", false)
				if len(other.Edits) != len(p.Edits) {
					t.Errorf("another size: %d edits, first %d\n%s", len(other.Edits), len(p.Edits), tell(other))
				}
				apply(t, other, root, store, "160M")
				done, err := Undo(root, store)
				if err != nil || len(done) != len(p.Edits) {
					t.Errorf("undo: %v, %v", done, err)
				}
				if d := cmp.Diff(before, snapshot(t, root)); d != "" {
					t.Errorf("undone, but: %s", d)
				}
				if left := snapshot(t, filepath.Dir(store)); len(left) > 0 {
					t.Errorf("the store still has %v", left)
				}
			})
		}
	}
}

// What somebody else has done meanwhile stays: only the parameter goes, and what it
// replaced comes back.
func TestUndoOfChangedFiles(t *testing.T) {
	for _, tt := range []struct{ machine, file, was string }{
		{"u-boot-menu-set", "etc/default/u-boot", "  console=ttyS0\" # serial\n"},
		{"extlinux", "boot/extlinux/extlinux.conf", "append root=/dev/mmcblk0p2 crashkernel=64M,high crashkernel=32M,low debug"},
		{"kdump-tools", "etc/default/grub.d/kdump-tools.cfg", "crashkernel=2G-4G:320M,4G-32G:512M,32G-64G:1024M,64G-128G:2048M,128G-:4096M"},
		{"fedora", "boot/loader/entries/0123-6.17.1.conf", "quiet $tuned_params\n"},
		{"debian-grub", "etc/default/grub.d/panicroom.cfg", "_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT\"\n"},
	} {
		t.Run(tt.machine, func(t *testing.T) {
			root, store := t.TempDir(), filepath.Join(t.TempDir(), "store")
			if err := os.CopyFS(root, os.DirFS(filepath.Join("testdata/machines", tt.machine))); err != nil {
				t.Fatal(err)
			}
			apply(t, make1(t, root, store, "144M", true), root, store, "144M")
			at := filepath.Join(root, tt.file)
			edit := func() {
				text, err := os.ReadFile(at)
				if err != nil {
					t.Fatal(err)
				}
				if !strings.Contains(string(text), "crashkernel=144M") {
					t.Fatalf("not edited:\n%s", text)
				}
				if err := os.WriteFile(at, append(text, "# mine\n"...), 0o640); err != nil {
					t.Fatal(err)
				}
			}
			edit()
			// A new size in between does not take what the owner wrote for ours.
			apply(t, make1(t, root, store, "160M", false), root, store, "160M")
			text, err := os.ReadFile(at)
			if err != nil || !strings.Contains(string(text), "crashkernel=160M") {
				t.Fatalf("%v\n%s", err, text)
			}
			if err := os.WriteFile(at, append(text, "# mine too\n"...), 0o640); err != nil {
				t.Fatal(err)
			}
			if _, err := Undo(root, store); err != nil {
				t.Fatal(err)
			}
			text, err = os.ReadFile(at)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{tt.was, "# mine\n", "# mine too\n"} {
				if !strings.Contains(string(text), want) {
					t.Errorf("no %q in\n%s", want, text)
				}
			}
			if strings.Contains(string(text), "160M") || strings.Contains(string(text), "144M") {
				t.Errorf("our size is still in\n%s", text)
			}
		})
	}
}

// Applying a plan that was made from other files changes none of them.
func TestApplyOfAnOldPlan(t *testing.T) {
	root, store := t.TempDir(), t.TempDir()
	if err := os.CopyFS(root, os.DirFS("testdata/machines/extlinux")); err != nil {
		t.Fatal(err)
	}
	p := make1(t, root, store, "144M", true)
	at := filepath.Join(root, "boot/extlinux/extlinux.conf")
	if err := os.WriteFile(at, []byte("label x\nlinux /x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := p.Apply(root, store, "144M"); !errors.Is(err, ErrChanged) {
		t.Errorf("%v; want %v", err, ErrChanged)
	}
	if text, _ := os.ReadFile(at); string(text) != "label x\nlinux /x\n" {
		t.Errorf("written: %q", text)
	}
}

// A link to a file is still one afterwards, and the mode stays.
func TestWriteKeepsLinkAndMode(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real"), filepath.Join(dir, "link")
	if err := os.WriteFile(real, []byte("a"), 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("real", link); err != nil {
		t.Fatal(err)
	}
	if err := write(link, []byte("b"), 0o644); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(real)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if to, err := os.Readlink(link); err != nil || to != "real" {
		t.Errorf("link to %q, %v", to, err)
	}
	if text, _ := os.ReadFile(real); string(text) != "b" {
		t.Errorf("%q", text)
	}
}

func TestCheckValue(t *testing.T) {
	for v, ok := range map[string]bool{
		"128M": true, "1G-4G:128M,4G-:192M": true, "512M@0x90000000": true, "256M,high": true,
		"": false, "auto": false, "128M quiet": false, `128M"`: false, "1$(id)": false, strings.Repeat("1", 300): false,
	} {
		if err := CheckValue(v); (err == nil) != ok {
			t.Errorf("CheckValue(%.20q): %v", v, err)
		}
	}
}

func TestDiff(t *testing.T) {
	a := []byte("1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n11\n12")
	b := []byte("1\n2\n3\nfour\n5\n6\n7\n8\n9\n10\n11\n12\n13\n")
	want := `--- /f
+++ /f
@@ -1,7 +1,7 @@
 1
 2
 3
-4
+four
 5
 6
 7
@@ -9,4 +9,5 @@
 9
 10
 11
-12
\ No newline at end of file
+12
+13
`
	if d := cmp.Diff(want, diff("/f", a, b, false)); d != "" {
		t.Error(d)
	}
}
