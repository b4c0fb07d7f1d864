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
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// machine is one that is crashed so that there is a core of it.
type machine struct {
	Name   string
	MemMiB int
	Burden *script.Burden // nil: nothing runs but the guest
}

// machines are those of the table, from small to large. The large ones are
// sparse: QEMU has only the memory that the guest has touched, which of an idle
// one is little more than its page structs, 64 bytes for 4 KiB.
var machines = []machine{
	{"2G", 2 << 10, &script.Burden{Anon: 300, Huge: 100, Shmem: 100, Cache: 400, Inodes: 20_000, Hugetlb: 16}},
	{"16G", 16 << 10, &script.Burden{Anon: 1500, Huge: 1000, Shmem: 500, Cache: 2500, Inodes: 150_000, Hugetlb: 64}},
	{"64G", 64 << 10, nil},
	{"256G", 256 << 10, nil},
}

// crashkernel is what all of them reserve.
const crashkernel = "192M"

// core is the memory of a dead machine in a file, as its /proc/vmcore showed it.
type core struct {
	machine
	Path string `json:"-"`

	Kernel  string // version of the package
	Program string // SHA-256 of the panicroom that saved it in the crash kernel
	Size    int64  // of the file, bytes
	Data    int64  // of them on the disk, the rest are holes
	// What the manifest of the saved crash says.
	Memory crashenv.Memory
	Dump   time.Duration // to save the dump, in the crash kernel
	Bytes  int64         // of the dump at level 31
	Pages  uint64        // in it
}

// core returns the core of a machine. It is made once for each kernel; again
// means that it must be this very panicroom that saved it.
func (b *bench) core(ctx context.Context, m machine, again bool) (*core, error) {
	program, err := lab.PanicRoom(ctx, b.kernel)
	if err != nil {
		return nil, err
	}
	hash, err := fileHash(program)
	if err != nil {
		return nil, err
	}
	cache, err := lab.CacheDir()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cache, "cores", m.Name)
	c := &core{}
	text, err := os.ReadFile(filepath.Join(dir, "core.json"))
	if err == nil {
		err = json.Unmarshal(text, c)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("%s: %w", dir, err)
	case c.Kernel == b.kernel.Version && sameMachine(c.machine, m) && (!again || c.Program == hash):
		c.Path = filepath.Join(dir, "core")
		return c, nil
	}
	c = &core{machine: m, Path: filepath.Join(dir, "core"), Kernel: b.kernel.Version, Program: hash}
	o, crash, err := b.crash(ctx, m, program)
	if err != nil {
		return nil, err
	}
	if err := c.read(crash); err != nil {
		return nil, err
	}
	if err := os.RemoveAll(dir); err != nil {
		return nil, err
	}
	// Memory of a kernel is in here.
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	b.say("%s: writing the core", m.Name)
	if err := c.write(filepath.Join(crash, crashenv.DumpFile), o.RAM); err != nil {
		return nil, fmt.Errorf("%s: %w", c.Path, err)
	}
	if err := o.Clean(); err != nil {
		return nil, err
	}
	if text, err = json.MarshalIndent(c, "", "  "); err != nil {
		return nil, err
	}
	return c, os.WriteFile(filepath.Join(dir, "core.json"), text, 0o600)
}

// sameMachine compares what goes into a machine.
func sameMachine(a, b machine) bool {
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	return string(x) == string(y)
}

// crash lets a machine panic and panicroom save it, and returns the saved crash.
func (b *bench) crash(ctx context.Context, m machine, program string) (*lab.Outcome, string, error) {
	b.say("%s: a machine boots, panics and is saved", m.Name)
	out, err := lab.OutDir()
	if err != nil {
		return nil, "", err
	}
	s := &lab.Scenario{
		Name: "bench-" + m.Name, Dir: filepath.Join(out, "bench", m.Name), Kernel: b.kernel,
		CPUs: 2, MemMiB: m.MemMiB, Crashkernel: crashkernel, KeepRAM: true,
		Disk: &lab.Disk{SizeMiB: 8 << 10}, Programs: []string{program},
		Limit: 2 * time.Hour,
	}
	if m.Burden != nil {
		load := *m.Burden
		load.Dir, load.Mapped, load.Mixed = lab.CrashDir, true, true
		s.Steps = append(s.Steps, script.Step{Name: "fill memory", Burden: &load})
	}
	load := lab.Run("panicroom", "load", "--target", lab.CrashDir, "--final", "poweroff")
	s.Steps = append(s.Steps, load, lab.Run("panicroom", "crash", "--yes"))
	o, err := s.Run(ctx)
	if err != nil {
		return nil, "", err
	}
	for _, r := range o.Results {
		if r.Ended && r.Exit != 0 {
			return nil, "", fmt.Errorf("machine %s, %s: exit %d %s\n%s", m.Name, r.Name, r.Exit, r.Text, o.Story())
		}
	}
	crashes, err := o.Crashes(ctx)
	if err != nil {
		return nil, "", err
	}
	if len(crashes) != 1 || strings.HasSuffix(crashes[0], "-incomplete") {
		return nil, "", fmt.Errorf("machine %s: saved crashes %q; want one, complete\n%s", m.Name, crashes, o.Story())
	}
	b.say("%s: saved after %s in all", m.Name, ui.Seconds(o.Exit.Wall))
	return o, crashes[0], nil
}

// read takes over what the manifest says.
func (c *core) read(crash string) error {
	text, err := os.ReadFile(filepath.Join(crash, crashenv.ManifestFile))
	if err != nil {
		return err
	}
	m, err := crashenv.ParseManifest(text)
	if err != nil {
		return err
	}
	if m.Dump == nil || !m.Complete {
		return fmt.Errorf("machine %s: the dump is incomplete: %q", c.Name, m.Reasons)
	}
	c.Memory, c.Bytes, c.Pages = m.Memory, m.Dump.Bytes, m.Dump.Pages.Saved
	c.Dump = time.Duration(m.Dump.Survey) + time.Duration(m.Dump.Save)
	return nil
}

// write makes the core of the machine's memory and of the notes and the
// memory map that stand in the saved dump, as they stood in /proc/vmcore.
func (c *core) write(dump, ram string) error {
	d, err := vmcore.Open(dump)
	if err != nil {
		return err
	}
	defer d.Close()
	from, err := os.Open(ram)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(c.Path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	c.Size, c.Data, err = writeCore(to, d, from)
	if cerr := to.Close(); err == nil {
		err = cerr
	}
	return err
}

func fileHash(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	_, err = io.Copy(h, f)
	return hex.EncodeToString(h.Sum(nil)), err
}
