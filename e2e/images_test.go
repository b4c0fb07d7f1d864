//go:build e2e

package e2e

import (
	"bytes"
	"errors"
	"testing"

	"github.com/panicroom-kdump/panicroom/e2e/lab"
	"github.com/panicroom-kdump/panicroom/internal/kimage"
)

// TestImages opens real kernels in every form that the lab can make: each is the
// same memory. Kernels of make kernels have the forms of a vmlinux too; they
// are looked at with PANICROOM_FULL=1.
func TestImages(t *testing.T) {
	t.Parallel()
	suites := []string{"trixie", "sid"}
	if full() {
		suites = append(suites, "built-trixie", "built-sid")
	}
	for _, suite := range suites {
		k := kernel(t, suite)
		want := openForm(t, k, "Image")
		if want.Release != k.Release {
			t.Errorf("%s: release %q in the Image; want %q", suite, want.Release, k.Release)
		}
		for _, name := range k.Forms() {
			t.Run(suite+"/"+name, func(t *testing.T) {
				if name == "vmlinux.norelocs" {
					path, err := k.Form(t.Context(), name)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := kimage.Open(path, nil); !errors.Is(err, kimage.ErrStripped) {
						t.Errorf("opening it: %v; want %v", err, kimage.ErrStripped)
					}
					return
				}
				got := openForm(t, k, name)
				if got.ImageSize != want.ImageSize || got.Entry != want.Entry || got.Machine != want.Machine || got.Release != want.Release {
					t.Errorf("%s: size %#x, entry %#x, machine %v, release %q; want %#x, %#x, %v, %q", got.Form(),
						got.ImageSize, got.Entry, got.Machine, got.Release, want.ImageSize, want.Entry, want.Machine, want.Release)
				}
				// What a file ends before is zeros.
				n := min(len(got.Data), len(want.Data))
				if !bytes.Equal(got.Data[:n], want.Data[:n]) || len(bytes.TrimLeft(got.Data[n:], "\x00")) > 0 || len(bytes.TrimLeft(want.Data[n:], "\x00")) > 0 {
					t.Errorf("%s: the memory differs from that of the Image", got.Form())
				}
				if u := got.Unified; u != nil && (u.Cmdline != lab.UKICmdline || u.Uname != k.Release || len(u.Initrd) == 0) {
					t.Errorf("command line %q, release %q, initrd of %d bytes", u.Cmdline, u.Uname, len(u.Initrd))
				}
			})
		}
	}
}

func openForm(t *testing.T, k *lab.Kernel, form string) *kimage.Image {
	t.Helper()
	path, err := k.Form(t.Context(), form)
	if err != nil {
		t.Fatal(err)
	}
	img, err := kimage.Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return img
}
