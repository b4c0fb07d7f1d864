package kimage

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// LZMA, as the "LZMA specification" of the LZMA SDK (lzma-specification.txt,
// 2015) describes it. It is here, and not a library's, because what it unpacks
// to is its dictionary: the kernel's build asks for one of 32 to 128 MiB, which
// is more than a kernel has, and a library keeps that beside the kernel.

const (
	lzmaStates   = 12
	lzmaPos      = 1 << 4 // positions that contexts tell apart
	lzmaLiteral  = 0x300  // probabilities of a literal in one context
	lzmaShortest = 2      // match
	lzmaFirst    = 64 << 10
	lzmaMinimum  = 4 << 10 // of a dictionary
	lzmaMarker   = 0xffffffff
)

var errLZMA = errors.New("broken LZMA data")

// rangeDecoder reads bits, each with its probability.
type rangeDecoder struct {
	in []byte // from at on
	at int
	// refill gives more; nil when in is all there is.
	refill     func() ([]byte, error)
	size, code uint32
	err        error
}

func (r *rangeDecoder) byte() byte {
	if r.at == len(r.in) {
		r.in, r.at = nil, 0
		switch {
		case r.err != nil:
		case r.refill == nil:
			r.err = errLZMA
		default:
			r.in, r.err = r.refill()
		}
		if len(r.in) == 0 {
			return 0
		}
	}
	b := r.in[r.at]
	r.at++
	return b
}

func (r *rangeDecoder) start() error {
	first := r.byte()
	r.code = 0
	for range 4 {
		r.code = r.code<<8 | uint32(r.byte())
	}
	r.size = 0xffffffff
	if r.err == nil && (first != 0 || r.code == r.size) {
		r.err = errLZMA
	}
	return r.err
}

func (r *rangeDecoder) normalize() {
	if r.size < 1<<24 {
		r.size <<= 8
		r.code = r.code<<8 | uint32(r.byte())
	}
}

// prob is the probability of a 0, in 2048ths.
type prob uint16

func (r *rangeDecoder) bit(p *prob) uint32 {
	bound := r.size >> 11 * uint32(*p)
	if r.code < bound {
		r.size = bound
		*p += (1<<11 - *p) >> 5
		r.normalize()
		return 0
	}
	r.size -= bound
	r.code -= bound
	*p -= *p >> 5
	r.normalize()
	return 1
}

// direct reads n bits that are as often 0 as 1.
func (r *rangeDecoder) direct(n uint32) uint32 {
	var v uint32
	for range n {
		r.size >>= 1
		v <<= 1
		if r.code >= r.size {
			r.code -= r.size
			v |= 1
		}
		r.normalize()
	}
	return v
}

// tree reads n bits, the highest first, each with a probability of its own
// below those before it.
func (r *rangeDecoder) tree(p []prob, n uint32) uint32 {
	m := uint32(1)
	for range n {
		m = m<<1 | r.bit(&p[m])
	}
	return m - 1<<n
}

// reverse is tree with the lowest bit first.
func (r *rangeDecoder) reverse(p []prob, n uint32) uint32 {
	m, v := uint32(1), uint32(0)
	for i := range n {
		b := r.bit(&p[m])
		m = m<<1 | b
		v |= b << i
	}
	return v
}

// lengths of matches.
type lengths struct {
	choice   [2]prob
	low, mid [lzmaPos][1 << 3]prob
	high     [1 << 8]prob
}

func (l *lengths) decode(r *rangeDecoder, pos uint32) uint32 {
	if r.bit(&l.choice[0]) == 0 {
		return r.tree(l.low[pos][:], 3)
	}
	if r.bit(&l.choice[1]) == 0 {
		return 8 + r.tree(l.mid[pos][:], 3)
	}
	return 16 + r.tree(l.high[:], 8)
}

// lzmaProbs are the probabilities of all but literals.
type lzmaProbs struct {
	match, rep0Long                [lzmaStates][lzmaPos]prob
	rep, repNot0, repNot1, repNot2 [lzmaStates]prob
	slot                           [4][1 << 6]prob
	middle                         [1 + 128 - 14]prob
	align                          [1 << 4]prob
	length, repLength              lengths
}

// reset makes every bit as likely 0 as 1.
func (p *lzmaProbs) reset() {
	fill := func(list ...[]prob) {
		for _, l := range list {
			for i := range l {
				l[i] = 1 << 10
			}
		}
	}
	for i := range lzmaStates {
		fill(p.match[i][:], p.rep0Long[i][:])
	}
	fill(p.rep[:], p.repNot0[:], p.repNot1[:], p.repNot2[:], p.middle[:], p.align[:])
	for i := range p.slot {
		fill(p.slot[i][:])
	}
	for _, l := range []*lengths{&p.length, &p.repLength} {
		fill(l.choice[:], l.high[:])
		for i := range lzmaPos {
			fill(l.low[i][:], l.mid[i][:])
		}
	}
}

