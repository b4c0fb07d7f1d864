// Package ui is how the command speaks to people and to programs: errors with
// hints, sizes and times as words, and a progress line that reads well in a
// terminal, in a log file and on the console of the crash kernel.
//
// The rules of its prose: no capital initials and no full stops at the end of
// one-line messages, the thing first, numbers with their units, and after an
// error what to do next.
package ui
