package kernel

import (
	"fmt"
	"testing"
)

// Addresses are printed in errors in all these ways.
func TestVirtAddrPrinted(t *testing.T) {
	a := VirtAddr(0xffffffff80001234)
	for format, want := range map[string]string{
		"%v": "0xffffffff80001234", "%s": "0xffffffff80001234", "%#x": "0xffffffff80001234",
		"%x": "ffffffff80001234", "%020x": "0000ffffffff80001234", "%d": "18446744071562072628",
	} {
		if got := fmt.Sprintf(format, a); got != want {
			t.Errorf("%s prints %s; want %s", format, got, want)
		}
	}
}
