package load

import (
	"encoding/binary"
	"os"

	"github.com/panicroom-kdump/panicroom/internal/sys"
)

// wrapSize is what the header takes in front of a kernel that is given to
// kexec_file_load(2): a page, so that the kernel behind it begins at one.
const wrapSize = pageSize

// wrap makes the header of an ELF file whose only segment is a kernel as it
// lies in memory. Every riscv64 kernel that has kexec_file_load takes ELF (Linux
// 5.19 to 7.2, arch/riscv/kernel/elf_kexec.c, later kexec_elf.c); flat images it
// takes only since 6.16, and neither of them compressed. So whatever the file
// was, this is what the kernel gets.
//
// The segment's memory ends at the boundary up to which the kernel keeps what
// follows it (STRICT_KERNEL_RWX), so that the loader puts nothing there.
func wrap(a *arch, fileSize, imageSize, entry uint64) []byte {
	le := binary.LittleEndian
	b := make([]byte, wrapSize)
	copy(b, "\x7fELF\x02\x01\x01") // 64 bits, little endian, version 1
	le.PutUint16(b[16:], 2)        // ET_EXEC
	le.PutUint16(b[18:], uint16(a.elfMachine))
	le.PutUint32(b[20:], 1)
	le.PutUint64(b[24:], a.link+entry)
	le.PutUint64(b[32:], ehdrSize) // e_phoff
	le.PutUint16(b[52:], ehdrSize)
	le.PutUint16(b[54:], phdrSize)
	le.PutUint16(b[56:], 1)
	ph := b[ehdrSize:]
	le.PutUint32(ph[0:], ptLoad)
	le.PutUint32(ph[4:], 7)
	le.PutUint64(ph[8:], wrapSize)
	le.PutUint64(ph[16:], a.link) // p_vaddr
	le.PutUint64(ph[24:], 0)      // p_paddr: the loader adds where it puts it
	le.PutUint64(ph[32:], fileSize)
	le.PutUint64(ph[40:], roundUp(imageSize, a.kernelAlign))
	le.PutUint64(ph[48:], pageSize)
	return b
}

// store is memory for a kernel, with room in front for the header that [wrap]
// makes: the kernel can be handed over as a file without a second copy of it.
type store struct {
	file    *os.File
	mapping []byte
}

// alloc makes the store; it is what kimage unpacks into.
func (s *store) alloc(size int) ([]byte, error) {
	if s.mapping != nil { // once is the rule
		return make([]byte, size), nil
	}
	var err error
	if s.file, s.mapping, err = sys.Memfd("panicroom-kernel", wrapSize+size); err != nil {
		s.file, s.mapping = nil, nil
		return make([]byte, size), nil // a second copy later, then
	}
	return s.mapping[wrapSize:], nil
}

// Close frees the memory. The Data in it must not be used any more.
func (s *store) Close() error {
	if s.mapping == nil {
		return nil
	}
	err := sys.Munmap(s.mapping)
	s.mapping = nil
	if e := s.file.Close(); err == nil {
		err = e
	}
	return err
}

// holds tells whether data lies in the store, right behind the header.
func (s *store) holds(data []byte) bool {
	return s != nil && s.mapping != nil && len(data) > 0 && len(s.mapping) >= wrapSize+len(data) && &s.mapping[wrapSize] == &data[0]
}

// takes writes the header in front of the kernel, if it lies in the store, and
// returns the file; nil if it does not.
func (s *store) takes(h *handing) *os.File {
	if !s.holds(h.kernel) || len(h.header) != wrapSize {
		return nil
	}
	copy(s.mapping, h.header)
	return s.file
}

// memfd copies data into a file in memory, through a mapping; see [writeChunk].
func memfd(name string, parts ...[]byte) (*os.File, error) {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	f, mapping, err := sys.Memfd(name, size)
	if err != nil {
		return nil, err
	}
	at := 0
	for _, p := range parts {
		at += copy(mapping[at:], p)
	}
	if err := sys.Munmap(mapping); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
