package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/internal/vm"
)

// Console returns the first line from index on that re matches, and its index;
// -1 if there is none.
func (o *Outcome) Console(re *regexp.Regexp, from int) (vm.Line, int) {
	for i := max(0, from); i < len(o.Lines); i++ {
		if re.MatchString(o.Lines[i].Text) {
			return o.Lines[i], i
		}
	}
	return vm.Line{}, -1
}

var (
	kernelStarts = regexp.MustCompile(`Linux version \d`)
	kernelPanics = regexp.MustCompile(`Kernel panic - not syncing`)
	powersOff    = regexp.MustCompile(`reboot: Power down`)
	restarts     = regexp.MustCompile(`reboot: Restarting system`)
)

// Panicked tells whether the first kernel panicked.
func (o *Outcome) Panicked() bool { _, i := o.Console(kernelPanics, 0); return i >= 0 }

// CrashKernel is the index of the console's line with which the crash kernel
// starts, -1 if it never did.
func (o *Outcome) CrashKernel() int {
	_, i := o.Console(kernelStarts, 0)
	if i < 0 {
		return -1
	}
	_, i = o.Console(kernelStarts, i+1)
	return i
}

// PoweredOff and Restarted tell how the last kernel ended the machine.
func (o *Outcome) PoweredOff() bool { return o.saidLast(powersOff) }

// Restarted tells that the last kernel restarted the machine.
func (o *Outcome) Restarted() bool { return o.saidLast(restarts) }

func (o *Outcome) saidLast(re *regexp.Regexp) bool {
	_, i := o.Console(re, o.CrashKernel())
	return i >= 0
}

// Files extracts what is on the disk and returns the directory, the first time
// it is called.
func (o *Outcome) Files(ctx context.Context) (string, error) {
	if o.files != "" {
		return o.files, nil
	}
	if o.Disk == "" {
		return "", fmt.Errorf("scenario %s has no disk", o.Scenario.Name)
	}
	dir := filepath.Join(o.Dir, "disk")
	clean, err := ExtractDisk(ctx, o.Disk, dir)
	if err != nil {
		return "", err
	}
	o.DiskClean = clean
	o.files = dir
	return dir, nil
}

// Crashes are the directories of the saved crashes on the disk, extracted.
func (o *Outcome) Crashes(ctx context.Context) ([]string, error) {
	dir, err := o.Files(ctx)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var crashes []string
	for _, e := range entries {
		// Their names begin with the date.
		if e.IsDir() && e.Name()[0] >= '0' && e.Name()[0] <= '9' {
			crashes = append(crashes, filepath.Join(dir, e.Name()))
		}
	}
	return crashes, nil
}

// Clean removes the large files of the run: image, memory and what was
// extracted. The console and the events stay.
func (o *Outcome) Clean() error {
	for _, p := range []string{"disk.img", "disk", "ram", "machine.dtb"} {
		if err := os.RemoveAll(filepath.Join(o.Dir, p)); err != nil {
			return err
		}
	}
	return nil
}

// Story is the run for people: what each step did and the last lines of the
// console; for messages of failed tests.
func (o *Outcome) Story() string {
	var b strings.Builder
	fmt.Fprintf(&b, "files of the run: %s\n", o.Dir)
	for _, r := range o.Results {
		end := "the machine crashed in it"
		if r.Ended {
			end = fmt.Sprintf("exit %d %s", r.Exit, r.Text)
		}
		fmt.Fprintf(&b, "step %s: %s\n", r.Name, end)
		for _, text := range []string{r.Stdout, r.Stderr} {
			for line := range strings.Lines(text) {
				fmt.Fprintf(&b, "\t%s\n", strings.TrimRight(line, "\n"))
			}
		}
	}
	b.WriteString("the console's last lines:\n")
	for _, l := range o.Lines[max(0, len(o.Lines)-25):] {
		fmt.Fprintf(&b, "\t%s\n", l.Text)
	}
	return b.String()
}

// GoArch is Go's name of the architecture of the kernel; Debian's is the same
// for those we know, and their kernels have it in their release.
func (k *Kernel) GoArch() string {
	if k.Built != nil {
		return "riscv64"
	}
	return k.Release[strings.LastIndexByte(k.Release, '-')+1:]
}

// PanicRoom builds the program under test for a kernel's architecture.
func PanicRoom(ctx context.Context, k *Kernel) (string, error) {
	return Build(ctx, "cmd/panicroom", k.GoArch())
}

// Run makes a step that runs a program, named as the program is called.
func Run(args ...string) script.Step {
	return script.Step{Name: strings.Join(args, " "), Run: &script.Run{Args: slices.Clone(args)}}
}

// Burden is a load for a guest of at least 1 GiB with pages of every class.
func Burden() script.Step {
	return script.Step{Name: "fill memory", Burden: &script.Burden{
		Anon: 48, Huge: 32, Shmem: 8, Cache: 24, Dir: CrashDir, Mapped: true, Inodes: 2000, Hugetlb: 4,
	}}
}
