// Package fs tells what a dead kernel had mounted.
package fs

import "github.com/panicroom-kdump/panicroom/kernel"

// Mount is a mounted filesystem, in the mount namespace of the first process.
type Mount struct {
	Addr   kernel.VirtAddr `json:"addr"` // of its struct mount
	Device string          `json:"device"`
	Point  string          `json:"point"` // absolute path
	Type   string          `json:"type"`
	Flags  []string        `json:"flags,omitempty"` // "ro", "nosuid", ...
}
