package ui

import "testing"

func TestParseBytes(t *testing.T) {
	for text, want := range map[string]uint64{
		"0": 0, "4096": 4096, "512 B": 512, "64M": 64 << 20, "64m": 64 << 20, "64MiB": 64 << 20, "64 MiB": 64 << 20,
		"1.5G": 3 << 29, "2TB": 2 << 40, "3k": 3 << 10,
	} {
		if got, err := ParseBytes(text); got != want || err != nil {
			t.Errorf("ParseBytes(%q) = %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "M", "-1", "1.5", "64X", "1e3", "0x40", "inf", "nan", "9999999T", "1..5M", "6 4M", "I", "1IM"} {
		if got, err := ParseBytes(text); err == nil {
			t.Errorf("ParseBytes(%q) = %d, %v; want an error", text, got, err)
		}
	}
}
