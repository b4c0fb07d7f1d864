package bootloader

import (
	"bytes"
	"fmt"
	"slices"
)

// label is one entry of an extlinux.conf that starts a kernel.
type label struct {
	kernel line // that names it
	append *line
}

// labels finds the entries of an extlinux.conf: a line "label" begins one,
// "kernel" or "linux" makes it one that starts a kernel, and of several lines
// "append" the last counts (U-Boot 2025.10, boot/pxe_utils.c). Words are known in
// upper and lower case.
func labels(text []byte) []label {
	var list []label
	var open, starts bool
	var now label
	end := func() {
		if open && starts {
			list = append(list, now)
		}
		open, starts, now = false, false, label{}
	}
	for _, l := range lines(text) {
		switch word, _ := keyword(text, l); word {
		case "label":
			end()
			open = true
		case "kernel", "linux", "fit":
			now.kernel, starts = l, true
		case "append":
			now.append = &l
		}
	}
	end()
	return list
}

// extlinuxWords finds the parameter in all labels.
func extlinuxWords(text []byte) []span {
	var list []span
	for _, l := range labels(text) {
		if l.append != nil {
			_, rest := keyword(text, *l.append)
			list = append(list, parameters(text, rest, l.append.end, "")...)
		}
	}
	return list
}

// extlinuxComplete tells whether there are labels and every one has the parameter.
func extlinuxComplete(text []byte) bool {
	list := labels(text)
	return len(list) > 0 && !slices.ContainsFunc(list, func(l label) bool { return !l.has(text) })
}

// has tells whether a label has the parameter.
func (l label) has(text []byte) bool {
	if l.append == nil {
		return false
	}
	_, rest := keyword(text, *l.append)
	return len(parameters(text, rest, l.append.end, "")) > 0
}

// extlinuxEditor edits all labels of an extlinux.conf.
func extlinuxEditor() editor {
	return editor{words: extlinuxWords, add: extlinuxAdd, complete: extlinuxComplete}
}

// extlinuxAdd puts the parameter into every label that does not have it.
func extlinuxAdd(text []byte, value string) ([]byte, error) {
	list := labels(text)
	if len(list) == 0 {
		return nil, fmt.Errorf("no label with a kernel: %w", errShell)
	}
	out := text
	for _, l := range slices.Backward(list) {
		if l.append == nil {
			indent := l.kernel.start
			for blank(text[indent]) {
				indent++
			}
			added := fmt.Sprintf("%sappend %s%s", text[l.kernel.start:indent], Parameter, value)
			if l.kernel.next == l.kernel.end { // the file ends without a line end
				added = lineEnd(text) + added
			} else {
				added += lineEnd(text)
			}
			out = insert(out, l.kernel.next, added)
			continue
		}
		if !l.has(text) {
			out = addWord(out, l.append.start, l.append.end, value)
		}
	}
	return bytes.Clone(out), nil
}

// generated tells whether u-boot-update has written an extlinux.conf: then
// editing it is in vain.
func generated(text []byte) bool { return bytes.Contains(text, []byte("use: u-boot-update")) }
