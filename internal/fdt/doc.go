// Package fdt reads, edits and writes flattened device trees: the description
// of the machine that firmware hands to a kernel, and that a loader must hand
// to the panic kernel with its own edits (/chosen, reservations).
//
// The format is that of the Devicetree Specification v0.4, chapter 5 (kernel:
// scripts/dtc/libfdt, version 17 of the format). Only what Linux reads is
// interpreted; every property keeps its bytes and every node its place, so
// that what this program does not know passes through unharmed.
//
// A blob is never trusted: offsets, lengths, names and depth are checked and a
// broken one ends with an error that wraps [ErrMalformed].
package fdt
