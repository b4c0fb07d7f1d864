// Package saved is the crashes that a machine has kept: what is in a directory of
// them, which have to go, and taking those away.
//
// It knows a crash by its manifest, of which it reads what it needs; who writes
// it is package crashenv. What has no manifest of panicroom's is somebody else's
// and is left alone.
package saved
