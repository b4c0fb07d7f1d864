// Package setup makes a machine one that is protected, and takes that back.
//
// [Make] is a pure function: from the facts of a machine, read through an fs.FS, and
// its configuration to a list of actions, each plain data with the reason for it.
// [Do] carries them out one by one and keeps a journal, /var/lib/panicroom/setup.json,
// of what was really changed and what was there before, so that a second time changes
// nothing and [Undo] can take all of it back, even of a setup that was interrupted.
package setup
