package load

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/panicroom-kdump/panicroom/internal/sys"
)

// CheckBoot tells whether [Boot] has a kernel to start: nil, or a [*RuleError].
func CheckBoot() error { return checkBoot(os.DirFS("/")) }

func checkBoot(root fs.FS) error {
	loaded, err := Loaded(root, ForReboot)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return noKexec(ForReboot)
	case err != nil:
		return err
	case !loaded:
		return &RuleError{Rule: RuleLoaded,
			Detail: "no kernel to reboot into is loaded",
			Remedy: []string{"load one: panicroom load --reboot"}}
	}
	return nil
}

// Boot starts the kernel in the reboot slot, now, without asking any program to
// end (reboot(2), LINUX_REBOOT_CMD_KEXEC). It returns only if that failed.
func Boot(sync bool) error {
	if err := CheckBoot(); err != nil {
		return err
	}
	if sync {
		sys.Sync()
	}
	if err := sys.Reboot(sys.RebootKexec); err != nil {
		return stateError(fmt.Errorf("start the loaded kernel: %w", err))
	}
	return errors.New("the loaded kernel was to be started and was not")
}
