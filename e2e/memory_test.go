//go:build e2e

package e2e

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/e2e/lab"
)

// Machines whose memory is laid out in other ways. A raw copy of 8 GiB would
// take too long: what the referees say of the matrix is believed, and here the
// dump is read by our own reports and checks.
func TestMemory(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		suite       string
		mem, nodes  int
		crashkernel string
		regions     int
	}{
		{"8GiB", "trixie", 8192, 1, "144M", 1},
		{"8GiB-high", "sid", 8192, 1, "256M,high", 2},
		{"8GiB-high", "trixie", 8192, 1, "256M,high", 2},
		{"nodes", "trixie", 1024, 2, "144M", 1},
		{"nodes", "sid", 1024, 2, "144M", 1},
		{"8GiB", "sid", 8192, 1, "144M", 1},
	}
	for i, tt := range tests {
		if i%2 == 1 && !full() {
			continue
		}
		t.Run(tt.name+"/"+tt.suite, func(t *testing.T) {
			t.Parallel()
			k := kernel(t, tt.suite)
			load := loadStep()
			if tt.mem < 4096 {
				load = loadStep("--test-raw")
			}
			o := run(t, &lab.Scenario{
				Name: "memory-" + tt.name + "-" + tt.suite, Kernel: k, CPUs: 2,
				MemMiB: tt.mem, Nodes: tt.nodes, Crashkernel: tt.crashkernel,
				Disk: &lab.Disk{SizeMiB: 2048}, Programs: []string{panicRoom(t, k)},
				Steps: []script.Step{lab.Burden(), load, crashStep(1)},
			})
			s := mustCrash(t, o, 1)
			if tt.mem < 4096 {
				judge(t, s, false)
			}
		})
	}
}

// A machine with 256 GiB is saved from a reservation no larger than that of
// one with 2. It has 4 GiB of page structs to be looked at and saved; the rest
// was never touched and takes no memory here: QEMU keeps it in a sparse file,
// which unlike anonymous memory the host does not have to promise. It takes 6 GB
// of disk and 6 minutes of CPU time: with PANICROOM_FULL=1 only.
func TestQuarterTerabyte(t *testing.T) {
	t.Parallel()
	if !full() {
		return
	}
	const gib = 256
	k := kernel(t, "trixie")
	o := run(t, &lab.Scenario{
		Name: "quarter-terabyte", Kernel: k, CPUs: 2, MemMiB: gib << 10, Crashkernel: "192M", KeepRAM: true,
		Disk: &lab.Disk{SizeMiB: 8192}, Programs: []string{panicRoom(t, k)},
		Steps: []script.Step{loadStep(), crashStep(1)}, Limit: 3 * time.Hour,
	})
	s := mustCrash(t, o, 1) // with what the saving process may take at most
	const pages = gib << 18
	if n := s.manifest.Dump.Pages.Total; n < pages-pages/100 || n > pages {
		t.Errorf("the dump knows of %d pages; want nearly all of %d", n, pages)
	}
	// The page structs alone; that they are told apart is why it is no more.
	if n := s.manifest.Dump.Pages.Saved; n < pages/64 || n > pages/32 {
		t.Errorf("%d pages are saved; want the page structs and little else", n)
	}
	t.Logf("panic kernel: peak RSS %d MiB, lowest available %d MiB of %d", s.manifest.Memory.PeakRSS>>20,
		s.manifest.Memory.AvailableMin>>20, s.manifest.Memory.Total>>20)
}

// An elfcorehdr that wrongly has the firmware's memory in it must cost the
// firmware's pages and nothing else.
func TestFirmwareMemory(t *testing.T) {
	t.Parallel()
	k := kernel(t, "trixie")
	o := run(t, &lab.Scenario{
		Name: "firmware", Kernel: k, CPUs: 2, MemMiB: 1024, Crashkernel: "144M",
		Disk: &lab.Disk{SizeMiB: 2048}, Programs: []string{panicRoom(t, k)},
		Steps: []script.Step{loadStep("--test-raw", "--test-include-firmware"), crashStep(0)},
	})
	s := mustCrash(t, o, 0)
	var unreadable uint64
	for _, u := range s.manifest.Dump.Unreadable {
		// QEMU's OpenSBI lies at the start of memory, in less than 2 MiB.
		if u.Start < 0x80000000 || u.End > 0x80200000 {
			t.Errorf("%#x-%#x is called unreadable; that is not the firmware's", u.Start, u.End)
		}
		unreadable += u.End - u.Start
	}
	if unreadable < 256<<10 {
		t.Errorf("%d bytes of the firmware are listed as unreadable; want at least 256 KiB", unreadable)
	}
	judge(t, s, false)
}

