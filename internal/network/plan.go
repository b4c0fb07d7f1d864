package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// The methods of a [Plan].
const (
	Copy = "copy" // addresses and routes are those of the running machine
	DHCP = "dhcp" // a server is asked; routers are, for IPv6
)

// Plan is a way to other machines.
type Plan struct {
	Method string `json:"method"`
	// Links are set up in this order: what others are made of comes first.
	Links []Link `json:"links"`
	// Addresses are given to links; of method Copy.
	Addresses []Address `json:"addresses,omitempty"`
	Routes    []Route   `json:"routes"`
}

// Link is a network device that is found, or made of others.
type Link struct {
	Name string `json:"name"` // in the running machine, and in this plan
	// Permanent finds a device. A link without one is made.
	Permanent string `json:"permanent,omitempty"`
	MAC       string `json:"mac,omitempty"` // that it shall have, "" is its own
	MTU       int    `json:"mtu,omitempty"`
	VLAN      *VLAN  `json:"vlan,omitempty"`
	Bond      *Bond  `json:"bond,omitempty"`
	// Of are the names of the links that it is made of.
	Of []string `json:"of,omitempty"`
}

// Address is an address for a link.
type Address struct {
	Link   string       `json:"link"`
	Prefix netip.Prefix `json:"prefix"`
}

// Route is the way to one machine.
type Route struct {
	To      netip.Addr `json:"to"`
	Link    string     `json:"link"`
	Gateway netip.Addr `json:"gateway,omitzero"`
	Source  netip.Addr `json:"source,omitzero"`
	MTU     int        `json:"mtu,omitempty"`
}

// ErrLink: a link is of a kind that the panic kernel cannot set up.
var ErrLink = errors.New("not a network device, a VLAN or a bond")

// ErrNoRoute: there is no way to the other machine.
var ErrNoRoute = errors.New("no route")

// Make plans the way to all destinations of the facts for which there is one; it
// is an error if there is none at all.
func Make(f *Facts, method string) (*Plan, error) {
	if method == "" {
		method = Copy
	}
	if method != Copy && method != DHCP {
		return nil, fmt.Errorf("network method %q is none of %s, %s", method, Copy, DHCP)
	}
	p := &planner{facts: f, plan: &Plan{Method: method}}
	var why []string
	for _, r := range f.Routes {
		if err := p.route(r); err != nil {
			why = append(why, fmt.Sprintf("to %s: %v", r.To, err))
		}
	}
	if len(p.plan.Routes) == 0 && len(why) > 0 {
		return nil, fmt.Errorf("%w: %s", ErrNoRoute, strings.Join(why, "; "))
	} else if len(p.plan.Routes) == 0 {
		return nil, ErrNoRoute
	}
	return p.plan, nil
}

type planner struct {
	facts *Facts
	plan  *Plan
}

func (p *planner) route(r RouteFact) error {
	if r.Error != "" {
		return errors.New(r.Error)
	}
	l := p.facts.link(r.Link)
	switch {
	case l == nil:
		return fmt.Errorf("link %d is not known", r.Link)
	case l.Loopback:
		return errors.New("that is this machine itself")
	case r.To.IsLinkLocalUnicast():
		return errors.New("an address of one link only means nothing without the link's name")
	}
	link, err := p.link(l, 0)
	if err != nil {
		return err
	}
	route := Route{To: r.To, Link: link}
	if p.plan.Method == Copy {
		route.Gateway, route.Source, route.MTU = r.Gateway, r.Source, r.MTU
		p.addresses(l.Index, link, r)
	}
	p.plan.Routes = append(p.plan.Routes, route)
	return nil
}

// addresses gives a link those of the same family that the running machine's
// has, and whatever packets to the destination come from.
func (p *planner) addresses(index int, link string, r RouteFact) {
	add := func(prefix netip.Prefix) {
		a := Address{link, prefix}
		if !slices.Contains(p.plan.Addresses, a) {
			p.plan.Addresses = append(p.plan.Addresses, a)
		}
	}
	has := false
	for _, a := range p.facts.Addresses {
		addr := a.Prefix.Addr()
		if a.Link != index || addr.Is4() != r.To.Is4() || addr.IsLinkLocalUnicast() && addr.Is6() || a.Temporary && addr != r.Source {
			continue
		}
		has = has || addr == r.Source
		add(a.Prefix)
	}
	if r.Source.IsValid() && !has && !(r.Source.Is6() && r.Source.IsLinkLocalUnicast()) {
		add(netip.PrefixFrom(r.Source, r.Source.BitLen()))
	}
}

// maxStack bounds how many links are on top of each other.
const maxStack = 8

