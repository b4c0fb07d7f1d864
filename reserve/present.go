package reserve

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/panicroom-kdump/panicroom/internal/host"
	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// Present is what is reserved now.
type Present struct {
	Size    uint64       `json:"size"`            // in all regions
	Regions []host.Range `json:"regions"`         // ascending
	Asked   string       `json:"asked,omitempty"` // crashkernel= of the running kernel
	// Why tells what the matter is when nothing is reserved, or other than asked.
	Why    []string `json:"why,omitempty"`
	Remedy []string `json:"remedy,omitempty"`
}

// Current tells what is reserved, and if nothing is, why, as far as the kernel's log
// says. log may be empty: it is not kept for ever.
func Current(m *host.Machine, log []string) *Present {
	p := &Present{Size: m.CrashSize, Regions: m.CrashRegions(), Asked: Asked(m.Cmdline)}
	say := func(why string, remedy ...string) {
		p.Why, p.Remedy = append(p.Why, why), append(p.Remedy, remedy...)
	}
	switch {
	case m.NoKexec:
		say(fmt.Sprintf("kernel %s was built without CONFIG_KEXEC or CONFIG_CRASH_DUMP", m.Release), "boot a kernel with CONFIG_KEXEC=y and CONFIG_CRASH_DUMP=y; Debian's has both")
	case p.Size > 0:
		if asked, err := Size(p.Asked, memory(m)); p.Asked != "" && err == nil && asked > p.Size {
			say(fmt.Sprintf("crashkernel=%s asked for %s, of which %s are left: it was shrunk", p.Asked, ui.Bytes(asked), ui.Bytes(p.Size)))
		}
	case p.Asked == "":
		say("crashkernel= is not on the running kernel's command line")
	default:
		for _, line := range log {
			for _, s := range sayings {
				if s.line.MatchString(line) {
					say(fmt.Sprintf("%s (the kernel's log: %q)", s.meaning, strings.TrimSpace(line)), s.remedy)
				}
			}
		}
		if len(p.Why) > 0 {
			break
		}
		switch asked, err := Size(p.Asked, memory(m)); {
		case err != nil:
			say(err.Error(), "panicroom reserve --apply --replace sets one that it takes")
		case asked == 0:
			say(fmt.Sprintf("crashkernel=%s has no range for a machine with %s", p.Asked, ui.Bytes(memory(m))), "panicroom reserve --apply --replace sets a size for this machine")
		default:
			say(fmt.Sprintf("the kernel did not reserve crashkernel=%s, and its log does not say why, or not any more", p.Asked), "see the log of its start: journalctl -k -b | grep -i crashkernel")
		}
	}
	return p
}

// sayings are lines that the kernel logs when it reserves nothing, with what they
// mean: kernel/crash_reserve.c of Linux 6.12 and 7.2, where one of 6.12 has a
// letter out of place.
var sayings = []struct {
	line    *regexp.Regexp
	meaning string
	remedy  string
}{
	{regexp.MustCompile(`crashkernel reservation failed - memory is in use`),
		"there is something else at the address that crashkernel= names", "leave @OFFSET out: the kernel finds a place"},
	{regexp.MustCompile(`cannot allocate crashkernel low memory`),
		"there is not enough free memory below 4 GiB for the low region", "ask for less with crashkernel=SIZE,low, or leave ,high out"},
	{regexp.MustCompile(`cannot allocate crashkernel \(size:`),
		"there is no free piece of memory of that size", "ask for less"},
	{regexp.MustCompile(`crashkernel size resulted in zero bytes`),
		"no range of crashkernel= has this machine's memory in it, or that range's size is 0", "panicroom reserve --apply --replace sets a size for this machine"},
	{regexp.MustCompile(`(?i)cra(sh|hs)kernel: (memory value expected|'-' expected|':' expected|end <= start|invalid size|unrecognized char)`),
		"the kernel does not understand the value of crashkernel=", "panicroom reserve --apply --replace sets one that it takes"},
}
