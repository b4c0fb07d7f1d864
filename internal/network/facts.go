package network

import "net/netip"

// Facts are what the running machine says about the way to other machines.
type Facts struct {
	Links     []LinkFact    `json:"links"`
	Addresses []AddressFact `json:"addresses"`
	Routes    []RouteFact   `json:"routes"` // one for each destination asked for
}

// LinkFact is a network device, real or not.
type LinkFact struct {
	Index int    `json:"index"`
	Name  string `json:"name"`
	// Kind is "device" for what has a driver, else the kernel's name of the kind:
	// vlan, bond, bridge.
	Kind string `json:"kind"`
	MAC  string `json:"mac,omitempty"`
	// Permanent is the hardware address that the device came with, "" if it does
	// not know.
	Permanent string `json:"permanent,omitempty"`
	MTU       int    `json:"mtu,omitempty"`
	Loopback  bool   `json:"loopback,omitempty"`
	Parent    int    `json:"parent,omitempty"` // that a VLAN is on
	Master    int    `json:"master,omitempty"` // bond or bridge that it belongs to
	VLAN      *VLAN  `json:"vlan,omitempty"`
	Bond      *Bond  `json:"bond,omitempty"`
}

// VLAN is what one is made with.
type VLAN struct {
	ID       int `json:"id"`
	Protocol int `json:"protocol,omitempty"` // 0 is 802.1Q
}

// Bond is what one is made with; the numbers are the kernel's
// (include/uapi/linux/if_bonding.h).
type Bond struct {
	Mode     int `json:"mode"`
	Miimon   int `json:"miimon,omitempty"` // milliseconds
	LACPRate int `json:"lacp_rate,omitempty"`
	XmitHash int `json:"xmit_hash,omitempty"`
}

// AddressFact is an address of a link.
type AddressFact struct {
	Link      int          `json:"link"`
	Prefix    netip.Prefix `json:"prefix"` // the address, with the length of its network's
	Temporary bool         `json:"temporary,omitempty"`
}

// RouteFact is how the kernel sends to a destination.
type RouteFact struct {
	To      netip.Addr `json:"to"`
	Link    int        `json:"link"`
	Gateway netip.Addr `json:"gateway,omitzero"` // not valid: no gateway is needed
	Source  netip.Addr `json:"source,omitzero"`
	MTU     int        `json:"mtu,omitempty"`
	Error   string     `json:"error,omitempty"` // why there is no way
}

func (f *Facts) link(index int) *LinkFact {
	for i := range f.Links {
		if f.Links[i].Index == index {
			return &f.Links[i]
		}
	}
	return nil
}
