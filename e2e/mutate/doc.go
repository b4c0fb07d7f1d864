// Package mutate damages dumps and asks of each what panicroom asks of any: the
// report in all its forms and the questions of all verbs. Nothing but an answer
// or an error may come of it: no panic, nothing that takes longer than a limit,
// no memory beyond another.
//
// A damaged dump is known by a seed and a number: the same two make the same
// damage to the same dump. Half of the dumps are damaged in their file, headers
// and descriptors and compressed pages alike, half in the dead machine's memory,
// as if the kernel had died with its structs overwritten. Damage is done where
// the undamaged dump was read, or most of it would never be seen.
package mutate
