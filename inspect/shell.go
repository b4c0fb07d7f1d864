package inspect

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// Shell is where people type their questions.
type Shell struct {
	s     *Session
	verbs []*verb
	json  bool
}

// NewShell makes one. With asJSON each answer is an object on a line of its own.
func NewShell(s *Session, asJSON bool) *Shell { return &Shell{s: s, verbs: verbs(), json: asJSON} }

// errQuit is the wish to end.
var errQuit = errors.New("quit")

// Eval answers one line, in lines of at most width columns. What there is of an
// answer is written before the error.
func (sh *Shell) Eval(line string, w io.Writer, width int) error {
	all, err := words(line)
	if err != nil {
		return err
	}
	first := all[0]
	if len(first) == 0 {
		if len(all) > 1 {
			return errors.New("nothing stands before |")
		}
		return nil
	}
	fs, err := filters(all[1:])
	if err != nil {
		return err
	}
	answer, err := sh.ask(first)
	if answer == nil {
		return err
	}
	werr := run(w, fs, func(w io.Writer) error {
		if _, help := answer.(helpText); sh.json && !help {
			enc := json.NewEncoder(w)
			enc.SetEscapeHTML(false)
			return enc.Encode(answer)
		}
		return answer.Write(w, width)
	})
	return errors.Join(werr, err)
}

func (sh *Shell) ask(line []string) (Answer, error) {
	switch line[0] {
	case "quit", "exit", "q":
		return nil, errQuit
	case "help", "?", "h":
		return sh.help(line[1:])
	}
	v := find(sh.verbs, line[0])
	if line[0] == "union" || line[0] == "enum" {
		line = append([]string{"struct"}, line...)
	}
	if v == nil {
		// A type alone is a wish to see it, as in crash.
		if types, err := sh.s.Types(); err == nil {
			if _, err := types.Find(line[0][:nameLen(line[0])]); err == nil {
				v, line = find(sh.verbs, "struct"), append([]string{"struct"}, line...)
			}
		}
	}
	if v == nil {
		return nil, sh.unknown(line[0])
	}
	g, rest, err := scan(line[1:], v.options)
	if err != nil {
		return nil, err
	}
	q, err := v.make(v, g, rest)
	if err != nil {
		return nil, err
	}
	return sh.s.Ask(q)
}

// nameLen is how much of a word is the name before its members.
func nameLen(word string) int {
	if i := strings.IndexByte(word, '.'); i >= 0 {
		return i
	}
	return len(word)
}

func (sh *Shell) help(names []string) (Answer, error) {
	if len(names) == 0 {
		return helpText{sh.verbs}, nil
	}
	var h helpText
	for _, n := range names {
		v := find(sh.verbs, n)
		if v == nil {
			return nil, sh.unknown(n)
		}
		h.verbs = append(h.verbs, v)
	}
	return h, nil
}

// unknown is the error of a word that is no verb.
func (sh *Shell) unknown(word string) error {
	var names []string
	for _, v := range sh.verbs {
		names = append(append(names, v.name), v.aliases...)
	}
	hint := "help lists what can be asked"
	if meant := ui.Like(word, append(names, "help", "quit")); meant != "" {
		hint = "did you mean " + meant + "?"
	}
	return &hinted{fmt.Errorf("%q is no question", word), hint}
}

// ErrLines: some lines were not answered; what was wrong was said.
var ErrLines = errors.New("lines were not answered")

// stopping is a writer that ends with a context.
type stopping struct {
	ctx context.Context
	w   io.Writer
}

func (s stopping) Write(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	return s.w.Write(p)
}

// maxLine bounds a line of a script, in bytes.
const maxLine = 64 << 10

// Run answers lines as they come, without a prompt, until ctx is done; what is wrong
// goes to stderr.
func (sh *Shell) Run(ctx context.Context, in io.Reader, stdout, stderr io.Writer, width int) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	next := make(chan string)
	reading, stop := context.WithCancel(ctx)
	defer stop()
	go func() { // a line may not come, and then the end of ctx counts
		defer close(next)
		for lines.Scan() {
			select {
			case next <- lines.Text():
			case <-reading.Done():
				return
			}
		}
	}()
	n, failed := 0, 0
	for {
		var line string
		more := false
		select {
		case line, more = <-next:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !more {
			if err := lines.Err(); err != nil {
				return fmt.Errorf("line %d: %w", n+1, err)
			}
			break
		}
		n++
		err := sh.Eval(line, stopping{ctx, stdout}, width)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, errQuit) {
			break
		}
		if err != nil {
			failed++
			ui.WriteError(stderr, fmt.Sprintf("line %d", n), err)
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d %w", failed, n, ErrLines)
	}
	return nil
}
