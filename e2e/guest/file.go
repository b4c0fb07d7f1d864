package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/internal/sys"
)

// fill leaves so much of a filesystem as the step says.
func fill(s *script.Fill) error {
	f, err := os.Create(s.Path)
	if err != nil {
		return err
	}
	defer f.Close()
	zeros := make([]byte, 256<<10)
	leave := uint64(s.LeaveKiB) << 10
	for {
		sys.SyncFS(f) // blocks that are only promised count as free
		info, err := sys.StatFS(filepath.Dir(s.Path))
		if err != nil {
			return err
		}
		if info.Available <= leave {
			return f.Sync()
		}
		for todo := info.Available - leave; todo > 0; {
			n, err := f.Write(zeros[:min(todo, uint64(len(zeros)))])
			todo -= uint64(n)
			if errors.Is(err, syscall.ENOSPC) {
				return f.Sync()
			}
			if err != nil {
				return err
			}
		}
	}
}

func patch(s *script.Patch) error {
	path := s.Path
	if s.Serial != "" {
		if path = diskOf(s.Serial); path == "" {
			return fmt.Errorf("no disk %s", s.Serial)
		}
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	data := s.Data
	if s.Or {
		data = make([]byte, len(s.Data))
		if _, err := f.ReadAt(data, s.Offset); err != nil {
			return err
		}
		for i := range data {
			data[i] |= s.Data[i]
		}
	}
	if _, err := f.WriteAt(data, s.Offset); err != nil {
		return err
	}
	return f.Sync()
}

func write(s *script.Write) error {
	if err := os.MkdirAll(filepath.Dir(s.Path), 0o755); err != nil {
		return err
	}
	mode := os.FileMode(0o644)
	if s.Mode != 0 {
		mode = os.FileMode(s.Mode)
	}
	switch {
	case s.Random > 0:
		return writeNoise(s.Path, s.Random, newNoise())
	case s.Copy == "" && s.Size > 0:
		if err := os.WriteFile(s.Path, s.Data, mode); err != nil {
			return err
		}
		return os.Truncate(s.Path, s.Size)
	case s.Copy == "":
		return os.WriteFile(s.Path, s.Data, mode)
	}
	from, err := os.Open(s.Copy)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(s.Path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	if s.Size > 0 {
		_, err = io.CopyN(to, from, s.Size)
	} else {
		_, err = io.Copy(to, from)
	}
	if cerr := to.Close(); err == nil {
		err = cerr
	}
	return err
}

func (g *guest) show(step int, s *script.Show) error {
	for _, p := range s.Paths {
		text, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		g.tell(script.Event{Kind: script.Stdout, Step: step, Text: string(text)})
	}
	return nil
}
