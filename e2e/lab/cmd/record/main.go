// Command record boots machines in QEMU and records each as load's tests want
// it, in load/testdata/machines:
//
//	record [-into load/testdata/machines] [NAME...]
//
// Without names it records all that it knows. What the tests make of new records
// is written with go test ./load -update, and to be read before it is committed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/e2e/lab"
	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// machine is one that can be recorded. Its name begins with the version of the
// kernel that the suite had when it was recorded: tests depend on it.
type machine struct {
	name, suite string
	scenario    lab.Scenario
}

var machines = []machine{
	{"virt-6.12-sv48-2g", "trixie", lab.Scenario{SV: 48, MemMiB: 2048, Crashkernel: "256M"}},
	{"virt-7.2-sv57-2g", "sid", lab.Scenario{SV: 57, MemMiB: 2048, Crashkernel: "256M"}},
	{"virt-7.2-sv39-1g", "sid", lab.Scenario{SV: 39, MemMiB: 1024, Crashkernel: "128M"}},
	{"virt-6.12-8g-high", "trixie", lab.Scenario{MemMiB: 8192, Crashkernel: "256M,high"}},
	{"virt-6.12-nodes-2g", "trixie", lab.Scenario{MemMiB: 2048, Nodes: 2, Crashkernel: "128M"}},
	{"virt-6.12-uboot-2g", "trixie", lab.Scenario{MemMiB: 2048, Firmware: lab.UBoot, Crashkernel: "128M"}},
	{"virt-6.12-acpi-2g", "trixie", lab.Scenario{MemMiB: 2048, Firmware: lab.EDK2, Crashkernel: "192M"}},
	{"virt-7.2-acpi-2g", "sid", lab.Scenario{MemMiB: 2048, Firmware: lab.EDK2, Crashkernel: "192M"}},
	{"virt-6.12-none-1g", "trixie", lab.Scenario{MemMiB: 1024}},
	{"virt-6.12-small-1g", "trixie", lab.Scenario{MemMiB: 1024, Crashkernel: "64M"}},
}

func main() {
	into := flag.String("into", "load/testdata/machines", "directory of the recorded machines")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *into, flag.Args()); err != nil {
		ui.WriteError(os.Stderr, "record", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, into string, names []string) error {
	for _, name := range names {
		if !slices.ContainsFunc(machines, func(m machine) bool { return m.name == name }) {
			var known []string
			for _, m := range machines {
				known = append(known, m.name)
			}
			return ui.Hint(fmt.Errorf("no machine %s", name), "known are "+strings.Join(known, ", "))
		}
	}
	for _, m := range machines {
		if len(names) > 0 && !slices.Contains(names, m.name) {
			continue
		}
		if err := m.record(ctx, filepath.Join(into, m.name)); err != nil {
			return fmt.Errorf("%s: %w", m.name, err)
		}
		fmt.Println("recorded", m.name)
	}
	return nil
}

// record replaces the record in dir by a new one.
func (m machine) record(ctx context.Context, dir string) error {
	say := func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	k, err := lab.FetchKernel(ctx, lab.KernelOptions{Suite: m.suite, Say: say})
	if err != nil {
		return err
	}
	if !strings.HasPrefix(m.name, "virt-"+majorMinor(k.Release)+"-") {
		return ui.Hint(fmt.Errorf("the kernel of %s is %s now", m.suite, k.Release), "give the machine a name of that version, or leave it as it was recorded")
	}
	program, err := lab.PanicRoom(ctx, k)
	if err != nil {
		return err
	}
	s := m.scenario
	s.Name, s.Kernel, s.CPUs = "record-"+m.name, k, 2
	s.Disk, s.Programs = &lab.Disk{SizeMiB: 64}, []string{program}
	s.Files = map[string]string{}
	// Debian moves its kernels' configuration from one to the other.
	for _, config := range []string{"/boot/config-" + k.Release, filepath.Join(k.Modules, "config")} {
		if _, err := os.Stat(filepath.Join(k.Root, config)); err == nil {
			s.Files[config] = filepath.Join(k.Root, config)
		}
	}
	// Recording comes first; for want of a target nothing more happens.
	record := lab.Run("panicroom", "load", "--record", filepath.Join(lab.CrashDir, m.name), "--dry-run", "--target", "/nonesuch")
	s.Steps = []script.Step{record}
	o, err := s.Run(ctx)
	if err != nil {
		return err
	}
	files, err := o.Files(ctx)
	if err != nil {
		return err
	}
	made := filepath.Join(files, m.name)
	if _, err := os.Stat(filepath.Join(made, "proc", "iomem")); err != nil {
		return errors.Join(err, errors.New(o.Story()))
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.CopyFS(dir, os.DirFS(made)); err != nil {
		return err
	}
	return o.Clean()
}

func majorMinor(release string) string {
	parts := strings.SplitN(release, ".", 3)
	return strings.Join(parts[:min(2, len(parts))], ".")
}
