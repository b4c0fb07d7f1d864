// Package house holds the rules of the house as tests, and nothing else: who
// may import whom and why, what the crash binary may link and weigh, which
// parsers are fuzzed, how files are named. A rule that nobody can break
// unseen needs no reviewer.
//
// Each rule's failure says what to do. Tables are meant to grow: a new edge or
// a raised number costs one line with one sentence of reason.
package house
