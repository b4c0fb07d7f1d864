package net

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/kerneltest"
)

const structs = `
net: pad dev_base_head:16
net_device: pad dev_list:16 name:1*16 ifindex:4 mtu:4 flags:4 gflags:2 state operstate:4 type:2 dev_addr addr_len:1 ip_ptr ip6_ptr
in_device: pad ifa_list
in_ifaddr: pad ifa_next ifa_local:4 ifa_prefixlen:1
`

const structs6 = structs + `
inet6_dev: pad addr_list:16
inet6_ifaddr: pad if_list:16 addr:16 prefix_len:4
`

type machine struct {
	*kerneltest.Data
	ns      uint64
	devices []uint64
}

// device describes an interface.
type device struct {
	name               string
	mtu, flags, gflags uint32
	state, oper, kind  uint64
	mac                []byte
	addresses          []string
}

func (m *machine) device(d device) uint64 {
	at := m.New("net_device")
	m.devices = append(m.devices, at)
	m.Put(m.of(at, "net_device.name"), []byte(d.name))
	for member, value := range map[string]uint64{
		"ifindex": uint64(len(m.devices)), "mtu": uint64(d.mtu), "flags": uint64(d.flags), "gflags": uint64(d.gflags),
		"state": d.state, "operstate": d.oper, "type": d.kind, "addr_len": uint64(len(d.mac)),
	} {
		m.Set(at, "net_device."+member, uint64(value))
	}
	mac := m.Bytes(32)
	m.Put(mac, d.mac)
	m.Set(at, "net_device.dev_addr", mac)

	in4, last := m.New("in_device"), uint64(0)
	m.Set(at, "net_device.ip_ptr", in4)
	var nodes []uint64
	for _, a := range d.addresses {
		p := netip.MustParsePrefix(a)
		if !p.Addr().Is4() {
			a := m.New("inet6_ifaddr")
			m.Put(m.of(a, "inet6_ifaddr.addr"), p.Addr().AsSlice())
			m.Set(a, "inet6_ifaddr.prefix_len", uint64(p.Bits()))
			nodes = append(nodes, m.of(a, "inet6_ifaddr.if_list"))
			continue
		}
		a := m.New("in_ifaddr")
		m.Put(m.of(a, "in_ifaddr.ifa_local"), p.Addr().AsSlice())
		m.Set(a, "in_ifaddr.ifa_prefixlen", uint64(p.Bits()))
		if last == 0 {
			m.Set(in4, "in_device.ifa_list", a)
		} else {
			m.Set(last, "in_ifaddr.ifa_next", a)
		}
		last = a
	}
	if m.Has("inet6_dev.addr_list") && len(nodes) > 0 {
		in6 := m.New("inet6_dev")
		m.Set(at, "net_device.ip6_ptr", in6)
		m.Ring(append([]uint64{m.of(in6, "inet6_dev.addr_list")}, nodes...)...)
	}
	return at
}

// usual makes a machine with the interfaces of a server.
func usual(layout string) (*machine, []Interface) {
	m := &machine{Data: kerneltest.NewData()}
	m.Structs(layout)
	m.ns = m.Variable("init_net", 64)
	six := func(a ...string) []string {
		if layout == structs6 {
			return a
		}
		return nil
	}
	lo := m.device(device{name: "lo", mtu: 65536, flags: 1 | 1<<3, state: 3, kind: loopbackType, mac: make([]byte, 6), addresses: append([]string{"127.0.0.1/8"}, six("::1/128")...)})
	eth := m.device(device{
		name: "end0", mtu: 1500, flags: 1 | 1<<1 | 1<<12 | 1<<8, gflags: 1 << 8, state: 3, oper: operUp, kind: 1,
		mac: []byte{2, 0, 0, 0xab, 0xcd, 0xef}, addresses: append([]string{"192.0.2.7/24", "198.51.100.9/32"}, six("2001:db8::7/64", "fe80::1/64")...),
	})
	down := m.device(device{name: "wlan0", mtu: 1400, flags: 1<<1 | 1<<8 | 1<<6, state: 7, oper: 2, kind: 1, mac: []byte{2, 0, 0, 0, 0, 1}})
	noCarrier := m.device(device{name: "eth1", mtu: 9000, flags: 1, state: 1 | 1<<2 | 1<<4, oper: 2, kind: 1})
	nodes := []uint64{m.of(m.ns, "net.dev_base_head")}
	for _, d := range m.devices {
		nodes = append(nodes, m.of(d, "net_device.dev_list"))
	}
	m.Ring(nodes...)
	return m, []Interface{
		{kernel.VirtAddr(lo), "lo", 1, 65536, "", []string{"up", "loopback", "running", "lower_up"}, append([]string{"127.0.0.1/8"}, six("::1/128")...)},
		{
			kernel.VirtAddr(eth), "end0", 2, 1500, "02:00:00:ab:cd:ef", []string{"up", "broadcast", "running", "promisc", "multicast", "lower_up"},
			append([]string{"192.0.2.7/24", "198.51.100.9/32"}, six("2001:db8::7/64", "fe80::1/64")...),
		},
		// What only counts users of it, and what is made up, is not shown.
		{kernel.VirtAddr(down), "wlan0", 3, 1400, "02:00:00:00:00:01", []string{"broadcast"}, nil},
		{kernel.VirtAddr(noCarrier), "eth1", 4, 9000, "", []string{"up", "dormant"}, nil},
	}
}

