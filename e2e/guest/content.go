package main

import (
	"encoding/binary"
	"io"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
)

// contentOf is what the pages of a burden hold.
func contentOf(b *script.Burden) io.Reader {
	if b.Mixed {
		return newMixed(newNoise())
	}
	return newNoise()
}

const (
	pageSize = 4096
	// poolPages are made with care; under emulation gigabytes cannot be.
	poolPages = 1024
)

// mixed gives pages like those of a machine at work. It goes round a pool of
// them and stamps each with its number, so that no two are equal; compressors
// that see one page at a time cannot tell.
type mixed struct {
	pool []byte
	page uint64
	rest []byte // of the page that was begun
}

func newMixed(noise io.Reader) *mixed {
	m := &mixed{pool: make([]byte, poolPages*pageSize)}
	for i := range poolPages {
		p := m.pool[i*pageSize : (i+1)*pageSize]
		switch i % 10 {
		case 0, 1, 2, 3:
			text(p, noise)
		case 4, 5, 6:
			records(p, noise)
		default: // pictures, archives, keys
			noise.Read(p)
		}
	}
	return m
}

// Read never fails.
func (m *mixed) Read(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		if len(m.rest) == 0 {
			m.rest = m.pool[m.page%poolPages*pageSize:][:pageSize]
			for at := 256; at < pageSize; at += 1024 {
				binary.LittleEndian.PutUint64(m.rest[at:], m.page)
			}
			m.page++
		}
		k := copy(p, m.rest)
		m.rest, p = m.rest[k:], p[k:]
	}
	return n, nil
}

// text fills a page with words, some of them much oftener than others.
func text(p []byte, noise io.Reader) {
	var seed [2 * pageSize]byte
	noise.Read(seed[:])
	at := 0
	for i := 0; at < len(p); i += 2 {
		// The product of two even numbers is mostly small.
		word := int(seed[i%len(seed)]) * int(seed[(i+1)%len(seed)]) / 256
		for range 3 + word%7 {
			if at < len(p) {
				p[at] = 'a' + byte(word%26)
				word = word*5 + 3
				at++
			}
		}
		if at < len(p) {
			p[at] = ' '
			at++
		}
	}
}

// records fills a page with objects of 64 bytes: pointers into one region,
// small numbers, and fields that were never set.
func records(p []byte, noise io.Reader) {
	var seed [pageSize / 64 * 8]byte
	noise.Read(seed[:])
	clear(p)
	for i := 0; i < len(p)/64; i++ {
		r, s := p[i*64:], seed[i*8:]
		pointer := 0xff60000000000000 | uint64(binary.LittleEndian.Uint32(s))<<4
		binary.LittleEndian.PutUint64(r, pointer)
		binary.LittleEndian.PutUint64(r[8:], pointer+uint64(s[4])*64)
		binary.LittleEndian.PutUint32(r[24:], uint32(s[5])%16)
		binary.LittleEndian.PutUint32(r[32:], uint32(i))
		binary.LittleEndian.PutUint16(r[48:], uint16(s[6])<<8|uint16(s[7]))
	}
}
