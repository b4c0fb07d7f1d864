package seal

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/panicroom-kdump/panicroom/internal/fdt"
)

// The properties of /chosen, each a SHA-256 of 32 bytes.
const (
	// HeaderProperty is of the dump's header, as linux,elfcorehdr points to it.
	HeaderProperty = "panicroom,elfcorehdr-sha256"
	// EnvironmentProperty is of the crash environment's plan, which has the
	// digests of the other files in the initramfs.
	EnvironmentProperty = "panicroom,environment-sha256"
	// TreeProperty is of the device tree itself; see [TreeDigest].
	TreeProperty = "panicroom,tree-sha256"
)

// changing are properties of /chosen that the panic kernel changes before
// anybody can look: kaslr-seed is zeroed in place (arch/riscv/kernel/pi,
// Linux 6.12 and 7.2), rng-seed becomes NOPs (drivers/of/fdt.c). And a digest
// cannot have itself in it.
var changing = []string{"kaslr-seed", "rng-seed", TreeProperty}

// Digest is a SHA-256.
type Digest = [sha256.Size]byte

// Seal is what a device tree says about what was loaded with it.
type Seal struct {
	Header Digest
	// Environment is nil when the initramfs is somebody else's.
	Environment *Digest
	Tree        Digest
}

// ErrNone: the device tree has no seal. It was not made by this program, or by
// the kernel for kexec_file_load(2).
var ErrNone = errors.New("the device tree has no seal")

// ErrBroken: the device tree has something that is not a seal.
var ErrBroken = errors.New("the seal in the device tree is broken")

// Apply seals t, in place of any older seal: with the digests of the dump's
// header and of the crash environment, nil if the initramfs has none, and of
// the tree as it is now. It must be the last edit. How much longer the tree
// becomes does not depend on the digests.
func Apply(t *fdt.Tree, header Digest, environment *Digest) error {
	chosen := t.Ensure("/chosen")
	for _, name := range []string{HeaderProperty, EnvironmentProperty, TreeProperty} {
		chosen.Remove(name)
	}
	chosen.Set(HeaderProperty, header[:])
	if environment != nil {
		chosen.Set(EnvironmentProperty, environment[:])
	}
	tree, err := TreeDigest(t)
	if err != nil {
		return err
	}
	chosen.Set(TreeProperty, tree[:])
	return nil
}

// Read reads the seal of a tree, without comparing anything. The error is
// [ErrNone] or [ErrBroken].
func Read(t *fdt.Tree) (*Seal, error) {
	chosen := t.Find("/chosen")
	if chosen == nil {
		return nil, ErrNone
	}
	var s Seal
	found := 0
	read := func(name string, into *Digest) (bool, error) {
		v, ok := chosen.Get(name)
		if !ok {
			return false, nil
		}
		if found++; len(v) != len(into) {
			return false, fmt.Errorf("%w: /chosen/%s has %d bytes, not %d", ErrBroken, name, len(v), len(into))
		}
		copy(into[:], v)
		return true, nil
	}
	var environment Digest
	header, err1 := read(HeaderProperty, &s.Header)
	sealed, err2 := read(EnvironmentProperty, &environment)
	tree, err3 := read(TreeProperty, &s.Tree)
	if err := cmp.Or(err1, err2, err3); err != nil {
		return nil, err
	}
	switch {
	case found == 0:
		return nil, ErrNone
	case !header || !tree:
		return nil, fmt.Errorf("%w: /chosen lacks %s or %s", ErrBroken, HeaderProperty, TreeProperty)
	}
	if sealed {
		s.Environment = &environment
	}
	return &s, nil
}

// TreeDigest is the digest of a device tree, without what changes in the panic
// kernel before anybody can look. It is taken of the tree as [fdt.Tree.Marshal]
// writes it, so neither gaps nor the order of names in a blob count.
func TreeDigest(t *fdt.Tree) (Digest, error) {
	t = t.Clone()
	if chosen := t.Find("/chosen"); chosen != nil {
		for _, name := range changing {
			chosen.Remove(name)
		}
	}
	blob, err := t.Marshal()
	if err != nil {
		return Digest{}, fmt.Errorf("digest of the device tree: %w", err)
	}
	return sha256.Sum256(blob), nil
}
