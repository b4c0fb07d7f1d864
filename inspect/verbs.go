package inspect

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// verb is what a line of the shell begins with.
type verb struct {
	name    string
	aliases []string
	takes   string // what stands behind it
	what    string
	options []string // as scan takes them
	// make makes a question of the options and the words behind the verb.
	make func(v *verb, g given, words []string) (Question, error)
	// completes says what words behind it may be.
	completes completes
}

type completes int

const (
	completesNothing completes = iota
	completesTypes
	completesSymbols
	completesBoth
	completesVerbs
	completesModules
)

// wrong is the error of words that a verb does not take.
func (v *verb) wrong(words []string) error {
	err := fmt.Errorf("%s does not take %q", v.name, strings.Join(words, " "))
	if len(words) == 0 {
		err = fmt.Errorf("%s needs more", v.name)
	}
	return &hinted{err, "it is " + v.usage()}
}

func (v *verb) usage() string { return strings.TrimSpace(v.name + " " + v.takes) }

// between tells whether there are as many words as are wanted.
func between(words []string, least, most int) bool {
	return len(words) >= least && (most < 0 || len(words) <= most)
}

// plain makes the question of a verb that takes nothing.
func plain(q Question) func(*verb, given, []string) (Question, error) {
	return func(v *verb, _ given, words []string) (Question, error) {
		if len(words) > 0 {
			return nil, v.wrong(words)
		}
		return q, nil
	}
}

// verbs are all of them, those that people want first first. Names and aliases are
// those that users of crash(8) know.
func verbs() []*verb {
	return []*verb{
		{name: "report", what: "what happened, all of it", make: plain(Summary{})},
		{name: "sys", what: "what happened and on which machine, in short", make: plain(Summary{Brief: true})},
		{name: "log", aliases: []string{"dmesg"}, what: "the kernel's log", make: plain(Log{})},
		{name: "bt", takes: "[-a|-D|-t] [TASK]...", what: "stacks: of the CPU that crashed, of all (-a), of blocked tasks (-D), of all tasks (-t), of tasks by PID or name",
			options: []string{"a", "D", "t"}, make: makeStacks},
		{name: "foreach", takes: "[user|kernel|STATE|TASK]... bt", what: "stacks of many tasks", make: makeForeach},
		{name: "ps", takes: "[-k|-u] [-r] [-s STATES] [TASK]...", what: "tasks: kernel threads (-k), others (-u), those on a CPU (-r), those in a state (-s)",
			options: []string{"k", "u", "r", "s=", "A"}, make: makeTasks},
		{name: "runq", what: "what each CPU had to do", make: plain(RunQueues{})},
		{name: "mod", aliases: []string{"lsmod"}, takes: "[NAME]...", what: "modules", completes: completesModules,
			make: func(_ *verb, _ given, words []string) (Question, error) { return Modules{Names: words}, nil }},
		{name: "mem", aliases: []string{"kmem"}, takes: "[-i|-s] [-n N]", what: "what memory was used for; slab caches (-s), only the largest (-n)",
			options: []string{"i", "s", "n=", "z"}, make: makeMemory},
		{name: "mount", what: "mounts", make: plain(Mounts{})},
		{name: "dev", takes: "[-d]", what: "disks, and the requests that they had not answered", options: []string{"d"}, make: plain(Disks{})},
		{name: "net", what: "network interfaces", make: plain(Interfaces{})},
		{name: "struct", aliases: []string{"union", "enum", "*"}, takes: "TYPE[.MEMBER,...] [ADDRESS [COUNT]]", what: "a type, or the object at an address", completes: completesBoth,
			options: []string{"m=", "x", "d", "o"}, make: makeStruct},
		{name: "whatis", takes: "NAME", what: "a type, a function or a variable as C declares it", completes: completesBoth,
			make: func(v *verb, _ given, words []string) (Question, error) {
				if len(words) == 0 {
					return nil, v.wrong(words)
				}
				return WhatIs{Name: strings.Join(words, " ")}, nil
			}},
		{name: "p", aliases: []string{"print"}, takes: "VARIABLE[:CPU][.MEMBER]", what: "what a variable says", completes: completesSymbols, options: []string{"x", "d"},
			make: func(v *verb, g given, words []string) (Question, error) {
				if !between(words, 1, 1) {
					return nil, v.wrong(words)
				}
				return Print{Name: words[0], Hex: g.has("x")}, nil
			}},
		{name: "list", takes: "[-h] TYPE.MEMBER HEAD [-s MEMBER,...]", what: "the objects on a list: addresses, or members (-s); HEAD is an object of the type itself (-h)", completes: completesBoth,
			options: []string{"h", "s=", "x"}, make: func(v *verb, g given, words []string) (Question, error) {
				if !between(words, 2, 2) {
					return nil, v.wrong(words)
				}
				q := List{Member: words[0], Head: words[1], Object: g.has("h"), Hex: g.has("x")}
				if m, ok := g["s"]; ok {
					q.Members = strings.Split(m, ",")
				}
				return q, nil
			}},
		{name: "vtop", takes: "ADDRESS...", what: "where virtual addresses are in memory", completes: completesSymbols,
			make: func(v *verb, _ given, words []string) (Question, error) {
				if len(words) == 0 {
					return nil, v.wrong(words)
				}
				return Translate{At: words}, nil
			}},
		{name: "rd", takes: "[-8|-16|-32|-64] [-s] [-a] [-p] ADDRESS [COUNT]", what: "memory, with the symbols that words point to (-s), as text (-a), by its physical address (-p)", completes: completesSymbols,
			options: []string{"8", "16", "32", "64", "s", "a", "p"}, make: makeRead},
		{name: "dis", takes: "[-f|-r] FUNCTION|ADDRESS [COUNT]", what: "instructions: of a function, from an address on, of the function that it is in (-f), up to it (-r)", completes: completesSymbols,
			options: []string{"f", "r"}, make: makeCode},
		{name: "sym", takes: "NAME|ADDRESS...", what: "symbols, by names that may have * and ?", completes: completesSymbols,
			make: func(v *verb, _ given, words []string) (Question, error) {
				if len(words) == 0 {
					return nil, v.wrong(words)
				}
				return Symbols{Names: words}, nil
			}},
	}
}

