package kernel

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"
	"sort"
	"strconv"
	"strings"
	"sync"
)

// Symbol is a function or variable of the dead kernel.
type Symbol struct {
	Name   string
	Module string   // "" for the kernel proper
	Type   byte     // as nm prints it: 'T' text, 'D' data, lower case for local ones
	Addr   VirtAddr // where it is, relocation included
	Size   uint64   // bytes up to the next symbol; 0 where that was not asked for
}

// Limits of kallsyms: kernels have 100 to 300 thousand symbols, with names of
// at most KSYM_NAME_LEN = 512 bytes, include/linux/kallsyms.h (Linux 7.2).
const (
	maxSymbols    = 1 << 23
	maxSymbolName = 512
	markerStep    = 256
)

// kallsyms is the kernel's own symbol table: scripts/kallsyms.c and
// kernel/kallsyms_internal.h (Linux 6.0 to 7.2), found through vmcoreinfo.
// Names are compressed by tokens and only readable front to back; of them
// nothing is kept but the position and the address of each 256th.
type kallsyms struct {
	k         *Kernel
	count     uint64
	names     VirtAddr
	tokens    [256]string
	shapes    [256]tokenShape
	offsets   VirtAddr
	encoding  kallsymsEncoding
	base      VirtAddr
	longNames bool // two-byte lengths exist (6.1)

	// For SymbolAt: where symbol i*markerStep has its name and what its address
	// is, and the pages read last. Guarded by at.
	at                       sync.Mutex
	markers                  []uint32
	starts                   []VirtAddr
	lastNames, lastAddresses *window
	markErr                  error // why they cannot be had

	// What earlier questions came to; guarded by Kernel.symbolsMu.
	asked  map[string]bool
	found  map[string]VirtAddr
	broken error // where a pass ended early
}

// kallsymsEncoding is how addresses are stored.
type kallsymsEncoding int

const (
	kallsymsUnknown       kallsymsEncoding = iota
	kallsymsAbsolute                       // kallsyms_addresses: 64 bits each (up to 6.10, without BASE_RELATIVE)
	kallsymsBaseRelative                   // base + u32 (4.6 to 6.19)
	kallsymsAbsPercpu                      // s32: itself, or base-1-n when negative (x86_64 up to 6.14)
	kallsymsPlaceRelative                  // address of the entry + s32 (7.0)
)

// entrySize is the number of bytes per address.
func (e kallsymsEncoding) entrySize() uint64 {
	if e == kallsymsAbsolute {
		return 8
	}
	return 4
}

// errStop ends a walk over symbols early.
var errStop = errors.New("stop")

// openKallsyms finds the tables and proves them by the address of _stext. The
// result is kept.
func (k *Kernel) openKallsyms() (*kallsyms, error) {
	k.symbolsMu.Lock()
	defer k.symbolsMu.Unlock()
	if k.symbols == nil && k.symbolsErr == nil {
		k.symbols, k.symbolsErr = k.readKallsyms()
		if k.symbolsErr != nil {
			k.symbolsErr = fmt.Errorf("kallsyms: %w", k.symbolsErr)
		}
	}
	return k.symbols, k.symbolsErr
}

func (k *Kernel) readKallsyms() (*kallsyms, error) {
	var err error
	_, symbol := k.info.need(&err)
	s := &kallsyms{k: k, names: symbol("kallsyms_names")}
	numSyms := symbol("kallsyms_num_syms")
	tokenTable := symbol("kallsyms_token_table")
	tokenIndex := symbol("kallsyms_token_index")
	if err != nil {
		return nil, err
	}
	// The length byte's top bit has a meaning from 6.1 on.
	major, minor := releaseVersion(k.info.Release())
	s.longNames = major > 6 || major == 6 && minor >= 1

	n, err := k.ReadUint32(numSyms)
	if err != nil {
		return nil, fmt.Errorf("kallsyms_num_syms: %w", err)
	}
	if n == 0 || n > maxSymbols {
		return nil, fmt.Errorf("%d symbols: %w", n, ErrCorrupt)
	}
	s.count = uint64(n)
	if err := s.readTokens(tokenTable, tokenIndex); err != nil {
		return nil, err
	}
	if err := s.findEncoding(); err != nil {
		return nil, err
	}
	return s, nil
}