// Where load says that a reservation is too small by a page, the kernel's own
// border is no higher: page by page, what load accepts really loads, and what it
// refuses is refused before the system call. With a low region beside the main
// one, the main one needs no memory to work with and can be filled to the end;
// the two pages that the kernel itself takes then lie behind the panic kernel.
func TestTightRegion(t *testing.T) {
	t.Parallel()
	k := kernel(t, "trixie")
	image, err := os.ReadFile(k.ImagePath())
	if err != nil {
		t.Fatal(err)
	}
	imageSize := binary.LittleEndian.Uint64(image[16:]) // Documentation/arch/riscv/boot-image-header.rst
	const (
		page      = 4096
		initramfs = 1 << 20
		low       = 128 << 20 // of crashkernel=,high
		around    = 4         // pages that device tree and header may differ from our guess
	)
	guess := (imageSize+2<<20-1)&^(2<<20-1) + initramfs + 3*page
	archive := smallInitramfs(t)
	archive = append(archive, make([]byte, initramfs-len(archive))...)
	steps := []script.Step{{Name: "initramfs", Write: &script.Write{Path: "/tmp/initramfs", Data: archive}}}
	name := func(what string, pages int) string { return fmt.Sprintf("%s %+d pages", what, pages) }
	for n := around; n >= -around; n-- {
		size := low + int(guess) + n*page
		steps = append(steps,
			script.Step{Name: name("shrink", n), Write: &script.Write{Path: "/sys/kernel/kexec_crash_size", Data: []byte(strconv.Itoa(size))}},
			script.Step{Name: name("size", n), Show: &script.Show{Paths: []string{"/sys/kernel/kexec_crash_size"}}},
			named(name("load", n), loadStep("--initramfs", "/tmp/initramfs")),
			loaded(name("loaded", n)),
			named(name("unload", n), lab.Run("panicroom", "unload")),
		)
	}
	o := run(t, &lab.Scenario{
		Name: "tight", Kernel: k, MemMiB: 4096, Crashkernel: "64M,high",
		Disk: &lab.Disk{SizeMiB: 64}, Programs: []string{panicRoom(t, k)}, Steps: steps,
	})
	if !o.Finished {
		t.Fatalf("the machine did not come to the end of the steps\n%s", o.Story())
	}
	accepted, refused := 0, 0
	for n := around; n >= -around; n-- {
		if r, _ := o.Step(name("size", n)); strings.TrimSpace(r.Stdout) != strconv.Itoa(low+int(guess)+n*page) {
			t.Fatalf("%+d pages: the reservation has %s bytes; want %d", n, strings.TrimSpace(r.Stdout), low+int(guess)+n*page)
		}
		r, _ := o.Step(name("load", n))
		in, _ := o.Step(name("loaded", n))
		is := strings.TrimSpace(in.Stdout)
		switch {
		case r.Exit == 0 && is == "1" && refused == 0:
			accepted++
		case r.Exit == 4 && is == "0":
			refused++
			refusal{name("load", n), 4, "main region are needed", "crashkernel="}.check(t, o)
		default:
			t.Errorf("%+d pages: exit %d, kexec_crash_loaded %s, after %d refusals\n%s", n, r.Exit, is, refused, r.Stderr)
		}
	}
	if accepted == 0 || refused == 0 {
		t.Errorf("%d sizes were accepted and %d refused; want some of both", accepted, refused)
	}
	t.Logf("%d sizes accepted, %d refused", accepted, refused)
}
