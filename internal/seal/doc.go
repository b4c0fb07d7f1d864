// Package seal lets the panic kernel see whether it was loaded as planned.
// kexec_load(2) on riscv64 has no checksum: the reserved memory may have been
// overwritten between the load and the crash, by the very fault that the dump
// shall explain. So the loader leaves digests in /chosen of the panic kernel's
// device tree, and the crash environment compares them with what it finds.
//
// The seal is against accidents. Whoever can write the kernel's memory on
// purpose can write a new seal as well.
package seal
