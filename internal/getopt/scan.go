package getopt

import (
	"fmt"
	"slices"
	"strings"

	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// Given is an option as it stands on a command line.
type Given struct {
	*Option
	Typed string // as it was typed: -p, --init
	Param string // its value
}

// Scan takes a command line apart by the rules of getopt_long(3): operands may
// stand anywhere, short options in one word, long ones may be abbreviated while
// only one fits, and after -- everything is an operand.
func (p *Program) Scan(args []string) (options []Given, operands []string, err error) {
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		switch {
		case word == "--":
			return options, append(operands, args...), nil
		case strings.HasPrefix(word, "--"):
			name, value, has := strings.Cut(word[2:], "=")
			o, err := p.long(name)
			if err != nil {
				return nil, nil, err
			}
			typed := "--" + name
			switch {
			case has && o.Value == "":
				return nil, nil, p.Wrong(fmt.Sprintf("--%s takes no value, and %q gives it one", o.Long, word))
			case o.Value != "" && !has:
				if len(args) == 0 {
					return nil, nil, p.Wrong(fmt.Sprintf("%s is the last word, and needs a value: --%s=%s", typed, o.Long, o.Value))
				}
				value, args = args[0], args[1:]
			}
			options = append(options, Given{o, typed, value})
		case len(word) > 1 && word[0] == '-':
			for rest := word[1:]; rest != ""; {
				c := rest[0]
				rest = rest[1:]
				o := p.short(c)
				if o == nil {
					return nil, nil, p.unknownShort(word, c)
				}
				g := Given{Option: o, Typed: "-" + string(c)}
				if o.Value != "" {
					g.Param, rest = rest, ""
					if g.Param == "" {
						if len(args) == 0 {
							return nil, nil, p.Wrong(fmt.Sprintf("%s is the last word, and needs a value: %s %s", g.Typed, g.Typed, o.Value))
						}
						g.Param, args = args[0], args[1:]
					}
				}
				options = append(options, g)
			}
		default:
			operands = append(operands, word)
		}
	}
	return options, operands, nil
}

func (p *Program) short(c byte) *Option {
	for i := range p.Options {
		if c != 0 && p.Options[i].Short == c {
			return &p.Options[i]
		}
	}
	return nil
}

func (p *Program) unknownShort(word string, c byte) error {
	var hints []string
	// A long option with one dash is a word of short ones to getopt.
	name, _, _ := strings.Cut(word[1:], "=")
	if o, err := p.long(name); err == nil && len(name) > 2 {
		hints = append(hints, fmt.Sprintf("long options have two dashes: --%s", o.Long))
	}
	if len(word) == 2 {
		return p.Wrong(fmt.Sprintf("no option is called -%s", printable(c)), hints...)
	}
	return p.Wrong(fmt.Sprintf("no option is called -%s, as in %q", printable(c), word), hints...)
}

func printable(c byte) string {
	if c > ' ' && c < 0x7f {
		return string(c)
	}
	return fmt.Sprintf("\\x%02x", c)
}

// longNames are the names of the long options that the program has.
func (p *Program) longNames() []string {
	var names []string
	for _, o := range p.Options {
		if o.Long != "" && o.Support != Refused {
			names = append(names, o.Long)
		}
	}
	return names
}

// long finds an option by its name or the beginning of it.
func (p *Program) long(name string) (*Option, error) {
	var ours, others []*Option
	for i := range p.Options {
		o := &p.Options[i]
		switch {
		case o.Long == name && name != "":
			return o, nil
		case name == "" || o.Long == "" || !strings.HasPrefix(o.Long, name):
		case o.Elsewhere == "":
			ours = append(ours, o)
		default:
			others = append(others, o)
		}
	}
	fit := ours
	if len(fit) == 0 {
		fit = others
	}
	switch len(fit) {
	case 1:
		return fit[0], nil
	case 0:
		var hints []string
		// A quotation mark that the shell did not see as one.
		if clean := strings.Trim(name, "\"' \t\r\n"); clean != name {
			if o, err := p.long(clean); err == nil {
				hints = append(hints, fmt.Sprintf("there is a quotation mark or a space too much; --%s is an option", o.Long))
			}
		}
		if len(hints) == 0 {
			if meant := ui.Like(name, p.longNames()); meant != "" {
				hints = append(hints, fmt.Sprintf("did you mean --%s?", meant))
			}
		}
		return nil, p.Wrong(fmt.Sprintf("no option is called %q", "--"+name), hints...)
	}
	var names []string
	for _, o := range fit {
		names = append(names, "--"+o.Long)
	}
	return nil, p.Wrong(fmt.Sprintf("--%s is ambiguous: %s", name, strings.Join(names, ", ")))
}

// Sift takes options apart: those to be obeyed in their order, and those that
// change nothing, each once, by name. The error is of the first one that is
// refused.
func Sift(options []Given) (obeyed []Given, ignored []Option, err error) {
	for _, g := range options {
		switch g.Support {
		case Refused:
			return nil, nil, g.Refusal()
		case Ignored:
			if !slices.ContainsFunc(ignored, func(o Option) bool { return o.Name() == g.Name() }) {
				ignored = append(ignored, *g.Option)
			}
		default:
			obeyed = append(obeyed, g)
		}
	}
	slices.SortFunc(ignored, func(a, b Option) int { return strings.Compare(a.Name(), b.Name()) })
	return obeyed, ignored, nil
}
