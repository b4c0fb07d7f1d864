package crashenv

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"time"

	"github.com/panicroom-kdump/panicroom/internal/device"
	"github.com/panicroom-kdump/panicroom/internal/network"
	"github.com/panicroom-kdump/panicroom/target/sshdir"
)

// Kind is a kind of targets.
type Kind string

// The kinds of targets.
const (
	Directory Kind = "directory" // on a filesystem of a local disk
	Partition Kind = "partition" // nothing else is on it
	SSH       Kind = "ssh"       // a directory of another machine
	NFS       Kind = "nfs"       // the same
)

// Target is where a dump may go.
type Target struct {
	Kind Kind `json:"kind"`
	// Path is the target as the healthy system, and people, call it.
	Path string `json:"path"`
	// Seconds is how long everything about the target may take; 0 is as long as
	// its phases may.
	Seconds float64 `json:"seconds,omitempty"`
	// Modules are the names of those of the plan's that it needs.
	Modules []string `json:"modules,omitempty"`

	// UUID of the filesystem, see device.Filesystem, or of the partition.
	UUID string `json:"uuid,omitempty"`
	// Type is the driver to mount a filesystem with, Options its options.
	Type    string `json:"type,omitempty"`
	Options string `json:"options,omitempty"`
	// Dir is the directory within the filesystem.
	Dir string `json:"dir,omitempty"`
	// Device is the block device in the healthy system, for people.
	Device string `json:"device,omitempty"`
	// Mapped says what the device mapper makes the block device of; nil is one that
	// is there.
	Mapped *device.Mapped `json:"mapped,omitempty"`
	// Array says of what MD makes it; nil is the same.
	Array *device.Array `json:"array,omitempty"`

	// SSH says how to get to a directory over SSH, and Key which file of the
	// initramfs has the private key, which is nowhere else.
	SSH *sshdir.Server `json:"ssh,omitempty"`
	Key string         `json:"key,omitempty"`
	// Export is a directory of an NFS server.
	Export *Export `json:"export,omitempty"`
	// Network is the way to another machine.
	Network *network.Plan `json:"network,omitempty"`
}

// Export is a directory of an NFS server.
type Export struct {
	Host      string       `json:"host"` // as people name it
	Addresses []netip.Addr `json:"addresses"`
	Dir       string       `json:"dir"`
}

// maxTargets is more than anybody has, and each costs time.
const maxTargets = 16

// String is the target with what it is known by in the panic room.
func (t *Target) String() string {
	switch t.Kind {
	case Directory:
		return fmt.Sprintf("%s (%s %s)", t.Path, t.Type, t.UUID)
	case Partition:
		return fmt.Sprintf("%s (partition %s)", t.Path, t.UUID)
	}
	return fmt.Sprintf("%s (%s)", t.Path, t.Kind)
}

func (t *Target) deadline() time.Duration { return time.Duration(t.Seconds * float64(time.Second)) }

func (t *Target) check() error {
	if t.Path == "" || t.Seconds < 0 {
		return fmt.Errorf("path %q, %g seconds", t.Path, t.Seconds)
	}
	switch t.Kind {
	case Directory:
		if t.UUID == "" || t.Type == "" {
			return errors.New("it has no UUID or no type")
		}
		if !path.IsAbs(t.Dir) || path.Clean(t.Dir) != t.Dir {
			return fmt.Errorf("directory %q", t.Dir)
		}
		if t.Mapped != nil {
			return t.Mapped.Check()
		}
		if t.Array != nil {
			return t.Array.Check()
		}
		return nil
	case Partition:
		if t.UUID == "" {
			return errors.New("it has no UUID")
		}
		return nil
	case SSH:
		if t.SSH == nil || !path.IsAbs(t.Key) || len(t.SSH.Addresses) == 0 || len(t.SSH.HostKeys) == 0 {
			return errors.New("it has no server, key, address or host key")
		}
	case NFS:
		if t.Export == nil || len(t.Export.Addresses) == 0 || !path.IsAbs(t.Export.Dir) {
			return errors.New("it has no export or no address")
		}
	default:
		return fmt.Errorf("kind %q", t.Kind)
	}
	if t.Network == nil {
		return errors.New("it has no network")
	}
	return t.Network.Check()
}

// TargetLateError is the error of a target that was not done in time.
type TargetLateError struct {
	Target string
	Limit  time.Duration
}

func (e *TargetLateError) Error() string {
	return fmt.Sprintf("target %s was not done within its %s", e.Target, e.Limit)
}

// Hints says what to do.
func (e *TargetLateError) Hints() []string {
	return []string{"give the target a longer deadline, or save less (level)"}
}

// Attempt is a target that was tried in vain.
type Attempt struct {
	Target  string  `json:"target"`
	Phase   string  `json:"phase,omitempty"` // that failed
	Error   string  `json:"error"`
	Seconds float64 `json:"seconds"`
}