// readTokens reads the 256 strings that names are made of.
func (s *kallsyms) readTokens(table, index VirtAddr) error {
	var offsets [512]byte
	if err := s.k.ReadVirt(offsets[:], index); err != nil {
		return fmt.Errorf("kallsyms_token_index: %w", err)
	}
	w := newWindow(s.k, table, 1<<16+maxSymbolName)
	for i := range s.tokens {
		off := uint64(binary.LittleEndian.Uint16(offsets[2*i:]))
		var token []byte
		for {
			b, err := w.bytes(off, 1)
			if err != nil {
				return fmt.Errorf("kallsyms_token_table: %w", err)
			}
			if b[0] == 0 {
				break
			}
			if token = append(token, b[0]); len(token) > maxSymbolName {
				return fmt.Errorf("kallsyms_token_table: token %d has more than %d bytes: %w", i, maxSymbolName, ErrCorrupt)
			}
			off++
		}
		s.tokens[i] = string(token)
		if s.shapes[i].length = uint16(len(token)); len(token) > 0 {
			s.shapes[i].last = token[len(token)-1]
		}
	}
	return nil
}

// tokenShape is what of a token tells names apart before they are put together.
type tokenShape struct {
	length uint16
	last   byte
}

// nameFilter passes names of the lengths and with the last bytes of those that
// are wanted, which few others have: to put all names together takes three times
// as long as the rest of a pass.
type nameFilter [maxSymbolName + 1][256 / 64]uint64

func newNameFilter(wanted map[string]bool) *nameFilter {
	f := new(nameFilter)
	for name := range wanted {
		if n := len(name); n > 0 && n < len(f) {
			last := name[n-1]
			f[n][last/64] |= 1 << (last % 64)
		}
	}
	return f
}

// passes tells whether the name of these tokens may be one that is wanted.
func (f *nameFilter) passes(s *kallsyms, tokens []byte) bool {
	length, last := -1, byte(0) // the type stands before the name
	for _, t := range tokens {
		shape := s.shapes[t]
		length += int(shape.length)
		if shape.length > 0 {
			last = shape.last
		}
	}
	// What is too short or too long is for those who complain of it.
	return length < 1 || length >= len(f) || f[length][last/64]>>(last%64)&1 != 0
}

