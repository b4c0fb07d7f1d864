package referee

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// DropIn lets makedumpfile and a program that takes its command lines, ours,
// make dumps of the raw copy at level 1, each take apart or put together what
// the other one wrote, and compares what comes of it.
func DropIn(ctx context.Context, in Inputs, ours string) (*Report, error) {
	m, err := newMakedumpfile(ctx, in.Raw, in.Say)
	if err != nil {
		return nil, err
	}
	defer m.close()
	ourProgram := func(stdin io.Reader, stdout io.Writer, args ...string) error {
		return command(exec.CommandContext(ctx, ours, append([]string{"--message-level", "4", "-f"}, args...)...), stdin, stdout)
	}
	theirs := func(stdin io.Reader, stdout io.Writer, args ...string) error {
		return command(m.command(ctx, args...), stdin, stdout)
	}
	want := m.file("whole")
	if err := ourProgram(nil, io.Discard, "-l", "-d", "1", in.Raw, want); err != nil {
		return nil, err
	}
	d, err := openDiskdump(want)
	if err != nil {
		return nil, err
	}
	defer d.close()
	r := &Report{}
	// Each is made by one and finished by the other.
	for _, c := range []struct {
		what          string
		first, second func(io.Reader, io.Writer, ...string) error
	}{
		{"ours, finished by makedumpfile", ourProgram, theirs},
		{"makedumpfile's, finished by ours", theirs, ourProgram},
	} {
		flat, dump := m.file("flat"), m.file("dump")
		if err := piped(flat, func(w *os.File) error { return c.first(nil, w, "-F", "-l", "-d", "1", in.Raw) }); err != nil {
			return r, err
		}
		f, err := os.Open(flat)
		if err != nil {
			return r, err
		}
		err = c.second(f, io.Discard, "-R", dump)
		f.Close()
		if err != nil {
			return r, err
		}
		r.sameDump("flattened by "+c.what, d, dump, false)
		parts := []string{m.file("part1"), m.file("part2")}
		if err := c.first(nil, io.Discard, "--split", "-l", "-d", "1", in.Raw, parts[0], parts[1]); err != nil {
			return r, err
		}
		if err := c.second(nil, io.Discard, "--reassemble", parts[0], parts[1], dump); err != nil {
			return r, err
		}
		r.sameDump("split by "+c.what, d, dump, false)
	}
	return r, r.Err()
}

func piped(path string, write func(*os.File) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	err = write(f)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// command runs a program; the error has what it said.
func command(c *exec.Cmd, stdin io.Reader, stdout io.Writer) error {
	var said bytes.Buffer
	c.Stdin, c.Stdout, c.Stderr = stdin, stdout, &said
	if err := c.Run(); err != nil {
		return fmt.Errorf("%q: %w: %s", c.Args, err, tail(said.String()))
	}
	return nil
}
