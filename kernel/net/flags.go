package net

import "github.com/panicroom-kdump/panicroom/kernel"

// Bits of net_device.state: enum netdev_state_t, include/linux/netdevice.h
// (Linux 6.1 to 7.2).
const (
	stateStart     = 1 << 0
	stateNoCarrier = 1 << 2
	stateDormant   = 1 << 4
)

// Values of net_device.operstate that count as running: IF_OPER_UNKNOWN and
// IF_OPER_UP, include/uapi/linux/if.h.
const (
	operUnknown = 0
	operUp      = 6
)

// What promiscuous and allmulti are is in gflags, where users ask for it;
// running, lower_up and dormant are not kept but made of the state.
const (
	flagRunning  = 1 << 6
	flagPromisc  = 1 << 8
	flagAllMulti = 1 << 9
	flagLowerUp  = 1 << 16
	flagDormant  = 1 << 17

	flagsMade = flagRunning | flagPromisc | flagAllMulti | flagLowerUp | flagDormant
)

// flagWords are the IFF_* of include/uapi/linux/if.h, by their bits.
var flagWords = []string{
	"up", "broadcast", "debug", "loopback", "pointopoint", "notrailers", "running", "noarp", "promisc", "allmulti",
	"master", "slave", "multicast", "portsel", "automedia", "dynamic", "lower_up", "dormant", "echo",
}

// flags are the flags of an interface as ip(8) shows them.
func flags(d kernel.Object) []string {
	f := d.Uint("flags")&^flagsMade | d.Uint("gflags")&(flagPromisc|flagAllMulti)
	if state := d.Uint("state"); state&stateStart != 0 {
		if oper := d.Uint("operstate"); oper == operUp || oper == operUnknown {
			f |= flagRunning
		}
		if state&stateNoCarrier == 0 {
			f |= flagLowerUp
		}
		if state&stateDormant != 0 {
			f |= flagDormant
		}
	}
	var all []string
	for i, word := range flagWords {
		if f>>i&1 != 0 {
			all = append(all, word)
		}
	}
	return all
}