// lzmaDecoder unpacks into a window: a ring as large as the dictionary, or the
// memory that all of it shall lie in.
type lzmaDecoder struct {
	rc         rangeDecoder
	lc, lp, pb uint32
	p          lzmaProbs
	literal    []prob
	state      uint32
	rep        [4]uint32
	pending    uint32 // bytes of a match that are still to come

	buf   []byte
	pos   int    // in buf, where the next byte goes
	total uint64 // bytes since the dictionary was empty
	full  int    // size that buf shall have once it is used up; 0: it never wraps
}

// properties sets what an encoder may choose, of its byte in a header.
func (d *lzmaDecoder) properties(b byte) error {
	if b >= 9*5*5 {
		return fmt.Errorf("LZMA properties %#x", b)
	}
	d.lc, d.lp, d.pb = uint32(b)%9, uint32(b)/9%5, uint32(b)/45
	if n := lzmaLiteral << (d.lc + d.lp); len(d.literal) != n {
		d.literal = make([]prob, n)
	}
	return nil
}

func (d *lzmaDecoder) reset() {
	d.p.reset()
	for i := range d.literal {
		d.literal[i] = 1 << 10
	}
	d.state, d.rep, d.pending = 0, [4]uint32{}, 0
}

// ring makes the window one that keeps size bytes. Most of it is not there
// before it is needed: the first bytes of something tell what it is, and that
// may be all that is read.
func (d *lzmaDecoder) ring(size int) {
	d.full = max(size, lzmaMinimum)
	d.buf = make([]byte, min(d.full, lzmaFirst))
}

// room is called when nobody needs what is beyond the dictionary.
func (d *lzmaDecoder) room() {
	switch {
	case d.pos < len(d.buf):
	case len(d.buf) < d.full:
		grown := make([]byte, d.full)
		copy(grown, d.buf)
		d.buf = grown
	default:
		d.pos = 0
	}
}

// back is the byte written distance bytes ago; there must be one.
func (d *lzmaDecoder) back(distance int) byte {
	at := d.pos - distance
	if at < 0 {
		at += len(d.buf)
	}
	return d.buf[at]
}

// reaches tells whether there is a byte that many bytes ago.
func (d *lzmaDecoder) reaches(distance uint64) bool {
	return distance <= d.total && distance <= uint64(len(d.buf))
}

func (d *lzmaDecoder) put(b byte) {
	d.buf[d.pos] = b
	d.pos++
	d.total++
}

// copy writes of the pending match what fits below limit.
func (d *lzmaDecoder) copy(limit int) {
	distance := int(d.rep[0]) + 1
	for d.pending > 0 && d.pos < limit {
		at := d.pos - distance
		end := d.pos
		if at < 0 {
			at += len(d.buf)
			end = len(d.buf)
		}
		n := copy(d.buf[d.pos:min(limit, d.pos+int(d.pending))], d.buf[at:end])
		d.pos += n
		d.total += uint64(n)
		d.pending -= uint32(n)
	}
}

// run unpacks until the window is written up to limit. It is [io.EOF] at the
// end marker.
func (d *lzmaDecoder) run(limit int) error {
	r, p := &d.rc, &d.p
	d.copy(limit)
	for d.pos < limit {
		pos := uint32(d.total) & (1<<d.pb - 1)
		if r.bit(&p.match[d.state][pos]) == 0 {
			if err := d.readLiteral(); err != nil {
				return err
			}
			continue
		}
		var length uint32
		if r.bit(&p.rep[d.state]) == 0 {
			length = p.length.decode(r, pos)
			d.rep = [4]uint32{d.distance(length), d.rep[0], d.rep[1], d.rep[2]}
			if r.err != nil {
				return r.err
			}
			if d.rep[0] == lzmaMarker {
				return io.EOF
			}
			d.state = after(d.state, 7, 10)
		} else {
			short := false
			if r.bit(&p.repNot0[d.state]) == 0 {
				short = r.bit(&p.rep0Long[d.state][pos]) == 0
			} else if r.bit(&p.repNot1[d.state]) == 0 {
				d.rep[0], d.rep[1] = d.rep[1], d.rep[0]
			} else if r.bit(&p.repNot2[d.state]) == 0 {
				d.rep[0], d.rep[1], d.rep[2] = d.rep[2], d.rep[0], d.rep[1]
			} else {
				d.rep = [4]uint32{d.rep[3], d.rep[0], d.rep[1], d.rep[2]}
			}
			if short {
				d.state = after(d.state, 9, 11)
				if r.err != nil || !d.reaches(uint64(d.rep[0])+1) {
					return d.broken()
				}
				d.put(d.back(int(d.rep[0]) + 1))
				continue
			}
			length = p.repLength.decode(r, pos)
			d.state = after(d.state, 8, 11)
		}
		if r.err != nil || !d.reaches(uint64(d.rep[0])+1) {
			return d.broken()
		}
		d.pending = length + lzmaShortest
		d.copy(limit)
	}
	return nil
}

