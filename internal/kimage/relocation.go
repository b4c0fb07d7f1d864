package kimage

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// relocations tells whether a vmlinux has the relocations that it wants. A
// relocatable kernel goes through its .rela.dyn before it does anything else
// (arch/riscv/mm/init.c, relocate_kernel, 6.12), and all its absolute pointers
// are in there; kernels up to 6.15 strip it from vmlinux, and keep it in
// vmlinux.relocs and the flat Image (arch/riscv/Makefile.postlink). Without it
// the kernel loads, jumps and hangs before it can print.
func (o *opener) relocations(img *Image, mem memory, dynamic *segment) error {
	if dynamic == nil {
		img.Relocations = RelocationsFixed
		return nil
	}
	le := binary.LittleEndian
	var rela, size uint64
	entry := uint64(24)
	for d := range slices.Chunk(mem.at(dynamic.vaddr, dynamic.memsz), 16) {
		if len(d) < 16 {
			break
		}
		tag, value := elf.DynTag(le.Uint64(d)), le.Uint64(d[8:])
		if tag == elf.DT_NULL {
			break
		}
		switch tag {
		case elf.DT_RELA:
			rela = value
		case elf.DT_RELASZ:
			size = value
		case elf.DT_RELAENT:
			entry = value
		}
	}
	why := ""
	switch {
	case rela == 0 || size == 0:
		why = "its .dynamic names no relocations"
	case entry != 24:
		why = fmt.Sprintf("its .dynamic names relocations of %d bytes each", entry)
	case !relative(mem.at(rela, size)):
		why = fmt.Sprintf("the %d relocations that its .dynamic names are not in it", size/entry)
	}
	if why == "" {
		img.Relocations = RelocationsPresent
		return nil
	}
	img.Relocations = RelocationsStripped
	if o.opts.Force {
		return nil
	}
	e := &Error{Err: ErrStripped, Kind: ELF, Machine: RISCV, Layers: o.inside(),
		Detail: "a relocatable vmlinux, and " + why + ": it would hang without a word",
		hints:  []string{"the flat Image of the same kernel always has them: arch/riscv/boot/Image of the build"}}
	e.release = release(findBanner(img.Data))
	return e
}

// relative tells whether there is a relocation as the kernel understands it.
func relative(table []byte) bool {
	for r := range slices.Chunk(table, 24) {
		if len(r) == 24 && uint32(binary.LittleEndian.Uint64(r[8:])) == uint32(elf.R_RISCV_RELATIVE) {
			return true
		}
	}
	return false
}

// siblings names files beside a vmlinux that have the relocations it lacks.
func siblings(e *Error, path string) []string {
	if e.Err != ErrStripped {
		return nil
	}
	dir := filepath.Dir(path)
	candidates := []string{
		filepath.Join(dir, "vmlinux.relocs"),
		filepath.Join(dir, "arch/riscv/boot/Image"),
		filepath.Join(dir, "Image"),
	}
	if e.release != "" {
		candidates = append(candidates, "/boot/Image-"+e.release, "/boot/vmlinux-"+e.release, "/boot/vmlinuz-"+e.release,
			"/usr/lib/modules/"+e.release+"/vmlinuz")
	}
	self, err := os.Stat(path)
	if err != nil {
		return nil
	}
	for _, c := range candidates {
		if st, err := os.Stat(c); err == nil && st.Mode().IsRegular() && !os.SameFile(st, self) {
			return []string{"there is " + c + ", which has them: use that"}
		}
	}
	return nil
}
