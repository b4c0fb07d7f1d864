package config

import (
	"strings"
	"testing"
)

func TestParseSSH(t *testing.T) {
	for text, want := range map[string]SSHAddress{
		"host:/srv/crash":                  {"root", "host", 22, "/srv/crash"},
		"crash@host.example.org:2222:/x y": {"crash", "host.example.org", 2222, "/x y"},
		"192.0.2.1:dumps":                  {"root", "192.0.2.1", 22, "dumps"},
		"a@[2001:db8::1]:/x":               {"a", "2001:db8::1", 22, "/x"},
		"[fe80::1%eth0]:22:/x:y@z":         {"root", "fe80::1%eth0", 22, "/x:y@z"},
		"host:2022/11:x":                   {"root", "host", 22, "2022/11:x"},
	} {
		got, err := ParseSSH(text)
		if err != nil || got != want {
			t.Errorf("ParseSSH(%q) = %+v, %v; want %+v", text, got, err, want)
		}
		if again, err := ParseSSH(got.String()); err != nil || again != got {
			t.Errorf("ParseSSH(%q) = %+v, %v; want %+v", got.String(), again, err, got)
		}
	}
	for text, want := range map[string]string{
		"":                "no colon",
		"host":            "no colon",
		"host:":           "no directory",
		"host:22":         "a port and no directory",
		"host:22:":        "no directory",
		"host:0:/x":       "no number of a port",
		"host:70000:/x":   "no number of a port",
		"host:~/x":        "without ~",
		"@host:/x":        "name of a user",
		"-oProxy@host:/x": "name of a user",
		"-host:/x":        "name of a host",
		"ho st:/x":        "name of a host",
		"fe80::1:/x":      "stands in brackets",
		"[fe80::1]/x":     "no IPv6 address in brackets",
		"[host]:/x":       "no IPv6 address in brackets",
		"[192.0.2.1]:/x":  "no IPv6 address in brackets",
		"ssh://host/x":    "no URL",
	} {
		if a, err := ParseSSH(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseSSH(%q) = %+v, %v; want %q", text, a, err, want)
		}
	}
	if got, want := (SSHAddress{Host: "::1", Port: 2}).Endpoint(), "[::1]:2"; got != want {
		t.Errorf("Endpoint = %q; want %q", got, want)
	}
}

func TestParseNFS(t *testing.T) {
	for text, want := range map[string]NFSAddress{
		"nas:/export/crash":  {"nas", "/export/crash"},
		"[2001:db8::1]:/x:y": {"2001:db8::1", "/x:y"},
		"192.0.2.1:/":        {"192.0.2.1", "/"},
	} {
		got, err := ParseNFS(text)
		if err != nil || got != want || got.String() != text {
			t.Errorf("ParseNFS(%q) = %+v, %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "nas", "nas:", "nas:export", ":/x", "2001:db8::1:/x", "user@nas:/x"} {
		if a, err := ParseNFS(text); err == nil {
			t.Errorf("ParseNFS(%q) = %+v; want an error", text, a)
		}
	}
}

func FuzzAddresses(f *testing.F) {
	for _, s := range []string{"a@host:22:/x", "[::1]:/x", "fe80::1:/x", "h:~", "@@::"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if a, err := ParseSSH(text); err == nil {
			if again, err := ParseSSH(a.String()); err != nil || again != a {
				t.Errorf("ParseSSH(%q) = %+v, and of %q %+v, %v", text, a, a.String(), again, err)
			}
		}
		if a, err := ParseNFS(text); err == nil && a.String() != text {
			t.Errorf("ParseNFS(%q) = %+v, which is %q", text, a, a.String())
		}
	})
}
