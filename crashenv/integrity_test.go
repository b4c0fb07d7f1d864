package crashenv

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/internal/fdt"
	"github.com/panicroom-kdump/panicroom/internal/seal"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/target/targettest"
)

// headerAt is where the panic room of the tests has the dump's header.
const headerAt = 0xf7fff000

// coreHeader is a dump's header with n program headers.
func coreHeader(n int) []byte {
	b := make([]byte, ehdrSize+n*phdrSize)
	copy(b, "\x7fELF\x02\x01\x01")
	binary.LittleEndian.PutUint64(b[32:], ehdrSize)
	binary.LittleEndian.PutUint16(b[54:], phdrSize)
	binary.LittleEndian.PutUint16(b[56:], uint16(n))
	for i := ehdrSize; i < len(b); i++ {
		b[i] = byte(i)
	}
	return b
}

// kcoreOf is a /proc/kcore that has a page of memory at headerAt.
func kcoreOf(page []byte) []byte {
	le := binary.LittleEndian
	b := make([]byte, ehdrSize+phdrSize, ehdrSize+phdrSize+4096)
	copy(b, "\x7fELF\x02\x01\x01")
	le.PutUint16(b[16:], 4) // ET_CORE
	le.PutUint16(b[18:], 243)
	le.PutUint64(b[32:], ehdrSize)
	le.PutUint16(b[54:], phdrSize)
	le.PutUint16(b[56:], 1)
	ph := b[ehdrSize:]
	le.PutUint32(ph, 1) // PT_LOAD
	le.PutUint64(ph[8:], uint64(len(b)))
	le.PutUint64(ph[24:], headerAt)
	le.PutUint64(ph[32:], 4096)
	return append(append(b, page...), make([]byte, 4096-len(page))...)
}

// panicRoom is a panic room as it was loaded, and its plan.
func panicRoom(t *testing.T) (fstest.MapFS, *Plan) {
	t.Helper()
	header := coreHeader(5)
	plan := testPlan()
	root := fstest.MapFS{"proc/kcore": {Data: kcoreOf(header)}}
	for _, name := range []string{"/modules/ext4.ko", initFile} {
		text := []byte("contents of " + name)
		sum := sha256.Sum256(text)
		root[name[1:]] = &fstest.MapFile{Data: text}
		plan.Files = append(plan.Files, newFile(name, int64(len(text)), sum[:]))
	}
	text := []byte("a plan")
	root[planFile[1:]] = &fstest.MapFile{Data: text}
	environment := sha256.Sum256(text)
	tree := fdt.New()
	tree.Root.SetU32("#address-cells", 2)
	tree.Root.SetU32("#size-cells", 2)
	place, err := tree.Root.EncodeRanges(fdt.Range{Address: headerAt, Size: 4096})
	if err != nil {
		t.Fatal(err)
	}
	tree.Ensure("/chosen").Set(headerProperty, place)
	if err := seal.Apply(tree, sha256.Sum256(header), &environment); err != nil {
		t.Fatal(err)
	}
	setTree(t, root, tree)
	return root, plan
}

func setTree(t *testing.T, root fstest.MapFS, tree *fdt.Tree) {
	t.Helper()
	blob, err := tree.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	root[flatTree] = &fstest.MapFile{Data: blob}
}

// editTree edits the device tree that the kernel shows.
func editTree(t *testing.T, root fstest.MapFS, edit func(*fdt.Tree)) {
	t.Helper()
	tree, err := fdt.Parse(root[flatTree].Data)
	if err != nil {
		t.Fatal(err)
	}
	edit(tree)
	setTree(t, root, tree)
}

func flip(root fstest.MapFS, name string, at int) {
	f := *root[name]
	f.Data = bytes.Clone(f.Data)
	f.Data[at] ^= 1
	root[name] = &f
}

