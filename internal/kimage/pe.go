package kimage

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Machines of PE programs (Microsoft PE/COFF specification; kernel
// include/linux/pe.h, 6.12).
const (
	peRISCV64 = 0x5064
	peMinimum = 24 // signature and COFF header
)

// peHeader is what is needed of a PE header: the section table.
type peHeader struct {
	machine  uint16
	sections []peSection
	cut      bool // the table goes beyond the bytes given
}

type peSection struct {
	name    string
	memSize uint32 // VirtualSize
	rawSize uint32 // SizeOfRawData
	rawAt   uint32 // PointerToRawData
}

// size is that of the data, without what pads it in the file.
func (s peSection) size() uint32 {
	if s.memSize == 0 {
		return s.rawSize
	}
	return min(s.memSize, s.rawSize)
}

// readPE reads the header of a PE program from the first bytes of its file.
// nil without error when they end before the COFF header does.
func readPE(head []byte) (*peHeader, error) {
	if len(head) < headerSize {
		return nil, nil
	}
	at := uint64(binary.LittleEndian.Uint32(head[0x3c:]))
	if at < 4 || at%4 != 0 || at > headBytes-peMinimum {
		return nil, fmt.Errorf("PE header at %#x", at)
	}
	if at+peMinimum > uint64(len(head)) {
		return nil, nil
	}
	coff := head[at:]
	if string(coff[:4]) != "PE\x00\x00" {
		return nil, fmt.Errorf("no PE signature at %#x", at)
	}
	pe := &peHeader{machine: binary.LittleEndian.Uint16(coff[4:])}
	count := uint64(binary.LittleEndian.Uint16(coff[6:]))
	table := at + peMinimum + uint64(binary.LittleEndian.Uint16(coff[20:]))
	if count == 0 || table+40*count > headBytes {
		return nil, fmt.Errorf("%d PE sections at %#x", count, table)
	}
	for i := range count {
		off := table + 40*i
		if off+40 > uint64(len(head)) {
			pe.cut = true
			break
		}
		s := head[off:][:40]
		name, _, _ := bytes.Cut(s[:8], []byte{0})
		pe.sections = append(pe.sections, peSection{
			name:    string(name),
			memSize: binary.LittleEndian.Uint32(s[8:]),
			rawSize: binary.LittleEndian.Uint32(s[16:]),
			rawAt:   binary.LittleEndian.Uint32(s[20:]),
		})
	}
	return pe, nil
}

// end is the length of the file that its sections prescribe, in bytes.
func (pe *peHeader) end() uint64 {
	var end uint64
	for _, s := range pe.sections {
		if s.rawSize > 0 {
			end = max(end, uint64(s.rawAt)+uint64(s.rawSize))
		}
	}
	return end
}

// cpu is the machine as an ELF number, [NoMachine] for those not known here.
func (pe *peHeader) cpu() Machine {
	switch pe.machine {
	case peRISCV64:
		return RISCV
	case 0xaa64:
		return ARM64
	case 0x8664:
		return X86_64
	case 0x14c:
		return X86
	case 0x6264:
		return LoongArch
	}
	return NoMachine
}
