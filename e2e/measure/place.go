package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/e2e/lab"
	"github.com/panicroom-kdump/panicroom/internal/sys"
	"github.com/panicroom-kdump/panicroom/target/partition"
)

// place is where the dumps of a row go.
type place interface {
	// target is the flags of load and reserve.
	target() []string
	// prepare puts into a scenario what its machine needs for that; what was saved
	// before is not there.
	prepare(s *lab.Scenario) error
	// keep keeps the crash that a run has saved, instead of one that was kept before;
	// crash is its name.
	keep(o *lab.Outcome, crash string) error
	// confirm checks that the crash that was kept is whole, and that panicroom reads
	// its dump.
	confirm(ctx context.Context) error
	// stop ends the servers of it and returns what they have said.
	stop() (said string, err error)
}

const (
	// diskMiB is room for the dump, and for the log of the largest journal.
	diskMiB = 2048
	// spareMiB is a disk that is not the target, for page cache to come from.
	spareMiB = 64
)

// place makes the place of a row, with its files in dir.
func (b *measurement) place(ctx context.Context, r row, k *lab.Kernel, dir string) (place, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	switch r.kind {
	case "raw":
		return &partitionPlace{dir: dir}, nil
	case "ssh", "nfs":
		return newServer(ctx, r.kind, dir)
	}
	return &diskPlace{b: b, row: r, kernel: k, dir: dir}, nil
}

// whole tells what is wrong with a crash, by its manifest and what panicroom report
// says of it.
func whole(manifest, report string) error {
	switch {
	case !regexp.MustCompile(`"complete": true`).MatchString(manifest):
		return fmt.Errorf("its manifest does not say that it is complete\n%s", manifest)
	case !strings.Contains(report, "sysrq triggered crash"):
		return fmt.Errorf("the report does not tell of the panic\n%s", report)
	}
	return nil
}

// wholeHere is [whole] of a crash on this machine.
func wholeHere(ctx context.Context, dir string) error {
	program, err := lab.Build(ctx, "cmd/panicroom", "")
	if err != nil {
		return err
	}
	manifest, err := os.ReadFile(filepath.Join(dir, "manifest.json"))
	if err != nil {
		return err
	}
	report, err := exec.CommandContext(ctx, program, "report", dir).CombinedOutput()
	if err != nil {
		return fmt.Errorf("panicroom report %s: %w\n%s", dir, err, report)
	}
	return whole(string(manifest), string(report))
}

// diskPlace is a directory on a filesystem of the machine.
type diskPlace struct {
	b      *measurement
	row    row
	kernel *lab.Kernel
	dir    string
	crash  string // that was kept
}

func (p *diskPlace) image() string         { return filepath.Join(p.dir, "smallest.img") }
func (p *diskPlace) target() []string      { return []string{"--target", lab.CrashDir} }
func (p *diskPlace) stop() (string, error) { return "", nil }

func (p *diskPlace) prepare(s *lab.Scenario) error {
	s.Disk = &lab.Disk{SizeMiB: diskMiB, Type: p.row.kind}
	return nil
}

func (p *diskPlace) keep(o *lab.Outcome, crash string) error {
	p.crash = crash
	return os.Rename(o.Disk, p.image())
}

// confirm starts a machine once more with the disk: nobody here reads each of these
// filesystems.
func (p *diskPlace) confirm(ctx context.Context) error {
	dir := path.Join(lab.CrashDir, p.crash)
	manifest := script.Step{Name: "manifest", Show: &script.Show{Paths: []string{path.Join(dir, "manifest.json")}}}
	report := lab.Run("panicroom", "report", dir)
	s := p.b.scenario(p.row, p.kernel, "confirm", "", manifest, report)
	s.Disk = &lab.Disk{Type: p.row.kind, Image: p.image()}
	o, err := s.Run(ctx)
	if err != nil {
		return err
	}
	defer o.Clean()
	m, _ := o.Step(manifest.Name)
	rep, ok := o.Step(report.Name)
	if !ok || !rep.Ended || rep.Exit != 0 {
		return fmt.Errorf("panicroom report failed\n%s", o.Story())
	}
	return whole(m.Stdout, rep.Stdout)
}

// partitionPlace is a disk that holds crashes and nothing else. It is the only one
// of its machine: nobody knows which of two comes first.
type partitionPlace struct{ dir string }

func (p *partitionPlace) image() string         { return filepath.Join(p.dir, "partition.img") }
func (p *partitionPlace) kept() string          { return filepath.Join(p.dir, "smallest.img") }
func (p *partitionPlace) target() []string      { return []string{"--target", "partition:/dev/vda"} }
func (p *partitionPlace) stop() (string, error) { return "", nil }

