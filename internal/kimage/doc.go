// Package kimage looks at kernel images: what a file is, whether it is whole,
// and the numbers that a loader needs.
//
// What riscv64 boots is the flat "Image" (kernel: arch/riscv/include/asm/image.h
// and Documentation/arch/riscv/boot-image-header.rst, 6.12): 64 bytes of header,
// then memory as it shall lie at a 2 MiB boundary. With CONFIG_EFI_STUB, as
// distributions build it, the same file is a PE program too, and its section
// table (arch/riscv/kernel/efi-header.S) tells where the file must end; that is
// how a truncated one is found.
//
// Everything else that lies around in /boot is recognised and refused with an
// [Error] that says what it is and what to do.
package kimage
