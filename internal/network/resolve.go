package network

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// maxAddresses of a host are tried.
const maxAddresses = 4

// Resolve finds the addresses of a host, each once. lookup asks for those of a name;
// nil asks the running system.
func Resolve(ctx context.Context, host string, lookup func(ctx context.Context, host string) ([]netip.Addr, error)) ([]netip.Addr, error) {
	if a, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{a.Unmap()}, nil
	}
	if lookup == nil {
		lookup = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
		}
	}
	found, err := lookup(ctx, host)
	if err != nil {
		return nil, ui.Hint(fmt.Errorf("no address of %s is known: %w", host, err),
			"the panic kernel asks no name server: make the name known here, or write the address instead of it")
	}
	var all []netip.Addr
	for _, a := range found {
		if a = a.Unmap().WithZone(""); !slices.Contains(all, a) && len(all) < maxAddresses {
			all = append(all, a)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s has no address", host)
	}
	return all, nil
}
