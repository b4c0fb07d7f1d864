//go:build !linux

package network

import (
	"context"
	"net/netip"

	"github.com/panicroom-kdump/panicroom/internal/sys"
)

// Record is documented in the file for Linux.
func Record([]netip.Addr, string) (*Facts, error) { return nil, sys.ErrNotSupportedOnOS }

// Up is documented in the file for Linux.
func (p *Plan) Up(context.Context) (string, error) { return "", sys.ErrNotSupportedOnOS }
