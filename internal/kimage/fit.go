package kimage

import "fmt"

// Since is the first kernel, as in 5.19, whose loader can do something.
type Since struct {
	Major int `json:"major"`
	Minor int `json:"minor"`
}

func (s Since) String() string { return fmt.Sprintf("%d.%d", s.Major, s.Minor) }

// Use is what an image is good for with one of the system calls.
type Use struct {
	// Fit tells whether the kernel in it can be loaded with the call at all.
	Fit bool `json:"fit"`
	// AsIs is the first kernel whose call takes the very file; nil if none
	// does, so that what is in it is handed over instead. kexec_load(2) takes
	// no files.
	AsIs *Since `json:"as_is,omitempty"`
	// Why says it in words.
	Why string `json:"why"`
}

// Fit is what an image is good for.
type Fit struct {
	KexecLoad     Use `json:"kexec_load"`
	KexecFileLoad Use `json:"kexec_file_load"`
}

// Fit judges the image by what the riscv64 kernel takes: any memory with
// kexec_load(2); with kexec_file_load(2) an ELF file since 5.19
// (arch/riscv/kernel/elf_kexec.c) and a flat Image since 6.16
// (arch/riscv/kernel/kexec_image.c), neither of them in anything else.
func (img *Image) Fit() Fit {
	if img.Relocations == RelocationsStripped {
		why := "its relocations are missing: it would load, and hang without a word"
		return Fit{Use{Why: why}, Use{Why: why}}
	}
	f := Fit{
		KexecLoad:     Use{Fit: true, Why: "its memory is loaded as it is"},
		KexecFileLoad: Use{Fit: true},
	}
	file := &f.KexecFileLoad
	switch {
	case len(img.Layers) > 0:
		file.Why = fmt.Sprintf("no kernel unpacks %v itself; what is in it is handed over as an ELF file in memory", img.Layers[0])
	case img.Kind == ELF:
		file.AsIs = &Since{5, 19}
		file.Why = "every kernel that has the call takes it; without its debug data it needs less reserved memory, so only what is loaded is handed over"
	default:
		file.AsIs = &Since{6, 16}
		file.Why = "kernels before 6.16 take no flat Image; to them it is handed over as an ELF file in memory"
	}
	return f
}