func (p *partitionPlace) prepare(s *lab.Scenario) error {
	if err := os.WriteFile(p.image(), nil, 0o600); err != nil {
		return err
	}
	if err := os.Truncate(p.image(), diskMiB<<20); err != nil {
		return err
	}
	if _, err := partition.Init(p.image()); err != nil {
		return err
	}
	s.Extra = append(s.Extra, "-drive", "if=none,id=room,format=raw,file="+p.image(), "-device", "virtio-blk-device,drive=room,serial=room")
	// There is no disk to have cache of.
	for i := range s.Steps {
		if b := s.Steps[i].Burden; b != nil {
			without := *b
			without.Cache, without.Mapped = 0, false
			s.Steps[i].Burden = &without
		}
	}
	return nil
}

func (p *partitionPlace) keep(*lab.Outcome, string) error { return os.Rename(p.image(), p.kept()) }

func (p *partitionPlace) confirm(ctx context.Context) error {
	dir := filepath.Join(p.dir, "unpacked")
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	paths, err := partition.Unpack(ctx, p.kept(), dir)
	if err != nil {
		return err
	}
	if len(paths) != 1 {
		return fmt.Errorf("crashes %q on the partition; want one", paths)
	}
	return wholeHere(ctx, paths[0])
}

// serverPlace is a directory of this machine, which the other one knows by a server
// of the lab.
type serverPlace struct {
	flags  []string
	dir    string // that is served
	kept   string
	steps  []script.Step
	beside []string // modules
	server *lab.Server
	// mounted says that the directory is a filesystem of its own, in memory.
	mounted bool
}

// newServer starts a server, with its files in dir.
func newServer(ctx context.Context, kind, dir string) (*serverPlace, error) {
	p := &serverPlace{dir: filepath.Join(dir, "crash"), kept: filepath.Join(dir, "smallest")}
	for _, d := range []string{p.dir, filepath.Join(dir, "server")} {
		if err := os.RemoveAll(d); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
	}
	network := script.Step{Name: "network", Network: &script.Network{Device: "eth0", Addresses: []string{"10.0.2.15/24"}, Gateway: lab.Host}}
	if kind == "nfs" {
		if err := sys.Mount("tmpfs", p.dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=0700", memMiB)); err != nil {
			return nil, fmt.Errorf("a filesystem for the NFS server: %w (only root can mount it)", err)
		}
		p.mounted = true
		server, err := lab.StartNFS(ctx, filepath.Join(dir, "server"), map[string]string{"/crash": p.dir})
		if err != nil {
			return nil, errors.Join(err, sys.Unmount(p.dir))
		}
		p.server, p.steps, p.beside = server, []script.Step{network}, []string{"nfs", "nfsv4"}
		p.flags = []string{"--target", "nfs:" + lab.Host + ":/crash"}
		return p, nil
	}
	server, err := lab.StartSSH(ctx, filepath.Join(dir, "server"))
	if err != nil {
		return nil, err
	}
	p.server = server.Server
	p.steps = []script.Step{
		{Name: "key", Write: &script.Write{Path: "/etc/panicroom/id_ed25519", Mode: 0o600, Data: server.Key}},
		{Name: "known hosts", Write: &script.Write{Path: "/etc/panicroom/known_hosts", Data: []byte(lab.KnownHost(lab.Host, server.Port, server.HostKey))}},
		network,
	}
	p.flags = []string{"--target", fmt.Sprintf("ssh:root@%s:%d:%s", lab.Host, server.Port, p.dir)}
	return p, nil
}

func (p *serverPlace) target() []string { return p.flags }

func (p *serverPlace) stop() (said string, err error) {
	said, err = p.server.Stop()
	if p.mounted {
		err = errors.Join(err, sys.Unmount(p.dir))
	}
	return said, err
}

func (p *serverPlace) prepare(s *lab.Scenario) error {
	// The directory itself stays: it is what the server knows.
	old, err := os.ReadDir(p.dir)
	for _, e := range old {
		err = errors.Join(err, os.RemoveAll(filepath.Join(p.dir, e.Name())))
	}
	s.Disk = &lab.Disk{SizeMiB: spareMiB}
	s.Modules, s.Beside = append(s.Modules, "virtio_net"), append(s.Beside, p.beside...)
	s.Extra = append(s.Extra, lab.UserNetwork()...)
	s.Steps = append(append([]script.Step{}, p.steps...), s.Steps...)
	return err
}

func (p *serverPlace) keep(_ *lab.Outcome, crash string) error {
	if err := os.RemoveAll(p.kept); err != nil {
		return err
	}
	return os.CopyFS(p.kept, os.DirFS(filepath.Join(p.dir, crash)))
}

func (p *serverPlace) confirm(ctx context.Context) error { return wholeHere(ctx, p.kept) }
