package stack

import (
	"encoding/binary"

	"github.com/panicroom-kdump/panicroom/kernel"
)

const pageSize = 4096

// stackMemory reads words of one stack, a page at a time: most stacks use
// little, and a page that is missing costs only what is on it.
type stackMemory struct {
	src  source
	at   region
	buf  []byte
	have []bool // pages in buf
	few  [8]byte
}

// use goes to another stack.
func (m *stackMemory) use(r region) {
	if r == m.at {
		return
	}
	m.at = r
	m.forget()
}

// forget makes the next reads read again.
func (m *stackMemory) forget() {
	if size := int(m.at.size); len(m.buf) < size {
		m.buf = make([]byte, size)
		m.have = make([]bool, (size+pageSize-1)/pageSize)
	}
	clear(m.have)
}

// word reads the word at va, which must be on the stack.
func (m *stackMemory) word(va kernel.VirtAddr) (uint64, error) {
	off := uint64(va - m.at.start)
	if off >= m.at.size || off%8 != 0 || m.at.size-off < 8 || uint64(m.at.start)%8 != 0 {
		return m.plain(va)
	}
	page := off / pageSize
	if !m.have[page] {
		from := page * pageSize
		if err := m.src.ReadVirt(m.buf[from:min(from+pageSize, m.at.size)], m.at.start+kernel.VirtAddr(from)); err != nil {
			return 0, err
		}
		m.have[page] = true
	}
	return binary.LittleEndian.Uint64(m.buf[off:]), nil
}

// plain reads a word that is on no stack.
func (m *stackMemory) plain(va kernel.VirtAddr) (uint64, error) {
	err := m.src.ReadVirt(m.few[:8], va)
	return binary.LittleEndian.Uint64(m.few[:]), err
}

func (m *stackMemory) plain32(va kernel.VirtAddr) (uint32, error) {
	err := m.src.ReadVirt(m.few[:4], va)
	return binary.LittleEndian.Uint32(m.few[:]), err
}
