// Package crashenv is the crash environment: what runs in the panic room.
//
// The host half, [Build], works in the healthy system. It resolves everything
// that must be known (which modules each target needs and in which order, the
// UUID of its filesystem or the way to another machine, the layout of the kernel's
// structures) into a [Plan], and packs Plan, modules and this very binary into an
// initramfs.
//
// The crash half only executes the Plan. main calls [IsInit] and [Init] first
// of all; what follows runs in up to four processes of the same binary:
//
//   - PID 1, the supervisor, does as little as possible: it mounts /proc and
//     the like, starts the others, watches deadlines, pets the watchdog and ends
//     the machine, whatever has happened.
//   - the worker does the work for one target: modules, disk or network, log,
//     dump. If it fails, panics, hangs or is killed for want of memory, PID 1
//     starts another for the next target, which begins from the start.
//   - the reporter reads the dump that was just written, under a memory limit
//     of its own: a report that fails cannot take the dump with it.
//   - the rescuer runs only when all workers have failed: it prints the dead
//     kernel's log to the console when it could not be saved, and notes in the
//     manifest why the dump is incomplete.
//
// # Console
//
// The crash half speaks in lines that programs can read. SECONDS is the uptime
// of the panic kernel, PHASE one of the Phase constants, and each is one line:
//
//	panicroom: [SECONDS] begin PHASE
//	panicroom: [SECONDS] progress PHASE: TEXT
//	panicroom: [SECONDS] phase PHASE: TEXT, DURATION
//	panicroom: [SECONDS] phase PHASE: FAILED: ERROR
//	panicroom: [SECONDS] hint: TEXT
//	panicroom: [SECONDS] note: TEXT
//	panicroom: [SECONDS] panic: LINE of the dead kernel's log that says why it died
//	panicroom: [SECONDS] log: LINE of the dead kernel's log, when it could not be saved
//	panicroom: [SECONDS] end complete|incomplete|failed: TEXT
//
// A line "phase" follows every "begin" unless the process has died; "end" is
// the last line, whatever happened, and its TEXT ends with what becomes of the
// machine. The lines go through /dev/kmsg where there is one, so that the
// kernel's own messages do not run into them and every console gets them;
// there the kernel's time stamps are turned off.
package crashenv
