package network

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// inGuest says where a test runs that is skipped here. That one fails if anything is
// skipped there.
const inGuest = "TestNetworkInGuest in e2e runs this test on a kernel that can, as root"

// lan makes a network namespace with one end of a cable that is only in it, for
// the calling goroutine, and returns the cable's ends: the near one has the
// hardware address 52:54:00:00:00:02, the far one lies open in the same
// namespace.
func lan(t *testing.T) (near, far netlink.Link) {
	t.Helper()
	// The thread keeps the namespace and ends with the test's goroutine.
	runtime.LockOSThread()
	ns, err := netns.New()
	if err != nil {
		if errors.Is(err, os.ErrPermission) {
			t.Skipf("only root can make a network namespace: %v; %s", err, inGuest)
		}
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = "near", net.HardwareAddr{0x52, 0x54, 0, 0, 0, 2}
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "far"}); err != nil {
		t.Fatal(err)
	}
	for _, l := range []struct {
		name string
		link *netlink.Link
	}{{"near", &near}, {"far", &far}} {
		if *l.link, err = netlink.LinkByName(l.name); err != nil {
			t.Fatal(err)
		}
	}
	return near, far
}

func up4(t *testing.T, p *Plan, limit time.Duration) (string, error) {
	t.Helper()
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	return p.up(ctx, "veth")
}

// A device or a VLAN gets IPv4 and IPv6 addresses and routes, once the other end
// of the cable is in.
func TestUpCopy(t *testing.T) {
	t.Run("device", func(t *testing.T) { testUpCopy(t, "near") })
	t.Run("VLAN", func(t *testing.T) { testUpCopy(t, "panicroom1") })
}

func testUpCopy(t *testing.T, top string) {
	_, far := lan(t)
	a := netip.MustParseAddr
	links, name := []Link{{Name: "eth0", Permanent: "52:54:00:00:00:02", MTU: 1400}}, "eth0"
	if top != "near" {
		name = "eth0.7"
		links = append(links, Link{Name: name, MTU: 1300, VLAN: &VLAN{ID: 7}, Of: []string{"eth0"}})
	}
	p := &Plan{Method: Copy, Links: links,
		Addresses: []Address{{name, netip.MustParsePrefix("10.0.0.2/24")}, {name, netip.MustParsePrefix("2001:db8::2/64")}},
		Routes: []Route{
			{To: a("198.51.100.9"), Link: name, Gateway: a("203.0.113.1"), Source: a("10.0.0.2")}, // a gateway in no network of ours
			{To: a("2001:db8:1::9"), Link: name, Gateway: a("fe80::1"), Source: a("2001:db8::2")},
			{To: a("10.0.0.9"), Link: name, Source: a("10.0.0.2")},
		}}
	text, err := up4(t, p, 100*time.Millisecond)
	if errors.Is(err, syscall.EOPNOTSUPP) {
		t.Skipf("this kernel has no VLANs: %v; %s", err, inGuest)
	}
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "carrier") {
		t.Errorf("without a carrier: %q, %v; want an error that says so", text, err)
	}
	if top != "near" {
		vlan, err := netlink.LinkByName(top)
		if err == nil {
			err = netlink.LinkDel(vlan)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := netlink.LinkSetUp(far); err != nil {
		t.Fatal(err)
	}
	if text, err = up4(t, p, 20*time.Second); err != nil {
		t.Fatal(err)
	}
	if want := top + " has 10.0.0.2/24, " + top + " has 2001:db8::2/64"; text != want {
		t.Errorf("text %q; want %q", text, want)
	}
	f, err := Record([]netip.Addr{a("198.51.100.9"), a("2001:db8:1::9"), a("10.0.0.9"), a("192.0.2.1")}, "")
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range p.Routes {
		got := f.Routes[i]
		if got.Gateway != want.Gateway || got.Source != want.Source || f.link(got.Link) == nil || f.link(got.Link).Name != top {
			t.Errorf("route %+v; want %+v", got, want)
		}
	}
	if f.Routes[3].Error == "" {
		t.Errorf("route to nowhere: %+v", f.Routes[3])
	}
	for _, l := range f.Links {
		if l.Name == "panicroom1" && (l.Kind != "vlan" || l.MTU != 1300 || l.VLAN.ID != 7) || l.Name == "near" && l.MTU != 1400 {
			t.Errorf("link %+v", l)
		}
	}
}

func TestUpMissing(t *testing.T) {
	lan(t)
	p := &Plan{Method: Copy, Links: []Link{{Name: "eth0", Permanent: "52:54:00:00:00:99"}}, Routes: []Route{{To: netip.MustParseAddr("10.0.0.9"), Link: "eth0"}}}
	_, err := up4(t, p, 100*time.Millisecond)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "near (52:54:00:00:00:02)") {
		t.Errorf("Up = %v; want an error with the devices that are there", err)
	}
}

