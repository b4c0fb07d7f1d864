// Package getopt reads the command lines of programs that others wrote with
// getopt_long(3), by a table of their options: which there are, what each is
// for, and which of them mean nothing or cannot be had here. The help is
// printed from the same table, and package getopttest makes the lists in the
// documents of it.
package getopt
