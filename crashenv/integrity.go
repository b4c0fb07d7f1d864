package crashenv

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/panicroom-kdump/panicroom/internal/fdt"
	"github.com/panicroom-kdump/panicroom/internal/host"
	"github.com/panicroom-kdump/panicroom/internal/seal"
	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// File is a file in the initramfs, but for the Plan, which this stands in.
type File struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"` // bytes
	SHA256 string `json:"sha256"`
}

func newFile(name string, size int64, sum []byte) File {
	return File{Name: name, Size: size, SHA256: hex.EncodeToString(sum)}
}

// Verified is a part of the panic room that was compared with what was loaded,
// or should have been.
type Verified struct {
	What   string `json:"what"`
	Result Result `json:"result"`
	Detail string `json:"detail,omitempty"` // the numbers, or why not
}

// Result is what a comparison came to.
type Result string

// The results of a comparison.
const (
	AsLoaded    Result = "ok"
	Mismatch    Result = "mismatch"
	NotVerified Result = "not verified"
)

// Names of what is verified beside files.
const (
	whatTree   = "device tree"
	whatHeader = "elfcorehdr"
)

// ErrMismatch: the panic room is not as it was loaded. Something wrote into
// the reserved memory.
var ErrMismatch = errors.New("not as it was loaded")

// mismatchError names what is not as it was loaded.
type mismatchError struct{ what []string }

func (e *mismatchError) Error() string {
	return fmt.Sprintf("%s: %v", strings.Join(e.what, ", "), ErrMismatch)
}
func (e *mismatchError) Unwrap() error { return ErrMismatch }
func (e *mismatchError) Hints() []string {
	return []string{"something wrote into the reserved memory, maybe what the kernel died of; do not trust this dump blindly"}
}

// inspector compares the panic room with what was loaded: the device tree,
// the dump's header and the plan with the seal in the device tree, the other
// files with the plan. See docs/integrity.md.
type inspector struct {
	root fs.FS // "/"
	plan *Plan
	// early are files that were looked at before they were used, here or by a worker
	// before this one.
	early map[string]Verified
}

// integrity is the phase in which everything is compared. It can take long
// only when the kernel hangs in it; then the work goes on without it.
func (in *inspector) integrity(ctx context.Context, keep func([]Verified)) (string, error) {
	done := make(chan []Verified, 1)
	failed := make(chan error, 1)
	go func() {
		defer func() {
			if r := recover(); r != nil {
				failed <- fmt.Errorf("%w: %v", errPanic, r)
			}
		}()
		done <- in.all(ctx)
	}()
	select {
	case list := <-done:
		keep(list)
		return summary(list)
	case err := <-failed:
		return "", err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}

// summary says the results in one line; the error is of what does not match.
func summary(list []Verified) (string, error) {
	var bad, unknown []string
	for _, v := range list {
		switch v.Result {
		case Mismatch:
			bad = append(bad, v.What)
		case NotVerified:
			unknown = append(unknown, v.What+" ("+v.Detail+")")
		}
	}
	if len(bad) > 0 {
		return "", &mismatchError{bad}
	}
	text := fmt.Sprintf("%d of %d as loaded", len(list)-len(unknown), len(list))
	if len(unknown) > 0 {
		text += ", not verified: " + strings.Join(unknown, ", ")
	}
	return text, nil
}

// mismatches are the results that a reader of the report must know.
func mismatches(list []Verified) []string {
	var all []string
	for _, v := range list {
		if v.Result == Mismatch {
			all = append(all, fmt.Sprintf("the panic room's %s is %v", v.What, ErrMismatch))
		}
	}
	return all
}

// all compares everything, until ctx ends.
func (in *inspector) all(ctx context.Context) []Verified {
	tree, whole, err := in.tree()
	var s *seal.Seal
	if err == nil {
		s, err = seal.Read(tree)
	}
	var list []Verified
	if err != nil {
		v := Verified{Result: NotVerified, Detail: err.Error()}
		switch {
		case errors.Is(err, seal.ErrBroken), errors.Is(err, fdt.ErrMalformed):
			v.Result = Mismatch
		case errors.Is(err, seal.ErrNone) && has(tree, fileLoaded):
			v.Detail += ": the kernel's own loader made it (kexec_file_load)"
		}
		for _, v.What = range []string{whatTree, whatHeader, planFile} {
			list = append(list, v)
			v.Result = NotVerified
		}
	} else {
		list = append(list, compareTree(tree, whole, s), in.header(tree, s), in.planFile(s))
	}
	for _, f := range in.plan.Files {
		if ctx.Err() != nil {
			list = append(list, Verified{f.Name, NotVerified, context.Cause(ctx).Error()})
			continue
		}
		list = append(list, in.after(f.Name))
	}
	return list
}

// Where the panic kernel shows its device tree: as it was given, and as it was
// understood.
const (
	flatTree = "sys/firmware/fdt"
	liveTree = "sys/firmware/devicetree/base"

	maxTree     = 4 << 20
	maxProperty = 64 << 10
)

// tree reads the device tree, or as much of it as is needed when the kernel
// does not show it: whole is false then.
func (in *inspector) tree() (t *fdt.Tree, whole bool, err error) {
	blob, err := in.read(flatTree, maxTree)
	if err == nil {
		t, err = fdt.Parse(blob)
		return t, true, err
	}
	t = fdt.New()
	chosen := t.Ensure("/chosen")
	found := false
	for _, p := range []struct {
		node *fdt.Node
		name string
	}{
		{t.Root, "#address-cells"}, {t.Root, "#size-cells"},
		{chosen, headerProperty}, {chosen, seal.HeaderProperty}, {chosen, seal.EnvironmentProperty}, {chosen, seal.TreeProperty},
	} {
		if value, err := in.read(path.Join(liveTree, p.node.Path(), p.name), maxProperty); err == nil {
			p.node.Set(p.name, value)
			found = true
		}
	}
	if !found {
		return nil, false, err
	}
	return t, false, nil
}

// Properties of /chosen (drivers/of/kexec.c): where the dump's header is, and
// that the kernel's own loader made the tree.
const (
	headerProperty = "linux,elfcorehdr"
	fileLoaded     = "linux,booted-from-kexec"
)

// read reads a small file whole.
func (in *inspector) read(name string, limit int64) ([]byte, error) {
	f, err := in.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("/%s has more than %d bytes", name, limit)
	}
	return b, err
}

