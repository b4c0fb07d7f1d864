package main

import (
	"fmt"
	"slices"
)

// comparison is one question to both: what is the same, what differs for a reason
// that is known, and what differs.
type comparison struct {
	Question string // as crash calls it
	What     string // the things that were compared, as a plural
	Things   int    // that both have
	Facts    int    // that are equal
	Reasons  []explained
	Wrong    []difference
	// Unanswered is what crash said instead of an answer; nothing was compared then.
	Unanswered string
}

// difference is a fact that the two tell differently.
type difference struct {
	What, Ours, Theirs string
}

func (d difference) String() string {
	return fmt.Sprintf("%s: panicroom has %s, crash %s", d.What, d.Ours, d.Theirs)
}

// explained are differences with one reason, and the first of them.
type explained struct {
	Reason reason
	Count  int
	First  difference
}

// reason is why two answers may differ, for people.
type reason string

// unanswered tells whether crash has nothing to compare because it cannot answer.
func (c *comparison) unanswered(t *theirs, things int) bool {
	if things == 0 {
		c.Unanswered = t.cannot[c.Question]
	}
	return c.Unanswered != ""
}

// same compares one fact.
func (c *comparison) same(what string, ours, theirs any) {
	c.allow("", what, ours, theirs)
}

// allow is same, where a difference has a reason; "" is none.
func (c *comparison) allow(why reason, what string, ours, theirs any) {
	if ours == theirs {
		c.Facts++
		return
	}
	c.differ(why, difference{what, quoted(ours), quoted(theirs)})
}

// quoted is a fact for people.
func quoted(fact any) string {
	if s, ok := fact.(string); ok {
		return fmt.Sprintf("%q", s)
	}
	return fmt.Sprint(fact)
}

// differ notes a difference.
func (c *comparison) differ(why reason, d difference) {
	if why == "" {
		c.Wrong = append(c.Wrong, d)
		return
	}
	if i := slices.IndexFunc(c.Reasons, func(e explained) bool { return e.Reason == why }); i >= 0 {
		c.Reasons[i].Count++
		return
	}
	c.Reasons = append(c.Reasons, explained{why, 1, d})
}

// missing notes a thing that only one of the two has; why is "" if there is no reason
// for that.
func (c *comparison) missing(why reason, what string, oursHas bool) {
	d := difference{what, "it", "nothing"}
	if !oursHas {
		d.Ours, d.Theirs = d.Theirs, d.Ours
	}
	c.differ(why, d)
}

// addr is an address, for people.
type addr uint64

func (a addr) String() string { return fmt.Sprintf("%#x", uint64(a)) }

// pair matches things of the two by a key, and compares those that both have; what
// only one has is for its alone function to judge.
func pair[K comparable, A, B any](c *comparison, ours []A, theirs []B, a func(A) K, b func(B) K,
	both func(A, B), onlyOurs func(A), onlyTheirs func(B),
) {
	index := make(map[K]B, len(theirs))
	for _, x := range theirs {
		if _, twice := index[b(x)]; twice {
			c.Wrong = append(c.Wrong, difference{fmt.Sprintf("%v", b(x)), "one", "two of them"})
			continue
		}
		index[b(x)] = x
	}
	for _, x := range ours {
		y, ok := index[a(x)]
		if !ok {
			onlyOurs(x)
			continue
		}
		delete(index, a(x))
		c.Things++
		both(x, y)
	}
	for _, x := range theirs { // in their order
		if _, left := index[b(x)]; left {
			onlyTheirs(x)
		}
	}
}
