//go:build e2e

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/panicroom-kdump/panicroom/e2e/lab"
	"github.com/panicroom-kdump/panicroom/internal/vm"
)

// full tells that every cell of the matrix shall run, not only those that make
// a fault likely to show.
func full() bool { return os.Getenv("PANICROOM_FULL") == "1" }

func kernel(t *testing.T, suite string) *lab.Kernel {
	t.Helper()
	k, err := lab.FetchKernel(t.Context(), lab.KernelOptions{Suite: suite, Say: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func panicRoom(t *testing.T, k *lab.Kernel) string {
	t.Helper()
	p, err := lab.PanicRoom(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// run runs a scenario; its large files stay only when the test fails.
func run(t *testing.T, s *lab.Scenario) *lab.Outcome {
	t.Helper()
	if os.Getenv("V") == "1" {
		s.OnLine = func(l vm.Line) { fmt.Printf("%s %6.1f s | %s\n", s.Name, l.At.Seconds(), l.Text) }
	}
	o, err := s.Run(t.Context())
	if o != nil {
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("files of the run: %s", o.Dir)
			} else if err := o.Clean(); err != nil {
				t.Error(err)
			}
		})
	}
	if err != nil {
		if o != nil {
			t.Log(o.Story())
		}
		t.Fatal(err)
	}
	return o
}

// sha is the SHA-256 of a file, in hexadecimal.
func sha(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}
