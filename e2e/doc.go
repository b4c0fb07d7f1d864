// Package e2e crashes real kernels and looks at what is saved of them. The
// tests need QEMU and an hour of patience in all, so they are built with the
// tag e2e only: make test runs them, and
//
//	make e2e RUN=TestMatrix/trixie/sv57
//
// runs one. What a run leaves is below out/e2e (OUT moves it): the console,
// the guest's events, and after a failure its disk. Packages below: lab makes
// the machines, guest is what runs in them, page looks at HTML reports in a browser,
// demo, compare, bench and measure are for people.
//
//   - TestLab: the machines themselves.
//   - TestMatrix: kernel (a suite of Debian), paging mode, harts, and the one
//     that panics; the referees (package referee) judge each dump, and the pages
//     that dumps of other levels made of the same memory have. With sv57 libkdumpfile,
//     drgn and makedumpfile open dumps in each form: of one kernel at one level, in
//     full runs of both at four. In full runs only, makedumpfile's choice of pages is compared with
//     ours at each level, and crash opens dumps: it needs each kernel's debug data,
//     of which the package has 1 GB, and 100 seconds of CPU time to start.
//   - TestKinds: machines crash in every way there is, and the report says which. In
//     full runs the kernels of make kernels do it with LKDTM.
//   - TestImages: each kernel's image in every form is the same memory.
//   - TestBuilt: the kernels of make kernels, relocatable and moved; in full
//     runs only.
//   - TestMemory: 8 GiB, crashkernel=,high, two memory nodes.
//   - TestQuarterTerabyte: 256 GiB from crashkernel=192M; in full runs only.
//   - TestEFI: kernels that U-Boot and EDK II start, the latter with ACPI.
//   - TestFirmwareMemory: a header with the firmware's memory in it.
//   - TestTightRegion: page by page, what load accepts the kernel takes.
//   - TestRefusals, TestRoom: what load must refuse, and that what was loaded
//     stays.
//   - TestReserve: a reservation is shrunk, and then a crash is saved whole; a boot
//     loader's file is edited and put back.
//   - TestSystem: a Debian root filesystem with systemd, through U-Boot: the package is
//     installed and set up, the machine crashes, comes back, gets a newer kernel, crashes
//     again; in full runs, and by make system.
//   - TestSoak: so many crashes in a row; by make soak only.
//   - TestTargetFails: a target that is missing, full or read-only after the
//     crash.
//   - TestCutDumps: what was written until a disk was full, read by libkdumpfile;
//     no kernel is crashed for it.
//   - TestKexec: called as kexec, makedumpfile and vmcore-dmesg.
//   - TestOwnFailure: panicroom itself fails in the panic kernel.
package e2e
