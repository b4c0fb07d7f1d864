package load

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/panicroom-kdump/panicroom/internal/host"
	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// ShrinkTo is the size that a machine's reservation would have when it is shrunk to
// size, of which loaded bytes must be in the main region. The kernel takes from the
// end of the main region first, in whole pages (kernel/crash_core.c of 6.12 and
// 7.2, crash_shrink_memory); a low one stays whole.
func ShrinkTo(m *host.Machine, size, loaded uint64) (uint64, error) {
	if m.NoKexec || m.CrashSize == 0 {
		return 0, noCrashkernel(m)
	}
	list, err := regions(m)
	if err != nil {
		return 0, err
	}
	var low uint64
	for _, r := range list[1:] {
		low += r.Size()
	}
	size = roundUp(max(size, low+loaded), max(pageSize, m.PageSize))
	switch {
	case m.CrashLoaded:
		return 0, &RuleError{Rule: RuleShrink, Detail: "a panic kernel is loaded, and the kernel shrinks its memory only without one",
			Remedy: []string{"panicroom unload, then panicroom reserve --shrink, then panicroom load"}}
	case size > m.CrashSize:
		return 0, &RuleError{Rule: RuleShrink, Detail: fmt.Sprintf("%s are reserved and %s are needed", ui.Bytes(m.CrashSize), ui.Bytes(size)),
			Remedy: []string{"more can only be reserved at the next start: panicroom reserve --apply, then restart"}}
	}
	return size, nil
}

// Shrink gives the kernel back what is reserved beyond size bytes, as [ShrinkTo] has
// it, and returns what is reserved then. Until the next start it cannot be taken
// again.
func Shrink(size uint64) (uint64, error) {
	name, err := crashSizeFile()
	if err != nil {
		return 0, err
	}
	if err := os.WriteFile(name, []byte(strconv.FormatUint(size, 10)), 0); err != nil {
		switch {
		case errors.Is(err, syscall.ENOENT) && !errors.Is(err, fs.ErrPermission):
			err = fmt.Errorf("%w: a panic kernel has been loaded meanwhile (%v)", ErrKernelRefused, err)
		case errors.Is(err, syscall.EINVAL), errors.Is(err, syscall.EBUSY), errors.Is(err, syscall.ENOMEM):
			err = fmt.Errorf("%w: %v", ErrKernelRefused, err)
		}
		return 0, err
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return 0, err
	}
	now, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	if err == nil && now != size {
		err = fmt.Errorf("%w: %s has %d, %d was written", ErrKernelRefused, name, now, size)
	}
	return now, err
}

// crashSizeFile is where the kernel has the size: since 7.0 in a directory.
func crashSizeFile() (string, error) {
	var err error
	for _, name := range []string{"/sys/kernel/kexec/crash_size", "/sys/kernel/kexec_crash_size"} {
		if _, err = os.Stat(name); err == nil {
			return name, nil
		}
	}
	return "", err
}
