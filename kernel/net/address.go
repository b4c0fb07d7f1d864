package net

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// maxAddresses bounds the addresses of an interface, of either kind.
const maxAddresses = 4096

// addressReader reads the addresses of interfaces: struct in_device and
// in_ifaddr, include/linux/inetdevice.h, struct inet6_dev and inet6_ifaddr,
// include/net/if_inet6.h (Linux 6.1 to 7.2). A kernel without IPv6, or with IPv6
// as a module whose types it does not know itself, has addr6 nil.
type addressReader struct {
	k                        *kernel.Kernel
	dev4, addr4, dev6, addr6 *kernel.StructReader
	lack4, lack6             error // why there is no reader
	met4, met6               bool  // an interface without one had such addresses
}

// newAddressReader prepares to read addresses.
func newAddressReader(k *kernel.Kernel) *addressReader {
	r := &addressReader{k: k}
	pair := func(dev, addr **kernel.StructReader, devName, list, addrName string, members ...string) error {
		d, err := k.Struct(devName, list)
		if err != nil {
			return err
		}
		a, err := k.Struct(addrName, members...)
		if err != nil {
			return err
		}
		*dev, *addr = d, a
		return nil
	}
	if err := pair(&r.dev4, &r.addr4, "in_device", "ifa_list", "in_ifaddr", "ifa_next", "ifa_local", "ifa_prefixlen"); err != nil {
		r.lack4 = fmt.Errorf("IPv4 addresses: %w", err)
	}
	if err := pair(&r.dev6, &r.addr6, "inet6_dev", "addr_list", "inet6_ifaddr", "if_list", "addr", "prefix_len"); err != nil {
		r.lack6 = fmt.Errorf("IPv6 addresses: %w", err)
	}
	return r
}

// missing says which addresses there were and could not be read for want of
// types. Of a kernel without IPv6 nothing is missing.
func (r *addressReader) missing() error {
	var errs []error
	if r.met4 {
		errs = append(errs, r.lack4)
	}
	if r.met6 {
		errs = append(errs, r.lack6)
	}
	return errors.Join(errs...)
}

// of are the addresses of an interface.
func (r *addressReader) of(device kernel.Object) ([]string, error) {
	var all []string
	err4 := r.ipv4(device, &all)
	err6 := r.ipv6(device, &all)
	if err4 != nil {
		err4 = fmt.Errorf("IPv4 addresses: %w", err4)
	}
	if err6 != nil {
		err6 = fmt.Errorf("IPv6 addresses: %w", err6)
	}
	return all, errors.Join(err4, err6)
}

func (r *addressReader) ipv4(device kernel.Object, all *[]string) error {
	in := device.Pointer("ip_ptr")
	if in == 0 {
		return nil
	}
	if r.dev4 == nil {
		r.met4 = true
		return nil
	}
	dev, err := r.dev4.At(in)
	if err != nil {
		return err
	}
	at := dev.Pointer("ifa_list")
	for range maxAddresses {
		if at == 0 {
			return nil
		}
		a, err := r.addr4.At(at)
		if err != nil {
			return err
		}
		if err := add(all, a.Bytes("ifa_local"), a.Uint("ifa_prefixlen")); err != nil {
			return err
		}
		at = a.Pointer("ifa_next")
	}
	if at != 0 {
		return fmt.Errorf("more than %d: %w", maxAddresses, kernel.ErrCorrupt)
	}
	return nil
}

func (r *addressReader) ipv6(device kernel.Object, all *[]string) error {
	in := device.Pointer("ip6_ptr")
	if in == 0 {
		return nil
	}
	if r.dev6 == nil {
		r.met6 = true
		return nil
	}
	n := 0
	for at, err := range r.k.List(in+kernel.VirtAddr(r.dev6.Offset("addr_list")), r.addr6.Offset("if_list")) {
		if err != nil {
			return err
		}
		if n++; n > maxAddresses {
			return fmt.Errorf("more than %d: %w", maxAddresses, kernel.ErrCorrupt)
		}
		a, err := r.addr6.At(at)
		if err != nil {
			return err
		}
		if err := add(all, a.Bytes("addr"), a.Uint("prefix_len")); err != nil {
			return err
		}
	}
	return nil
}

// add adds an address, whose bytes are in the order of the network.
func add(all *[]string, bytes []byte, prefix uint64) error {
	a, ok := netip.AddrFromSlice(bytes)
	if !ok || prefix > uint64(a.BitLen()) {
		return fmt.Errorf("address of %d bytes with a prefix of %d bits: %w", len(bytes), prefix, kernel.ErrCorrupt)
	}
	*all = append(*all, netip.PrefixFrom(a, int(prefix)).String())
	return nil
}
