package network

import (
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// machine has: a plain device; a VLAN on a bond of two; a bridge with one way out
// and one with none; a tunnel.
func machine() *Facts {
	return &Facts{
		Links: []LinkFact{
			{Index: 1, Name: "lo", Kind: "device", MTU: 65536, Loopback: true},
			{Index: 2, Name: "eth0", Kind: "device", MAC: "52:54:00:00:00:02", Permanent: "52:54:00:00:00:02", MTU: 1500},
			{Index: 3, Name: "end0", Kind: "device", MAC: "52:54:00:00:00:03", Permanent: "52:54:00:00:00:03", MTU: 9000, Master: 5},
			{Index: 4, Name: "end1", Kind: "device", MAC: "52:54:00:00:00:03", Permanent: "52:54:00:00:00:04", MTU: 9000, Master: 5},
			{Index: 5, Name: "bond0", Kind: "bond", MAC: "52:54:00:00:00:03", MTU: 9000, Bond: &Bond{Mode: 4, Miimon: 100, LACPRate: 1}},
			{Index: 6, Name: "bond0.7", Kind: "vlan", MAC: "52:54:00:00:00:03", MTU: 1500, Parent: 5, VLAN: &VLAN{ID: 7, Protocol: 0x8100}},
			{Index: 7, Name: "br0", Kind: "bridge", MAC: "52:54:00:00:00:08", MTU: 1500},
			{Index: 8, Name: "eth1", Kind: "device", MAC: "02:00:00:00:00:01", Permanent: "52:54:00:00:00:08", MTU: 1500, Master: 7},
			{Index: 9, Name: "vnet0", Kind: "tuntap", MTU: 1500, Master: 7},
			{Index: 10, Name: "br1", Kind: "bridge", MTU: 1500},
			{Index: 11, Name: "wg0", Kind: "wireguard", MTU: 1420},
			{Index: 12, Name: "odd", Kind: "vlan", MTU: 1500, Parent: 11, VLAN: &VLAN{ID: 1}},
			{Index: 13, Name: "round", Kind: "vlan", MTU: 1500, Parent: 13, VLAN: &VLAN{ID: 1}},
		},
		Addresses: []AddressFact{
			{Link: 1, Prefix: netip.MustParsePrefix("127.0.0.1/8")},
			{Link: 2, Prefix: netip.MustParsePrefix("10.0.0.2/24")},
			{Link: 2, Prefix: netip.MustParsePrefix("10.0.9.2/24")},
			{Link: 2, Prefix: netip.MustParsePrefix("fe80::2/64")},
			{Link: 2, Prefix: netip.MustParsePrefix("2001:db8::2/64")},
			{Link: 2, Prefix: netip.MustParsePrefix("2001:db8::abcd/64"), Temporary: true},
			{Link: 6, Prefix: netip.MustParsePrefix("192.168.7.2/24")},
			{Link: 7, Prefix: netip.MustParsePrefix("172.16.0.2/16")},
		},
	}
}

func TestMake(t *testing.T) {
	a := netip.MustParseAddr
	eth0 := Link{Name: "eth0", Permanent: "52:54:00:00:00:02", MTU: 1500}
	for _, c := range []struct {
		name   string
		method string
		routes []RouteFact
		want   Plan
		mods   []string
	}{
		{"gateway", "", []RouteFact{{To: a("198.51.100.9"), Link: 2, Gateway: a("10.0.0.1"), Source: a("10.0.0.2"), MTU: 1400}}, Plan{
			Method: Copy, Links: []Link{eth0},
			Addresses: []Address{{"eth0", netip.MustParsePrefix("10.0.0.2/24")}, {"eth0", netip.MustParsePrefix("10.0.9.2/24")}},
			Routes:    []Route{{To: a("198.51.100.9"), Link: "eth0", Gateway: a("10.0.0.1"), Source: a("10.0.0.2"), MTU: 1400}},
		}, nil},
		{"an address of another link", "", []RouteFact{{To: a("10.0.0.9"), Link: 2, Source: a("203.0.113.1")}}, Plan{
			Method: Copy, Links: []Link{eth0},
			Addresses: []Address{{"eth0", netip.MustParsePrefix("10.0.0.2/24")}, {"eth0", netip.MustParsePrefix("10.0.9.2/24")}, {"eth0", netip.MustParsePrefix("203.0.113.1/32")}},
			Routes:    []Route{{To: a("10.0.0.9"), Link: "eth0", Source: a("203.0.113.1")}},
		}, nil},
		{"IPv6", "", []RouteFact{{To: a("2001:db8:1::9"), Link: 2, Gateway: a("fe80::1"), Source: a("2001:db8::2")}}, Plan{
			Method: Copy, Links: []Link{eth0},
			Addresses: []Address{{"eth0", netip.MustParsePrefix("2001:db8::2/64")}},
			Routes:    []Route{{To: a("2001:db8:1::9"), Link: "eth0", Gateway: a("fe80::1"), Source: a("2001:db8::2")}},
		}, []string{"ipv6"}},
		{"VLAN on a bond", "", []RouteFact{{To: a("192.168.7.9"), Link: 6, Source: a("192.168.7.2")}}, Plan{
			Method: Copy, Links: []Link{
				{Name: "end0", Permanent: "52:54:00:00:00:03", MTU: 9000},
				{Name: "end1", Permanent: "52:54:00:00:00:04", MTU: 9000},
				{Name: "bond0", MAC: "52:54:00:00:00:03", MTU: 9000, Bond: &Bond{Mode: 4, Miimon: 100, LACPRate: 1}, Of: []string{"end0", "end1"}},
				{Name: "bond0.7", MTU: 1500, VLAN: &VLAN{ID: 7, Protocol: 0x8100}, Of: []string{"bond0"}},
			},
			Addresses: []Address{{"bond0.7", netip.MustParsePrefix("192.168.7.2/24")}},
			Routes:    []Route{{To: a("192.168.7.9"), Link: "bond0.7", Source: a("192.168.7.2")}},
		}, []string{"8021q", "bonding"}},
		{"bridge", "", []RouteFact{{To: a("172.16.0.9"), Link: 7, Source: a("172.16.0.2")}}, Plan{
			Method: Copy, Links: []Link{{Name: "eth1", Permanent: "52:54:00:00:00:08", MAC: "02:00:00:00:00:01", MTU: 1500}},
			Addresses: []Address{{"eth1", netip.MustParsePrefix("172.16.0.2/16")}},
			Routes:    []Route{{To: a("172.16.0.9"), Link: "eth1", Source: a("172.16.0.2")}},
		}, nil},
		{"DHCP", DHCP, []RouteFact{{To: a("10.0.0.9"), Link: 2, Source: a("10.0.0.2")}}, Plan{
			Method: DHCP, Links: []Link{eth0}, Routes: []Route{{To: a("10.0.0.9"), Link: "eth0"}},
		}, []string{"af_packet"}},
		{"one of two", "", []RouteFact{{To: a("2001:db8:1::9"), Error: "network is unreachable"}, {To: a("10.0.0.9"), Link: 2, Source: a("10.0.0.2")}}, Plan{
			Method: Copy, Links: []Link{eth0},
			Addresses: []Address{{"eth0", netip.MustParsePrefix("10.0.0.2/24")}, {"eth0", netip.MustParsePrefix("10.0.9.2/24")}},
			Routes:    []Route{{To: a("10.0.0.9"), Link: "eth0", Source: a("10.0.0.2")}},
		}, nil},
	} {
		f := machine()
		f.Routes = c.routes
		got, err := Make(f, c.method)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if diff := cmp.Diff(&c.want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.name, diff)
		}
		if !slices.Equal(got.Modules(), c.mods) {
			t.Errorf("%s: modules %q; want %q", c.name, got.Modules(), c.mods)
		}
		text, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		again := new(Plan)
		if err := json.Unmarshal(text, again); err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		if err := again.Check(); err != nil {
			t.Errorf("%s: Check: %v", c.name, err)
		}
	}
}