func TestIntegrity(t *testing.T) {
	const (
		module = "/modules/ext4.ko"
		header = ehdrSize + phdrSize // in kcore
	)
	all := map[string]Result{whatTree: AsLoaded, whatHeader: AsLoaded, planFile: AsLoaded, module: AsLoaded, initFile: AsLoaded}
	for _, c := range []struct {
		name   string
		change func(*testing.T, fstest.MapFS, *Plan)
		want   map[string]Result // where it is not AsLoaded
		says   string
	}{
		{"as loaded", func(*testing.T, fstest.MapFS, *Plan) {}, nil, "5 of 5 as loaded"},
		{"init", func(_ *testing.T, r fstest.MapFS, _ *Plan) { flip(r, "init", 3) }, map[string]Result{initFile: Mismatch}, "/init: not as it was loaded"},
		{"longer init", func(_ *testing.T, r fstest.MapFS, _ *Plan) {
			r["init"] = &fstest.MapFile{Data: append(bytes.Clone(r["init"].Data), 0)}
		}, map[string]Result{initFile: Mismatch}, "/init"},
		{"no init", func(_ *testing.T, r fstest.MapFS, _ *Plan) { delete(r, "init") }, map[string]Result{initFile: Mismatch}, initFile},
		{"module", func(_ *testing.T, r fstest.MapFS, _ *Plan) { flip(r, "modules/ext4.ko", 1) }, map[string]Result{module: Mismatch}, module},
		{"module used up", func(_ *testing.T, r fstest.MapFS, _ *Plan) { delete(r, "modules/ext4.ko") }, map[string]Result{module: NotVerified}, "deleted"},
		{"plan", func(_ *testing.T, r fstest.MapFS, _ *Plan) { flip(r, "plan.json", 0) }, map[string]Result{planFile: Mismatch}, planFile},
		{"header", func(_ *testing.T, r fstest.MapFS, _ *Plan) { flip(r, "proc/kcore", header+ehdrSize+4*phdrSize) }, map[string]Result{whatHeader: Mismatch}, whatHeader},
		{"header's count", func(_ *testing.T, r fstest.MapFS, _ *Plan) { flip(r, "proc/kcore", header+56) }, map[string]Result{whatHeader: Mismatch}, whatHeader},
		{"header's huge count", func(_ *testing.T, r fstest.MapFS, _ *Plan) { flip(r, "proc/kcore", header+57) }, map[string]Result{whatHeader: Mismatch}, whatHeader},
		{"behind the header", func(_ *testing.T, r fstest.MapFS, _ *Plan) { flip(r, "proc/kcore", header+4000) }, nil, "5 of 5"},
		{"tree", func(t *testing.T, r fstest.MapFS, _ *Plan) {
			editTree(t, r, func(tree *fdt.Tree) { tree.Root.SetString("model", "x") })
		}, map[string]Result{whatTree: Mismatch}, whatTree},
		{"seeds used up", func(t *testing.T, r fstest.MapFS, _ *Plan) {
			editTree(t, r, func(tree *fdt.Tree) { tree.Find("/chosen").SetU64("kaslr-seed", 0) })
		}, nil, "5 of 5"},
		{"two mismatches", func(_ *testing.T, r fstest.MapFS, _ *Plan) { flip(r, "init", 0); flip(r, "plan.json", 0) },
			map[string]Result{initFile: Mismatch, planFile: Mismatch}, "/plan.json, /init: not"},
		{"broken tree", func(_ *testing.T, r fstest.MapFS, _ *Plan) { flip(r, flatTree, 0) },
			map[string]Result{whatTree: Mismatch, whatHeader: NotVerified, planFile: NotVerified}, whatTree},
		{"broken seal", func(t *testing.T, r fstest.MapFS, _ *Plan) {
			editTree(t, r, func(tree *fdt.Tree) { tree.Find("/chosen").Set(seal.HeaderProperty, []byte{1}) })
		}, map[string]Result{whatTree: Mismatch, whatHeader: NotVerified, planFile: NotVerified}, whatTree},
		{"no seal", func(t *testing.T, r fstest.MapFS, _ *Plan) {
			tree := fdt.New()
			tree.Ensure("/chosen").Set(fileLoaded, nil)
			setTree(t, r, tree)
		}, map[string]Result{whatTree: NotVerified, whatHeader: NotVerified, planFile: NotVerified}, "kexec_file_load"},
		{"another initramfs", func(t *testing.T, r fstest.MapFS, _ *Plan) {
			editTree(t, r, func(tree *fdt.Tree) {
				if err := seal.Apply(tree, sha256.Sum256(coreHeader(5)), nil); err != nil {
					t.Fatal(err)
				}
			})
		}, map[string]Result{planFile: NotVerified}, "4 of 5 as loaded, not verified: /plan.json"},
		{"no kcore", func(_ *testing.T, r fstest.MapFS, _ *Plan) { delete(r, "proc/kcore") }, map[string]Result{whatHeader: NotVerified}, "proc/kcore"},
		{"not in kcore", func(_ *testing.T, r fstest.MapFS, _ *Plan) { flip(r, "proc/kcore", ehdrSize+24+4) }, map[string]Result{whatHeader: NotVerified}, "not in /proc/kcore"},
		{"no sysfs", func(_ *testing.T, r fstest.MapFS, _ *Plan) { delete(r, flatTree) },
			map[string]Result{whatTree: NotVerified, whatHeader: NotVerified, planFile: NotVerified}, "2 of 5"},
		{"hidden tree", func(t *testing.T, r fstest.MapFS, _ *Plan) {
			editTree(t, r, func(tree *fdt.Tree) {
				for _, n := range []*fdt.Node{tree.Root, tree.Find("/chosen")} {
					for _, p := range n.Properties() {
						r[strings.ReplaceAll(liveTree+n.Path()+"/"+p.Name, "//", "/")] = &fstest.MapFile{Data: p.Value}
					}
				}
			})
			delete(r, flatTree)
		}, map[string]Result{whatTree: NotVerified}, "4 of 5 as loaded, not verified: device tree"},
		{"no digests in the plan", func(_ *testing.T, _ fstest.MapFS, p *Plan) { p.Files[1].SHA256 = "?" }, map[string]Result{initFile: NotVerified}, "4 of 5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			root, plan := panicRoom(t)
			c.change(t, root, plan)
			var list []Verified
			in := inspector{root: root, plan: plan}
			text, err := in.integrity(t.Context(), func(l []Verified) { list = l })
			want := maps.Clone(all)
			maps.Copy(want, c.want)
			got := map[string]Result{}
			for _, v := range list {
				got[v.What] = v.Result
				if v.Result != AsLoaded && v.Detail == "" {
					t.Errorf("%s: %s without a reason", v.What, v.Result)
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("results (-want +got):\n%s\n%+v", diff, list)
			}
			bad := slices.Contains(slices.Collect(maps.Values(want)), Mismatch)
			if bad != errors.Is(err, ErrMismatch) || bad != (len(mismatches(list)) > 0) {
				t.Errorf("error %v, mismatches %q", err, mismatches(list))
			}
			if err != nil {
				text = err.Error()
				if len(ui.Hints(err)) == 0 {
					t.Error("no hint")
				}
			}
			if !strings.Contains(text, c.says) {
				t.Errorf("says %q; want %q", text, c.says)
			}
		})
	}
}

