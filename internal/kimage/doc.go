// Package kimage looks at kernel images: what a file is, whether it is whole,
// and the memory that it stands for.
//
// What riscv64 boots is the flat "Image" (kernel: arch/riscv/include/asm/image.h
// and Documentation/arch/riscv/boot-image-header.rst, 6.12): 64 bytes of header,
// then memory as it shall lie at a 2 MiB boundary. With CONFIG_EFI_STUB, as
// distributions build it, the same file is a PE program too, and its section
// table (arch/riscv/kernel/efi-header.S) tells where the file must end; that is
// how a truncated one is found. A vmlinux is the same memory as an ELF file.
//
// Either may lie in layers: compressed, in an EFI zboot program, in a unified
// kernel image. Layers are recognised by their first bytes and peeled one by one
// ([Open]); whatever the file was, the result is an [Image] with the one flat
// memory. Nothing but that memory is held: what a file has besides, such as the
// debug data of a vmlinux, is jumped over, or unpacked into nothing.
//
// Everything else that lies around in /boot is recognised and refused with an
// [Error] that says what it is and what to do.
package kimage
