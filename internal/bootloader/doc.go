// Package bootloader knows where the boot loaders of Linux take the kernel's
// command line from, and edits one parameter there: crashkernel=.
//
// What is found and what would be changed are pure functions of the files of a
// machine (fs.FS): a [Plan] is a list of files before and after. [Plan.Apply]
// writes them and keeps what they were, [Undo] puts that back.
package bootloader

import "bytes"

// Parameter is the parameter that is edited.
const Parameter = "crashkernel="

// The boot loaders, and what else has command lines for them.
const (
	GRUB          = "GRUB"
	Entries       = "boot loader entries" // systemd-boot, and GRUB where it reads them
	KernelInstall = "kernel-install"      // what new entries get
	UBootMenu     = "u-boot-menu"
	Extlinux      = "extlinux.conf" // of U-Boot, written by hand
)

// maxFile bounds a file that is edited, in bytes, and maxLines its lines; grub.cfg
// is not one of them.
const (
	maxFile  = 1 << 20
	maxLines = 20000
)

// editor changes the parameter in one kind of file. All of them keep every other
// byte: comments, line ends, quotes, order.
type editor struct {
	// words finds the values of the parameter that are in force.
	words func([]byte) []span
	// add puts the parameter in where there is none; nil is nowhere.
	add func(text []byte, value string) ([]byte, error)
	// complete tells whether every place of a text has the parameter; nil is that
	// one is all there is.
	complete func([]byte) bool
}

// span is a value of the parameter: text[start:end], without "crashkernel=".
type span struct{ start, end int }

// values are the texts of spans.
func values(text []byte, spans []span) []string {
	var list []string
	for _, s := range spans {
		list = append(list, string(text[s.start:s.end]))
	}
	return list
}

// replace puts a value in the place of all spans, which ascend.
func replace(text []byte, spans []span, value string) []byte {
	var out []byte
	at := 0
	for _, s := range spans {
		out = append(out, text[at:s.start]...)
		out = append(out, value...)
		at = s.end
	}
	return append(out, text[at:]...)
}

// cut takes parameters with a value out, each with the space before it, or the
// one after it where it stands first.
func cut(text []byte, spans []span, value string) []byte {
	var out []byte
	at := 0
	for _, s := range spans {
		if string(text[s.start:s.end]) != value {
			continue
		}
		start, end := s.start-len(Parameter), s.end
		switch {
		case start > at && (text[start-1] == ' ' || text[start-1] == '\t'):
			start--
		case end < len(text) && (text[end] == ' ' || text[end] == '\t'):
			end++
		}
		out = append(out, text[at:start]...)
		at = end
	}
	return append(out, text[at:]...)
}

// line is a line of a file: text[start:end] without its line end, which may be
// that of DOS.
type line struct{ start, end, next int }

// lines cuts a text into lines; the last one may have no line end.
func lines(text []byte) []line {
	var list []line
	for at := 0; at < len(text); {
		l := line{start: at, end: len(text), next: len(text)}
		if i := bytes.IndexByte(text[at:], '\n'); i >= 0 {
			l.end, l.next = at+i, at+i+1
			if l.end > at && text[l.end-1] == '\r' {
				l.end--
			}
		}
		list = append(list, l)
		at = l.next
	}
	return list
}

// lineEnd is how the lines of a text end.
func lineEnd(text []byte) string {
	if i := bytes.IndexByte(text, '\n'); i > 0 && text[i-1] == '\r' {
		return "\r\n"
	}
	return "\n"
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

// parameters finds the parameter among words between start and end that white
// space separates; stop are bytes that end a word too.
func parameters(text []byte, start, end int, stop string) []span {
	var list []span
	for at := start; at < end; {
		if isSpace(text[at]) || bytes.IndexByte([]byte(stop), text[at]) >= 0 {
			at++
			continue
		}
		word := at
		for at < end && !isSpace(text[at]) && bytes.IndexByte([]byte(stop), text[at]) < 0 {
			at++
		}
		if bytes.HasPrefix(text[word:at], []byte(Parameter)) {
			list = append(list, span{word + len(Parameter), at})
		}
	}
	return list
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// insert puts text in at an offset.
func insert(text []byte, at int, what string) []byte {
	out := make([]byte, 0, len(text)+len(what))
	out = append(out, text[:at]...)
	out = append(out, what...)
	return append(out, text[at:]...)
}