// findEncoding tries the formulas on the symbol _stext, whose address is known.
func (s *kallsyms) findEncoding() error {
	info := s.k.info
	stext, known := info.Symbol("_stext")
	var candidates []kallsymsEncoding
	if a, ok := info.Symbol("kallsyms_addresses"); ok {
		s.offsets = a
		candidates = []kallsymsEncoding{kallsymsAbsolute}
	} else if a, ok := info.Symbol("kallsyms_offsets"); !ok {
		return fmt.Errorf("SYMBOL(kallsyms_offsets): %w", ErrNoInfo)
	} else if b, ok := info.Symbol("kallsyms_relative_base"); ok {
		s.offsets = a
		base, err := s.k.ReadPointer(b)
		if err != nil {
			return fmt.Errorf("kallsyms_relative_base: %w", err)
		}
		s.base = base
		candidates = []kallsymsEncoding{kallsymsBaseRelative, kallsymsAbsPercpu}
	} else {
		s.offsets = a
		candidates = []kallsymsEncoding{kallsymsPlaceRelative}
	}
	if !known {
		s.encoding = candidates[0]
		return nil
	}
	index, found := uint64(0), false
	err := s.walk(newNameFilter(map[string]bool{"_stext": true}), func(i uint64, _ byte, name []byte) error {
		if string(name) == "_stext" {
			index, found = i, true
			return errStop
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("no _stext among %d symbols: %w", s.count, ErrCorrupt)
	}
	var got VirtAddr
	for _, s.encoding = range candidates {
		if got, err = s.address(s.addresses(), index); err != nil {
			return err
		}
		if got == stext {
			return nil
		}
	}
	return fmt.Errorf("_stext at %#x where vmcoreinfo has %#x: %w", got, stext, ErrCorrupt)
}

// addresses is the table of addresses.
func (s *kallsyms) addresses() *window {
	return newWindow(s.k, s.offsets, s.count*s.encoding.entrySize())
}

// address is that of symbol i.
func (s *kallsyms) address(w *window, i uint64) (VirtAddr, error) {
	size := s.encoding.entrySize()
	b, err := w.bytes(i*size, size)
	if err != nil {
		return 0, fmt.Errorf("address of symbol %d: %w", i, err)
	}
	if s.encoding == kallsymsAbsolute {
		return VirtAddr(binary.LittleEndian.Uint64(b)), nil
	}
	n := binary.LittleEndian.Uint32(b)
	switch {
	case s.encoding == kallsymsBaseRelative:
		return s.base + VirtAddr(n), nil
	case s.encoding == kallsymsPlaceRelative:
		return s.offsets + VirtAddr(4*i) + VirtAddr(int64(int32(n))), nil
	case int32(n) >= 0:
		return VirtAddr(n), nil
	default:
		return s.base - 1 - VirtAddr(int64(int32(n))), nil
	}
}

// walk calls f for the symbols in the order of addresses, with the type and the
// name, which is valid during the call only.
// errStop from f ends the walk without an error. Symbols that do not pass only,
// if there is one, are left out.
func (s *kallsyms) walk(only *nameFilter, f func(i uint64, kind byte, name []byte) error) error {
	// A symbol has at most 16383 tokens; what the window covers only keeps
	// reads from running away.
	w := newWindow(s.k, s.names, s.count*(maxSymbolName+2))
	var off uint64
	name := make([]byte, 0, maxSymbolName+1)
	for i := range s.count {
		tokens, after, err := s.tokensAt(w, off)
		if err != nil {
			return fmt.Errorf("name of symbol %d: %w", i, err)
		}
		if only != nil && !only.passes(s, tokens) {
			off = after
			continue
		}
		name = name[:0]
		for _, t := range tokens {
			name = append(name, s.tokens[t]...)
			if len(name) > maxSymbolName+1 {
				return fmt.Errorf("name of symbol %d has more than %d bytes: %w", i, maxSymbolName, ErrCorrupt)
			}
		}
		if len(name) == 0 {
			return fmt.Errorf("symbol %d has no name: %w", i, ErrCorrupt)
		}
		if err := f(i, name[0], name[1:]); err != nil {
			if err == errStop {
				return nil
			}
			return err
		}
		off = after
	}
	return nil
}

// tokensAt are the tokens of the name at an offset, and the offset after them.
func (s *kallsyms) tokensAt(w *window, off uint64) (tokens []byte, after uint64, err error) {
	b, err := w.bytes(off, 1)
	if err != nil {
		return nil, 0, err
	}
	n := uint64(b[0])
	off++
	if s.longNames && n&0x80 != 0 {
		if b, err = w.bytes(off, 1); err != nil {
			return nil, 0, err
		}
		n = n&0x7f | uint64(b[0])<<7
		off++
	}
	if n > maxSymbolName+1 {
		return nil, 0, fmt.Errorf("%d tokens: %w", n, ErrCorrupt)
	}
	tokens, err = w.bytes(off, n)
	return tokens, off + n, err
}

// mark fills in what is needed to find a symbol by its address.
func (s *kallsyms) mark() error {
	if s.markers != nil {
		return nil
	}
	names, addresses := newWindow(s.k, s.names, s.count*(maxSymbolName+2)), s.addresses()
	markers := make([]uint32, 0, s.count/markerStep+1)
	starts := make([]VirtAddr, 0, s.count/markerStep+1)
	var off uint64
	for i := range s.count {
		if i%markerStep == 0 {
			if off > 1<<32-1 {
				return fmt.Errorf("names of %d symbols fill %d bytes: %w", i, off, ErrCorrupt)
			}
			addr, err := s.address(addresses, i)
			if err != nil {
				return err
			}
			markers, starts = append(markers, uint32(off)), append(starts, addr)
		}
		var err error
		if _, off, err = s.tokensAt(names, off); err != nil {
			return fmt.Errorf("name of symbol %d: %w", i, err)
		}
	}
	s.markers, s.starts = markers, starts
	s.lastNames, s.lastAddresses = names, addresses
	return nil
}

// symbol is number i with its name, without its size.
func (s *kallsyms) symbol(i uint64) (Symbol, error) {
	off := uint64(s.markers[i/markerStep])
	for n := i / markerStep * markerStep; ; n++ {
		tokens, after, err := s.tokensAt(s.lastNames, off)
		if err != nil {
			return Symbol{}, fmt.Errorf("name of symbol %d: %w", n, err)
		}
		off = after
		if n < i {
			continue
		}
		var name []byte
		for _, t := range tokens {
			name = append(name, s.tokens[t]...)
			if len(name) > maxSymbolName+1 {
				return Symbol{}, fmt.Errorf("name of symbol %d has more than %d bytes: %w", i, maxSymbolName, ErrCorrupt)
			}
		}
		if len(name) == 0 {
			return Symbol{}, fmt.Errorf("symbol %d has no name: %w", i, ErrCorrupt)
		}
		return Symbol{Name: string(name[1:]), Type: name[0]}, nil
	}
}

// maxRemembered bounds the addresses kept for later questions.
const maxRemembered = 1024

// Lookup finds the addresses of symbols of the kernel proper in one pass over
// its symbol table, or in none when it was asked before. Of static symbols that
// share a name the one with the lowest address counts. Names that do not exist
// are absent from the result; the error means that the table cannot be read,
// and what was found until then is returned with it. Variables are in the table
// only with CONFIG_KALLSYMS_ALL.
func (k *Kernel) Lookup(names ...string) (map[string]VirtAddr, error) {
	found := make(map[string]VirtAddr, len(names))
	s, err := k.openKallsyms()
	if err != nil {
		return found, err
	}
	wanted := make(map[string]bool, len(names))
	absent := false
	for _, n := range names {
		if addr, known, exists := s.remembered(n); !known {
			wanted[n] = true
		} else if exists {
			found[n] = addr
		} else {
			absent = true
		}
	}
	if len(wanted) == 0 {
		if absent {
			return found, s.damage()
		}
		return found, nil
	}
	for n := range strings.FieldsSeq(wellKnown) {
		if _, known, _ := s.remembered(n); !known {
			wanted[n] = true
		}
	}
	all := make(map[string]VirtAddr, len(wanted))
	missing := len(wanted)
	addresses := s.addresses()
	err = s.walk(newNameFilter(wanted), func(i uint64, _ byte, name []byte) error {
		if !wanted[string(name)] {
			return nil
		}
		if _, dup := all[string(name)]; dup {
			return nil
		}
		addr, err := s.address(addresses, i)
		if err != nil {
			return err
		}
		all[string(name)] = addr
		if missing--; missing == 0 {
			return errStop
		}
		return nil
	})
	for _, n := range names {
		if addr, ok := all[n]; ok {
			found[n] = addr
		}
	}
	if err != nil {
		err = fmt.Errorf("kallsyms: %w", err)
	}
	s.remember(wanted, all, err)
	return found, err
}

// damage is why an earlier pass over the table came to no end. Another one would
// end in the same place, after as long a time.
func (s *kallsyms) damage() error {
	s.k.symbolsMu.Lock()
	defer s.k.symbolsMu.Unlock()
	return s.broken
}

// remembered is what an earlier pass found about a name: known is whether one
// looked for it, exists whether it is there.
func (s *kallsyms) remembered(name string) (addr VirtAddr, known, exists bool) {
	s.k.symbolsMu.Lock()
	defer s.k.symbolsMu.Unlock()
	known = s.asked[name]
	addr, exists = s.found[name]
	return addr, known, exists
}

func (s *kallsyms) remember(asked map[string]bool, found map[string]VirtAddr, broken error) {
	s.k.symbolsMu.Lock()
	defer s.k.symbolsMu.Unlock()
	if broken != nil {
		s.broken = broken
	}
	if s.asked == nil {
		s.asked, s.found = make(map[string]bool), make(map[string]VirtAddr)
	}
	if len(s.asked)+len(asked) > maxRemembered {
		return
	}
	maps.Copy(s.asked, asked)
	maps.Copy(s.found, found)
}

// Symbols yields all symbols of the kernel proper in the order of their
// addresses; the size is left out. It ends with the first error.
func (k *Kernel) Symbols() iter.Seq2[Symbol, error] {
	return func(yield func(Symbol, error) bool) {
		s, err := k.openKallsyms()
		if err != nil {
			yield(Symbol{}, err)
			return
		}
		addresses := s.addresses()
		err = s.walk(nil, func(i uint64, kind byte, name []byte) error {
			if mappingSymbol(name) {
				return nil
			}
			addr, err := s.address(addresses, i)
			if err != nil {
				return err
			}
			if !yield(Symbol{Name: symbolText(name), Type: kind, Addr: addr}, nil) {
				return errStop
			}
			return nil
		})
		if err != nil {
			yield(Symbol{}, fmt.Errorf("kallsyms: %w", err))
		}
	}
}

// mappingSymbol reports whether a name only marks a place in code for
// disassemblers ("$x", "$d") or is an assembler's label.
func mappingSymbol(name []byte) bool {
	return bytes.HasPrefix(name, []byte("$")) || bytes.HasPrefix(name, []byte(".L"))
}

// symbolText is a name that can be printed.
func symbolText(name []byte) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == 0xfffd {
			return '?'
		}
		return r
	}, string(name))
}

