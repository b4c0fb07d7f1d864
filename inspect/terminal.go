package inspect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"golang.org/x/term"

	"github.com/panicroom-kdump/panicroom/internal/ui"
)

const prompt = "panicroom> "

// Terminal is what a person sits at.
type Terminal struct {
	In, Out *os.File
	History *History
}

// IsTerminal tells whether a file is a terminal.
func IsTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// Interact answers lines that are typed, until the end is wanted or ctx is done.
// ^C ends an answer, or empties the line; it must not end ctx.
func (sh *Shell) Interact(ctx context.Context, t *Terminal) error {
	raw := func() (func(), error) {
		old, err := term.MakeRaw(int(t.In.Fd()))
		if err != nil {
			return nil, err
		}
		return func() { term.Restore(int(t.In.Fd()), old) }, nil
	}
	size := func() (int, int) {
		w, h, err := term.GetSize(int(t.Out.Fd()))
		if err != nil || w <= 0 || h <= 0 {
			return 80, 24 // a serial line does not say
		}
		return w, h
	}
	return sh.interact(ctx, struct {
		io.Reader
		io.Writer
	}{t.In, t.Out}, raw, size, t.History)
}

// interact is Interact of anything that takes bytes for a terminal. raw makes it give
// each key as it is typed, what it returns ends that; between them answers are
// written.
func (sh *Shell) interact(ctx context.Context, rw io.ReadWriter, raw func() (func(), error), size func() (w, h int), history *History) error {
	t := term.NewTerminal(struct {
		io.Reader
		io.Writer
	}{&keys{r: rw}, rw}, prompt)
	if history != nil {
		t.History = history
	}
	width := 80
	t.AutoCompleteCallback = func(line string, pos int, key rune) (string, int, bool) {
		if key != '\t' {
			return "", 0, false
		}
		line, pos = sh.Complete(line, pos, t, width)
		return line, pos, true
	}
	for {
		w, h := size()
		width = w
		if err := t.SetSize(w, h); err != nil {
			return err
		}
		line, err := sh.readLine(ctx, t, raw)
		if errors.Is(err, io.EOF) {
			fmt.Fprintln(rw)
			return nil
		}
		if err != nil {
			return err
		}
		out := interruptible(rw)
		err = sh.Eval(line, out, w)
		out.stop()
		switch {
		case errors.Is(err, errQuit):
			return nil
		case errors.Is(err, errInterrupted):
			fmt.Fprintln(rw)
		case err != nil:
			ui.WriteError(rw, "panicroom", err)
		}
	}
}

// readLine reads a line with the keys of the terminal at hand.
func (sh *Shell) readLine(ctx context.Context, t *term.Terminal, raw func() (func(), error)) (string, error) {
	restore, err := raw()
	if err != nil {
		return "", err
	}
	defer restore()
	type typed struct {
		line string
		err  error
	}
	done := make(chan typed, 1)
	go func() {
		line, err := t.ReadLine()
		if errors.Is(err, term.ErrPasteIndicator) {
			err = nil
		}
		done <- typed{line, err}
	}()
	select {
	case l := <-done:
		return l.line, l.err
	case <-ctx.Done():
		return "", ctx.Err() // the reader ends with the program
	}
}

// keys makes ^C what empties the line: the terminal takes it for the end otherwise.
type keys struct {
	r    io.Reader
	rest []byte
}

func (k *keys) Read(p []byte) (int, error) {
	if len(k.rest) == 0 {
		b := make([]byte, 256)
		n, err := k.r.Read(b)
		if n == 0 {
			return 0, err
		}
		// To the end of the line, and delete all before.
		k.rest = bytes.ReplaceAll(b[:n], []byte{3}, []byte{5, 21})
	}
	n := copy(p, k.rest)
	k.rest = k.rest[n:]
	return n, nil
}

var errInterrupted = errors.New("interrupted")

// interrupted is a writer that ^C ends.
type interrupted struct {
	w      io.Writer
	signal chan os.Signal
}

func interruptible(w io.Writer) *interrupted {
	i := &interrupted{w, make(chan os.Signal, 1)}
	signal.Notify(i.signal, os.Interrupt)
	return i
}

func (i *interrupted) Write(p []byte) (int, error) {
	select {
	case <-i.signal:
		return 0, errInterrupted
	default:
		return i.w.Write(p)
	}
}

func (i *interrupted) stop() { signal.Stop(i.signal) }
