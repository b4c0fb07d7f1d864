package config

import (
	"fmt"
	"slices"
	"strings"
)

// Kind is a kind of targets: the key that names its place.
type Kind string

// The kinds of targets.
const (
	KindDir       Kind = "dir"
	KindPartition Kind = "partition"
	KindSSH       Kind = "ssh"
	KindNFS       Kind = "nfs"
)

// kinds are all, with the keys that each may have beside its own and deadline.
var kinds = []struct {
	kind Kind
	keys []string
}{
	{KindDir, nil},
	{KindPartition, nil},
	{KindSSH, []string{"key", "known-hosts"}},
	{KindNFS, []string{"options"}},
}

// place is what the key of a kind says.
func (t *Target) place(k Kind) string {
	switch k {
	case KindDir:
		return t.Dir
	case KindPartition:
		return t.Partition
	case KindSSH:
		return t.SSH
	case KindNFS:
		return t.NFS
	}
	return ""
}

// Kind says which kind of target it is, "" if none.
func (t *Target) Kind() Kind {
	for _, k := range kinds {
		if t.place(k.kind) != "" {
			return k.kind
		}
	}
	return ""
}

// String names the target for people: "ssh backup@host:/crash".
func (t *Target) String() string { return string(t.Kind()) + " " + t.place(t.Kind()) }

// problem says what is wrong with the keys that a target was given together, and
// which of them it is about; "" is the target itself.
func targetProblem(given []string) (key, text string) {
	var named []string
	for _, k := range kinds {
		if slices.Contains(given, string(k.kind)) {
			named = append(named, string(k.kind))
		}
	}
	switch len(named) {
	case 0:
		return "", "the target says of no kind where it is: one of dir, partition, ssh and nfs"
	case 1:
	default:
		return named[1], fmt.Sprintf("a target is of one kind, and this is %s: write a [[target]] for each", strings.Join(named, " and "))
	}
	for _, key := range given {
		var owner []string
		for _, k := range kinds {
			if slices.Contains(k.keys, key) {
				owner = append(owner, string(k.kind))
			}
		}
		if len(owner) > 0 && !slices.Contains(owner, named[0]) {
			return key, fmt.Sprintf("%s belongs to a target of kind %s, and this is %s", key, strings.Join(owner, " or "), named[0])
		}
	}
	return "", ""
}
