// Package net tells which network interfaces a dead kernel had.
package net

import (
	"errors"
	"fmt"
	"net"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// Interface is a network interface of the first network namespace.
type Interface struct {
	Addr      kernel.VirtAddr `json:"addr"` // of its struct net_device
	Name      string          `json:"name"`
	Index     int             `json:"index"`
	MTU       uint32          `json:"mtu"`
	MAC       string          `json:"mac,omitempty"`
	Flags     []string        `json:"flags,omitempty"`     // "up", "loopback", "running", ...
	Addresses []string        `json:"addresses,omitempty"` // with the length of the prefix
}

// Bounds of what is believed of interfaces.
const (
	maxInterfaces = 20000
	maxMAC        = 32 // bytes: MAX_ADDR_LEN, include/linux/netdevice.h
	maxErrors     = 8
)

// Interfaces are the interfaces of the first network namespace, in the order of
// ip(8). One that cannot be read whole is there with what could be read; the
// error says so.
func Interfaces(k *kernel.Kernel) ([]Interface, error) {
	init, err := k.Variable("init_net")
	if err != nil {
		return nil, fmt.Errorf("network interfaces: %w", err)
	}
	all, err := interfaces(k, init)
	if err != nil {
		err = fmt.Errorf("network interfaces: %w", err)
	}
	return all, err
}

// interfaces reads the list of a network namespace: struct net,
// include/net/net_namespace.h, struct net_device, include/linux/netdevice.h
// (Linux 6.1 to 7.2).
func interfaces(k *kernel.Kernel, namespace kernel.VirtAddr) ([]Interface, error) {
	ns, err := k.Struct("net", "dev_base_head")
	if err != nil {
		return nil, err
	}
	device, err := k.Struct("net_device", "dev_list", "name", "ifindex", "mtu", "flags", "state", "dev_addr", "addr_len",
		"?gflags", "?operstate", "?type", "?ip_ptr", "?ip6_ptr")
	if err != nil {
		return nil, err
	}
	addresses := newAddressReader(k)
	var all []Interface
	var errs []error
	say := func(err error) {
		if err != nil && len(errs) < maxErrors {
			errs = append(errs, err)
		}
	}
	for at, err := range k.List(namespace+kernel.VirtAddr(ns.Offset("dev_base_head")), device.Offset("dev_list")) {
		var d kernel.Object
		if err == nil {
			d, err = device.At(at)
		}
		if err != nil {
			say(err)
			continue
		}
		if len(all) == maxInterfaces {
			say(fmt.Errorf("only the first %d of them are read", maxInterfaces))
			break
		}
		i := Interface{
			Addr: at, Name: d.String("name"), Index: int(d.Int("ifindex")),
			MTU: uint32(d.Uint("mtu")), Flags: flags(d),
		}
		if i.MAC, err = mac(k, d); err != nil {
			say(fmt.Errorf("%s: hardware address: %w", i.Name, err))
		}
		if i.Addresses, err = addresses.of(d); err != nil {
			say(fmt.Errorf("%s: %w", i.Name, err))
		}
		all = append(all, i)
	}
	say(addresses.missing())
	return all, errors.Join(errs...)
}

// loopbackType is ARPHRD_LOOPBACK, include/uapi/linux/if_arp.h: its hardware
// address says nothing.
const loopbackType = 772

// mac is the hardware address; "" if it has none.
func mac(k *kernel.Kernel, device kernel.Object) (string, error) {
	n, at := device.Uint("addr_len"), device.Pointer("dev_addr")
	if n == 0 || at == 0 || device.Uint("type") == loopbackType {
		return "", nil
	}
	if n > maxMAC {
		return "", fmt.Errorf("of %d bytes: %w", n, kernel.ErrCorrupt)
	}
	b := make([]byte, n)
	if err := k.ReadVirt(b, at); err != nil {
		return "", err
	}
	return net.HardwareAddr(b).String(), nil
}