func makeStacks(v *verb, g given, words []string) (Question, error) {
	if len(g) > 1 || len(g) > 0 && len(words) > 0 {
		return nil, &hinted{errors.New("tasks are named, or meant by one of -a, -D and -t"), "it is " + v.usage()}
	}
	return Stacks{Words: words, CPUs: g.has("a"), Blocked: g.has("D"), All: g.has("t")}, nil
}

// crashStates are the states of tasks as crash(8) names them.
var crashStates = map[string]string{"RU": "R", "IN": "S", "UN": "D", "ST": "T", "TR": "t", "ZO": "Z", "DE": "X", "ID": "I", "PA": "P"}

func makeForeach(v *verb, _ given, words []string) (Question, error) {
	if len(words) == 0 || words[len(words)-1] != "bt" {
		return nil, v.wrong(words)
	}
	var q Tasks
	for _, w := range words[:len(words)-1] {
		state := crashStates[w]
		if len(w) == 1 && strings.Contains("RSDTtXZPI", w) {
			state = w
		}
		switch {
		case w == "user":
			q.User = true
		case w == "kernel":
			q.Kernel = true
		case state != "":
			q.States += state
		default:
			q.Words = append(q.Words, w)
		}
	}
	return Stacks{Of: &q}, nil
}

func makeTasks(_ *verb, g given, words []string) (Question, error) {
	return Tasks{Words: words, Kernel: g.has("k"), User: g.has("u"), OnCPU: g.has("r") || g.has("A"), States: g["s"]}, nil
}

func makeMemory(v *verb, g given, words []string) (Question, error) {
	q := MemoryUse{Caches: g.has("s")}
	if len(words) > 0 {
		return nil, v.wrong(words)
	}
	if n, ok := g["n"]; ok {
		var err error
		if q.Most, err = strconv.Atoi(n); err != nil || q.Most < 1 || !q.Caches {
			return nil, &hinted{fmt.Errorf("-n %s is no number of slab caches", n), "it is " + v.usage()}
		}
	}
	return q, nil
}

func makeStruct(v *verb, g given, words []string) (Question, error) {
	// "struct task_struct", as in C, and "struct struct task_struct" too.
	name := ""
	if len(words) > 1 && slices.Contains([]string{"struct", "union", "enum"}, words[0]) {
		name, words = words[0]+" ", words[1:]
	}
	if !between(words, 1, 3) {
		return nil, v.wrong(words)
	}
	q := Struct{Type: name + words[0], Hex: g.has("x")}
	if m, ok := g["m"]; ok {
		q.Members = strings.Split(m, ",")
	}
	if len(words) > 1 {
		q.At = words[1]
	}
	if len(words) > 2 {
		var err error
		if q.Count, err = strconv.Atoi(words[2]); err != nil || q.Count < 1 {
			return nil, v.wrong(words[2:])
		}
	}
	return q, nil
}

func makeRead(v *verb, g given, words []string) (Question, error) {
	if !between(words, 1, 2) {
		return nil, v.wrong(words)
	}
	q := Read{At: words[0], Symbols: g.has("s"), Text: g.has("a"), Physical: g.has("p")}
	for _, bits := range Widths() {
		if g.has(strconv.Itoa(bits)) {
			q.Bits = bits
		}
	}
	if len(words) > 1 {
		var err error
		if q.Count, err = strconv.ParseUint(words[1], 0, 32); err != nil || q.Count == 0 {
			return nil, v.wrong(words[1:])
		}
	}
	return q, nil
}

func makeCode(v *verb, g given, words []string) (Question, error) {
	if !between(words, 1, 2) || g.has("f") && g.has("r") {
		return nil, v.wrong(words)
	}
	q := Code{At: words[0], Function: g.has("f"), Until: g.has("r")}
	if len(words) > 1 {
		var err error
		if q.Count, err = strconv.Atoi(words[1]); err != nil || q.Count < 1 {
			return nil, v.wrong(words[1:])
		}
	}
	return q, nil
}

// find is the verb of a name; nil if there is none.
func find(all []*verb, name string) *verb {
	for _, v := range all {
		if v.name == name || slices.Contains(v.aliases, name) {
			return v
		}
	}
	return nil
}

// helpText is what help prints.
type helpText struct{ verbs []*verb }

// Write writes what there is.
func (h helpText) Write(w io.Writer, width int) error {
	for _, v := range h.verbs {
		fmt.Fprintf(w, "%s\n", v.usage())
		text := v.what
		if len(v.aliases) > 0 {
			text += "; also " + strings.Join(v.aliases, ", ")
		}
		for _, line := range wrap(text, width-8) {
			fmt.Fprintf(w, "        %s\n", line)
		}
	}
	if len(h.verbs) > 1 {
		fmt.Fprint(w, `help VERB, quit

An address is a number in hexadecimal, or a symbol, with +OFFSET or without;
SYMBOL:CPU is a per-CPU variable. Behind | stand filters: TEXT, grep [-v] [-i]
PATTERN, head N. TAB completes verbs, types, members and symbols.
`)
	}
	return nil
}

// wrap breaks a text into lines.
func wrap(s string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(s) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}

// notFound tells whether an answer is that there is no such thing.
func notFound(err error) bool { return errors.Is(err, kernel.ErrNotFound) }
