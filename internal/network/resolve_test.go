package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/internal/ui"
)

func TestResolve(t *testing.T) {
	lookup := func(_ context.Context, host string) ([]netip.Addr, error) {
		var all []netip.Addr
		switch host {
		case "store":
			for _, a := range []string{"::ffff:192.0.2.1", "192.0.2.1", "fe80::1%eth0", "2001:db8::1", "2001:db8::2", "2001:db8::3"} {
				all = append(all, netip.MustParseAddr(a))
			}
		case "empty":
		default:
			return nil, errors.New("no such host")
		}
		return all, nil
	}
	for host, want := range map[string]string{
		"192.0.2.7": "[192.0.2.7]", "2001:db8::7": "[2001:db8::7]",
		"store": "[192.0.2.1 fe80::1 2001:db8::1 2001:db8::2]", // each once, at most four
	} {
		if got, err := Resolve(t.Context(), host, lookup); err != nil || fmt.Sprint(got) != want {
			t.Errorf("Resolve(%s) = %v, %v; want %s", host, got, err, want)
		}
	}
	for host, hint := range map[string]string{"empty": "", "nonesuch": "write the address"} {
		if _, err := Resolve(t.Context(), host, lookup); err == nil || !strings.Contains(err.Error(), host) || !strings.Contains(strings.Join(ui.Hints(err), ""), hint) {
			t.Errorf("Resolve(%s): %v, %q", host, err, ui.Hints(err))
		}
	}
}
