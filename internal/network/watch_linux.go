package network

import (
	"context"
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
)

// watch hears of what changes: links, addresses, routes.
type watch struct {
	changed chan struct{} // has a token when something has
	failed  chan error
	done    chan struct{}
}

func newWatch() (*watch, error) {
	w := &watch{changed: make(chan struct{}, 1), failed: make(chan error, 8), done: make(chan struct{})}
	fail := func(err error) {
		select {
		case w.failed <- err:
		default:
		}
	}
	links, addresses, routes := make(chan netlink.LinkUpdate), make(chan netlink.AddrUpdate), make(chan netlink.RouteUpdate)
	err := errors.Join(
		netlink.LinkSubscribeWithOptions(links, w.done, netlink.LinkSubscribeOptions{ErrorCallback: fail}),
		netlink.AddrSubscribeWithOptions(addresses, w.done, netlink.AddrSubscribeOptions{ErrorCallback: fail}),
		netlink.RouteSubscribeWithOptions(routes, w.done, netlink.RouteSubscribeOptions{ErrorCallback: fail}),
	)
	if err != nil {
		close(w.done)
		return nil, fmt.Errorf("network events: %w", err)
	}
	go forward(links, w.changed)
	go forward(addresses, w.changed)
	go forward(routes, w.changed)
	return w, nil
}

// forward leaves a token for each event, until there are no more.
func forward[T any](from <-chan T, changed chan<- struct{}) {
	for range from {
		select {
		case changed <- struct{}{}:
		default: // whoever looks next sees this change, too
		}
	}
}

func (w *watch) close() { close(w.done) }

// until returns when what is waited for is so: it looks now, and after each
// change.
func (w *watch) until(ctx context.Context, so func() (bool, error)) error {
	for {
		if ok, err := so(); err != nil || ok {
			return err
		}
		select {
		case <-w.changed:
		case err := <-w.failed:
			return fmt.Errorf("network events: %w", err)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