func TestMakeFails(t *testing.T) {
	a := netip.MustParseAddr
	for _, c := range []struct {
		name  string
		route RouteFact
		says  string
	}{
		{"this machine", RouteFact{To: a("127.0.0.1"), Link: 1}, "this machine itself"},
		{"one link only", RouteFact{To: a("fe80::9"), Link: 2}, "one link only"},
		{"a tunnel", RouteFact{To: a("10.0.0.9"), Link: 11}, "wg0 (wireguard): not a network device"},
		{"a VLAN on a tunnel", RouteFact{To: a("10.0.0.9"), Link: 12}, "odd: wg0 (wireguard)"},
		{"a bridge without a way out", RouteFact{To: a("10.0.0.9"), Link: 10}, "0 ways out"},
		{"a VLAN on itself", RouteFact{To: a("10.0.0.9"), Link: 13}, "on top of each other"},
		{"no such link", RouteFact{To: a("10.0.0.9"), Link: 99}, "link 99"},
		{"nothing", RouteFact{To: a("10.0.0.9"), Error: "network is unreachable"}, "unreachable"},
	} {
		f := machine()
		f.Routes = []RouteFact{c.route}
		p, err := Make(f, "")
		if !errors.Is(err, ErrNoRoute) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %+v, %v; want %q", c.name, p, err, c.says)
		}
	}
	if _, err := Make(machine(), "carrier pigeon"); err == nil {
		t.Error("an unknown method: nil; want an error")
	}
}

func TestCheck(t *testing.T) {
	good := func() *Plan {
		return &Plan{Method: Copy, Links: []Link{{Name: "eth0", Permanent: "52:54:00:00:00:02"}, {Name: "v", VLAN: &VLAN{ID: 1}, Of: []string{"eth0"}}},
			Addresses: []Address{{"v", netip.MustParsePrefix("10.0.0.2/24")}}, Routes: []Route{{To: netip.MustParseAddr("10.0.0.9"), Link: "v"}}}
	}
	if err := good().Check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*Plan){
		"method": func(p *Plan) { p.Method = "" }, "order": func(p *Plan) { slices.Reverse(p.Links) },
		"twice": func(p *Plan) { p.Links = append(p.Links, p.Links[0]) }, "nothing": func(p *Plan) { p.Links[0].Permanent = "" },
		"VLAN": func(p *Plan) { p.Links[1].Of = nil }, "address": func(p *Plan) { p.Addresses[0].Link = "x" },
		"no route": func(p *Plan) { p.Routes = nil }, "route": func(p *Plan) { p.Routes[0].To = netip.Addr{} },
	} {
		p := good()
		change(p)
		if err := p.Check(); err == nil {
			t.Errorf("%s: Check = nil; want an error", name)
		}
	}
}
