package network

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// Record asks the kernel for its links and addresses and for the ways to
// destinations, over one interface or, if that is "", any.
func Record(to []netip.Addr, iface string) (*Facts, error) {
	f := &Facts{}
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("network devices: %w", err)
	}
	for _, l := range links {
		f.Links = append(f.Links, linkFact(l))
	}
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return nil, fmt.Errorf("network addresses: %w", err)
	}
	for _, a := range addresses {
		addr, ok := netip.AddrFromSlice(a.IP)
		if !ok {
			continue
		}
		bits, _ := a.Mask.Size()
		f.Addresses = append(f.Addresses, AddressFact{Link: a.LinkIndex, Prefix: netip.PrefixFrom(addr.Unmap(), bits), Temporary: a.Flags&addrTemporary != 0 && addr.Is6()})
	}
	for _, d := range to {
		f.Routes = append(f.Routes, routeFact(d, iface))
	}
	return f, nil
}

// Flags of addresses, include/uapi/linux/if_addr.h.
const (
	addrTemporary = 0x01
	addrDADFailed = 0x08
	addrTentative = 0x40
)

func linkFact(l netlink.Link) LinkFact {
	a := l.Attrs()
	f := LinkFact{Index: a.Index, Name: a.Name, Kind: l.Type(), MAC: a.HardwareAddr.String(), Permanent: permanent(a), MTU: a.MTU,
		Loopback: a.Flags&net.FlagLoopback != 0, Parent: a.ParentIndex, Master: a.MasterIndex}
	switch l := l.(type) {
	case *netlink.Vlan:
		f.VLAN = &VLAN{ID: l.VlanId, Protocol: int(l.VlanProtocol)}
	case *netlink.Bond:
		f.Bond = &Bond{Mode: int(l.Mode), Miimon: max(0, l.Miimon), LACPRate: max(0, int(l.LacpRate)), XmitHash: max(0, int(l.XmitHashPolicy))}
	}
	return f
}

// permanent is the address that a device came with; zeros are none.
func permanent(a *netlink.LinkAttrs) string {
	for _, b := range a.PermHWAddr {
		if b != 0 {
			return a.PermHWAddr.String()
		}
	}
	return ""
}

func routeFact(to netip.Addr, iface string) RouteFact {
	f := RouteFact{To: to}
	routes, err := netlink.RouteGetWithOptions(to.AsSlice(), &netlink.RouteGetOptions{Oif: iface})
	switch {
	case err != nil:
		f.Error = fmt.Sprintf("%v: %v", ErrNoRoute, err)
		return f
	case len(routes) == 0:
		f.Error = ErrNoRoute.Error()
		return f
	}
	r := routes[0]
	f.Link, f.MTU = r.LinkIndex, r.MTU
	if a, ok := netip.AddrFromSlice(r.Gw); ok {
		f.Gateway = a.Unmap()
	}
	if a, ok := netip.AddrFromSlice(r.Src); ok {
		f.Source = a.Unmap()
	}
	return f
}
