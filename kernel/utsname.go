package kernel

import (
	"fmt"
	"strings"
)

// Utsname is the dead kernel's answer to uname(2).
type Utsname struct {
	Sysname    string `json:"sysname"`
	Nodename   string `json:"nodename"`
	Release    string `json:"release"`
	Version    string `json:"version"`
	Machine    string `json:"machine"`
	Domainname string `json:"domainname"`
}

// Utsname reads init_uts_ns.name: struct new_utsname, six strings of 65 bytes,
// include/uapi/linux/utsname.h (Linux 7.2). The error is ErrCorrupt when what is
// there contradicts OSRELEASE of vmcoreinfo: then addresses are translated
// wrongly, or memory is damaged.
func (k *Kernel) Utsname() (Utsname, error) {
	const field = 65
	addr, ok := k.info.Symbol("init_uts_ns")
	off, ok2 := k.info.Offset("uts_namespace.name")
	if !ok || !ok2 {
		return Utsname{}, fmt.Errorf("init_uts_ns: %w", ErrNoInfo)
	}
	var b [6 * field]byte
	if err := k.ReadVirt(b[:], addr+VirtAddr(off)); err != nil {
		return Utsname{}, fmt.Errorf("init_uts_ns: %w", err)
	}
	var s [6]string
	for i := range s {
		s[i] = strings.ToValidUTF8(cString(b[i*field:][:field]), "?")
	}
	u := Utsname{s[0], s[1], s[2], s[3], s[4], s[5]}
	if want := k.info.Release(); want != "" && u.Release != want {
		return u, fmt.Errorf("init_uts_ns has release %q where vmcoreinfo has %q: %w", u.Release, want, ErrCorrupt)
	}
	return u, nil
}