// after is the state that follows a match: early after literals.
func after(state, early, late uint32) uint32 {
	if state < 7 {
		return early
	}
	return late
}

func (d *lzmaDecoder) broken() error {
	if d.rc.err != nil {
		return d.rc.err
	}
	return errLZMA
}

func (d *lzmaDecoder) readLiteral() error {
	r := &d.rc
	var last byte
	if d.total > 0 {
		last = d.back(1)
	}
	context := uint32(d.total)&(1<<d.lp-1)<<d.lc + uint32(last)>>(8-d.lc)
	p := d.literal[lzmaLiteral*context:][:lzmaLiteral]
	symbol := uint32(1)
	if d.state >= 7 {
		// After a match it is not the byte that would have gone on with it.
		if !d.reaches(uint64(d.rep[0]) + 1) {
			return d.broken()
		}
		other := uint32(d.back(int(d.rep[0]) + 1))
		for symbol < 0x100 {
			bit := other >> 7 & 1
			other <<= 1
			got := r.bit(&p[(1+bit)<<8+symbol])
			symbol = symbol<<1 | got
			if got != bit {
				break
			}
		}
	}
	for symbol < 0x100 {
		symbol = symbol<<1 | r.bit(&p[symbol])
	}
	if r.err != nil {
		return r.err
	}
	d.put(byte(symbol))
	switch {
	case d.state < 4:
		d.state = 0
	case d.state < 10:
		d.state -= 3
	default:
		d.state -= 6
	}
	return nil
}

// distance reads that of a match, less 1.
func (d *lzmaDecoder) distance(length uint32) uint32 {
	r := &d.rc
	slot := r.tree(d.p.slot[min(length, 3)][:], 6)
	if slot < 4 {
		return slot
	}
	n := slot>>1 - 1
	distance := (2 | slot&1) << n
	if slot < 14 {
		return distance + r.reverse(d.p.middle[distance-slot:], n)
	}
	distance += r.direct(n-4) << 4
	return distance + r.reverse(d.p.align[:], 4)
}

// marker tells whether what comes next is the end marker.
func (d *lzmaDecoder) marker() (bool, error) {
	r, pos := &d.rc, uint32(d.total)&(1<<d.pb-1)
	if d.pending > 0 || r.bit(&d.p.match[d.state][pos]) == 0 || r.bit(&d.p.rep[d.state]) != 0 {
		return false, r.err
	}
	distance := d.distance(d.p.length.decode(r, pos))
	return distance == lzmaMarker && r.err == nil, r.err
}

// lzmaStream is a decoder of which fill writes the window up to limit; it is
// [io.EOF] at the end, and errMore when there is no room below limit and the
// end is not reached.
type lzmaStream struct {
	d    *lzmaDecoder
	fill func(limit int) error
	err  error
}

func (z *lzmaStream) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if z.err != nil {
		return 0, z.err
	}
	z.d.room()
	from := z.d.pos
	z.err = z.fill(min(len(z.d.buf), from+len(p)))
	n := copy(p, z.d.buf[from:z.d.pos])
	if n > 0 {
		return n, nil
	}
	return 0, z.err
}

// errMore: what was unpacked has filled its memory, and there is more of it.
var errMore = errors.New("more than was asked for")

// whole unpacks to memory that is the dictionary, too, and returns how much of
// it is used.
func (z *lzmaStream) whole(to []byte, _ int64) (int, error) {
	z.d.buf, z.d.pos, z.d.full = to, 0, 0
	err := z.err
	for err == nil {
		err = z.fill(len(to))
	}
	if err == io.EOF {
		err = nil
	}
	return z.d.pos, err
}

