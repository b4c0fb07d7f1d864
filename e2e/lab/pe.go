package lab

import "encoding/binary"

// peProgram is a PE32+ program for riscv64 EFI that has sections and no code
// (Microsoft PE/COFF specification).
type peProgram struct{ sections []peSection }

type peSection struct {
	name string
	data []byte
}

const (
	peHeaderAt  = 0x40 // right after the DOS header
	peOptional  = 112 + 6*8
	peFileAlign = 512
	peMemAlign  = 4096
)

// headers is the length of all headers in the file.
func (p *peProgram) headers() int {
	return roundUp(peHeaderAt+24+peOptional+40*len(p.sections), peFileAlign)
}

// offset is where a section is in the file.
func (p *peProgram) offset(section int) int {
	at := p.headers()
	for _, s := range p.sections[:section] {
		at += roundUp(len(s.data), peFileAlign)
	}
	return at
}

func (p *peProgram) marshal() []byte {
	file := make([]byte, p.offset(len(p.sections)))
	put := binary.LittleEndian
	copy(file, "MZ")
	put.PutUint32(file[0x3c:], peHeaderAt)
	coff := file[peHeaderAt:]
	copy(coff, "PE\x00\x00")
	put.PutUint16(coff[4:], 0x5064) // RISCV64
	put.PutUint16(coff[6:], uint16(len(p.sections)))
	put.PutUint16(coff[20:], peOptional)
	put.PutUint16(coff[22:], 0x206) // executable, no line numbers, no debug data
	optional := coff[24:]
	put.PutUint16(optional, 0x20b) // PE32+
	put.PutUint32(optional[32:], peMemAlign)
	put.PutUint32(optional[36:], peFileAlign)
	put.PutUint32(optional[60:], uint32(p.headers()))
	put.PutUint16(optional[68:], 10) // EFI application
	put.PutUint32(optional[108:], 6) // data directories, all empty
	memory := roundUp(p.headers(), peMemAlign)
	for i, s := range p.sections {
		h := optional[peOptional+40*i:]
		copy(h[:8], s.name)
		put.PutUint32(h[8:], uint32(len(s.data)))
		put.PutUint32(h[12:], uint32(memory))
		put.PutUint32(h[16:], uint32(roundUp(len(s.data), peFileAlign)))
		put.PutUint32(h[20:], uint32(p.offset(i)))
		put.PutUint32(h[36:], 0x40000040) // initialised data, readable
		copy(file[p.offset(i):], s.data)
		memory += roundUp(len(s.data), peMemAlign)
	}
	put.PutUint32(optional[56:], uint32(memory)) // SizeOfImage
	return file
}

func roundUp(n, unit int) int { return (n + unit - 1) / unit * unit }
