package crashenv

import (
	"debug/elf"
	"fmt"
	"io"
)

// needsLinker tells whether an ELF executable asks for a dynamic linker.
func needsLinker(r io.ReaderAt) (dynamic bool, err error) {
	defer func() {
		if r := recover(); r != nil { // debug/elf on broken files
			err = fmt.Errorf("not an executable: %v", r)
		}
	}()
	f, err := elf.NewFile(r)
	if err != nil {
		return false, err
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return true, nil
		}
	}
	return false, nil
}