// link plans a link and all that it is made of, each once, and returns its name
// in the plan.
func (p *planner) link(l *LinkFact, depth int) (string, error) {
	if depth > maxStack {
		return "", fmt.Errorf("%s: more than %d links on top of each other", l.Name, maxStack)
	}
	if l.Kind == "bridge" {
		// What else is on the bridge is gone; its way out is not.
		var ports []*LinkFact
		for i := range p.facts.Links {
			if q := &p.facts.Links[i]; q.Master == l.Index && slices.Contains([]string{"device", "vlan", "bond"}, q.Kind) {
				ports = append(ports, q)
			}
		}
		if len(ports) != 1 {
			return "", fmt.Errorf("bridge %s has %d ways out; it must have one", l.Name, len(ports))
		}
		return p.link(ports[0], depth+1)
	}
	if slices.ContainsFunc(p.plan.Links, func(k Link) bool { return k.Name == l.Name }) {
		return l.Name, nil
	}
	link := Link{Name: l.Name, MTU: l.MTU}
	below := func(of *LinkFact) error {
		if of == nil {
			return fmt.Errorf("%s: what it is made of is not known", l.Name)
		}
		name, err := p.link(of, depth+1)
		if err != nil {
			return fmt.Errorf("%s: %w", l.Name, err)
		}
		link.Of = append(link.Of, name)
		return nil
	}
	switch {
	case l.Kind == "device":
		link.Permanent = l.Permanent
		if link.Permanent == "" {
			link.Permanent = l.MAC
		}
		if _, err := net.ParseMAC(link.Permanent); err != nil {
			return "", fmt.Errorf("%s has no hardware address to be found by", l.Name)
		}
		// The address of what is in a bond is the bond's business.
		if m := p.facts.link(l.Master); !strings.EqualFold(l.MAC, link.Permanent) && (m == nil || m.Kind != "bond") {
			link.MAC = l.MAC
		}
	case l.Kind == "vlan" && l.VLAN != nil:
		link.VLAN = l.VLAN
		if err := below(p.facts.link(l.Parent)); err != nil {
			return "", err
		}
		if of := p.facts.link(l.Parent); !strings.EqualFold(of.MAC, l.MAC) {
			link.MAC = l.MAC
		}
	case l.Kind == "bond" && l.Bond != nil:
		link.Bond, link.MAC = l.Bond, l.MAC
		for i := range p.facts.Links {
			if q := &p.facts.Links[i]; q.Master == l.Index {
				if err := below(q); err != nil {
					return "", err
				}
			}
		}
		if len(link.Of) == 0 {
			return "", fmt.Errorf("bond %s is made of nothing", l.Name)
		}
	default:
		return "", fmt.Errorf("%s (%s): %w", l.Name, l.Kind, ErrLink)
	}
	p.plan.Links = append(p.plan.Links, link)
	return link.Name, nil
}

// Check finds what could not be executed.
func (p *Plan) Check() error {
	if p.Method != Copy && p.Method != DHCP {
		return fmt.Errorf("network method %q", p.Method)
	}
	known := map[string]bool{}
	for _, l := range p.Links {
		for _, of := range l.Of {
			if !known[of] {
				return fmt.Errorf("link %s is made of %s, which comes later or never", l.Name, of)
			}
		}
		switch {
		case l.Name == "" || known[l.Name]:
			return fmt.Errorf("link %q stands twice or has no name", l.Name)
		case l.Permanent == "" && l.VLAN == nil && l.Bond == nil:
			return fmt.Errorf("link %s is nothing", l.Name)
		case l.VLAN != nil && len(l.Of) != 1:
			return fmt.Errorf("VLAN %s is on %d links", l.Name, len(l.Of))
		}
		known[l.Name] = true
	}
	for _, a := range p.Addresses {
		if !known[a.Link] || !a.Prefix.IsValid() {
			return fmt.Errorf("address %s of link %q", a.Prefix, a.Link)
		}
	}
	if len(p.Routes) == 0 {
		return ErrNoRoute
	}
	for _, r := range p.Routes {
		if !known[r.Link] || !r.To.IsValid() {
			return fmt.Errorf("route to %s over link %q", r.To, r.Link)
		}
	}
	return nil
}

// Devices are the names, in the running machine, of the devices that have
// drivers.
func (p *Plan) Devices() []string {
	var all []string
	for _, l := range p.Links {
		if l.Permanent != "" {
			all = append(all, l.Name)
		}
	}
	return all
}

// Modules are the kernel modules that the plan needs beside those of its
// devices, where they are modules.
func (p *Plan) Modules() []string {
	var all []string
	for _, l := range p.Links {
		if l.VLAN != nil {
			all = append(all, "8021q")
		}
		if l.Bond != nil {
			all = append(all, "bonding")
		}
	}
	if p.Method == DHCP {
		all = append(all, "af_packet")
	}
	for _, r := range p.Routes {
		if r.To.Is6() {
			all = append(all, "ipv6")
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}
