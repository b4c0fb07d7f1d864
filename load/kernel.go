package load

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/panicroom-kdump/panicroom/internal/kimage"
)

// Kernel is the image of a panic kernel, looked into once.
type Kernel struct {
	Path  string // for messages, may be ""
	Image *kimage.Image
	// Modified is when the file was last; zero if nobody knows.
	Modified time.Time
	// Config is what the kernel was built with; nil if nobody knows.
	Config kimage.Config

	store *store // that Data lies in, or nil
}

// form says what the file was.
func (k *Kernel) form() string { return k.Image.Form() }

// data is what lies in memory from the kernel's first byte on.
func (k *Kernel) data() []byte { return k.Image.Data }

// entry is the offset of the first instruction.
func (k *Kernel) entry() uint64 { return k.Image.Entry }

// Close frees the memory of the image. A plan made with it cannot be executed
// after that.
func (k *Kernel) Close() error {
	if k.store == nil {
		return nil
	}
	return k.store.Close()
}

// OpenKernel reads the image in a file, whatever is around it. What is no whole
// kernel image is a [*RuleError]; force accepts one that is known to hang, a
// vmlinux without its relocations.
func OpenKernel(path string, force bool) (*Kernel, error) {
	k := &Kernel{Path: path, store: &store{}}
	var err error
	if k.Image, err = kimage.Open(path, &kimage.Options{Alloc: k.store.alloc, Force: force}); err != nil {
		k.Close()
		return nil, imageError(err)
	}
	k.Config = configOf(path, k.Image)
	if info, err := os.Stat(path); err == nil {
		k.Modified = info.ModTime()
	}
	return k, nil
}

// NewKernel is [OpenKernel] for the contents of a file.
func NewKernel(path string, data []byte) (*Kernel, error) {
	image, err := kimage.Inspect(bytes.NewReader(data), int64(len(data)), nil)
	if err != nil {
		if e, ok := errors.AsType[*kimage.Error](err); ok {
			e.Path = path
		}
		return nil, imageError(err)
	}
	return &Kernel{Path: path, Image: image, Config: image.Config()}, nil
}

// imageError makes what was recognised instead of a kernel a broken rule.
func imageError(err error) error {
	if e, ok := errors.AsType[*kimage.Error](err); ok {
		return &RuleError{Rule: RuleImage, Detail: e.Error(), Err: e}
	}
	return err
}

// checkKernel checks that an image is one for the machine.
func checkKernel(a *arch, k *Kernel) error {
	if uint64(k.Image.Machine) != a.elfMachine {
		return &RuleError{Rule: RuleImage,
			Detail: fmt.Sprintf("the image is for %v, the machine is %s", k.Image.Machine, a.name)}
	}
	return nil
}
