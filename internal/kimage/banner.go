package kimage

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

const (
	bannerStart = "Linux version "
	maxBanner   = 512 // bytes; Debian's has 260
	window      = 256 << 10
)

// findBanner looks for linux_banner (init/version-timestamp.c, 6.12), which the
// kernel prints as its first line: "Linux version RELEASE (BUILDER) (COMPILER)
// #BUILD ...\n". An image may hold a second one, made before the build got its
// number ("# SMP", init/version.c): that one is taken only for want of a better.
// Empty when there is none. It reads r once, in constant memory.
func findBanner(r io.Reader) (string, error) {
	var unnumbered string
	buf := make([]byte, 0, window+maxBanner)
	for {
		n, err := io.ReadFull(r, buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		last := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !last {
			return "", fmt.Errorf("looking for the version: %w", err)
		}
		for at := 0; ; {
			i := bytes.Index(buf[at:], []byte(bannerStart))
			if i < 0 {
				break
			}
			at += i
			if b, ok := bannerIn(buf[at:min(len(buf), at+maxBanner)]); ok {
				if numbered(b) {
					return b, nil
				}
				if unnumbered == "" {
					unnumbered = b
				}
			}
			at += len(bannerStart)
		}
		if last {
			return unnumbered, nil
		}
		// A banner may lie across the border; one that does not is met
		// again, which changes nothing.
		buf = buf[:copy(buf, buf[len(buf)-maxBanner:])]
	}
}

// bannerIn takes the banner off the front of b: printable, with a digit first
// (so not a format string) and an end.
func bannerIn(b []byte) (string, bool) {
	end := bytes.IndexAny(b, "\n\x00")
	if end <= len(bannerStart) {
		return "", false
	}
	b = b[:end]
	for _, c := range b {
		if c < ' ' || c > '~' {
			return "", false
		}
	}
	if c := b[len(bannerStart)]; c < '0' || c > '9' {
		return "", false
	}
	return string(b), true
}

// numbered tells whether a banner has the number of its build, as in "#1 SMP".
func numbered(banner string) bool {
	i := strings.LastIndex(banner, " #")
	return i >= 0 && i+2 < len(banner) && '0' <= banner[i+2] && banner[i+2] <= '9'
}

// release is the third word of a banner, what uname -r says.
func release(banner string) string {
	rest, ok := strings.CutPrefix(banner, bannerStart)
	if !ok {
		return ""
	}
	word, _, _ := strings.Cut(rest, " ")
	return word
}
