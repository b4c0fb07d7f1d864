package sched

// Bits of a task's state that change the letter it gets, include/linux/sched.h
// (Linux 6.1 to 7.2, where they are the same).
const (
	taskUninterruptible = 0x0002
	exitAndSleepMask    = 0x007f // those that have a letter each, the lowest first
	taskNoLoad          = 0x0400
	taskRTLockWait      = 0x1000
	taskFrozen          = 0x8000
	taskIdle            = taskUninterruptible | taskNoLoad
)

// stateLetters are the letters of the bits in exitAndSleepMask; the first is
// that of no bit, the last is of tasks that are idle.
const stateLetters = "RSDTtXZPI"

// letter is what /proc/PID/stat shows of a state. Tasks that only a fatal signal
// wakes (TASK_KILLABLE) count as uninterruptible, and so do those that are
// frozen or wait for a spinlock of a real-time kernel, whatever they did before.
func letter(state, exitState uint64) string {
	switch {
	case state&(taskRTLockWait|taskFrozen) != 0:
		return "D"
	case state&taskIdle == taskIdle:
		return "I"
	}
	// The highest bit counts.
	n := 0
	for bits := (state | exitState) & exitAndSleepMask; bits != 0; bits >>= 1 {
		n++
	}
	return stateLetters[n:][:1]
}

// policies are the names of scheduling policies, include/uapi/linux/sched.h
// (Linux 7.2).
var policies = map[uint64]string{1: "fifo", 2: "rr", 3: "batch", 5: "idle", 6: "deadline", 7: "ext"}
