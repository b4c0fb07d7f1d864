package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/panicroom-kdump/panicroom/e2e/referee"
)

// record is crash's answers in a file.
type record struct {
	Dump string // hash of it
	*referee.Answers
}

// answers lets crash answer all questions about a dump. They stay beside the dump of a
// machine of ours.
func (v *verify) answers(ctx context.Context, d *dump) (*referee.Answers, error) {
	var path, hash string
	if d.ours() {
		path = filepath.Join(filepath.Dir(d.Path), "answers.json")
		var err error
		if hash, err = fileHash(d.Path); err != nil {
			return nil, err
		}
	}
	if v.reuse && path != "" {
		text, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		var r record
		if err == nil {
			if err := json.Unmarshal(text, &r); err != nil {
				return nil, err
			}
		}
		if r.Answers != nil && r.Dump == hash && answered(r.Answers) {
			v.say("%s: what crash answered before", d.Name)
			return r.Answers, nil
		}
	}
	v.say("%s: crash, under an emulator, is asked %d questions; it takes minutes to start", d.Name, len(questions))
	s := &referee.Session{Vmlinux: d.Vmlinux, Files: []string{d.Path}, Questions: questions, Say: v.say}
	a, err := s.Ask(ctx)
	if err != nil {
		return nil, err
	}
	v.say("%s: crash %s answered after %.0f s", d.Name, a.Version, a.Took.Seconds())
	if path == "" {
		return a, nil
	}
	text, err := json.MarshalIndent(record{hash, a}, "", " ")
	if err != nil {
		return nil, err
	}
	return a, os.WriteFile(path, text, 0o600)
}

// answered tells whether all questions of today were put.
func answered(a *referee.Answers) bool {
	for _, q := range questions {
		if _, ok := a.Text[q]; !ok {
			return false
		}
	}
	return true
}
