// Package config is what the owner of a machine decides: /etc/panicroom.toml,
// and files in /etc/panicroom.d that change parts of it. Everything has a default,
// so that an empty file is a whole configuration.
//
// Flags of the command win over the file. Nothing writes the file: what the
// program notes for itself is elsewhere.
package config

import "time"

// File is where the configuration is, DropIns the directory of files, read in the
// order of their names, that change single keys of it.
const (
	File    = "/etc/panicroom.toml"
	DropIns = "/etc/panicroom.d"
)

// Config is a whole configuration, defaults filled in and checked. Its tags are
// the keys of the file: a string, an int, a size (uint64) or a duration each.
type Config struct {
	Reserve Reserve  `toml:"reserve"`
	Kernel  Kernel   `toml:"kernel"`
	Dump    Dump     `toml:"dump"`
	Targets []Target `toml:"target"`
	Network Network  `toml:"network"`
	After   After    `toml:"after"`
	Keep    Keep     `toml:"keep"`
	Notify  Notify   `toml:"notify"`

	// Files are those that it was read from, in their order; none if all is
	// default.
	Files []string
}

// Reserve is how much memory is set aside for the panic kernel.
type Reserve struct {
	// Size is "auto", what panicroom reserve recommends for this machine, or what
	// stands behind crashkernel= on the kernel's command line.
	Size string `toml:"size"`
}

// Kernel is the kernel of the crash environment.
type Kernel struct {
	Image   string `toml:"image"`   // "" is that of the running kernel
	Modules string `toml:"modules"` // "" is /lib/modules/RELEASE
	Append  string `toml:"append"`  // to its command line
	Method  string `toml:"method"`  // system call: auto, load or file
	CPUs    int    `toml:"cpus"`
}

// Dump is what is saved, and how.
type Dump struct {
	Level    string `toml:"level"`     // full, kernel, report or 0 to 31
	Format   string `toml:"format"`    // as of load --format
	Compress string `toml:"compress"`  // as of load --compress
	MemLimit string `toml:"mem-limit"` // "auto" is half of what is free then
}

// Target is a place for dumps. Targets are tried in the order of the file; exactly
// one of Dir, Partition, SSH and NFS says which kind it is.
type Target struct {
	// Dir is a directory on a local disk, as the running system names it.
	Dir string `toml:"dir"`
	// Partition has nothing else on it: /dev/… , PARTUUID=… or LABEL=…. The
	// next boot unpacks what a crash left there.
	Partition string `toml:"partition"`
	// SSH is a directory of another machine: [USER@]HOST[:PORT]:DIR; an IPv6
	// address stands in brackets.
	SSH string `toml:"ssh"`
	// Key is the private key to log in with, KnownHosts the file with the host's
	// public key. No other host key is accepted. Both have a default.
	Key        string `toml:"key"`
	KnownHosts string `toml:"known-hosts"`
	// NFS is an export of a server of NFS version 4 and a directory in it:
	// HOST:/DIR.
	NFS string `toml:"nfs"`
	// Options of the mount; for NFS they come after ours.
	Options string `toml:"options"`
	// Deadline is how long everything about this target may take, from waiting
	// for its disk or network to the last byte; then the next one is tried.
	Deadline time.Duration `toml:"deadline"`
}

// Network is how the crash environment reaches targets of other machines.
type Network struct {
	// Method is "copy": the addresses, routes, VLANs and bonds that the running
	// machine has when the panic kernel is loaded; or "dhcp".
	Method string `toml:"method"`
	// Interface is the one to use, "" the one with the route to the target.
	Interface string `toml:"interface"`
}

// After is what becomes of the machine when the dump is saved, or not.
type After struct {
	Saved  string `toml:"saved"`  // reboot, poweroff or halt
	Failed string `toml:"failed"` // the same, when no target took the dump
}

// Keep is how many saved crashes stay in each directory; the oldest go first, the
// newest never. 0 is no limit.
type Keep struct {
	Count int    `toml:"count"`
	Bytes uint64 `toml:"bytes"` // of all of them
	Free  uint64 `toml:"free"`  // stays free on the filesystem
}

// Notify is who is told of a crash, on the boot after it.
type Notify struct {
	// Hooks is a directory of programs, each called with the directory of the
	// saved crash.
	Hooks string `toml:"hooks"`
	// Webhook is a URL that gets a JSON description by POST, never the dump.
	Webhook string `toml:"webhook"`
}
