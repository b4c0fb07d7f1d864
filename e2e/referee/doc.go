// Package referee judges dumps without trusting the code that made them.
//
// Three referees look at one dump and at a raw ELF copy of the same crash's
// /proc/vmcore:
//
//   - a slow and obvious classifier: every page's struct page, read through the
//     dead kernel's page tables, and the rules of makedumpfile's dump levels one
//     by one. It shares no code with packages vmcore, kernel and capture (a test
//     of internal/house sees to it): what it has of ELF, page tables, kallsyms
//     and kdump-compressed files is written here a second time;
//   - Debian's libkdumpfile and drgn, which read every page of the dump, and
//     virtual addresses through their own page table walk;
//   - Debian's riscv64 makedumpfile under qemu-user, which extracts the log and
//     filters the dump again.
//
// [Check] runs them all. Only riscv64 dumps are judged.
package referee
