// Package dumpline reads the command lines of makedumpfile(8), so that scripts
// written for it can call panicroom instead: which options there are, what they
// ask for, and which of them mean nothing or cannot be had here.
//
// The table of options is the one place where that is said: command lines are
// parsed by it, makedumpfile --help prints it, and docs/makedumpfile.md and the
// man page are made from it. What is known of makedumpfile is of release 1.7.8
// and of its git of July 2026.
package dumpline
