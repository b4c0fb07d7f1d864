// Package panicroom is kdump for Linux, whole and in one static binary: when a
// kernel dies, a second kernel waits in reserved memory, and its only program
// saves the dead kernel's memory, says what happened and brings the machine
// back. Nothing is exported here; this page tells the story in the order in
// which it happens, and names the package of each chapter.
//
// Before the crash:
//
//  1. The kernel reserves memory at boot (crashkernel=); internal/config has what
//     the owner of the machine decides.
//  2. internal/host reads the facts of the machine: /proc/iomem, the device
//     tree, the crash notes of every possible CPU, vmcoreinfo.
//  3. internal/kimage looks into the kernel image that shall wait there.
//  4. crashenv, host half, finds the modules that the target of the dump needs
//     (internal/device, internal/boot) and packs them with this very binary and
//     a Plan into an initramfs.
//  5. load plans the segments, the elfcorehdr and the device tree of the panic
//     kernel, checks every rule of the kernel beforehand, and makes the system
//     call.
//
// The kernel panics and jumps into the panic room.
//
// After the crash:
//
//  6. crashenv, crash half, is PID 1 and executes the Plan: modules, devices,
//     target, each phase with its deadline.
//  7. capture saves the log, then selects and compresses pages of /proc/vmcore
//     (package vmcore) into a dump on the target (package target).
//  8. kernel sees the dead kernel through the dump: page tables, log, symbols,
//     modules, and in the packages below it stacks, tasks, locks, memory, disks;
//     report says what happened.
//  9. The machine restarts. On that boot after tells what has happened, and saved
//     knows which crashes stay.
//
// Reading, later and anywhere: vmcore and kernel open dumps of any
// architecture on any host; report explains them, and inspect answers what else
// is asked.
package panicroom
