package setup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// Machine is what setup changes. Names are absolute.
type Machine interface {
	ReadFile(name string) ([]byte, error)
	// Mkdir makes a directory and those above it; one that is there stays.
	Mkdir(name string, mode fs.FileMode) error
	// Create makes a file that is not there, with all of data or not at all.
	Create(name string, data []byte, mode fs.FileMode) error
	// Replace writes a file at once, whether it is there or not.
	Replace(name string, data []byte, mode fs.FileMode) error
	// Set writes to a file of the kernel's.
	Set(name, value string) error
	Remove(name string) error
	// Systemctl runs systemctl; the error has what it said.
	Systemctl(ctx context.Context, args ...string) error
	Hostname() string
}

// Reserver has memory reserved by the boot loader.
type Reserver interface {
	// Reserve makes the boot loader reserve what is configured, and returns what it
	// did, in lines for people. With dry it changes nothing.
	Reserve(ctx context.Context, dry bool) ([]string, error)
	// Unreserve takes back what Reserve has changed.
	Unreserve(ctx context.Context) ([]string, error)
}

// Steps are how the plan is carried out.
type Steps struct {
	Machine  Machine
	Reserver Reserver
	// Say gets a line for each thing that is done.
	Say func(format string, args ...any)
}

// Do carries out a plan. It stops at the first thing that fails; what was done until
// then is in the journal.
func (s *Steps) Do(ctx context.Context, p *Plan) error {
	j, err := readJournal(s.Machine)
	if err != nil {
		return err
	}
	for _, a := range p.Actions {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := s.act(ctx, a, j); err != nil {
			return fmt.Errorf("%s: %w", a.Name(), err)
		}
	}
	return nil
}

