// Package partition is a [target.Target] on a partition that has nothing else on
// it: no filesystem whose journal could be broken by what killed the machine, or
// whose driver takes memory. The next boot finds what a crash left there and
// unpacks it into a directory: [Unpack].
//
// # Format
//
// All numbers are little-endian.
//
//	0        header, 4096 bytes; written by [Init] and never again
//	         0 magic "PANICROOM-DUMPS\n", 16 version (1), 20 log2 of the size of
//	         a chunk, 24 UUID (16 bytes), 40 number of chunks (64 bits),
//	         4092 CRC-32C of what is before
//	4096     two tables, 512 KiB each
//	         0 magic "PRTABLE\n", 8 sequence number (64 bits), 16 length of the
//	         text, 20 CRC-32C of the sequence number, the length and the text,
//	         24 the text: JSON, see type table
//	2 MiB    the chunks
//
// The table with the larger sequence number counts, if its checksum is right. A
// new one is written over the other, after what it speaks of is on the disk: when
// the machine dies in the middle of that, the one before is still there.
//
// A file has a chunk wherever something was written, and reads as zeros
// elsewhere. The size of chunks is chosen so that there are at most 16384, and
// all that is kept in memory is bounded by their number, whatever the size of
// the dump.
package partition
