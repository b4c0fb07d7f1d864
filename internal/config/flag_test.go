package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseTarget(t *testing.T) {
	for text, want := range map[string]Target{
		"/var/crash":                 {Dir: "/var/crash", Deadline: DefaultDeadline},
		"/srv/a:b":                   {Dir: "/srv/a:b", Deadline: DefaultDeadline},
		"partition:PARTUUID=0a1b":    {Partition: "PARTUUID=0a1b", Deadline: DefaultDeadline},
		"nfs:store:/export":          {NFS: "store:/export", Deadline: DefaultDeadline},
		"ssh:dump@store:2222:/crash": {SSH: "dump@store:2222:/crash", Deadline: DefaultDeadline, Key: "/etc/panicroom/id_ed25519", KnownHosts: "/etc/panicroom/known_hosts"},
		"ssh:[2001:db8::1]:/crash":   {SSH: "[2001:db8::1]:/crash", Deadline: DefaultDeadline, Key: "/etc/panicroom/id_ed25519", KnownHosts: "/etc/panicroom/known_hosts"},
	} {
		got, err := ParseTarget(text)
		if err != nil {
			t.Errorf("ParseTarget(%q): %v", text, err)
		} else if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("ParseTarget(%q) (-want +got):\n%s", text, diff)
		}
	}
	for _, text := range []string{"", "ssh:store", "ssh://store/crash", "nfs:store:export", "nfs:"} {
		if got, err := ParseTarget(text); err == nil {
			t.Errorf("ParseTarget(%q) = %+v; want an error", text, got)
		}
	}
}
