//go:build e2e

package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/e2e/lab"
)

// Kernels that firmware starts as EFI programs: memory comes from EFI's map and
// not from the device tree, for both kernels, and the panic kernel finds EFI's
// tables through the properties that load leaves in the tree. EDK II describes
// the machine with ACPI tables, and the tree has nothing else in it.
func TestEFI(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		firmware    lab.Firmware
		suite       string
		crashkernel string
		says        string // each of the kernels
	}{
		{lab.UBoot, "trixie", "144M", `efi: EFI v2\.\d+ by Das U-Boot`},
		// With ACPI a panic kernel needs 20 MiB more, 8 of them for what it makes
		// of the tables; with 128M the modules do not fit, and load refuses it.
		{lab.EDK2, "trixie", "192M", `ACPI: RSDP 0x`},
		{lab.UBoot, "sid", "144M", `efi: EFI v2\.\d+ by Das U-Boot`},
		{lab.EDK2, "sid", "192M", `ACPI: RSDP 0x`},
	} {
		if tt.suite != "trixie" && !full() {
			continue
		}
		t.Run(fmt.Sprintf("%s/%s", tt.firmware, tt.suite), func(t *testing.T) {
			t.Parallel()
			k := kernel(t, tt.suite)
			o := run(t, &lab.Scenario{
				Name: fmt.Sprintf("efi-%s-%s", tt.firmware, tt.suite), Kernel: k, Firmware: tt.firmware,
				CPUs: 2, MemMiB: 1024, Crashkernel: tt.crashkernel,
				Disk: &lab.Disk{SizeMiB: 2048}, Programs: []string{panicRoom(t, k)},
				Steps: []script.Step{
					lab.Burden(),
					{Name: "EFI", Show: &script.Show{Paths: []string{"/sys/firmware/efi/systab", "/sys/firmware/efi/fw_platform_size"}}},
					loadStep("--test-raw"), crashStep(1),
				},
			})
			if r, ok := o.Step("EFI"); !ok || !strings.HasSuffix(r.Stdout, "64\n") {
				t.Errorf("the kernel shows no EFI of 64 bits: %+v", r)
			}
			for _, says := range []string{tt.says, "Remapping and enabling EFI services"} {
				if first, second := inBoth(o, regexp.MustCompile(says)); !first || !second {
					t.Errorf("the console says %q of the first kernel: %v, of the panic kernel: %v", says, first, second)
				}
			}
			s := mustCrash(t, o, 1)
			judge(t, s, false)
		})
	}
}

// inBoth tells whether the console has a line of the first kernel and one of
// the panic kernel that re matches.
func inBoth(o *lab.Outcome, re *regexp.Regexp) (first, second bool) {
	crash := o.CrashKernel()
	if crash < 0 {
		crash = len(o.Lines)
	}
	for i, l := range o.Lines {
		if re.MatchString(l.Text) {
			first, second = first || i < crash, second || i >= crash
		}
	}
	return first, second
}
