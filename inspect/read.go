package inspect

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// Read asks for memory as it is.
type Read struct {
	// At is an address, or a symbol, with "+offset" or without; a physical address
	// in hexadecimal if Physical is set.
	At       string
	Count    uint64 // of units; 0 is as many as 64 bytes have
	Bits     int    // of a unit: 8, 16, 32 or 64; 0 is 64
	Physical bool
	Symbols  bool // name what words point to
	Text     bool // show as text alone
}

// Widths are the units that memory is read in, in bits.
func Widths() []int { return []int{8, 16, 32, 64} }

// maxRead is how many bytes are read at once.
const maxRead = 16 << 20

// Dump is memory as it is.
type Dump struct {
	Addr     kernel.VirtAddr `json:"addr"`
	Physical bool            `json:"physical,omitempty"`
	Bits     int             `json:"bits"`
	// Words are the units, those of 64 bits as text in JSON, in hexadecimal.
	Words Words `json:"words"`
	// Symbols are what words point to, in JSON by their number.
	Symbols map[int]string `json:"symbols,omitempty"`

	bytes []byte
	text  bool
	named bool
}

// Words are numbers as they stand in memory.
type Words []uint64

// MarshalJSON writes them in hexadecimal: readers of JSON round large numbers.
func (w Words) MarshalJSON() ([]byte, error) {
	all := make([]string, len(w))
	for i, n := range w {
		all[i] = fmt.Sprintf("%#x", n)
	}
	return json.Marshal(all)
}

// Ask answers.
func (q Read) Ask(s *Session) (Answer, error) {
	bits := q.Bits
	if bits == 0 {
		bits = 64
	}
	if q.Text {
		bits = 8
	}
	if !slices.Contains(Widths(), bits) {
		return nil, fmt.Errorf("%d bits is none of %v", q.Bits, Widths())
	}
	unit := uint64(bits / 8)
	count := q.Count
	if count == 0 {
		count = 64 / unit
	}
	if count > maxRead/unit {
		return nil, fmt.Errorf("%d times %d bytes; at most %d bytes are read at once", count, unit, maxRead)
	}
	m := &Dump{Physical: q.Physical, Bits: bits, text: q.Text, named: q.Symbols, bytes: make([]byte, count*unit)}
	var err error
	if q.Physical {
		if m.Addr, err = hexadecimal(q.At); err != nil {
			return nil, err
		}
	} else if m.Addr, err = s.address(q.At); err != nil {
		return nil, err
	}
	n, err := s.read(m.bytes, m.Addr, q.Physical)
	m.bytes = m.bytes[:uint64(n)/unit*unit]
	for b := m.bytes; len(b) > 0; b = b[unit:] {
		var word [8]byte
		copy(word[:], b[:unit])
		m.Words = append(m.Words, binary.LittleEndian.Uint64(word[:]))
	}
	if q.Symbols && bits == 64 {
		m.Symbols = make(map[int]string)
		names := s.Names()
		for i, w := range m.Words {
			if name := names.Of(kernel.VirtAddr(w)); name != "" {
				m.Symbols[i] = name
			}
		}
	}
	if len(m.Words) == 0 && err != nil {
		return nil, err
	}
	return m, err
}

// hexadecimal is an address that is no symbol.
func hexadecimal(s string) (kernel.VirtAddr, error) {
	var a kernel.VirtAddr
	if err := a.UnmarshalText([]byte("0x" + strings.TrimPrefix(strings.ToLower(s), "0x"))); err != nil {
		return 0, fmt.Errorf("physical address %q is no number in hexadecimal", s)
	}
	return a, nil
}

// read reads memory up to where it cannot be.
func (s *Session) read(b []byte, at kernel.VirtAddr, physical bool) (int, error) {
	const page = 4096
	done := 0
	for done < len(b) {
		va := at + kernel.VirtAddr(done)
		n := min(len(b)-done, page-int(uint64(va)%page))
		var err error
		if physical {
			_, err = s.k.Memory().ReadPhys(b[done:][:n], vmcore.PhysAddr(va))
		} else {
			err = s.k.ReadVirt(b[done:][:n], va)
		}
		if err != nil {
			return done, err // which says where
		}
		done += n
	}
	return done, nil
}

// Write writes lines of 16 bytes, or of one word where symbols are shown, within 80
// columns.
func (m *Dump) Write(w io.Writer, _ int) error {
	if m.text {
		for i := 0; i < len(m.bytes); i += 64 {
			fmt.Fprintf(w, "%016x:  %s\n", uint64(m.Addr)+uint64(i), printable(m.bytes[i:min(i+64, len(m.bytes))]))
		}
		return nil
	}
	unit := m.Bits / 8
	if m.named && m.Bits == 64 {
		for i, word := range m.Words {
			line := fmt.Sprintf("%016x:  %016x  %s", uint64(m.Addr)+uint64(8*i), word, m.Symbols[i])
			if _, err := fmt.Fprintln(w, strings.TrimRight(line, " ")); err != nil {
				return err
			}
		}
		return nil
	}
	row := 16
	if unit == 1 {
		row = 8 // the words need more room than the text
	}
	for i := 0; i < len(m.bytes); i += row {
		part := m.bytes[i:min(i+row, len(m.bytes))]
		var b strings.Builder
		for j := range len(part) / unit {
			fmt.Fprintf(&b, " %0*x", 2*unit, m.Words[i/unit+j])
		}
		// The text of a short line stands where that of others does.
		full := row / unit * (2*unit + 1)
		if _, err := fmt.Fprintf(w, "%016x: %-*s  %s\n", uint64(m.Addr)+uint64(i), full, b.String(), printable(part)); err != nil {
			return err
		}
	}
	return nil
}

// printable is bytes as text, dots for what is none.
func printable(b []byte) string {
	out := make([]byte, len(b))
	for i, c := range b {
		if c < ' ' || c >= 0x7f {
			c = '.'
		}
		out[i] = c
	}
	return string(out)
}
