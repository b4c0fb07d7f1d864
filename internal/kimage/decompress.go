package kimage

import (
	"bufio"
	"errors"
	"io"
)

// Decompress unpacks what r holds, by its first bytes, with bounded memory, and
// names the compression; an initramfs comes in the same ones as a kernel
// (lib/decompress.c, 6.12). codec is "" and plain gives r as it is if it is not
// compressed. Errors of reading plain are [*Error]s; Close lets go of its
// memory.
func Decompress(r io.Reader) (plain io.ReadCloser, codec string, err error) {
	in := bufio.NewReaderSize(r, headBytes)
	head, err := in.Peek(16)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, "", err
	}
	c := codecOf(head)
	if c == nil {
		return io.NopCloser(in), "", nil
	}
	budget := int64(maxUnpacked)
	u := newUnpacker(c, in, &budget, nil)
	return decompressor{u}, c.name, nil
}

type decompressor struct{ u *unpacker }

func (d decompressor) Read(p []byte) (int, error) { return d.u.Read(p) }
func (d decompressor) Close() error               { d.u.close(); return nil }
