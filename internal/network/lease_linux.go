package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
	"github.com/vishvananda/netlink"
)

const (
	// A server that does not answer is asked again, until the deadline.
	askEvery = 3 * time.Second
	maxAsked = 1000
)

// lease asks for an address and does what the answer says. Nothing renews the
// lease: a panic kernel is gone before it ends.
func (u *up) lease(ctx context.Context, name string) error {
	link, err := netlink.LinkByIndex(u.links[name])
	if err != nil {
		return err
	}
	client, err := nclient4.New(link.Attrs().Name, nclient4.WithTimeout(askEvery), nclient4.WithRetry(maxAsked))
	if err != nil {
		return err
	}
	defer client.Close()
	lease, err := client.Request(ctx, dhcpv4.WithRequestedOptions(dhcpv4.OptionClasslessStaticRoute, dhcpv4.OptionInterfaceMTU))
	if err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("no answer: %w", context.Cause(ctx))
		}
		return err
	}
	got, err := parseLease(lease.ACK)
	if err != nil {
		return err
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: got.prefix.Addr().AsSlice(), Mask: net.CIDRMask(got.prefix.Bits(), 32)}}
	if err := netlink.AddrReplace(link, addr); err != nil {
		return fmt.Errorf("address %s: %w", got.prefix, err)
	}
	u.text = append(u.text, fmt.Sprintf("%s has %s", link.Attrs().Name, got.prefix))
	for _, r := range u.plan.Routes {
		if r.Link != name || !r.To.Is4() {
			continue
		}
		r.MTU = got.mtu
		var ok bool
		if r.Gateway, ok = got.gateway(r.To); !ok {
			return fmt.Errorf("address %s, and no way to %s", got.prefix, r.To)
		}
		if err := u.route(r); err != nil {
			return err
		}
	}
	return nil
}

// leased is what a server has told.
type leased struct {
	prefix netip.Prefix
	routes []leasedRoute
	mtu    int
}

type leasedRoute struct {
	to      netip.Prefix
	gateway netip.Addr
}

// minMTU is the least that IPv4 and its hosts agree on; less is a mistake.
const minMTU = 576

func parseLease(ack *dhcpv4.DHCPv4) (*leased, error) {
	ip, ok := netip.AddrFromSlice(ack.YourIPAddr.To4())
	if !ok || ip.IsUnspecified() {
		return nil, errors.New("the answer has no address")
	}
	bits, size := ack.SubnetMask().Size()
	if size != 32 {
		return nil, fmt.Errorf("the answer has the network mask %s", ack.SubnetMask())
	}
	l := &leased{prefix: netip.PrefixFrom(ip, bits)}
	l.routes = []leasedRoute{{to: l.prefix.Masked()}}
	// RFC 3442: whoever gets these routes ignores the router.
	if static := ack.ClasslessStaticRoute(); len(static) > 0 {
		for _, s := range static {
			to, ok1 := netip.AddrFromSlice(s.Dest.IP.To4())
			gateway, ok2 := netip.AddrFromSlice(s.Router.To4())
			bits, size := s.Dest.Mask.Size()
			if !ok1 || !ok2 || size != 32 {
				continue
			}
			if gateway.IsUnspecified() {
				gateway = netip.Addr{}
			}
			l.routes = append(l.routes, leasedRoute{netip.PrefixFrom(to, bits), gateway})
		}
	} else {
		for _, router := range ack.Router() {
			if gateway, ok := netip.AddrFromSlice(router.To4()); ok {
				l.routes = append(l.routes, leasedRoute{netip.PrefixFrom(netip.IPv4Unspecified(), 0), gateway})
			}
		}
	}
	if mtu, err := dhcpv4.GetUint16(dhcpv4.OptionInterfaceMTU, ack.Options); err == nil && mtu >= minMTU {
		l.mtu = int(mtu)
	}
	return l, nil
}

// gateway is the way to an address: that of the longest prefix, the first of
// equals. It is not valid for one of the same network.
func (l *leased) gateway(to netip.Addr) (gateway netip.Addr, ok bool) {
	bits := -1
	for _, r := range l.routes {
		if r.to.Contains(to) && r.to.Bits() > bits {
			gateway, bits = r.gateway, r.to.Bits()
		}
	}
	return gateway, bits >= 0
}
