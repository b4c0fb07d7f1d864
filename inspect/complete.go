package inspect

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/panicroom-kdump/panicroom/kernel/value"
)

// maxCandidates bounds what is shown of what a word may become.
const maxCandidates = 60

// complete is what the word that ends at pos may become: where it begins, and the
// words, sorted; space says that another one may follow.
func (sh *Shell) complete(line string, pos int) (start int, candidates []string, space bool) {
	start = strings.LastIndexAny(line[:pos], " \t|") + 1
	word := line[start:pos]
	before := strings.Fields(line[:start])
	switch {
	case strings.Contains(line[:start], "|"):
		return start, nil, false
	case len(before) == 0:
		return start, sh.verbNames(word), true
	case before[0] == "help":
		return start, sh.verbNames(word), true
	}
	v := find(sh.verbs, before[0])
	if v == nil {
		return start, nil, false
	}
	// The object of a struct stands behind its type.
	second := len(before) > 1 && !strings.HasPrefix(before[len(before)-1], "-")
	switch v.completes {
	case completesBoth:
		if (v.name == "struct" || v.name == "list") && second && !slices.Contains([]string{"struct", "union", "enum"}, before[len(before)-1]) {
			return start, sh.symbolNames(word), true
		}
		types, space := sh.typeNames(word)
		if v.name == "whatis" {
			types = append(types, sh.symbolNames(word)...)
			slices.Sort(types)
			types = slices.Compact(types)
		}
		return start, types, space
	case completesSymbols:
		if strings.Contains(word, ".") {
			return start, sh.variableMembers(word), false
		}
		return start, sh.symbolNames(word), true
	case completesModules:
		var names []string
		for m, err := range sh.s.k.Modules() {
			if err != nil {
				break
			}
			if strings.HasPrefix(m.Name, word) {
				names = append(names, m.Name)
			}
		}
		slices.Sort(names)
		return start, names, true
	}
	return start, nil, false
}

func (sh *Shell) verbNames(prefix string) []string {
	names := []string{}
	add := func(n string) {
		if strings.HasPrefix(n, prefix) {
			names = append(names, n)
		}
	}
	for _, v := range sh.verbs {
		add(v.name)
		for _, a := range v.aliases {
			if prefix != "" && a != "*" {
				add(a)
			}
		}
	}
	add("help")
	add("quit")
	slices.Sort(names)
	return names
}

// typeNames are types, or members of one behind its name and a dot.
func (sh *Shell) typeNames(word string) (names []string, space bool) {
	types, err := sh.s.Types()
	if err != nil {
		return nil, false
	}
	if i := nameLen(word); i < len(word) {
		t, err := types.Find(word[:i])
		if err != nil {
			return nil, false
		}
		return members(t, word[:i], word[i+1:]), false
	}
	types.Names(word, func(n string) { names = append(names, n) })
	slices.Sort(names)
	return slices.Compact(names), true
}

// members are what "base.path" may become; of paths with commas between them, the
// last one.
func members(t value.Found, base, path string) []string {
	done := ""
	if i := strings.LastIndexByte(path, ','); i >= 0 {
		done, path = path[:i+1], path[i+1:]
	}
	typ := t.Type
	inner := ""
	if i := max(strings.LastIndexByte(path, '.'), strings.LastIndex(path, "->")+1); i > 0 {
		inner = path[:i+1]
		var err error
		if typ, err = value.MemberType(typ, strings.TrimRight(inner, ".->")); err != nil {
			return nil
		}
	}
	var names []string
	for _, n := range value.MemberNames(typ) {
		if strings.HasPrefix(n, path[len(inner):]) {
			names = append(names, base+"."+done+inner+n)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// variableMembers are members of a variable whose type is known.
func (sh *Shell) variableMembers(word string) []string {
	types, err := sh.s.Types()
	if err != nil {
		return nil
	}
	i := nameLen(word)
	name, _, _ := strings.Cut(word[:i], ":")
	t, err := types.Variable(name)
	if err != nil {
		return nil
	}
	if t.Type, err = t.Elem(); err != nil {
		return nil
	}
	return members(t, word[:i], word[i+1:])
}

// symbolNames are symbols of the kernel proper that begin with a prefix.
func (sh *Shell) symbolNames(prefix string) []string {
	s := sh.s
	if s.symbols == nil {
		for sym, err := range s.k.Symbols() {
			if err != nil {
				break
			}
			s.symbols = append(s.symbols, sym.Name)
		}
		slices.Sort(s.symbols)
		s.symbols = slices.Compact(s.symbols)
	}
	from, _ := slices.BinarySearch(s.symbols, prefix)
	to := from
	for to < len(s.symbols) && strings.HasPrefix(s.symbols[to], prefix) {
		to++
	}
	return slices.Clone(s.symbols[from:to])
}

// Complete completes the word that ends at pos, as far as it is the only one; if it
// may become several words they are written.
func (sh *Shell) Complete(line string, pos int, w io.Writer, width int) (string, int) {
	start, candidates, space := sh.complete(line, pos)
	if len(candidates) == 0 {
		return line, pos
	}
	longest := candidates[0]
	for _, c := range candidates[1:] {
		n := 0
		for n < len(longest) && n < len(c) && longest[n] == c[n] {
			n++
		}
		longest = longest[:n]
	}
	if len(candidates) == 1 && space {
		longest += " "
	}
	if longest == line[start:pos] {
		writeColumns(w, candidates, width)
		return line, pos
	}
	return line[:start] + longest + line[pos:], start + len(longest)
}

// writeColumns writes words in columns, not more than fit the eye.
func writeColumns(w io.Writer, words []string, width int) {
	shown := words[:min(len(words), maxCandidates)]
	column := 0
	for _, s := range shown {
		column = max(column, len(s)+2)
	}
	n := max(width/max(column, 1), 1)
	for i := 0; i < len(shown); i += n {
		var b strings.Builder
		for _, s := range shown[i:min(i+n, len(shown))] {
			fmt.Fprintf(&b, "%-*s", column, s)
		}
		fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
	}
	if len(words) > len(shown) {
		fmt.Fprintf(w, "and %d more\n", len(words)-len(shown))
	}
}
