package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// SSHAddress is what [Target.SSH] says.
type SSHAddress struct {
	User string // root if it was not said
	Host string // a name or an address, without brackets
	Port int    // 22 if it was not said
	Dir  string // one that does not begin with / begins at the user's home
}

// NFSAddress is what [Target.NFS] says.
type NFSAddress struct {
	Host string // a name or an address, without brackets
	Dir  string // begins with /
}

// ParseSSH reads [USER@]HOST[:PORT]:DIR.
func ParseSSH(text string) (SSHAddress, error) {
	a := SSHAddress{User: "root", Port: 22}
	rest := text
	// An @ further on belongs to the directory.
	if i := strings.IndexAny(rest, "@:/["); i >= 0 && rest[i] == '@' {
		a.User, rest = rest[:i], rest[i+1:]
		if !isUser(a.User) {
			return a, fmt.Errorf("%q is no name of a user", a.User)
		}
	}
	var err error
	if a.Host, rest, err = cutHost(rest); err != nil {
		return a, fmt.Errorf("%q: %w; it is [USER@]HOST[:PORT]:DIR", text, err)
	}
	if port, dir, ok := strings.Cut(rest, ":"); ok && isDigits(port) {
		a.Port, err = strconv.Atoi(port)
		if err != nil || a.Port < 1 || a.Port > 65535 {
			return a, fmt.Errorf("%s is no number of a port", port)
		}
		rest = dir
	} else if isDigits(rest) {
		return a, fmt.Errorf("%q has a port and no directory; it is [USER@]HOST[:PORT]:DIR", text)
	}
	switch {
	case rest == "":
		return a, fmt.Errorf("%q has no directory; it is [USER@]HOST[:PORT]:DIR", text)
	case strings.HasPrefix(rest, "//"):
		return a, fmt.Errorf("%q is no [USER@]HOST[:PORT]:DIR; that is no URL", text)
	case rest[0] == '~':
		return a, errors.New("write the directory without ~: one that does not begin with / begins at the user's home")
	}
	a.Dir = rest
	return a, nil
}

// ParseNFS reads HOST:/DIR.
func ParseNFS(text string) (NFSAddress, error) {
	var a NFSAddress
	var err error
	if a.Host, a.Dir, err = cutHost(text); err != nil {
		return a, fmt.Errorf("%q: %w; it is HOST:/DIR", text, err)
	}
	if !strings.HasPrefix(a.Dir, "/") {
		return a, fmt.Errorf("%q: the directory begins with /; it is HOST:/DIR", text)
	}
	return a, nil
}

// Endpoint is HOST:PORT, with an IPv6 address in brackets.
func (a SSHAddress) Endpoint() string { return bracket(a.Host) + ":" + strconv.Itoa(a.Port) }

func (a SSHAddress) String() string {
	host := bracket(a.Host)
	if a.Port != 22 {
		host = a.Endpoint()
	}
	return a.User + "@" + host + ":" + a.Dir
}

func (a NFSAddress) String() string { return bracket(a.Host) + ":" + a.Dir }

func bracket(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// cutHost splits HOST:REST, where an IPv6 address stands in brackets.
func cutHost(text string) (host, rest string, err error) {
	if inside, ok := strings.CutPrefix(text, "["); ok {
		host, rest, ok = strings.Cut(inside, "]:")
		if ip, err := netip.ParseAddr(host); !ok || err != nil || !ip.Is6() {
			return "", "", errors.New("no IPv6 address in brackets and a colon")
		}
		return host, rest, nil
	}
	// An address without brackets would be cut at its first colon.
	for i := len(text); i > 0; i = strings.LastIndexByte(text[:i], ':') {
		if ip, err := netip.ParseAddr(text[:i]); err == nil && ip.Is6() {
			return "", "", errors.New("an IPv6 address stands in brackets")
		}
	}
	host, rest, ok := strings.Cut(text, ":")
	if !ok {
		return "", "", errors.New("no colon behind the host")
	}
	if !isHost(host) {
		return "", "", fmt.Errorf("%q is no name of a host", host)
	}
	return host, rest, nil
}

func isDigits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// isHost tells whether s can be a host's name or an IPv4 address.
func isHost(s string) bool {
	return s != "" && len(s) <= 253 && s[0] != '-' && s[0] != '.' && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' || r == '-' || r == '.' || r == '_')
	})
}

// isUser tells whether s can be the name of a user.
func isUser(s string) bool {
	return s != "" && len(s) <= 64 && s[0] != '-' && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r >= 0x7f })
}
