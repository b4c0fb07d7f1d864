package load

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"github.com/panicroom-kdump/panicroom/internal/sys"
)

// CrashOptions say how to crash the machine.
type CrashOptions struct {
	// Force crashes it even if no panic kernel is loaded.
	Force bool
	// CPU is the one that shall panic; nil is whichever runs this.
	CPU *int
	// NoSync leaves the filesystems as they are: what was not written yet is
	// lost, as in a real crash.
	NoSync bool
}

const sysrqTrigger = "/proc/sysrq-trigger"

// CheckCrash tells whether [Crash] would leave a dump: nil, or a [*RuleError]
// that says what is missing.
func CheckCrash() error { return checkCrash(os.DirFS("/")) }

func checkCrash(root fs.FS) error {
	if _, err := fs.Stat(root, sysrqTrigger[1:]); errors.Is(err, fs.ErrNotExist) {
		return noSysrq()
	}
	loaded, err := Loaded(root, ForCrash)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return noKexec(ForCrash)
	case err != nil:
		return err
	case !loaded:
		return &RuleError{Rule: RuleLoaded,
			Detail: "no panic kernel is loaded: a crash would leave no dump",
			Remedy: []string{"load one: panicroom load", "or crash all the same: panicroom crash --force"}}
	}
	return nil
}

func noSysrq() error {
	return &RuleError{Rule: RuleSysrq,
		Detail: "there is no " + sysrqTrigger + ": the kernel was built without CONFIG_MAGIC_SYSRQ",
		Remedy: []string{"boot a kernel with CONFIG_MAGIC_SYSRQ=y; Debian's has it"}}
}

// Crash makes the kernel panic, now (sysrq c, drivers/tty/sysrq.c: the trigger
// file works for root whatever kernel.sysrq says). It returns only if that
// failed.
func Crash(opts *CrashOptions) error {
	if opts == nil {
		opts = &CrashOptions{}
	}
	if !opts.Force {
		if err := CheckCrash(); err != nil {
			return err
		}
	}
	f, err := os.OpenFile(sysrqTrigger, os.O_WRONLY, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return noSysrq()
	} else if err != nil {
		return stateError(err)
	}
	defer f.Close()
	if !opts.NoSync {
		sys.Sync()
	}
	if opts.CPU != nil {
		// The kernel panics on the CPU that writes.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := sys.PinToCPU(*opts.CPU); err != nil {
			return fmt.Errorf("CPU %d: %w", *opts.CPU, err)
		}
	}
	if _, err := f.WriteString("c"); err != nil {
		return err
	}
	return errors.New("the kernel was told to crash and did not")
}

// seedSize is what the kernel's own loader gives (drivers/of/kexec.c,
// RNG_SEED_SIZE).
const seedSize = 128

// FreshSeed returns bytes for Options.Seed. They come from the kernel, and not
// through crypto/rand, which costs 32 MiB of address space in a panic kernel
// that has little.
func FreshSeed() ([]byte, error) {
	f, err := os.Open("/dev/urandom")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	seed := make([]byte, seedSize)
	if n, err := f.Read(seed); err != nil || n != seedSize {
		return nil, fmt.Errorf("/dev/urandom: %d of %d bytes: %w", n, seedSize, errors.Join(err, fs.ErrInvalid))
	}
	return seed, nil
}