// Show tells what Do would do.
func (s *Steps) Show(ctx context.Context, p *Plan) error {
	for _, a := range p.Actions {
		s.Say("%s: %s", a.Name(), a.Why)
		if a.Reserve != nil {
			said, err := s.Reserver.Reserve(ctx, true)
			s.lines(said)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// Name says what an action does, in a few words.
func (a *Action) Name() string {
	switch {
	case a.Dir != nil:
		return "directory " + a.Dir.Path
	case a.File != nil:
		return "file " + a.File.Path
	case a.Key != nil:
		return "key pair " + a.Key.Path
	case a.Sysctl != nil:
		return fmt.Sprintf("sysctl %s = %s", a.Sysctl.Name, a.Sysctl.Value)
	case a.Units != nil:
		return "enable " + strings.Join(a.Units.Names, ", ")
	case a.Reserve != nil:
		return "reserve memory (" + a.Reserve.Size + ")"
	case a.Start != nil:
		return "start " + a.Start.Unit
	}
	return "nothing"
}

// act carries out one action. The journal has it before it is done, where undoing what
// was not done does no harm: a setup that is interrupted leaves nothing unknown.
func (s *Steps) act(ctx context.Context, a Action, j *Journal) error {
	s.Say("%s: %s", a.Name(), a.Why)
	note := func(before string) error {
		if j.has(a) {
			return nil
		}
		j.Done = append(j.Done, Done{a, before})
		return j.write(s.Machine)
	}
	m := s.Machine
	switch {
	case a.Dir != nil:
		if err := note(""); err != nil {
			return err
		}
		return m.Mkdir(a.Dir.Path, a.Dir.Mode)
	case a.File != nil:
		if err := note(""); err != nil {
			return err
		}
		if err := m.Mkdir(path.Dir(a.File.Path), 0o755); err != nil {
			return err
		}
		return m.Create(a.File.Path, a.File.Data, a.File.Mode)
	case a.Key != nil:
		return s.key(a.Key, note)
	case a.Sysctl != nil:
		name := sysctlPath(a.Sysctl.Name)
		before, err := m.ReadFile(name)
		if err != nil {
			return err
		}
		if err := note(string(bytes.TrimSpace(before))); err != nil {
			return err
		}
		return m.Set(name, a.Sysctl.Value)
	case a.Units != nil:
		if err := note(""); err != nil {
			return err
		}
		if a.Units.Reload {
			if err := m.Systemctl(ctx, "daemon-reload"); err != nil {
				return err
			}
		}
		return m.Systemctl(ctx, append([]string{"enable"}, a.Units.Names...)...)
	case a.Reserve != nil:
		if err := note(""); err != nil {
			return err
		}
		said, err := s.Reserver.Reserve(ctx, false)
		s.lines(said)
		return err
	case a.Start != nil:
		err := m.Systemctl(ctx, "reload-or-restart", a.Start.Unit)
		return ui.Hint(err, "panicroom load says what is wrong", "journalctl -b -u "+a.Start.Unit)
	}
	return errors.New("an action that does nothing")
}

func sysctlPath(name string) string { return "/proc/sys/" + strings.ReplaceAll(name, ".", "/") }

func (s *Steps) lines(said []string) {
	for _, l := range said {
		s.Say("  %s", l)
	}
}

// key makes a key pair and shows the public key.
func (s *Steps) key(k *Key, note func(string) error) error {
	private, public, err := newKey("panicroom@" + s.Machine.Hostname())
	if err != nil {
		return err
	}
	if err := note(""); err != nil {
		return err
	}
	if err := s.Machine.Mkdir(path.Dir(k.Path), 0o700); err != nil {
		return err
	}
	if err := s.Machine.Replace(k.Path+".pub", public, 0o644); err != nil {
		return err
	}
	if err := s.Machine.Create(k.Path, private, 0o600); err != nil {
		return err
	}
	s.lines([]string{"to be put into ~/.ssh/authorized_keys of the account on the other machine:",
		"restrict " + string(bytes.TrimSpace(public))})
	return nil
}

// Undo takes back what the journal has, last things first. What fails does not stop
// it; that stays in the journal. What somebody has changed since stays as it is, with
// a word about it.
func (s *Steps) Undo(ctx context.Context) error {
	j, err := readJournal(s.Machine)
	if err != nil {
		return err
	}
	if len(j.Done) == 0 {
		s.Say("nothing to undo: %s has nothing", JournalFile)
		return nil
	}
	var failed []error
	var left []Done
	for _, d := range slices.Backward(j.Done) {
		if err := s.undo(ctx, d); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", d.Name(), err))
			left = append(left, d)
		}
	}
	slices.Reverse(left)
	j.Done = left
	if len(left) > 0 {
		return errors.Join(append(failed, j.write(s.Machine))...)
	}
	return s.Machine.Remove(JournalFile)
}

func (s *Steps) undo(ctx context.Context, d Done) error {
	m := s.Machine
	switch {
	case d.Dir != nil:
		// One with saved crashes in it stays.
		if err := m.Remove(d.Dir.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.Say("%s stays: it is not empty", d.Dir.Path)
			return nil
		}
		s.Say("removed %s", d.Dir.Path)
		return nil
	case d.File != nil:
		now, err := m.ReadFile(d.File.Path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case !bytes.Equal(now, d.File.Data):
			s.Say("%s stays: it was edited", d.File.Path)
			return nil
		}
		s.Say("removed %s", d.File.Path)
		return m.Remove(d.File.Path)
	case d.Key != nil:
		s.Say("removed %s and %s.pub", d.Key.Path, d.Key.Path)
		return errors.Join(gone(m.Remove(d.Key.Path)), gone(m.Remove(d.Key.Path+".pub")))
	case d.Sysctl != nil:
		s.Say("sysctl %s = %s, as before", d.Sysctl.Name, d.Before)
		return m.Set(sysctlPath(d.Sysctl.Name), d.Before)
	case d.Units != nil:
		s.Say("disabled %s; the panic kernel is taken out of memory", strings.Join(d.Units.Names, ", "))
		if err := m.Systemctl(ctx, append([]string{"disable", "--now"}, d.Units.Names...)...); err != nil {
			return err
		}
		if d.Units.Reload {
			return m.Systemctl(ctx, "daemon-reload")
		}
		return nil
	case d.Reserve != nil:
		s.Say("memory is no longer reserved from the next boot on")
		said, err := s.Reserver.Unreserve(ctx)
		s.lines(said)
		return err
	}
	return nil
}

// gone forgives that there is nothing to remove.
func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
