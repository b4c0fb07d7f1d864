package load

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/panicroom-kdump/panicroom/internal/host"
)

// Status is what is in place, and whether it is still right.
type Status struct {
	Reserved uint64 `json:"reserved"` // bytes, for a panic kernel
	Loaded   bool   `json:"loaded"`
	// Plan is how it was loaded, without its data; nil if panicroom did not.
	Plan *Plan `json:"plan,omitempty"`
	// Stale is what has changed in the machine since; see [Plan.Stale].
	Stale []string `json:"stale,omitempty"`
	// Held is what the reserved memory has now, against what was loaded.
	Held []Held `json:"held,omitempty"`
	// LoadsLeft is how often panic kernels may still be loaded or unloaded,
	// or [host.Unlimited].
	LoadsLeft int `json:"loads_left"`
}

// Held is a segment as it lies in memory now.
type Held struct {
	Name string `json:"name"`
	// State is Intact, Damaged or Unseen.
	State  HeldState `json:"state"`
	Detail string    `json:"detail,omitempty"`
}

// HeldState is what a look at the memory says.
type HeldState string

// What a look at the memory says.
const (
	Intact  HeldState = "intact"
	Damaged HeldState = "damaged" // it is not what was loaded
	Unseen  HeldState = "unseen"  // it could not be read
)

// Armed tells whether a panic now would leave a whole dump, as far as can be
// seen.
func (s *Status) Armed() bool {
	for _, h := range s.Held {
		if h.State == Damaged {
			return false
		}
	}
	return s.Loaded && len(s.Stale) == 0
}

// Current tells what is in place on a machine. section reads its physical
// memory; nil if it cannot be read.
func Current(m *host.Machine, section func(host.Range) io.Reader) (*Status, error) {
	return machine().current(m, section)
}

func (l *loader) current(m *host.Machine, section func(host.Range) io.Reader) (*Status, error) {
	loaded, err := l.loaded(ForCrash)
	if m.NoKexec && errors.Is(err, fs.ErrNotExist) {
		loaded, err = false, nil // nothing can be
	}
	if err != nil {
		return nil, fmt.Errorf("is a panic kernel loaded: %w", err)
	}
	s := &Status{Reserved: m.CrashSize, Loaded: loaded, LoadsLeft: m.LimitPanic}
	if !loaded {
		return s, nil
	}
	p, err := l.keptPlan()
	switch {
	case errors.Is(err, errNoLastGood):
		return s, nil
	case err != nil:
		return nil, err
	}
	s.Plan = p
	s.Stale = p.Stale(m)
	s.Held = p.Held(section)
	return s, nil
}

// Held compares the reserved memory with the digests of the plan. On riscv64
// nothing protects that memory from the running kernel
// (it has no arch_kexec_protect_crashkres, 6.12 and 7.2), and kexec_load has
// no checksum: a stray write shows here, or only after a crash.
func (p *Plan) Held(section func(host.Range) io.Reader) []Held {
	var list []Held
	for _, s := range p.Segments {
		h := Held{Name: s.Name, State: Unseen}
		switch {
		case p.Method == ByFile:
			h.Detail = "the kernel placed it, and checks it before it starts it"
		case section == nil:
			h.Detail = "the kernel's memory (/proc/kcore) cannot be read"
		default:
			sum := sha256.New()
			n, err := io.Copy(sum, section(host.Range{Start: s.Mem, End: s.Mem + s.Size}))
			switch got := fmt.Sprintf("%x", sum.Sum(nil)); {
			case err != nil:
				h.Detail = err.Error()
			case uint64(n) != s.Size:
				h.Detail = fmt.Sprintf("%d of %d bytes could be read", n, s.Size)
			case got != s.SHA256:
				h.State, h.Detail = Damaged, fmt.Sprintf("%v has the SHA-256 %s, %s was loaded", s.Range(), got, s.SHA256)
			default:
				h.State = Intact
			}
		}
		list = append(list, h)
	}
	return list
}