// newLZMA reads what xz(1) calls format "lzma", and the kernel too: properties,
// size of the dictionary, size of what comes out or all ones, data.
func newLZMA(in io.Reader) (*lzmaStream, error) {
	var h [13]byte
	if _, err := io.ReadFull(in, h[:]); err != nil {
		return nil, unexpected(err)
	}
	d := &lzmaDecoder{}
	if err := d.properties(h[0]); err != nil {
		return nil, err
	}
	dictionary, left := binary.LittleEndian.Uint32(h[1:]), binary.LittleEndian.Uint64(h[5:])
	sized := left != 1<<64-1
	if dictionary > maxWindow {
		return nil, errWindow
	}
	if sized {
		dictionary = uint32(min(uint64(dictionary), left))
	}
	d.ring(int(dictionary))
	d.reset()
	packed := make([]byte, 4<<10)
	d.rc.refill = func() ([]byte, error) {
		n, err := in.Read(packed)
		for range 100 {
			if n > 0 || err != nil {
				break
			}
			n, err = in.Read(packed)
		}
		if n > 0 {
			return packed[:n], nil
		}
		if err == nil {
			err = io.ErrNoProgress
		}
		return nil, unexpected(err)
	}
	if err := d.rc.start(); err != nil {
		return nil, err
	}
	z := &lzmaStream{d: d}
	z.fill = func(limit int) error {
		if d.pos == limit && !(sized && left == 0) {
			end, err := d.marker()
			switch {
			case err != nil:
				return err
			case end && sized:
				return errLZMA
			case end:
				return io.EOF
			}
			return errMore
		}
		if sized {
			limit = int(min(uint64(limit), uint64(d.pos)+left))
		}
		from := d.pos
		err := d.run(limit)
		left -= uint64(d.pos - from)
		switch {
		case err == io.EOF && sized && left > 0:
			return errLZMA
		case err == nil && sized && left == 0:
			if d.pending > 0 {
				return errLZMA
			}
			return io.EOF // with or without the marker
		}
		return err
	}
	return z, nil
}

// newLZMA2 reads chunks of LZMA and of what cannot be packed, as they are in
// the .xz format (liblzma/lzma/lzma2_decoder.c of xz 5.4 has the numbers).
func newLZMA2(in io.Reader, dictionary int) *lzmaStream {
	d := &lzmaDecoder{}
	d.ring(dictionary)
	var packed []byte
	var left int // of the chunk
	var plain bool
	needDictionary, needProperties := true, true

	next := func() error {
		var h [6]byte
		read := func(b []byte) error {
			_, err := io.ReadFull(in, b)
			return unexpected(err)
		}
		if err := read(h[:1]); err != nil {
			return err
		}
		control := h[0]
		if control == 0 {
			return io.EOF
		}
		if control == 1 || control >= 0xe0 {
			needDictionary, needProperties, d.total = false, true, 0
		}
		if needDictionary || control > 2 && control < 0x80 {
			return errLZMA
		}
		if plain = control < 0x80; plain {
			err := read(h[1:3])
			left = int(binary.BigEndian.Uint16(h[1:])) + 1
			return err
		}
		if err := read(h[1:5]); err != nil {
			return err
		}
		left = int(control&0x1f)<<16 + int(binary.BigEndian.Uint16(h[1:])) + 1
		size := int(binary.BigEndian.Uint16(h[3:])) + 1
		if control >= 0xc0 {
			if err := read(h[5:]); err != nil {
				return err
			}
			if err := d.properties(h[5]); err != nil {
				return err
			}
			if d.lc+d.lp > 4 {
				return errLZMA
			}
			needProperties = false
		}
		if needProperties {
			return errLZMA
		}
		if control >= 0xa0 {
			d.reset()
		}
		if packed == nil {
			packed = make([]byte, 1<<16)
		}
		if err := read(packed[:size]); err != nil {
			return err
		}
		d.rc = rangeDecoder{in: packed[:size]}
		return d.rc.start()
	}

	z := &lzmaStream{d: d}
	z.fill = func(limit int) error {
		for left == 0 {
			if err := next(); err != nil {
				return err
			}
		}
		if d.pos == limit {
			return errMore
		}
		limit = min(limit, d.pos+left)
		from := d.pos
		var err error
		if plain {
			var n int
			n, err = io.ReadFull(in, d.buf[from:limit])
			err = unexpected(err)
			d.pos += n
			d.total += uint64(n)
		} else if err = d.run(limit); err == io.EOF {
			err = errLZMA // the marker is not for chunks
		}
		left -= d.pos - from
		if err == nil && left == 0 && !plain && (d.pending > 0 || d.rc.at != len(d.rc.in) || d.rc.code != 0) {
			err = errLZMA
		}
		return err
	}
	return z
}
