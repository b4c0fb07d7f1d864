package setup

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/panicroom-kdump/panicroom/internal/config"
	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// Action is one thing that setup does; exactly one of the fields after Why is set.
type Action struct {
	Why string `json:"why"` // for people, a sentence

	Dir     *Dir     `json:"dir,omitempty"`
	File    *File    `json:"file,omitempty"`
	Key     *Key     `json:"key,omitempty"`
	Sysctl  *Sysctl  `json:"sysctl,omitempty"`
	Units   *Units   `json:"units,omitempty"`   // of systemd, to enable
	Reserve *Reserve `json:"reserve,omitempty"` // memory
	Start   *Start   `json:"start,omitempty"`   // the service
}

// Dir is a directory that is made.
type Dir struct {
	Path string      `json:"path"`
	Mode fs.FileMode `json:"mode"`
}

// File is a file that is written. What is there with other contents is not
// ours and stays.
type File struct {
	Path string      `json:"path"`
	Mode fs.FileMode `json:"mode"`
	Data []byte      `json:"data"`
}

// Key is a key pair for logging in by SSH; the public key lies beside it, in .pub.
type Key struct {
	Path string `json:"path"`
}

// Sysctl is a parameter of the running kernel.
type Sysctl struct {
	Name  string `json:"name"` // like kernel.panic_on_oops
	Value string `json:"value"`
}

// Units are started at each boot from now on.
type Units struct {
	Names []string `json:"names"`
	// Reload says that systemd must read unit files again first.
	Reload bool `json:"reload"`
}

// Reserve has the boot loader reserve memory.
type Reserve struct {
	Size string `json:"size"` // as configured
}

// Start has the service load the panic kernel now, or again.
type Start struct {
	Unit string `json:"unit"`
}

// Plan is what setup does to a machine.
type Plan struct {
	Actions []Action `json:"actions"`
	// Notes are what setup leaves to a person.
	Notes []string `json:"notes,omitempty"`
}

// ErrNoSystemd: the machine is not run by systemd.
var ErrNoSystemd = errors.New("this machine is not run by systemd")

const (
	// Service is the unit that loads the panic kernel at boot.
	Service = "panicroom.service"
	// AfterService is the one that looks for a crash after it.
	AfterService = "panicroom-after.service"
	// ReloadService loads again when the machine has changed.
	ReloadService = "panicroom-reload.service"

	unitDir     = "etc/systemd/system"
	networkConf = unitDir + "/panicroom.service.d/network.conf"
)

// Options are what no file of the machine tells.
type Options struct {
	// Program is where panicroom is, for units that no package has brought.
	Program string
	// TooLittle says that what is reserved is not enough.
	TooLittle bool
}

// Make plans the setup of a machine. root is "/" of it.
func Make(root fs.FS, conf *config.Config, opts Options) (*Plan, error) {
	if !exists(root, "run/systemd/system") {
		return nil, ui.Hint(ErrNoSystemd,
			"panicroom reserve and panicroom load do the same by hand; have the load run at each boot")
	}
	p := &Plan{}
	there := Reserved(root) > 0 && !opts.TooLittle
	for _, dir := range conf.Directories() {
		if !exists(root, rel(dir)) {
			p.add(Action{Why: "saved crashes go there; only root may look: memory has secrets in it", Dir: &Dir{dir, 0o700}})
		}
	}
	p.keys(root, conf)
	// After what the targets need: how much memory depends on them.
	if !there {
		p.add(Action{Why: "memory for the panic kernel, from the next boot on", Reserve: &Reserve{conf.Reserve.Size}})
	}
	p.sysctls(root)
	if err := p.units(root, conf, opts.Program); err != nil {
		return nil, err
	}
	if there {
		p.add(Action{Why: "the panic kernel, now", Start: &Start{Service}})
	}
	return p, nil
}

// NeedsReboot tells whether what p does is complete only after a reboot.
func (p *Plan) NeedsReboot() bool {
	return slices.ContainsFunc(p.Actions, func(a Action) bool { return a.Reserve != nil })
}

func (p *Plan) add(a Action) { p.Actions = append(p.Actions, a) }

// keys plans a key pair for each key that an SSH target names and nobody has made.
func (p *Plan) keys(root fs.FS, conf *config.Config) {
	seen := map[string]bool{}
	for _, t := range conf.Targets {
		if t.SSH == "" || seen[t.Key] {
			continue
		}
		seen[t.Key] = true
		if !exists(root, rel(t.Key)) {
			p.add(Action{Why: "the panic kernel logs in with it; nothing else shall be allowed with it", Key: &Key{t.Key}})
		}
		if !exists(root, rel(t.KnownHosts)) {
			p.Notes = append(p.Notes, fmt.Sprintf("%s must have the host key of %s: ssh-keyscan HOST, compared with what the host itself says", t.KnownHosts, t.SSH))
		}
	}
}

// units plans the units: as files where no package has brought them.
func (p *Plan) units(root fs.FS, conf *config.Config, program string) error {
	u := &Units{Names: []string{Service, AfterService}}
	packaged := exists(root, "usr/lib/systemd/system/"+Service) || exists(root, "lib/systemd/system/"+Service)
	if !packaged {
		files, err := unitFiles(program)
		if err != nil {
			return err
		}
		for _, f := range files {
			if p.file(root, f, "no package has brought it") {
				u.Reload = true
			}
		}
	}
	if network(conf) && p.file(root, File{"/" + networkConf, 0o644, networkText}, "a target is another machine: the way to it is taken from the running one, so it must be up") {
		u.Reload = true
	}
	enabled := Enabled(root, Service) && Enabled(root, AfterService)
	if u.Reload || !enabled {
		p.add(Action{Why: "the panic kernel is loaded at each boot, and a crash told of after it", Units: u})
	}
	return nil
}

// file plans f unless it is there already. A file with other contents is somebody's
// own.
func (p *Plan) file(root fs.FS, f File, why string) bool {
	b, err := fs.ReadFile(root, rel(f.Path))
	switch {
	case err == nil && bytes.Equal(b, f.Data):
		return false
	case err == nil:
		p.Notes = append(p.Notes, fmt.Sprintf("%s is not as setup writes it, and stays as it is", f.Path))
		return false
	}
	p.add(Action{Why: why, File: &f})
	return true
}

// network tells whether a target is another machine.
func network(conf *config.Config) bool {
	return slices.ContainsFunc(conf.Targets, func(t config.Target) bool { return t.SSH != "" || t.NFS != "" })
}

// NetworkOrdered tells whether the service waits for the network, if a target of conf
// needs that.
func NetworkOrdered(root fs.FS, conf *config.Config) bool {
	return !network(conf) || exists(root, networkConf)
}

// Enabled tells whether systemd starts a unit at boot.
func Enabled(root fs.FS, unit string) bool {
	for _, dir := range []string{"etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"} {
		found, _ := fs.Glob(root, dir+"/*.wants/"+unit)
		if len(found) > 0 {
			return true
		}
	}
	return false
}

// Reserved is the memory that the running kernel has reserved for a panic kernel.
func Reserved(root fs.FS) uint64 {
	b, err := fs.ReadFile(root, "sys/kernel/kexec_crash_size")
	if err != nil {
		return 0
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func rel(p string) string { return strings.TrimPrefix(path.Clean("/"+filepath.ToSlash(p)), "/") }

// exists tells whether there is something by that name, a link that leads nowhere
// included.
func exists(root fs.FS, name string) bool {
	_, err := fs.Lstat(root, name)
	return err == nil
}
