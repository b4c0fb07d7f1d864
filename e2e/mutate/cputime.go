package mutate

import (
	"syscall"
	"time"
)

// cpuTime is what this process has used of the CPUs.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // there is no way for it to fail
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
