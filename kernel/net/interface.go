// Package net tells which network interfaces a dead kernel had.
package net

import "github.com/panicroom-kdump/panicroom/kernel"

// Interface is a network interface of the first network namespace.
type Interface struct {
	Addr      kernel.VirtAddr `json:"addr"` // of its struct net_device
	Name      string          `json:"name"`
	Index     int             `json:"index"`
	MTU       uint32          `json:"mtu"`
	MAC       string          `json:"mac,omitempty"`
	Flags     []string        `json:"flags,omitempty"`     // "up", "loopback", "running", ...
	Addresses []string        `json:"addresses,omitempty"` // with the length of the prefix
}
