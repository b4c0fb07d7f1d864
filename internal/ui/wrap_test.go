package ui

import (
	"slices"
	"testing"
)

func TestWrap(t *testing.T) {
	for _, tt := range []struct {
		text  string
		width int
		want  []string
	}{
		{"", 10, []string{""}},
		{"one two  three", 7, []string{"one two", "three"}},
		{"a-very-long-word b", 4, []string{"a-very-long-word", "b"}},
		{"äöü äöü", 7, []string{"äöü äöü"}},
	} {
		if got := Wrap(tt.text, tt.width); !slices.Equal(got, tt.want) {
			t.Errorf("Wrap(%q, %d) = %q; want %q", tt.text, tt.width, got, tt.want)
		}
	}
}
