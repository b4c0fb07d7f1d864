// Package kexecline reads the command lines of kexec(8) from kexec-tools, so
// that scripts written for it can call panicroom instead: which options there
// are, what they ask for, and which of them mean nothing or cannot be had on
// these machines.
//
// The table of options is the one place where that is said: command lines are
// parsed by it, kexec --help prints it, and docs/kexec.md and the man page are
// made from it. What is known of kexec-tools is of release 2.0.32 and of its git
// of July 2026.
package kexecline