func TestInterfaces(t *testing.T) {
	m, want := usual(structs6)
	got, err := Interfaces(m.Open(t, m))
	// wlan0 has its state's first bits set: running is by its operstate.
	want[2].Flags = []string{"broadcast"}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v\nwant %+v", got, err, want)
	}
}

// Without the types of IPv6 the rest is there, and the error says what is missing.
func TestNoIPv6(t *testing.T) {
	m, want := usual(structs)
	got, err := Interfaces(m.Open(t, m))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("a kernel without IPv6: %+v, %v\nwant %+v", got, err, want)
	}
	m.Set(uint64(got[0].Addr), "net_device.ip6_ptr", uint64(got[0].Addr))
	got, err = Interfaces(m.Open(t, m))
	if !errors.Is(err, kernel.ErrNoInfo) || !strings.Contains(err.Error(), "IPv6") || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v\nwant %+v", got, err, want)
	}
}

func TestDamagedInterface(t *testing.T) {
	for _, c := range []struct {
		what, want string
		damage     func(m *machine, eth uint64)
		change     func(i *Interface)
	}{
		{"long hardware address", "end0: hardware address", func(m *machine, eth uint64) {
			m.Set(eth, "net_device.addr_len", 33)
		}, func(i *Interface) { i.MAC = "" }},
		{"addresses in a circle", "end0: IPv4", func(m *machine, eth uint64) {
			a := m.New("in_ifaddr")
			m.Set(a, "in_ifaddr.ifa_next", a)
			in := m.New("in_device")
			m.Set(in, "in_device.ifa_list", a)
			m.Set(eth, "net_device.ip_ptr", in)
		}, nil},
		{"long prefix", "end0: IPv4", func(m *machine, eth uint64) {
			a := m.New("in_ifaddr")
			m.Set(a, "in_ifaddr.ifa_prefixlen", 33)
			in := m.New("in_device")
			m.Set(in, "in_device.ifa_list", a)
			m.Set(eth, "net_device.ip_ptr", in)
		}, func(i *Interface) { i.Addresses = i.Addresses[2:] }},
		{"IPv6 nowhere", "end0: IPv6", func(m *machine, eth uint64) {
			m.Set(eth, "net_device.ip6_ptr", 8)
		}, func(i *Interface) { i.Addresses = i.Addresses[:2] }},
	} {
		t.Run(c.what, func(t *testing.T) {
			m, want := usual(structs6)
			c.damage(m, m.devices[1])
			got, err := Interfaces(m.Open(t, m))
			if err == nil || !strings.Contains(err.Error(), c.want) || len(got) != len(want) {
				t.Fatalf("%d interfaces, %v; want %d and an error of %q", len(got), err, len(want), c.want)
			}
			if c.change == nil {
				if n := len(got[1].Addresses); n != maxAddresses+2 {
					t.Errorf("%d addresses; want %d", n, maxAddresses+2)
				}
				return
			}
			if c.change(&want[1]); !reflect.DeepEqual(got, want) {
				t.Errorf("%+v\nwant %+v", got, want)
			}
		})
	}
}

func FuzzInterfaces(f *testing.F) {
	m, _ := usual(structs6)
	f.Add([]byte{})
	f.Add([]byte{1, 0, 40, 7, 0, 90, 200, 0, 3})
	f.Fuzz(func(t *testing.T, damage []byte) {
		all, _ := Interfaces(m.Open(t, m.Damage(damage[:min(len(damage), 300)])))
		if len(all) > maxInterfaces {
			t.Errorf("%d interfaces", len(all))
		}
	})
}

// of is where a struct has a member.
func (m *machine) of(at uint64, member string) uint64 { return at + m.Offset(member) }
