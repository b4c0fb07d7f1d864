package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/panicroom-kdump/panicroom/crashenv"
	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/e2e/lab"
	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// machine is one that is crashed so that there is a dump to talk about.
type machine struct {
	Name   string
	Suite  string // of Debian, whose kernel it runs
	SV     int    // paging mode
	CPUs   int
	MemMiB int
	// Writers is how many processes wait for a frozen filesystem.
	Writers int
	// Modules are loaded beside those that the guest needs. Where crash looks at them
	// they must be small: it compares each symbol of modules with each other one, which
	// for xfs takes longer than all the rest.
	Modules []string
	// Burden is what memory was used for.
	Burden script.Burden
}

// machines are what crash 9.0.2 can open: a kernel of each suite, in the paging modes
// whose page tables it walks.
var machines = []machine{
	{
		Name: "trixie", Suite: "trixie", SV: 57, CPUs: 2, MemMiB: 1024, Writers: 3,
		Modules: []string{"dm_mod", "loop", "virtio_net"},
		Burden:  script.Burden{Anon: 48, Huge: 32, Shmem: 8, Cache: 24, Dir: lab.CrashDir, Mapped: true, Inodes: 2000, Hugetlb: 4},
	},
	{
		Name: "sid", Suite: "sid", SV: 39, CPUs: 4, MemMiB: 1024, Writers: 5,
		Modules: []string{"dm_mod", "loop", "xfs", "virtio_net"},
		Burden:  script.Burden{Anon: 64, Huge: 16, Shmem: 12, Cache: 40, Dir: lab.CrashDir, Mapped: true, Inodes: 1000, Hugetlb: 2},
	},
}

// dump is the saved crash of a machine.
type dump struct {
	machine
	Kernel string // version of the package
	Path   string `json:"-"`
	// Vmlinux is its kernel with debug data, for crash.
	Vmlinux string `json:"-"`
}

// ours tells whether it is one of our machines', not somebody's.
func (d *dump) ours() bool { return d.Kernel != "" }

// saved returns the dump of a machine: the one in the cache, if it is of this machine
// and Debian's kernel of today, or else a new one.
func (v *verify) saved(ctx context.Context, m machine) (*dump, error) {
	k, err := lab.FetchKernel(ctx, lab.KernelOptions{Suite: m.Suite, Say: v.say})
	if err != nil {
		return nil, err
	}
	cache, err := lab.CacheDir()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cache, "verify", m.Name)
	d := &dump{machine: m, Kernel: k.Version, Path: filepath.Join(dir, crashenv.DumpFile)}
	if d.Vmlinux, err = k.Vmlinux(ctx, v.say); err != nil {
		return nil, err
	}
	record := filepath.Join(dir, "dump.json")
	want, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, err
	}
	have, err := os.ReadFile(record)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if string(have) == string(want) && !v.fresh {
		return d, nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	// Memory of a kernel is in here.
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if err := v.crash(ctx, m, k, d.Path); err != nil {
		return nil, err
	}
	return d, os.WriteFile(record, want, 0o600)
}

// crash lets a machine panic, and moves the dump that panicroom saved of it to path.
func (v *verify) crash(ctx context.Context, m machine, k *lab.Kernel, path string) error {
	v.say("%s: a machine boots, gets work to do, panics and is saved", m.Name)
	program, err := lab.PanicRoom(ctx, k)
	if err != nil {
		return err
	}
	out, err := lab.OutDir()
	if err != nil {
		return err
	}
	s := &lab.Scenario{
		Name: "verify-" + m.Name, Dir: filepath.Join(out, "verify", m.Name), Kernel: k,
		CPUs: m.CPUs, MemMiB: m.MemMiB, SV: m.SV, Crashkernel: "192M", Disk: &lab.Disk{SizeMiB: 2 << 10},
		Modules: m.Modules, Extra: lab.UserNetwork(), Programs: []string{program}, Limit: time.Hour,
		Steps: []script.Step{
			{Name: "network", Network: &script.Network{Device: "eth0", Addresses: []string{"10.0.2.15/24"}}},
			{Name: "fill memory", Burden: &m.Burden},
			lab.Run("panicroom", "load", "--target", lab.CrashDir, "--final", "poweroff"),
			{Name: "freeze", Freeze: &script.Freeze{Target: lab.CrashDir, Writers: m.Writers}},
			lab.Run("panicroom", "crash", "--yes"),
		},
	}
	o, err := s.Run(ctx)
	if err != nil {
		return err
	}
	for _, r := range o.Results {
		if r.Ended && r.Exit != 0 {
			return fmt.Errorf("machine %s, %s: exit %d %s\n%s", m.Name, r.Name, r.Exit, r.Text, o.Story())
		}
	}
	crashes, err := o.Crashes(ctx)
	if err != nil {
		return err
	}
	if len(crashes) != 1 || strings.HasSuffix(crashes[0], "-incomplete") {
		return fmt.Errorf("machine %s: saved crashes %q; want one, complete\n%s", m.Name, crashes, o.Story())
	}
	v.say("%s: saved after %s in all", m.Name, ui.Seconds(o.Exit.Wall))
	if err := move(filepath.Join(crashes[0], crashenv.DumpFile), path); err != nil {
		return err
	}
	return o.Clean()
}

// move is rename, across filesystems too.
func move(from, to string) error {
	if os.Rename(from, to) == nil {
		return nil
	}
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o600)
}

// fileHash is short, for people to tell one dump from another.
func fileHash(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)[:6]), err
}
