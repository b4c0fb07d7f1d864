// Package reserve answers how much memory must be set aside for a panic kernel on
// this machine, and why, and whether that is done.
//
// All of it is arithmetic on facts: how large the image is, what the modules of
// the target take, what the kernel allocates whatever it is used for. Each addend
// has a name and a reason, and the sum is held to what was measured: docs/reserve.md
// tells how, testdata/measured.json is the result, and a test compares the two.
package reserve

const (
	kib = 1 << 10
	mib = 1 << 20
)

func roundUp(n, step uint64) uint64 { return (n + step - 1) / step * step }
