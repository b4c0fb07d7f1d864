// Package boot makes and reads the files that a boot loader hands to a kernel,
// or that lie beside it: the initramfs as a newc cpio archive, its compression,
// and the kernel's modules with what they depend on.
//
// Everything here is a function of files; the running machine is not asked.
package boot
