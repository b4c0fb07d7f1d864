// Package status says whether a crash now would be saved: each link of the chain
// from the reserved memory to the target, and what is to be done about one that does
// not hold. It is a pure function, [Check], over [Facts] that others have read.
package status