// A module is compared before it is loaded and deleted.
func TestIntegrityBeforeUse(t *testing.T) {
	root, plan := panicRoom(t)
	in := inspector{root: root, plan: plan}
	flip(root, "modules/ext4.ko", 0)
	if v := in.before("/modules/ext4.ko"); v.Result != Mismatch {
		t.Errorf("before use: %+v", v)
	}
	delete(root, "modules/ext4.ko")
	if _, err := in.integrity(t.Context(), func([]Verified) {}); !errors.Is(err, ErrMismatch) || !strings.Contains(err.Error(), "ext4") {
		t.Errorf("after use: %v", err)
	}
	// A worker for the next target knows it from the state of the one before.
	file := filepath.Join(t.TempDir(), "state")
	if err := (&state{Early: in.early}).write(file); err != nil {
		t.Fatal(err)
	}
	st, err := readState(file)
	if err != nil {
		t.Fatal(err)
	}
	next := inspector{root: root, plan: plan, early: st.Early}
	if _, err := next.integrity(t.Context(), func([]Verified) {}); !errors.Is(err, ErrMismatch) || !strings.Contains(err.Error(), "ext4") {
		t.Errorf("by the next worker: %v", err)
	}
	again := inspector{root: root, plan: plan}
	if v := again.before("/modules/ext4.ko"); v.Result != Mismatch {
		t.Errorf("a module that is missing before its use: %+v", v)
	}
	if v := in.before("/unknown"); v.Result != NotVerified {
		t.Errorf("a file that the plan lacks: %+v", v)
	}
}

// Whatever the comparison comes to, or if it comes to nothing, the crash is
// saved.
func TestIntegrityStopsNothing(t *testing.T) {
	good, plan := panicRoom(t)
	bad := maps.Clone(good)
	flip(bad, "init", 0)
	for name, c := range map[string]struct {
		root     fs.FS
		warnings int
		results  int
	}{
		"as loaded": {good, 0, 5},
		"mismatch":  {bad, 1, 5},
		"panics":    {nil, 1, 0},
	} {
		var told []string
		d := &testDead{report: func(_ context.Context, text, _ io.Writer) error {
			_, err := io.WriteString(text, "it died\n")
			return err
		}, warned: func(w []string) { told = w }}
		m, err := save(t, d, targettest.NewMemory(64<<20), func(o *SaveOptions) { o.loaded = &inspector{root: c.root, plan: plan} })
		if err != nil || !m.Complete {
			t.Errorf("%s: %v; want a complete crash", name, err)
			continue
		}
		if len(m.Warnings) != c.warnings || len(m.Integrity) != c.results {
			t.Errorf("%s: warnings %q, integrity %+v", name, m.Warnings, m.Integrity)
		}
		if want := name == "mismatch"; (len(told) > 0) != want {
			t.Errorf("%s: the report was told %q", name, told)
		}
	}
}

func TestIntegrityHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, plan := panicRoom(t)
		p := phases{deadlines: DefaultDeadlines()}
		release := make(chan struct{})
		in := inspector{root: waitFS{release}, plan: plan}
		err := p.run(t.Context(), PhaseIntegrity, func(ctx context.Context) (string, error) {
			return in.integrity(ctx, func([]Verified) { t.Error("results of a comparison that hangs") })
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v; want that it was late", err)
		}
		close(release)
	})
}

// waitFS hangs until it is released.
type waitFS struct{ release chan struct{} }

func (w waitFS) Open(string) (fs.File, error) {
	<-w.release
	return nil, fs.ErrNotExist
}