// A device that comes late is waited for, and a bond is made of it.
func TestUpBondOfLate(t *testing.T) {
	near, far := lan(t)
	if err := netlink.LinkDel(near); err != nil {
		t.Fatal(err)
	}
	attrs := near.Attrs()
	attrs.HardwareAddr = net.HardwareAddr{0x52, 0x54, 0, 0, 0, 2}
	ns, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	const route = 0 // NETLINK_ROUTE; guests may lack the other families
	h, err := netlink.NewHandleAt(ns, route)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	added := make(chan struct{})
	late := time.AfterFunc(200*time.Millisecond, func() {
		defer close(added)
		a := netlink.NewLinkAttrs()
		a.Name, a.HardwareAddr = "later", attrs.HardwareAddr
		if err := h.LinkAdd(&netlink.Veth{LinkAttrs: a, PeerName: "far2"}); err != nil {
			t.Error(err)
			return
		}
		if far, err = h.LinkByName("far2"); err == nil {
			err = h.LinkSetUp(far)
		}
		if err != nil {
			t.Error(err)
		}
	})
	defer func() { // before the handle is closed
		if !late.Stop() {
			<-added
		}
	}()
	p := &Plan{Method: Copy,
		Links:     []Link{{Name: "eth0", Permanent: "52:54:00:00:00:02"}, {Name: "bond0", MAC: "52:54:00:00:00:07", Bond: &Bond{Mode: 1, Miimon: 100}, Of: []string{"eth0"}}},
		Addresses: []Address{{"bond0", netip.MustParsePrefix("10.0.0.2/24")}},
		Routes:    []Route{{To: netip.MustParseAddr("10.0.0.9"), Link: "bond0"}}}
	if _, err := up4(t, p, 20*time.Second); err != nil {
		if errors.Is(err, syscall.EOPNOTSUPP) {
			t.Skipf("this kernel has no bonds: %v; %s", err, inGuest)
		}
		t.Fatal(err)
	}
	f, err := Record(nil, "")
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range f.Links {
		if l.Name == "panicroom1" && (l.Bond == nil || l.Bond.Mode != 1 || l.MAC != "52:54:00:00:00:07") {
			t.Errorf("bond %+v", l)
		}
	}
}

// A server at the other end of the cable gives the address and the way.
func TestUpDHCP(t *testing.T) {
	_, far := lan(t)
	if err := netlink.LinkSetUp(far); err != nil {
		t.Fatal(err)
	}
	addr, err := netlink.ParseAddr("10.0.0.1/24")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(far, addr); err != nil {
		t.Fatal(err)
	}
	mods := []dhcpv4.Modifier{dhcpv4.WithYourIP(net.IP{10, 0, 0, 2}), dhcpv4.WithServerIP(net.IP{10, 0, 0, 1}), dhcpv4.WithNetmask(net.CIDRMask(24, 32)),
		dhcpv4.WithRouter(net.IP{10, 0, 0, 254}), dhcpv4.WithLeaseTime(3600), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IP{10, 0, 0, 1}))}
	server, err := server4.NewServer("far", nil, func(conn net.PacketConn, peer net.Addr, m *dhcpv4.DHCPv4) {
		kind := dhcpv4.MessageTypeOffer
		if m.MessageType() == dhcpv4.MessageTypeRequest {
			kind = dhcpv4.MessageTypeAck
		}
		r, err := dhcpv4.NewReplyFromRequest(m, append(mods, dhcpv4.WithMessageType(kind))...)
		if err != nil {
			return
		}
		conn.WriteTo(r.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: 68})
	})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go server.Serve()
	to := netip.MustParseAddr("198.51.100.9")
	p := &Plan{Method: DHCP, Links: []Link{{Name: "eth0", Permanent: "52:54:00:00:00:02"}}, Routes: []Route{{To: to, Link: "eth0"}}}
	text, err := up4(t, p, 30*time.Second)
	if err != nil || text != "near has 10.0.0.2/24" {
		t.Fatalf("Up = %q, %v", text, err)
	}
	f, err := Record([]netip.Addr{to}, "")
	if err != nil {
		t.Fatal(err)
	}
	if r := f.Routes[0]; r.Gateway != netip.MustParseAddr("10.0.0.254") || r.Source != netip.MustParseAddr("10.0.0.2") {
		t.Errorf("route %+v", r)
	}
}
