package config

import (
	_ "embed"
	"path"
	"time"
)

// DefaultDir is where crashes go if nothing else is said, and DefaultDeadline how
// long a target may take then.
const (
	DefaultDir      = "/var/crash"
	DefaultDeadline = 4 * time.Hour
)

// Shipped is the text of the configuration that is shipped: every key, its
// default and what it means, all in comments.
//
//go:embed panicroom.toml
var Shipped string

// Default returns the configuration of an empty file.
func Default() *Config {
	return &Config{
		Reserve: Reserve{Size: "auto"},
		Kernel:  Kernel{Method: "auto", CPUs: 1},
		Dump:    Dump{Level: "kernel", Format: "kdump", Compress: "zstd", MemLimit: "auto"},
		Targets: []Target{Directory(DefaultDir)},
		Network: Network{Method: "copy"},
		After:   After{Saved: "reboot", Failed: "reboot"},
		Keep:    Keep{Count: 10},
		Notify:  Notify{Hooks: "/etc/panicroom/hooks.d"},
	}
}

// Directory returns the target of a directory on a local disk.
func Directory(dir string) Target { return Target{Dir: dir, Deadline: DefaultDeadline} }

// fill gives a target what its kind has by default.
func (t *Target) fill() {
	if t.Deadline == 0 {
		t.Deadline = DefaultDeadline
	}
	if t.SSH != "" {
		if t.Key == "" {
			t.Key = "/etc/panicroom/id_ed25519"
		}
		if t.KnownHosts == "" {
			t.KnownHosts = "/etc/panicroom/known_hosts"
		}
	}
}

// Directories are where this machine has saved crashes of its own: the
// directories among the targets, in their order. What is unpacked from a
// partition goes into the first, which is [DefaultDir] if no target is one.
func (c *Config) Directories() []string {
	var all []string
	seen := map[string]bool{}
	add := func(dir string) {
		if dir = path.Clean(dir); !seen[dir] {
			seen[dir] = true
			all = append(all, dir)
		}
	}
	partition := false
	for _, t := range c.Targets {
		if t.Dir != "" {
			add(t.Dir)
		}
		partition = partition || t.Partition != ""
	}
	if partition && len(all) == 0 {
		add(DefaultDir)
	}
	return all
}
