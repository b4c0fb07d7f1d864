package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
)

// Up sets up what the plan says and returns when packets can be sent: the links
// have a carrier and the addresses are ours. It returns a text for people.
func (p *Plan) Up(ctx context.Context) (string, error) { return p.up(ctx, "device") }

// up finds devices of a kind: in tests there is no real one.
func (p *Plan) up(ctx context.Context, kind string) (string, error) {
	w, err := newWatch()
	if err != nil {
		return "", err
	}
	defer w.close()
	u := &up{plan: p, watch: w, kind: kind, links: map[string]int{}}
	for i, l := range p.Links {
		if err := u.link(ctx, i, l); err != nil {
			return "", fmt.Errorf("%s: %w", l.Name, err)
		}
	}
	for _, r := range p.Routes {
		if err := u.carrier(ctx, r.Link); err != nil {
			return "", fmt.Errorf("%s: %w", r.Link, err)
		}
	}
	if p.Method == DHCP {
		err = u.ask(ctx)
	} else {
		err = u.copy(ctx)
	}
	if err != nil {
		return "", err
	}
	return strings.Join(u.text, ", "), nil
}

// up is one Up.
type up struct {
	plan  *Plan
	watch *watch
	kind  string
	links map[string]int // index by name in the plan
	text  []string
}

// link finds or makes a link and turns it on.
func (u *up) link(ctx context.Context, n int, l Link) error {
	var index int
	var err error
	switch {
	case l.Permanent != "":
		index, err = u.find(ctx, l.Permanent)
	default:
		index, err = u.make(n, l)
	}
	if err != nil {
		return err
	}
	u.links[l.Name] = index
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return err
	}
	if l.MAC != "" && !strings.EqualFold(link.Attrs().HardwareAddr.String(), l.MAC) {
		mac, err := net.ParseMAC(l.MAC)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetHardwareAddr(link, mac); err != nil {
			return fmt.Errorf("set hardware address %s: %w", mac, err)
		}
	}
	if l.MTU > 0 && link.Attrs().MTU != l.MTU {
		// A device that comes up with less than it had still sends.
		if err := netlink.LinkSetMTU(link, l.MTU); err != nil && l.MTU < link.Attrs().MTU {
			return fmt.Errorf("set MTU %d: %w", l.MTU, err)
		}
	}
	for _, m := range u.plan.Links {
		if m.Bond != nil && slices.Contains(m.Of, l.Name) {
			return nil // a bond takes only what is down, and turns it on itself
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("turn on: %w", err)
	}
	return nil
}

// find waits for the device with a permanent hardware address.
func (u *up) find(ctx context.Context, mac string) (int, error) {
	index := 0
	var seen []string
	err := u.watch.until(ctx, func() (bool, error) {
		links, err := netlink.LinkList()
		if err != nil {
			return false, err
		}
		seen = seen[:0]
		for _, l := range links {
			a := l.Attrs()
			own := permanent(a)
			if own == "" {
				own = a.HardwareAddr.String()
			}
			if l.Type() == u.kind && strings.EqualFold(own, mac) {
				index = a.Index
				return true, nil
			}
			if l.Type() == u.kind && a.Flags&net.FlagLoopback == 0 {
				seen = append(seen, a.Name+" ("+own+")")
			}
		}
		return false, nil
	})
	if err != nil && ctx.Err() != nil {
		there := "no network device came"
		if len(seen) > 0 {
			there = "there are " + strings.Join(seen, ", ")
		}
		return 0, fmt.Errorf("no device with hardware address %s: %s: %w", mac, there, err)
	}
	return index, err
}

// make makes a link of others. Its name is one that no device has.
func (u *up) make(n int, l Link) (int, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = fmt.Sprintf("panicroom%d", n)
	var link netlink.Link
	switch {
	case l.VLAN != nil:
		attrs.ParentIndex = u.links[l.Of[0]]
		vlan := &netlink.Vlan{LinkAttrs: attrs, VlanId: l.VLAN.ID, VlanProtocol: netlink.VlanProtocol(l.VLAN.Protocol)}
		if l.VLAN.Protocol == 0 {
			vlan.VlanProtocol = netlink.VLAN_PROTOCOL_8021Q
		}
		link = vlan
	default:
		bond := netlink.NewLinkBond(attrs)
		bond.Mode, bond.Miimon = netlink.BondMode(l.Bond.Mode), l.Bond.Miimon
		if bond.Miimon == 0 {
			bond.Miimon = 100 // else it would never see a link that goes down
		}
		if bond.Mode == netlink.BOND_MODE_802_3AD {
			bond.LacpRate = netlink.BondLacpRate(l.Bond.LACPRate)
		}
		bond.XmitHashPolicy = netlink.BondXmitHashPolicy(l.Bond.XmitHash)
		link = bond
	}
	if err := netlink.LinkAdd(link); err != nil {
		return 0, fmt.Errorf("make: %w", err)
	}
	made, err := netlink.LinkByName(attrs.Name)
	if err != nil {
		return 0, err
	}
	if l.Bond == nil {
		return made.Attrs().Index, nil
	}
	for _, of := range l.Of {
		port, err := netlink.LinkByIndex(u.links[of])
		if err != nil {
			return 0, err
		}
		if err := netlink.LinkSetDown(port); err != nil {
			return 0, fmt.Errorf("turn off %s: %w", of, err)
		}
		if err := netlink.LinkSetMaster(port, made); err != nil {
			return 0, fmt.Errorf("take in %s: %w", of, err)
		}
	}
	return made.Attrs().Index, nil
}

