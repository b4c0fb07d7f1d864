package main

import (
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
)

// connect gives the machine's network device addresses and a way out, and waits
// until it knows how to reach others: routers may tell late.
func connect(s *script.Network) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	link, err := netlink.LinkByName(s.Device)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return err
	}
	if s.VLAN != 0 {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.ParentIndex = fmt.Sprintf("%s.%d", s.Device, s.VLAN), link.Attrs().Index
		vlan := &netlink.Vlan{LinkAttrs: attrs, VlanId: s.VLAN, VlanProtocol: netlink.VLAN_PROTOCOL_8021Q}
		if err := netlink.LinkAdd(vlan); err != nil {
			return err
		}
		link = vlan
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
	}
	for _, a := range s.Addresses {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("address %s: %w", a, err)
		}
	}
	if s.Gateway != "" {
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(s.Gateway)}); err != nil {
			return fmt.Errorf("gateway %s: %w", s.Gateway, err)
		}
	}
	changes, done := make(chan netlink.AddrUpdate), make(chan struct{})
	defer close(done)
	if err := netlink.AddrSubscribe(changes, done); err != nil {
		return err
	}
	late := time.After(deviceLimit)
	for _, to := range s.Reach {
		for !reachable(to) {
			select {
			case <-changes:
			case <-late:
				return fmt.Errorf("no way to %s within %s", to, deviceLimit)
			}
		}
	}
	return nil
}

// reachable tells whether there is a way to an address from one that is ours for
// good.
func reachable(to string) bool {
	routes, err := netlink.RouteGet(net.ParseIP(to))
	if err != nil || len(routes) == 0 {
		return false
	}
	if strings.Contains(to, ":") {
		const tentative = 0x40 // IFA_F_TENTATIVE
		all, err := netlink.AddrList(nil, netlink.FAMILY_V6)
		if err != nil {
			return false
		}
		for _, a := range all {
			if a.IP.Equal(routes[0].Src) && a.Flags&tentative == 0 && a.IP.IsGlobalUnicast() {
				return true
			}
		}
		return false
	}
	return true
}
