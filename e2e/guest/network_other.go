//go:build !linux

package main

import (
	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/internal/sys"
)

func connect(*script.Network) error { return sys.ErrNotSupportedOnOS }