// has tells whether /chosen has a property.
func has(t *fdt.Tree, name string) bool {
	chosen := t.Find("/chosen")
	return chosen != nil && chosen.Has(name)
}

func compareTree(t *fdt.Tree, whole bool, s *seal.Seal) Verified {
	v := Verified{What: whatTree, Result: NotVerified}
	if !whole {
		v.Detail = "the kernel does not show it: something changed it after the start"
		return v
	}
	sum, err := seal.TreeDigest(t)
	if err != nil {
		v.Detail = err.Error()
		return v
	}
	return v.compare(sum[:], s.Tree[:])
}

// compare fills in the result of comparing two digests.
func (v Verified) compare(now, loaded []byte) Verified {
	if string(now) == string(loaded) {
		v.Result = AsLoaded
		return v
	}
	v.Result, v.Detail = Mismatch, fmt.Sprintf("SHA-256 is %x, when it was loaded %x", now, loaded)
	return v
}

// Sizes of the ELF headers that the loader writes.
const (
	ehdrSize = 64
	phdrSize = 56
)

// header compares the header of the dump, which nothing but the kernel's
// memory has.
func (in *inspector) header(t *fdt.Tree, s *seal.Seal) Verified {
	v := Verified{What: whatHeader, Result: NotVerified}
	fail := func(err error) Verified {
		v.Detail = err.Error()
		return v
	}
	value, ok := t.Find("/chosen").Get(headerProperty)
	if !ok {
		return fail(errors.New("the device tree does not say where it is"))
	}
	at, err := t.Root.DecodeRanges(value)
	if err != nil {
		return fail(err)
	}
	if len(at) != 1 {
		return fail(fmt.Errorf("the device tree has %d places for it", len(at)))
	}
	memory, err := host.OpenMemory(in.root)
	if err != nil {
		return fail(err)
	}
	defer memory.Close()
	var eh [ehdrSize]byte
	start := at[0].Address
	if _, err := memory.ReadAt(eh[:], int64(start)); err != nil {
		return fail(err)
	}
	le := binary.LittleEndian
	size := ehdrSize + phdrSize*uint64(le.Uint16(eh[56:]))
	if le.Uint64(eh[32:]) != ehdrSize || le.Uint16(eh[54:]) != phdrSize || size > at[0].Size {
		v.Result, v.Detail = Mismatch, fmt.Sprintf("the ELF header is broken: %x", eh)
		return v
	}
	h := sha256.New()
	if _, err := io.Copy(h, memory.Section(host.Range{Start: start, End: start + size})); err != nil {
		return fail(err)
	}
	v.Detail = fmt.Sprintf("%s at %#x", ui.Bytes(size), start)
	return v.compare(h.Sum(nil), s.Header[:])
}

func (in *inspector) planFile(s *seal.Seal) Verified {
	v := Verified{What: planFile, Result: NotVerified}
	if s.Environment == nil {
		v.Detail = "the loader did not know it"
		return v
	}
	sum, size, err := in.hash(planFile)
	if err != nil {
		v.Result, v.Detail = Mismatch, err.Error()
		return v
	}
	v.Detail = ui.Bytes(uint64(size))
	return v.compare(sum, s.Environment[:])
}

// file compares a file with the plan.
func (in *inspector) file(name string) Verified {
	v := Verified{What: name, Result: NotVerified, Detail: "the plan does not have its digest"}
	for _, f := range in.plan.Files {
		if f.Name != name {
			continue
		}
		loaded, err := hex.DecodeString(f.SHA256)
		if err != nil || len(loaded) != sha256.Size {
			return v
		}
		sum, size, err := in.hash(name)
		if err != nil {
			v.Result, v.Detail = Mismatch, err.Error()
			return v
		}
		v.Detail = ui.Bytes(uint64(size))
		return v.compare(sum, loaded)
	}
	return v
}

// before compares a file that will be used and deleted.
func (in *inspector) before(name string) Verified {
	v := in.file(name)
	if in.early == nil {
		in.early = map[string]Verified{}
	}
	in.early[name] = v
	return v
}

// after compares a file when those that are deleted may be gone.
func (in *inspector) after(name string) Verified {
	if v, ok := in.early[name]; ok {
		return v
	}
	module := slices.ContainsFunc(in.plan.Modules, func(m Module) bool { return m.File == name })
	if _, err := fs.Stat(in.root, strings.TrimPrefix(name, "/")); module && errors.Is(err, fs.ErrNotExist) {
		// By a worker that did not come to tell.
		return Verified{name, NotVerified, "it was loaded and deleted"}
	}
	return in.file(name)
}

// hash reads a file of the initramfs.
func (in *inspector) hash(name string) (sum []byte, size int64, err error) {
	f, err := in.root.Open(strings.TrimPrefix(name, "/"))
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	h := sha256.New()
	size, err = io.Copy(h, f)
	return h.Sum(nil), size, err
}
