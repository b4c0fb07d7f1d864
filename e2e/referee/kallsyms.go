package referee

import (
	"encoding/binary"
	"fmt"
)

// symbols finds addresses in the dead kernel's own table of symbols
// (kernel/kallsyms.c, scripts/kallsyms.c, Linux 6.12 and 7.2): names are
// sequences of tokens, the first character of a name is its type.
func (s *space) symbols(names ...string) (map[string]uint64, error) {
	n := need{v: s.c.info}
	at := func(symbol string) uint64 { return n.symbol("kallsyms_" + symbol) }
	count, text, tokens, index, offsets := at("num_syms"), at("names"), at("token_table"), at("token_index"), at("offsets")
	stext := n.symbol("_stext")
	if err := n.err(); err != nil {
		return nil, err
	}
	b, err := s.read(count, 4)
	if err != nil {
		return nil, fmt.Errorf("kallsyms: %w", err)
	}
	total := binary.LittleEndian.Uint32(b)
	if total > 1<<22 {
		return nil, fmt.Errorf("kallsyms: %d symbols", total)
	}
	idx, err := s.read(index, 512)
	if err != nil {
		return nil, fmt.Errorf("kallsyms: %w", err)
	}
	var token [256]string
	for i := range token {
		raw, err := s.read(tokens+uint64(binary.LittleEndian.Uint16(idx[2*i:])), 128)
		if err != nil {
			return nil, fmt.Errorf("kallsyms: token %d: %w", i, err)
		}
		for j, c := range raw {
			if c == 0 {
				token[i] = string(raw[:j])
				break
			}
		}
	}
	off, err := s.read(offsets, int(total)*4)
	if err != nil {
		return nil, fmt.Errorf("kallsyms: offsets: %w", err)
	}

	// Up to 6.19 an offset is relative to kallsyms_relative_base, from 7.0 on
	// to its own place.
	var address func(i int) uint64
	if base, ok := s.c.info.symbol("kallsyms_relative_base"); ok {
		base, err := s.u64(base)
		if err != nil {
			return nil, fmt.Errorf("kallsyms: relative base: %w", err)
		}
		address = func(i int) uint64 { return base + uint64(binary.LittleEndian.Uint32(off[4*i:])) }
	} else {
		address = func(i int) uint64 {
			return offsets + uint64(4*i) + uint64(int64(int32(binary.LittleEndian.Uint32(off[4*i:]))))
		}
	}

	want := map[string]bool{"_stext": true}
	for _, name := range names {
		want[name] = true
	}
	found := map[string]uint64{}
	for i := range int(total) {
		head, err := s.read(text, 2)
		if err != nil {
			return nil, fmt.Errorf("kallsyms: name %d: %w", i, err)
		}
		length, skip := int(head[0]), uint64(1)
		if length&0x80 != 0 {
			length, skip = length&0x7f|int(head[1])<<7, 2
		}
		codes, err := s.read(text+skip, length)
		if err != nil {
			return nil, fmt.Errorf("kallsyms: name %d: %w", i, err)
		}
		text += skip + uint64(length)
		var name string
		for _, c := range codes {
			name += token[c]
		}
		if name = name[min(1, len(name)):]; want[name] {
			if _, twice := found[name]; !twice {
				found[name] = address(i)
			}
		}
	}
	if found["_stext"] != stext {
		return nil, fmt.Errorf("kallsyms: _stext = %#x; vmcoreinfo says %#x", found["_stext"], stext)
	}
	for _, name := range names {
		if found[name] == 0 {
			return nil, fmt.Errorf("kallsyms: no symbol %s", name)
		}
	}
	return found, nil
}
