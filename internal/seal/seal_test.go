package seal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/internal/fdt"
)

func machine(t testing.TB) *fdt.Tree {
	t.Helper()
	blob, err := os.ReadFile("../fdt/testdata/qemu-virt.dtb")
	if err != nil {
		t.Fatal(err)
	}
	tree, err := fdt.Parse(blob)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// sealed is the blob of a tree as a loader writes it.
func sealed(t testing.TB, header Digest, environment *Digest) []byte {
	t.Helper()
	tree := machine(t)
	chosen := tree.Ensure("/chosen")
	chosen.SetString("bootargs", "panic=1")
	chosen.SetU64("kaslr-seed", 0x1122334455667788)
	chosen.Set("rng-seed", bytes.Repeat([]byte{0xa5}, 128))
	chosen.SetU64("linux,initrd-start", 0x90000000)
	tree.Reserve = []fdt.Range{{Address: 0x90000000, Size: 0x1000}}
	if err := Apply(tree, header, environment); err != nil {
		t.Fatal(err)
	}
	blob, err := tree.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

// property is where the value of a property lies in a blob; the four bytes
// of token, the length and the name precede it.
func property(t testing.TB, blob, value []byte) int {
	t.Helper()
	i := bytes.Index(blob, value)
	if i < 0 || bytes.Contains(blob[i+1:], value) {
		t.Fatalf("value %x is not there once", value)
	}
	return i
}

// booted does to a blob what Linux does before it shows it: kaslr-seed is
// zeroed, rng-seed becomes NOPs. grow adds room behind, as boot loaders do.
func booted(t testing.TB, blob []byte, grow int) []byte {
	t.Helper()
	blob = bytes.Clone(blob)
	clear(blob[property(t, blob, []byte{0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88}):][:8])
	at := property(t, blob, bytes.Repeat([]byte{0xa5}, 128))
	for i := at - 12; i < at+128; i += 4 {
		binary.BigEndian.PutUint32(blob[i:], 4) // FDT_NOP
	}
	blob = append(blob, make([]byte, grow)...)
	binary.BigEndian.PutUint32(blob[4:], uint32(len(blob)))
	return blob
}

func parse(t testing.TB, blob []byte) *fdt.Tree {
	t.Helper()
	tree, err := fdt.Parse(blob)
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

func TestSealSurvivesTheBoot(t *testing.T) {
	header, environment := Digest{1, 2, 3}, Digest{4, 5, 6}
	for name, env := range map[string]*Digest{"with environment": &environment, "without": nil} {
		blob := sealed(t, header, env)
		for _, grow := range []int{0, 4096} {
			tree := parse(t, booted(t, blob, grow))
			got, err := Read(tree)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			now, err := TreeDigest(tree)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&Seal{Header: header, Environment: env, Tree: now}, got); diff != "" {
				t.Errorf("%s, grown by %d:\n%s", name, grow, diff)
			}
		}
	}
}

// Every edit of the tree must be seen, wherever it is made.
func TestTreeDigestSeesChanges(t *testing.T) {
	blob := booted(t, sealed(t, Digest{1}, nil), 0)
	for name, change := range map[string]func(*fdt.Tree){
		"bootargs":     func(t *fdt.Tree) { t.Find("/chosen").SetString("bootargs", "panic=2") },
		"a reserve":    func(t *fdt.Tree) { t.Reserve[0].Size += 0x1000 },
		"no reserve":   func(t *fdt.Tree) { t.Reserve = nil },
		"a node":       func(t *fdt.Tree) { t.Root.AddChild("x") },
		"memory":       func(t *fdt.Tree) { v, _ := t.Find("/memory").Get("reg"); v[len(v)-1] ^= 1 },
		"other digest": func(t *fdt.Tree) { v, _ := t.Find("/chosen").Get(HeaderProperty); v[0] ^= 1 },
		"a seed elsewhere": func(t *fdt.Tree) {
			t.Root.Set("rng-seed", []byte{1})
		},
	} {
		tree := parse(t, bytes.Clone(blob))
		s, err := Read(tree)
		if err != nil {
			t.Fatal(err)
		}
		change(tree)
		if now, err := TreeDigest(tree); err != nil || now == s.Tree {
			t.Errorf("%s: the digest is the same (%v)", name, err)
		}
	}
}

// The loader makes the tree twice, first with digests that it does not know.
func TestLengthDoesNotDependOnDigests(t *testing.T) {
	if a, b := len(sealed(t, Digest{}, &Digest{})), len(sealed(t, Digest{1}, &Digest{2})); a != b {
		t.Errorf("%d and %d bytes", a, b)
	}
}

func TestApplyReplaces(t *testing.T) {
	tree := machine(t)
	if err := errors.Join(Apply(tree, Digest{1}, &Digest{2}), Apply(tree, Digest{3}, nil)); err != nil {
		t.Fatal(err)
	}
	fresh := machine(t)
	if err := Apply(fresh, Digest{3}, nil); err != nil {
		t.Fatal(err)
	}
	got, err1 := Read(tree)
	want, err2 := Read(fresh)
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("sealed twice:\n%s", diff)
	}
}

func TestReadRefuses(t *testing.T) {
	for _, c := range []struct {
		name string
		edit func(chosen *fdt.Node)
		want error
	}{
		{"no seal", func(c *fdt.Node) {
			for _, name := range []string{HeaderProperty, EnvironmentProperty, TreeProperty} {
				c.Remove(name)
			}
		}, ErrNone},
		{"short", func(c *fdt.Node) { c.Set(HeaderProperty, make([]byte, 31)) }, ErrBroken},
		{"long", func(c *fdt.Node) { c.Set(EnvironmentProperty, make([]byte, 33)) }, ErrBroken},
		{"empty", func(c *fdt.Node) { c.Set(TreeProperty, nil) }, ErrBroken},
		{"no tree", func(c *fdt.Node) { c.Remove(TreeProperty) }, ErrBroken},
		{"no header", func(c *fdt.Node) { c.Remove(HeaderProperty) }, ErrBroken},
	} {
		tree := parse(t, sealed(t, Digest{1}, &Digest{2}))
		c.edit(tree.Find("/chosen"))
		if s, err := Read(tree); !errors.Is(err, c.want) || s != nil {
			t.Errorf("%s: Read = %v, %v; want %v", c.name, s, err, c.want)
		}
	}
	if _, err := Read(fdt.New()); !errors.Is(err, ErrNone) {
		t.Errorf("no /chosen: %v", err)
	}
}

// Whatever tree a kernel shows, reading it ends with an answer, and a seal that
// was read is the one that Apply writes.
func FuzzRead(f *testing.F) {
	f.Add(sealed(f, Digest{1}, &Digest{2}))
	f.Add(sealed(f, Digest{1}, nil))
	f.Add(booted(f, sealed(f, Digest{3}, &Digest{4}), 64))
	f.Fuzz(func(t *testing.T, blob []byte) {
		tree, err := fdt.Parse(blob)
		if err != nil {
			return
		}
		s, err := Read(tree)
		if err != nil {
			if !errors.Is(err, ErrNone) && !errors.Is(err, ErrBroken) {
				t.Fatalf("Read: %v", err)
			}
			return
		}
		if Apply(tree, s.Header, s.Environment) != nil {
			return // a tree that cannot be written
		}
		again, err := Read(tree)
		if err != nil || again.Header != s.Header || (again.Environment == nil) != (s.Environment == nil) {
			t.Fatalf("sealed again: %+v, %v; was %+v", again, err, s)
		}
	})
}
