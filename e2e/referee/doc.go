// Package referee judges dumps without trusting the code that made them.
//
// Four referees look at one dump and at a raw ELF copy of the same crash's
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
//     filters the dump again;
//   - Debian's riscv64 crash under qemu-user, which answers the first questions of
//     every analysis and shows pages.
//
// [Check] runs all but the last on one dump. A [Judge] has looked at the memory once
// and judges dumps in all forms and levels of it: which pages they have, who opens
// them and, where one must not, that it still refuses; also what makedumpfile itself
// makes of the memory, where each difference must be a known defect of its version.
// Only riscv64 dumps are judged.
package referee