// carrier waits until a link can send.
func (u *up) carrier(ctx context.Context, name string) error {
	const lowerUp = 1 << 16 // IFF_LOWER_UP, include/uapi/linux/if.h
	err := u.watch.until(ctx, func() (bool, error) {
		l, err := netlink.LinkByIndex(u.links[name])
		if err != nil {
			return false, err
		}
		a := l.Attrs()
		return a.RawFlags&lowerUp != 0 && (a.OperState == netlink.OperUp || a.OperState == netlink.OperUnknown), nil
	})
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("no carrier (is the cable in?): %w", err)
	}
	return err
}

// copy gives the addresses and routes of the running machine.
func (u *up) copy(ctx context.Context) error {
	for _, a := range u.plan.Addresses {
		link, err := netlink.LinkByIndex(u.links[a.Link])
		if err != nil {
			return err
		}
		addr := &netlink.Addr{IPNet: &net.IPNet{IP: a.Prefix.Addr().AsSlice(), Mask: net.CIDRMask(a.Prefix.Bits(), a.Prefix.Addr().BitLen())}}
		if err := netlink.AddrReplace(link, addr); err != nil {
			return fmt.Errorf("%s: address %s: %w", a.Link, a.Prefix, err)
		}
		u.text = append(u.text, fmt.Sprintf("%s has %s", link.Attrs().Name, a.Prefix))
	}
	// Of an address that may be somebody else's nothing is sent.
	for _, a := range u.plan.Addresses {
		if a.Prefix.Addr().Is6() {
			if err := u.settled(ctx, a.Link); err != nil {
				return err
			}
		}
	}
	for _, r := range u.plan.Routes {
		if err := u.route(r); err != nil {
			return err
		}
	}
	return nil
}

// settled waits until the kernel has seen that nobody else has the IPv6
// addresses of a link (duplicate address detection, RFC 4862, 5.4).
func (u *up) settled(ctx context.Context, name string) error {
	return u.watch.until(ctx, func() (bool, error) {
		link, err := netlink.LinkByIndex(u.links[name])
		if err != nil {
			return false, err
		}
		all, err := netlink.AddrList(link, netlink.FAMILY_V6)
		if err != nil {
			return false, err
		}
		for _, a := range all {
			if a.Flags&addrDADFailed != 0 {
				return false, fmt.Errorf("%s: address %s is somebody else's, too", name, a.IPNet)
			}
			if a.Flags&addrTentative != 0 {
				return false, nil
			}
		}
		return true, nil
	})
}

// route tells the kernel the way to one machine.
func (u *up) route(r Route) error {
	if !r.Gateway.IsValid() && !r.Source.IsValid() {
		return nil // the network of an address
	}
	route := &netlink.Route{LinkIndex: u.links[r.Link], MTU: r.MTU,
		Dst: &net.IPNet{IP: r.To.AsSlice(), Mask: net.CIDRMask(r.To.BitLen(), r.To.BitLen())}}
	if r.Source.IsValid() && !(r.Source.Is6() && r.Source.IsLinkLocalUnicast()) {
		route.Src = r.Source.AsSlice()
	}
	if r.Gateway.IsValid() {
		route.Gw = r.Gateway.AsSlice()
		// The gateway may be in no network of ours: hosting companies do that.
		route.SetFlag(netlink.FLAG_ONLINK)
	} else {
		route.Scope = netlink.SCOPE_LINK
	}
	if err := netlink.RouteReplace(route); err != nil {
		return fmt.Errorf("route to %s: %w", r.To, err)
	}
	return nil
}

// ask gets addresses and routes from others.
func (u *up) ask(ctx context.Context) error {
	leased := map[string]bool{}
	for _, r := range u.plan.Routes {
		if r.To.Is4() {
			if leased[r.Link] {
				continue
			}
			leased[r.Link] = true
			if err := u.lease(ctx, r.Link); err != nil {
				return fmt.Errorf("%s: DHCP: %w", r.Link, err)
			}
			continue
		}
		if err := u.autoconf(ctx, r); err != nil {
			return err
		}
	}
	return nil
}

// autoconf waits until routers have told an address and a way (RFC 4862); the
// kernel asks them.
func (u *up) autoconf(ctx context.Context, r Route) error {
	link, err := netlink.LinkByIndex(u.links[r.Link])
	if err != nil {
		return err
	}
	// Even if something has made this kernel a router.
	err = os.WriteFile("/proc/sys/net/ipv6/conf/"+link.Attrs().Name+"/accept_ra", []byte("2\n"), 0o644)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	err = u.watch.until(ctx, func() (bool, error) {
		routes, err := netlink.RouteGetWithOptions(r.To.AsSlice(), &netlink.RouteGetOptions{Oif: link.Attrs().Name})
		if err != nil || len(routes) == 0 {
			return false, nil // not yet
		}
		src, ok := netip.AddrFromSlice(routes[0].Src)
		if !ok || !src.IsGlobalUnicast() || src.IsLinkLocalUnicast() {
			return false, nil
		}
		u.text = append(u.text, fmt.Sprintf("%s has %s", link.Attrs().Name, src))
		return true, nil
	})
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%s: no router has told an address and a way to %s: %w", r.Link, r.To, err)
	}
	if err != nil {
		return err
	}
	return u.settled(ctx, r.Link)
}
