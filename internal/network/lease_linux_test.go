package network

import (
	"net"
	"net/netip"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
)

func ack(t *testing.T, more ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	t.Helper()
	m, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithYourIP(net.IP{10, 0, 0, 2}), dhcpv4.WithNetmask(net.CIDRMask(24, 32))}, more...)...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestParseLease(t *testing.T) {
	router := dhcpv4.WithRouter(net.IP{10, 0, 0, 1})
	static := dhcpv4.WithOption(dhcpv4.OptClasslessStaticRoute(
		&dhcpv4.Route{Dest: &net.IPNet{IP: net.IP{198, 51, 0, 0}, Mask: net.CIDRMask(16, 32)}, Router: net.IP{10, 0, 0, 3}},
		&dhcpv4.Route{Dest: &net.IPNet{IP: net.IP{198, 51, 100, 0}, Mask: net.CIDRMask(24, 32)}, Router: net.IP{10, 0, 0, 4}}))
	for _, c := range []struct {
		name    string
		more    []dhcpv4.Modifier
		to      string
		gateway string // "" is none needed, "-" no way
		mtu     int
	}{
		{"router", []dhcpv4.Modifier{router}, "198.51.100.9", "10.0.0.1", 0},
		{"same network", []dhcpv4.Modifier{router}, "10.0.0.9", "", 0},
		{"no router", nil, "198.51.100.9", "-", 0},
		{"the nearest of static routes", []dhcpv4.Modifier{router, static}, "198.51.100.9", "10.0.0.4", 0},
		{"static routes replace the router", []dhcpv4.Modifier{router, static}, "192.0.2.1", "-", 0},
		{"MTU", []dhcpv4.Modifier{router, dhcpv4.WithGeneric(dhcpv4.OptionInterfaceMTU, []byte{5, 0})}, "10.0.0.9", "", 1280},
		{"absurd MTU", []dhcpv4.Modifier{router, dhcpv4.WithGeneric(dhcpv4.OptionInterfaceMTU, []byte{0, 9})}, "10.0.0.9", "", 0},
	} {
		l, err := parseLease(ack(t, c.more...))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		got := "-"
		if g, ok := l.gateway(netip.MustParseAddr(c.to)); ok {
			if got = ""; g.IsValid() {
				got = g.String()
			}
		}
		if got != c.gateway || l.mtu != c.mtu || l.prefix.String() != "10.0.0.2/24" {
			t.Errorf("%s: gateway %q, MTU %d, address %s; want %q, %d", c.name, got, l.mtu, l.prefix, c.gateway, c.mtu)
		}
	}
	for name, more := range map[string]dhcpv4.Modifier{"no address": dhcpv4.WithYourIP(net.IPv4zero), "mask": dhcpv4.WithNetmask(net.IPv4Mask(255, 0, 255, 0))} {
		if l, err := parseLease(ack(t, more)); err == nil {
			t.Errorf("%s: %+v; want an error", name, l)
		}
	}
}

func FuzzParseLease(f *testing.F) {
	m, err := dhcpv4.New(dhcpv4.WithYourIP(net.IP{10, 0, 0, 2}), dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithRouter(net.IP{10, 0, 0, 1}))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(m.ToBytes())
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := dhcpv4.FromBytes(b)
		if err != nil {
			return
		}
		l, err := parseLease(m)
		if err != nil {
			return
		}
		if !l.prefix.IsValid() || !l.prefix.Addr().Is4() {
			t.Errorf("address %v", l.prefix)
		}
		l.gateway(netip.MustParseAddr("198.51.100.9"))
	})
}
