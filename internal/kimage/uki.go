package kimage

import (
	"bytes"
	"fmt"
	"io"
	"slices"
)

// Limits of what may be beside the kernel in a unified kernel image.
const (
	maxInitrd = 1 << 30
	maxText   = 64 << 10
	maxDTB    = 2 << 20 // the kernel's early boot maps no more
)

// uki opens the kernel in a unified kernel image and keeps what else a loader
// wants of it. Of sections that occur again, as profiles have them, the first
// is that of the image without a profile.
func (o *opener) uki(s *source, pe *peHeader) (*Image, error) {
	if m := pe.cpu(); m != RISCV {
		return nil, o.wrongMachine(UKI, m, fmt.Sprintf("a unified kernel image for %v", m))
	}
	if o.unified != nil {
		return nil, o.refuse(ErrNotLoadable, UKI, RISCV, "a unified kernel image inside of another", whereKernelsAre)
	}
	if err := o.enter(Layer{Kind: UKI, Size: uint64(max(0, s.size))}); err != nil {
		return nil, err
	}
	if pe.cut {
		return nil, o.truncated(UKI, "the data ends in the table of sections")
	}
	u := &Unified{}
	o.unified = u
	parts := map[string]struct {
		limit int64
		keep  func([]byte)
	}{
		".linux":   {1 << 32, nil},
		".initrd":  {maxInitrd, func(b []byte) { u.Initrd, u.InitrdSize = b, uint64(len(b)) }},
		".cmdline": {maxText, func(b []byte) { u.Cmdline = text(b) }},
		".uname":   {maxText, func(b []byte) { u.Uname = text(b) }},
		".osrel":   {maxText, func(b []byte) { u.OSRelease = text(b) }},
		".dtb":     {maxDTB, func(b []byte) { u.DTB, u.DTBSize = b, uint64(len(b)) }},
	}
	var wanted []peSection
	for _, section := range pe.sections {
		if _, ok := parts[section.name]; !ok || slices.ContainsFunc(wanted, func(w peSection) bool { return w.name == section.name }) {
			continue
		}
		if section.size() == 0 {
			continue
		}
		wanted = append(wanted, section)
	}
	// In the order of the file, for the sake of streams.
	slices.SortFunc(wanted, func(a, b peSection) int { return int(int64(a.rawAt) - int64(b.rawAt)) })
	var img *Image
	outer := o.layers
	for _, section := range wanted {
		part := parts[section.name]
		off, size := int64(section.rawAt), int64(section.size())
		if size > part.limit {
			return nil, o.refuse(ErrTooLarge, UKI, RISCV, fmt.Sprintf("section %s of %d bytes", section.name, size), whereKernelsAre)
		}
		if s.size >= 0 && off+size > s.size {
			return nil, o.truncated(UKI, "section %s of the unified kernel image ends at %d, the file at %d", section.name, off+size, s.size)
		}
		inner, err := s.section(off, size)
		if err != nil {
			return nil, o.failed(err, UKI, "section "+section.name)
		}
		if part.keep == nil {
			if img, err = o.open(inner); err != nil {
				return nil, err
			}
			continue
		}
		r, err := inner.from(0)
		if err != nil {
			return nil, o.failed(err, UKI, "section "+section.name)
		}
		// Growing, because a stream may have less than it says.
		var b bytes.Buffer
		if s.at != nil {
			b.Grow(int(size) + bytes.MinRead)
		}
		n, err := b.ReadFrom(r)
		if err == nil && n < size {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			inside := o.layers
			o.layers = outer
			err = o.failed(err, UKI, "section "+section.name)
			o.layers = inside
			return nil, err
		}
		part.keep(b.Bytes())
	}
	if img == nil {
		return nil, o.refuse(ErrCorrupt, UKI, RISCV, "section .linux is empty", copyAgain)
	}
	return img, nil
}

// text is a section that is text, without its end.
func text(b []byte) string {
	return string(bytes.TrimRight(b, "\x00\n \t"))
}
