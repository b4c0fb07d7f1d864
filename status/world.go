package status

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/panicroom-kdump/panicroom/internal/config"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/setup"
)

// smallest is what a target must take at least: log, report and manifest.
const smallest = 4 << 20

// targets: can the dump go there? One that cannot is only a warning as long as another
// one can.
func targets(f *Facts) []Link {
	if f.Config == nil {
		return nil
	}
	need := Estimate(f.Root, f.Config.Dump.Level)
	var all []Link
	usable := 0
	for _, t := range f.Targets {
		l := t.link(need)
		if l.State != Broken {
			usable++
		}
		all = append(all, l)
	}
	if usable > 0 {
		for i := range all {
			if all[i].State == Broken {
				all[i].State = Warning
			}
		}
	}
	return all
}

// link is what a look at a target says.
func (t *Target) link(need uint64) Link {
	l := Link{Name: "target", State: OK, Says: t.String()}
	full := t.Known && t.Free < smallest
	switch {
	case t.Err != nil:
		l.State, l.Says, l.Remedy = Broken, fmt.Sprintf("%s: %v", t.String(), t.Err), ui.Hints(t.Err)
		return l
	case full:
		l.State, l.Says = Broken, fmt.Sprintf("%s is full: %s free", t.String(), ui.Bytes(t.Free))
		l.Remedy = t.makeRoom()
	case t.Known && t.Free < need:
		l.State, l.Says = Warning, t.String()+": "+t.room(need)
		l.Remedy = remedy("make room, or set a smaller dump.level in " + config.File)
	case t.Known:
		l.Says += ": " + t.room(need)
	}
	if t.Waiting > 0 {
		if l.State == OK {
			l.State = Warning
		}
		l.More = append(l.More, fmt.Sprintf("%d crashes wait on it to be unpacked", t.Waiting))
		l.Remedy = remedy("panicroom target unpack " + t.Device)
	}
	if t.Note != "" && !t.Known {
		l.Says += ": " + t.Note
	} else if t.Note != "" {
		l.More = append(l.More, t.Note)
	}
	return l
}

// makeRoom is what can be done about a target that is full.
func (t *Target) makeRoom() []string {
	if t.Kind() == config.KindDir {
		return remedy("panicroom list shows what is saved there; remove some, or set keep.free in " + config.File)
	}
	return remedy("remove old crashes there")
}

// Estimate is how many bytes of memory a dump of a level has now, before compression,
// by what /proc/meminfo says is in use; 0 if it does not say.
func Estimate(root fs.FS, level string) uint64 {
	b, err := fs.ReadFile(root, "proc/meminfo")
	if err != nil {
		return 0
	}
	kib := map[string]uint64{}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		name, rest, _ := strings.Cut(lines.Text(), ":")
		if words := strings.Fields(rest); len(words) > 0 {
			kib[name], _ = strconv.ParseUint(words[0], 10, 64)
		}
	}
	// Bits of a level, docs/formats.md: 2 and 4 leave out the page cache, 8 memory of
	// processes, 16 what is free.
	bits := 31
	switch n, err := strconv.Atoi(level); {
	case level == "full":
		bits = 0
	case err == nil:
		bits = n
	}
	used := kib["MemTotal"]
	less := func(n uint64) { used -= min(used, n) }
	if bits&16 != 0 {
		less(kib["MemFree"])
	}
	if bits&(2|4) != 0 {
		// tmpfs is counted in Cached, and goes with it.
		less(kib["Cached"] + kib["SwapCached"])
		// The cache of block devices is metadata of filesystems: it is the kernel's.
	}
	if bits&8 != 0 {
		less(kib["AnonPages"])
	}
	return used << 10
}

// sysctls: does a kernel that is broken panic?
func sysctls(f *Facts) []Link {
	l := Link{Name: "sysctl", State: OK}
	var right []string
	for _, s := range setup.Sysctls() {
		now, ok := setup.Value(f.Root, s.Name)
		switch {
		case !ok:
		case now == s.Value || now != "0":
			right = append(right, s.Name+" = "+now)
		default:
			l.State = Warning
			l.More = append(l.More, fmt.Sprintf("%s is %s; %s makes the kernel panic when it is broken, instead of going on", s.Name, now, s.Value))
		}
	}
	l.Says = strings.Join(right, ", ")
	if l.State != OK {
		l.Remedy = remedy("panicroom setup")
		l.Says, l.More = l.More[0], l.More[1:]
	}
	if l.Says == "" {
		return nil
	}
	return []Link{l}
}

// service: is it loaded again after the next boot, and after changes?
func service(f *Facts) []Link {
	if _, err := fs.Lstat(f.Root, "run/systemd/system"); err != nil {
		return one("service", Warning, remedy("have panicroom load run at each boot"), "there is no systemd: nothing here loads a panic kernel at the next boot")
	}
	if !setup.Enabled(f.Root, setup.Service) {
		return one("service", Warning, remedy("panicroom setup"), "%s is not enabled: the next boot loads no panic kernel", setup.Service)
	}
	l := Link{Name: "service", State: OK, Says: setup.Service + " is enabled"}
	bad := func(says string, hints ...string) {
		if l.State == OK {
			l.State, l.Says, l.Remedy = Warning, says, hints
		} else {
			l.More = append(l.More, says)
		}
	}
	if u, ok := f.Units[setup.Service]; ok {
		switch u.Active {
		case "active", "activating", "reloading":
		case "failed":
			bad(setup.Service+" has failed: "+u.Result, "journalctl -b -u "+setup.Service)
		default:
			bad(setup.Service+" is enabled but not active", "systemctl start panicroom")
		}
	}
	if u := f.Units[setup.ReloadService]; u.Active == "failed" {
		bad("after a change of the machine the panic kernel could not be loaded again: "+u.Result, "journalctl -b -u "+setup.ReloadService, "systemctl reload panicroom")
	}
	if u := f.Units[setup.AfterService]; u.Active == "failed" {
		bad(setup.AfterService+" has failed: "+u.Result, "journalctl -b -u "+setup.AfterService)
	}
	if !setup.Enabled(f.Root, setup.AfterService) {
		bad(setup.AfterService+" is not enabled: nobody is told of a crash, and old ones stay", "panicroom setup")
	}
	if f.Config != nil && !setup.NetworkOrdered(f.Root, f.Config) {
		bad("a target is another machine, and "+setup.Service+" does not wait for the network", "panicroom setup")
	}
	return []Link{l}
}

// crashes: what happened last, and was it saved?
func crashes(f *Facts) []Link {
	if f.CrashesErr != nil {
		return one("crashes", Warning, ui.Hints(f.CrashesErr), "%v", f.CrashesErr)
	}
	if len(f.Crashes) == 0 {
		return one("crashes", OK, nil, "none is saved; that it works here was not seen yet: panicroom crash shows it")
	}
	last := f.Crashes[len(f.Crashes)-1]
	l := Link{Name: "crashes", State: OK, More: []string{last.Path}}
	if last.Title != "" {
		l.More = append(l.More, last.Title)
	}
	l.Says = fmt.Sprintf("%d; the last at %s", len(f.Crashes), last.Time.UTC().Format(time.RFC3339))
	if !last.Complete {
		l.State = Warning
		l.Says += fmt.Sprintf(", saved in part: %s", last.Why())
		l.Remedy = remedy("what was saved can be read: panicroom report " + last.Path)
	}
	return []Link{l}
}
