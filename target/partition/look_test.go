package partition

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/internal/ui"
)

func TestLook(t *testing.T) {
	path := image(t, 16<<20)
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	empty, err := Look(path)
	if err != nil || empty.UUID == "" || empty.Waiting != 0 || empty.Free != 16<<20-dataStart {
		t.Errorf("Look at an empty one = %+v, %v", empty, err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("Look has changed the partition: %v", err)
	}
	tgt := openImage(t, path)
	crashWith(t, tgt, "one", true, func(s string) string { return s })
	crashWith(t, tgt, "two", false, func(s string) string { return s })
	got, err := Look(path)
	if err != nil || got.UUID != empty.UUID || got.Waiting != 2 || got.Free >= empty.Free {
		t.Errorf("Look with two crashes = %+v, %v", got, err)
	}
}

func TestLookRefused(t *testing.T) {
	other := func(at int64, text string) func(string) error {
		return func(path string) error {
			b := make([]byte, 16<<20)
			copy(b[at:], text)
			return os.WriteFile(path, b, 0o600)
		}
	}
	for _, tt := range []struct {
		name       string
		do         func(path string) error
		is         error
		says, hint string
	}{
		{"empty", other(0, ""), ErrNotOurs, "nothing is on it", "panicroom target init "},
		{"swap", other(4086, "SWAPSPACE2"), ErrNotOurs, "it holds swap", "choose another partition"},
		{"smaller than it was", func(path string) error { return os.Truncate(path, 8<<20) }, ErrDamaged, "16 MiB", ""},
		{"no tables", func(path string) error {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err == nil {
				_, err = f.WriteAt(make([]byte, 2*tableSize), headerSize)
				err = errors.Join(err, f.Close())
			}
			return err
		}, ErrDamaged, "neither table", "wipefs"},
		{"gone", os.Remove, os.ErrNotExist, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := image(t, 16<<20)
			if err := tt.do(path); err != nil {
				t.Fatal(err)
			}
			_, err := Look(path)
			if !errors.Is(err, tt.is) || !strings.Contains(err.Error(), tt.says) || !strings.Contains(fmt.Sprint(ui.Hints(err)), tt.hint) {
				t.Errorf("Look: %v, hints %q; want %v, %q, %q", err, ui.Hints(err), tt.is, tt.says, tt.hint)
			}
		})
	}
	if _, err := Look(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("Look at nothing: nil")
	}
}
