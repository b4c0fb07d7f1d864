package status

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/panicroom-kdump/panicroom/internal/host"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/load"
)

// configuration: is it right?
func configuration(f *Facts) []Link {
	if f.ConfigErr != nil {
		return one("configuration", Warning, append(ui.Hints(f.ConfigErr), "what is loaded stays as it is; the next load fails"), "%v", f.ConfigErr)
	}
	return nil
}

// reserved: is there memory, and enough?
func reserved(f *Facts) []Link {
	have := f.Load.Reserved
	switch {
	case have == 0:
		return one("reserved", Broken, remedy("panicroom setup, then reboot; or panicroom reserve --apply, then reboot"), "no memory is reserved for a panic kernel")
	case f.Needed > have:
		return one("reserved", Broken, remedy("panicroom reserve --apply, and reboot"), "%s, of %s that this machine needs", ui.Bytes(have), ui.Bytes(f.Needed))
	case f.NeededErr != nil:
		return one("reserved", Warning, ui.Hints(f.NeededErr), "%s; whether it is enough is not known: %v", ui.Bytes(have), f.NeededErr)
	case f.Needed > 0:
		return one("reserved", OK, nil, "%s; this machine needs %s", ui.Bytes(have), ui.Bytes(f.Needed))
	}
	return one("reserved", OK, nil, "%s", ui.Bytes(have))
}

// loaded: is a panic kernel in place?
func loaded(f *Facts) []Link {
	s := f.Load
	switch {
	case s.Reserved == 0:
		return one("loaded", Broken, nil, "no: no memory is reserved")
	case !s.Loaded:
		return one("loaded", Broken, remedy("systemctl start panicroom; without systemd: panicroom load"), "no: a panic now leaves no dump")
	case s.Plan == nil:
		return one("loaded", Warning, remedy("panicroom load"), "yes, but not by panicroom: nothing more is known of it")
	}
	l := Link{Name: "loaded", State: OK, Says: s.Plan.Kernel.Path,
		More: []string{build(s.Plan.Kernel.Banner), fmt.Sprintf("by %s: %s", s.Plan.Method.Call(), s.Plan.Why)}}
	if !s.Plan.Loaded.IsZero() {
		l.More = append(l.More, fmt.Sprintf("at %s, %s ago", s.Plan.Loaded.UTC().Format(time.RFC3339), ago(f.Now.Sub(s.Plan.Loaded))))
	}
	if n := s.LoadsLeft; n != host.Unlimited {
		l.More = append(l.More, fmt.Sprintf("%d loads are left until a restart, by kernel.kexec_load_limit_panic", n))
		if n == 0 {
			l.State, l.Remedy = Warning, remedy("after the next change of this machine: restart it")
		}
	}
	return []Link{l}
}

// build is a kernel's banner without who built it with what: the version, and what
// tells one build of it from another.
func build(banner string) string {
	version, rest, ok := strings.Cut(banner, " (")
	if at := strings.LastIndex(rest, ") #"); ok && at >= 0 {
		return version + rest[at+1:]
	}
	return banner
}

func ago(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// kernel: are the files that the panic kernel was made from still there? What is
// loaded is in memory and works without them; the next load does not.
func kernel(f *Facts) []Link {
	p := f.Load.Plan
	if !f.Load.Loaded || p == nil || !path.IsAbs(p.Kernel.Path) {
		return nil
	}
	info, err := fs.Stat(f.Root, strings.TrimPrefix(p.Kernel.Path, "/"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return one("kernel", Warning, remedy("restart into a kernel that is installed; until then do not unload"),
			"%s was removed since it was loaded: what is in memory works, and cannot be loaded again", p.Kernel.Path)
	case err != nil:
		return one("kernel", Warning, nil, "%v", err)
	case !p.Kernel.Modified.IsZero() && !info.ModTime().Equal(p.Kernel.Modified):
		return one("kernel", Warning, remedy("systemctl reload panicroom"),
			"%s is another file than when it was loaded: what is in memory is of the old one", p.Kernel.Path)
	}
	return one("kernel", OK, nil, "%s is the file that was loaded", path.Base(p.Kernel.Path))
}

// memory: is every byte still there?
func memory(f *Facts) []Link {
	held := f.Load.Held
	if !f.Load.Loaded || len(held) == 0 {
		return nil
	}
	l := Link{Name: "memory", State: OK}
	intact := 0
	for _, h := range held {
		switch h.State {
		case load.Intact:
			intact++
			continue
		case load.Damaged:
			l.State, l.Remedy = Broken, remedy("systemctl reload panicroom; without systemd: panicroom load")
		}
		l.More = append(l.More, fmt.Sprintf("%s is %s: %s", h.Name, h.State, h.Detail))
	}
	l.Says = fmt.Sprintf("%d of %d segments are intact (SHA-256)", intact, len(held))
	return []Link{l}
}

// machine: is it the one that the plan was made for?
func machine(f *Facts) []Link {
	if !f.Load.Loaded || f.Load.Plan == nil {
		return nil
	}
	if len(f.Load.Stale) == 0 {
		return one("machine", OK, nil, "as it was when the panic kernel was loaded")
	}
	return []Link{{Name: "machine", State: Broken, Says: f.Load.Stale[0], More: f.Load.Stale[1:],
		Remedy: remedy("systemctl reload panicroom; without systemd: panicroom load")}}
}

// warnings: what was said when it was loaded, modules that are missing among it.
func warnings(f *Facts) []Link {
	p := f.Load.Plan
	if !f.Load.Loaded || p == nil || len(p.Warnings) == 0 {
		return nil
	}
	return []Link{{Name: "warnings", State: Warning, Says: "of the load: " + p.Warnings[0], More: p.Warnings[1:]}}
}
