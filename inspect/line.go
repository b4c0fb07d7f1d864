package inspect

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
)

// words takes a line apart: at spaces, but not in quotes. What stands behind a bar
// are filters, behind # nothing.
func words(line string) (all [][]string, err error) {
	var (
		current []string
		word    strings.Builder
		inWord  bool
		quote   rune
	)
	end := func() {
		if inWord {
			current = append(current, word.String())
		}
		word.Reset()
		inWord = false
	}
loop:
	for _, r := range line {
		switch {
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '\'' || r == '"':
			quote, inWord = r, true
		case r == ' ' || r == '\t':
			end()
		case r == '|':
			end()
			all, current = append(all, current), nil
		case r == '#' && !inWord:
			break loop
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("%c is not closed", quote)
	}
	end()
	return append(all, current), nil
}

// filter is what lines go through.
type filter func(line string) (keep, more bool)

// filters understands what stands behind bars: "dhcp" keeps the lines that have it,
// "grep [-v] [-i] PATTERN" those that fit a regular expression or do not, "head N"
// the first ones.
func filters(all [][]string) ([]filter, error) {
	var fs []filter
	for _, w := range all {
		f, err := oneFilter(w)
		if err != nil {
			return nil, err
		}
		fs = append(fs, f)
	}
	return fs, nil
}

func oneFilter(w []string) (filter, error) {
	if len(w) == 0 {
		return nil, &hinted{errors.New("nothing stands behind |"), "ps | dhcp keeps the lines that have dhcp"}
	}
	switch w[0] {
	case "head":
		n := 10
		if len(w) > 1 {
			var err error
			if n, err = strconv.Atoi(strings.TrimPrefix(w[1], "-")); err != nil || len(w) > 2 {
				return nil, fmt.Errorf("head takes a number of lines, not %q", w[1:])
			}
		}
		return func(string) (bool, bool) { n--; return n >= 0, n > 0 }, nil
	case "grep":
		not, pattern := false, ""
		rest := w[1:]
		for len(rest) > 1 && strings.HasPrefix(rest[0], "-") {
			for _, c := range rest[0][1:] {
				switch c {
				case 'v':
					not = true
				case 'i':
					pattern = "(?i)"
				case 'E', 'e':
				default:
					return nil, fmt.Errorf("grep has -v and -i here, not -%c", c)
				}
			}
			rest = rest[1:]
		}
		if len(rest) != 1 {
			return nil, fmt.Errorf("grep takes one pattern, not %q", rest)
		}
		re, err := regexp.Compile(pattern + rest[0])
		if err != nil {
			return nil, err
		}
		return func(line string) (bool, bool) { return re.MatchString(line) != not, true }, nil
	}
	if len(w) > 1 {
		return nil, &hinted{fmt.Errorf("%q is no filter", strings.Join(w, " ")), "filters are TEXT, grep [-v] [-i] PATTERN and head N; no programs are started"}
	}
	return func(line string) (bool, bool) { return strings.Contains(line, w[0]), true }, nil
}

// run sends what write writes through filters to w.
func run(w io.Writer, fs []filter, write func(io.Writer) error) error {
	if len(fs) == 0 {
		b := bufio.NewWriter(w)
		return errors.Join(write(b), b.Flush())
	}
	var all bytes.Buffer
	if err := write(&all); err != nil {
		return err
	}
	b := bufio.NewWriter(w)
lines:
	for line := range strings.Lines(all.String()) {
		end := false
		for _, f := range fs {
			keep, more := f(strings.TrimSuffix(line, "\n"))
			end = end || !more
			if !keep {
				if end {
					break lines
				}
				continue lines
			}
		}
		b.WriteString(line)
		if end {
			break
		}
	}
	return b.Flush()
}

// given are the options of a line, by their letters or names, with their values.
type given map[string]string

func (g given) has(name string) bool { _, ok := g[name]; return ok }

// scan takes options off words. options are their names, "m=" one with a value;
// letters may stand together in one word.
func scan(w []string, options []string) (g given, rest []string, err error) {
	g = given{}
	value := func(name string) (bool, bool) {
		for _, o := range options {
			if n, is := strings.CutSuffix(o, "="); n == name {
				return is, true
			}
		}
		return false, false
	}
	for len(w) > 0 {
		word := w[0]
		w = w[1:]
		if len(word) < 2 || word[0] != '-' {
			rest = append(rest, word)
			continue
		}
		name := strings.TrimLeft(word, "-")
		name, param, cut := strings.Cut(name, "=")
		takes, ok := value(name)
		switch {
		case ok && takes && !cut:
			if len(w) == 0 {
				return nil, nil, fmt.Errorf("%s needs a value behind it", word)
			}
			param, w = w[0], w[1:]
			fallthrough
		case ok && takes == (cut || takes):
			g[name] = param
			continue
		}
		for _, c := range name {
			if takes, ok := value(string(c)); !ok || takes || cut {
				return nil, nil, &hinted{fmt.Errorf("there is no option %s", word), "it has " + optionWords(options)}
			}
			g[string(c)] = ""
		}
	}
	return g, rest, nil
}

func optionWords(options []string) string {
	if len(options) == 0 {
		return "no options"
	}
	var all []string
	for _, o := range options {
		name, is := strings.CutSuffix(o, "=")
		if is {
			name += " VALUE"
		}
		all = append(all, "-"+name)
	}
	return strings.Join(all, ", ")
}