// coreSymbolAt is SymbolAt for the kernel proper.
func (k *Kernel) coreSymbolAt(va VirtAddr) (Symbol, error) {
	s, err := k.openKallsyms()
	if err != nil {
		return Symbol{}, err
	}
	s.at.Lock()
	defer s.at.Unlock()
	sym, err := s.symbolAt(va)
	if err != nil && !errors.Is(err, ErrNotFound) {
		err = fmt.Errorf("kallsyms: %w", err)
	}
	return sym, err
}

func (s *kallsyms) symbolAt(va VirtAddr) (Symbol, error) {
	// Where names are damaged they are so for the next question, too.
	if s.markErr == nil {
		s.markErr = s.mark()
	}
	if s.markErr != nil {
		return Symbol{}, s.markErr
	}
	var failed error
	address := func(i uint64) VirtAddr {
		a, err := s.address(s.lastAddresses, i)
		if err != nil && failed == nil {
			failed = err
		}
		return a
	}
	// next is the first symbol above va; the one before has it.
	block := uint64(sort.Search(len(s.starts), func(i int) bool { return s.starts[i] > va }))
	var next uint64
	if block > 0 {
		first := (block - 1) * markerStep
		n := min(markerStep, s.count-first)
		next = first + uint64(sort.Search(int(n), func(i int) bool { return address(first+uint64(i)) > va }))
	}
	if failed != nil {
		return Symbol{}, failed
	}
	if next == 0 || next == s.count {
		// Before the first symbol or after the last one, _end.
		return Symbol{}, fmt.Errorf("symbol at %v: %w", va, ErrNotFound)
	}
	index := next - 1
	addr := address(index)
	// Of several names for one address the first one, as the kernel does.
	for index > 0 && address(index-1) == addr && failed == nil {
		index--
	}
	size := uint64(address(next) - addr)
	if failed != nil {
		return Symbol{}, failed
	}
	for {
		sym, err := s.symbol(index)
		if err != nil {
			return Symbol{}, err
		}
		// Labels are no names; take the next alias then.
		if index++; index < next && mappingSymbol([]byte(sym.Name)) {
			continue
		}
		sym.Name, sym.Addr, sym.Size = symbolText([]byte(sym.Name)), addr, size
		return sym, nil
	}
}

// releaseVersion are the first two numbers of a kernel's release, like 6 and 12
// of "6.12.107+deb13-riscv64"; 0 when there are none.
func releaseVersion(release string) (major, minor int) {
	number := func(s string) int {
		if end := strings.IndexFunc(s, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
			s = s[:end]
		}
		n, _ := strconv.Atoi(s)
		return n
	}
	first, rest, _ := strings.Cut(release, ".")
	return number(first), number(rest)
}
