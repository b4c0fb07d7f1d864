package boot

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// Codec is a compression, by the suffix of its files.
type Codec string

// The codecs that distributions use for modules and initramfs.
const (
	None Codec = ""
	Gzip Codec = "gz"
	XZ   Codec = "xz"
	Zstd Codec = "zst"
)

// ErrCodec is wrapped when data is compressed in a way not known here.
var ErrCodec = errors.New("unknown compression")

// window is what the decompressor in the kernel must keep in memory. zstd's own
// choice at high levels is the whole archive, which at the edge of a small
// reservation is the memory that is missing (measured: 96 MiB with a raw target
// ran out of memory with zstd -19 and had 2 MiB to spare with gzip).
const window = 128 << 10

// ConfigValue looks a symbol up in a kernel's configuration: "y", "m", "" and so
// on, ok false if the configuration does not mention it.
type ConfigValue func(symbol string) (value string, ok bool)

// InitramfsCodec chooses how to compress an initramfs for a kernel with the
// given configuration; nil stands for an unknown one, for which it is gzip,
// the kernel's default since there is an initramfs (CONFIG_RD_GZIP).
func InitramfsCodec(config ConfigValue) Codec {
	if config == nil {
		return Gzip
	}
	for _, c := range []struct {
		symbol string
		codec  Codec
	}{{"CONFIG_RD_ZSTD", Zstd}, {"CONFIG_RD_GZIP", Gzip}, {"CONFIG_RD_XZ", XZ}} {
		if v, _ := config(c.symbol); v == "y" {
			return c.codec
		}
	}
	return None
}

// ModuleCodec tells which compressed modules a kernel unpacks itself when
// finit_module(2) is called with MODULE_INIT_COMPRESSED_FILE; None if it does
// not do that. A kernel can do exactly one (kernel/module/decompress.c, 7.2).
func ModuleCodec(config ConfigValue) Codec {
	if config == nil {
		return None
	}
	if v, _ := config("CONFIG_MODULE_DECOMPRESS"); v != "y" {
		return None
	}
	for _, c := range []struct {
		symbol string
		codec  Codec
	}{{"CONFIG_MODULE_COMPRESS_XZ", XZ}, {"CONFIG_MODULE_COMPRESS_ZSTD", Zstd}, {"CONFIG_MODULE_COMPRESS_GZIP", Gzip}} {
		if v, _ := config(c.symbol); v == "y" {
			return c.codec
		}
	}
	return None
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

// Compress returns a writer that compresses to w with a window of 128 KiB or
// less. Close ends the stream and leaves w open.
func Compress(w io.Writer, codec Codec) (io.WriteCloser, error) {
	switch codec {
	case None:
		return nopCloser{w}, nil
	case Gzip:
		return gzip.NewWriterLevel(w, gzip.BestCompression)
	case Zstd:
		return zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedBestCompression),
			zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(1))
	case XZ:
		// The kernel's decoder knows no other checksum (lib/xz/xz_dec_stream.c, 6.12).
		return xz.WriterConfig{DictCap: window, CheckSum: xz.CRC32}.NewWriter(w)
	}
	return nil, fmt.Errorf("%w: %q", ErrCodec, codec)
}

// Decompress returns a reader of what r holds in compressed form. It gives at
// most limit bytes and then an error: compressed data can claim to be anything.
func Decompress(r io.Reader, codec Codec, limit int64) (io.Reader, error) {
	var plain io.Reader
	switch codec {
	case None:
		plain = r
	case Gzip:
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		plain = z
	case XZ:
		z, err := xz.NewReader(bufio.NewReader(r))
		if err != nil {
			return nil, err
		}
		plain = z
	case Zstd:
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(64<<20))
		if err != nil {
			return nil, err
		}
		plain = z.IOReadCloser()
	default:
		return nil, fmt.Errorf("%w: %q", ErrCodec, codec)
	}
	return &limited{r: plain, left: limit}, nil
}

// limited is an io.LimitedReader that ends with an error instead of silence.
type limited struct {
	r    io.Reader
	left int64
}

func (l *limited) Read(p []byte) (int, error) {
	if l.left <= 0 {
		// One byte more tells the end of the data from data over the limit.
		var one [1]byte
		if n, err := l.r.Read(one[:]); n == 0 {
			return 0, err
		}
		return 0, errors.New("more data than allowed")
	}
	if int64(len(p)) > l.left {
		p = p[:l.left]
	}
	n, err := l.r.Read(p)
	l.left -= int64(n)
	return n, err
}
