package capture

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// noted is a kernel whose virtual addresses are physical ones plus 1<<32.
type noted struct {
	symbols  map[string]kernel.VirtAddr
	pointers map[kernel.VirtAddr]kernel.VirtAddr
	cpus     []kernel.CPU
}

var errNoPointer = errors.New("nothing there")

func (n noted) Lookup(...string) (map[string]kernel.VirtAddr, error) { return n.symbols, nil }
func (n noted) CPUs() ([]kernel.CPU, error)                          { return n.cpus, nil }
func (n noted) Translate(va kernel.VirtAddr) (vmcore.PhysAddr, error) {
	return vmcore.PhysAddr(va - 1<<32), nil
}
func (n noted) ReadPointer(va kernel.VirtAddr) (kernel.VirtAddr, error) {
	if p, ok := n.pointers[va]; ok {
		return p, nil
	}
	return 0, errNoPointer
}

// twoCPUs has notes in page frames 7 (VMCOREINFO), 21 and 23. CPU 1 of the
// three left nothing.
func twoCPUs() noted {
	return noted{
		symbols: map[string]kernel.VirtAddr{"vmcoreinfo_note": 0x10, "crash_notes": 0x20, "__per_cpu_offset": 0x100},
		pointers: map[kernel.VirtAddr]kernel.VirtAddr{
			0x10: 1<<32 + 7*page, 0x20: 0x128,
			0x100: 1<<32 + 21*page, 0x108: 0, 0x110: 1<<32 + 23*page,
		},
		cpus: []kernel.CPU{{Number: 2}, {Number: -1}, {Number: 0}},
	}
}

func TestNotePages(t *testing.T) {
	got, err := notePages(twoCPUs(), page)
	if diff := cmp.Diff([]vmcore.PFN{7, 23, 21}, got); diff != "" || err != nil {
		t.Errorf("%v; pages (-want +got):\n%s", err, diff)
	}
}

func TestCheckNotes(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(n noted)
		class  map[vmcore.PFN]Class
		level  int
		ok     bool
		detail string
	}{
		{"all kept", nil, map[vmcore.PFN]Class{8: ClassFree, 22: ClassUser}, LevelAll, true, "3 pages with notes, 0 would"},
		{"a free page", nil, map[vmcore.PFN]Class{21: ClassFree}, LevelAll, false, "3 pages with notes, 1 would"},
		{"free pages are saved", nil, map[vmcore.PFN]Class{21: ClassFree}, LevelAll &^ LevelFree, true, "0 would"},
		{"VMCOREINFO poisoned", nil, map[vmcore.PFN]Class{7: ClassPoison}, 0, false, "1 would"},
		{"no symbols", func(n noted) { clear(n.symbols) }, map[vmcore.PFN]Class{7: ClassFree}, LevelAll, true, "0 pages"},
		{"broken pointer", func(n noted) { delete(n.pointers, 0x20) }, nil, LevelAll, true, "nothing there"},
		{"broken pointer, and a lost page", func(n noted) { delete(n.pointers, 0x20) }, map[vmcore.PFN]Class{7: ClassUser}, LevelAll, false, "nothing there"},
	} {
		n := twoCPUs()
		if tt.change != nil {
			tt.change(n)
		}
		c := checkNotes(n, page, tt.level, func(pfn vmcore.PFN, classes []Class) error {
			classes[0] = tt.class[pfn]
			return nil
		})
		if c.OK != tt.ok || !strings.Contains(c.Detail, tt.detail) {
			t.Errorf("%s: %+v; want %v with %q", tt.name, c, tt.ok, tt.detail)
		}
	}
}
