package kimage

import (
	"bytes"
	"strings"
)

const (
	bannerStart = "Linux version "
	maxBanner   = 512 // bytes; Debian's has 260
)

// findBanner looks for linux_banner (init/version-timestamp.c, 6.12), which the
// kernel prints as its first line: "Linux version RELEASE (BUILDER) (COMPILER)
// #BUILD ...\n". An image may hold a second one, made before the build got its
// number ("# SMP", init/version.c): that one is taken only for want of a better.
// Empty when there is none.
func findBanner(data []byte) string {
	var unnumbered string
	for {
		i := bytes.Index(data, []byte(bannerStart))
		if i < 0 {
			return unnumbered
		}
		data = data[i:]
		if b, ok := bannerIn(data[:min(len(data), maxBanner)]); ok {
			if numbered(b) {
				return b
			}
			if unnumbered == "" {
				unnumbered = b
			}
		}
		data = data[len(bannerStart):]
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
