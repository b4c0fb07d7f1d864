// Package script is the language between a scenario on the host and the guest
// that plays it: the steps go into the guest's initramfs, and events come back
// over a virtio port, one JSON object a line.
package script

// Path is where the guest finds its [Script], and Port the name of the virtio
// port on which it answers; without that port it answers on the console.
const (
	Path = "/scenario.json"
	Port = "lab"
)

// Script is everything that the guest does, in order.
type Script struct {
	// Modules are kernel modules to load first, in order: paths in the guest.
	Modules []string `json:"modules,omitempty"`
	Mounts  []Mount  `json:"mounts,omitempty"`
	Steps   []Step   `json:"steps,omitempty"`
	// Prefix stands before each line that the guest says on the console.
	Prefix string `json:"prefix,omitempty"`
	// End is what the guest does when no step is left: "poweroff" (default) or
	// "restart".
	End string `json:"end,omitempty"`
	// Root, if not nil, is another root filesystem. The guest has no steps then
	// and answers nobody: it hands over to that root's own first process.
	Root *Root `json:"root,omitempty"`
}

// Root is the root filesystem of a distribution.
type Root struct {
	Serial    string `json:"serial"`    // of the disk
	Partition int    `json:"partition"` // of it, from 1
	Type      string `json:"type"`
	Init      string `json:"init"` // the first process
}

// Agent is the argument with which the guest, as a process of a distribution,
// takes steps from the port one after the other, a line of JSON each, and answers
// each with its events. It begins with the facts, at every boot.
const Agent = "agent"

// Mount is a filesystem on a disk, which the guest knows by its serial.
type Mount struct {
	Serial   string `json:"serial"`
	Target   string `json:"target"`
	Type     string `json:"type"`
	ReadOnly bool   `json:"read_only,omitempty"`
	Data     string `json:"data,omitempty"`
}

// Step is one thing that the guest does; exactly one of the fields after Name
// is set. A step that fails does not stop the script: what follows from it is
// the host's to judge.
type Step struct {
	Name string `json:"name"`

	Run     *Run     `json:"run,omitempty"`
	Burden  *Burden  `json:"burden,omitempty"`
	Fill    *Fill    `json:"fill,omitempty"`
	Patch   *Patch   `json:"patch,omitempty"`
	Write   *Write   `json:"write,omitempty"`
	Show    *Show    `json:"show,omitempty"`
	Unmount *Unmount `json:"unmount,omitempty"`
	Network *Network `json:"network,omitempty"`
	Map     *Map     `json:"map,omitempty"`
	Mirror  *Mirror  `json:"mirror,omitempty"`
	Stick   *Stick   `json:"stick,omitempty"`
	Freeze  *Freeze  `json:"freeze,omitempty"`
	Exit    *Exit    `json:"exit,omitempty"`
}

// Run runs a program and sends its output.
type Run struct {
	Args []string `json:"args"`
	UID  int      `json:"uid,omitempty"` // 0 is root
	Env  []string `json:"env,omitempty"`
	Dir  string   `json:"dir,omitempty"`
	// Output is a file in the guest that gets the standard output instead.
	Output string `json:"output,omitempty"`
}

// Burden fills memory with pages of every class and keeps them until the end.
// Sizes are in MiB.
type Burden struct {
	Anon    int    `json:"anon,omitempty"`  // anonymous memory of a process of its own
	Huge    int    `json:"huge,omitempty"`  // the same in transparent huge pages
	Shmem   int    `json:"shmem,omitempty"` // files in a tmpfs
	Cache   int    `json:"cache,omitempty"` // page cache of a file in Dir
	Dir     string `json:"dir,omitempty"`
	Mapped  bool   `json:"mapped,omitempty"`  // the file is mapped by the process, too
	Inodes  int    `json:"inodes,omitempty"`  // number of empty files: slab
	Hugetlb int    `json:"hugetlb,omitempty"` // pages of the hugetlb pool
	// Mixed says that pages hold what those of a machine at work do, text,
	// records and what was compressed before, instead of noise only.
	Mixed bool `json:"mixed,omitempty"`
}

// Fill writes a file of zeros until LeaveKiB are left on its filesystem.
type Fill struct {
	Path     string `json:"path"`
	LeaveKiB int    `json:"leave_kib"`
}

// Patch overwrites bytes of a file or a device, and syncs.
type Patch struct {
	Path   string `json:"path,omitempty"`
	Serial string `json:"serial,omitempty"` // of a disk, instead of Path
	Offset int64  `json:"offset"`
	Data   []byte `json:"data"`
	// Or says that the bits of Data are set instead of all bytes replaced.
	Or bool `json:"or,omitempty"`
}

// Write makes a file.
type Write struct {
	Path string `json:"path"`
	Mode uint32 `json:"mode,omitempty"` // 0644
	Data []byte `json:"data,omitempty"`
	// Copy is a file whose first Size bytes (0: all) are taken instead of Data;
	// without it and Data, Size bytes are zero.
	Copy string `json:"copy,omitempty"`
	Size int64  `json:"size,omitempty"`
	// Random are so many bytes of noise instead of Data, the same in each run.
	Random int64 `json:"random,omitempty"`
}

// Show sends the contents of files as standard output.
type Show struct {
	Paths []string `json:"paths"`
}

// Unmount takes a filesystem away.
type Unmount struct {
	Target string `json:"target"`
}

// Map has the device mapper make a device of a part of a disk, and mounts it. The
// numbers are of sectors of 512 bytes.
type Map struct {
	Serial  string `json:"serial"`
	Name    string `json:"name"`
	From    uint64 `json:"from"`
	Sectors uint64 `json:"sectors"`
	Target  string `json:"target"`
	Type    string `json:"type"`
}

// Mirror has MD make a device of disks that have superblocks of version 1.2, and
// mounts it.
type Mirror struct {
	Serials []string `json:"serials"`
	Target  string   `json:"target"`
	Type    string   `json:"type"`
}

// Stick writes to a disk that does not answer writes, all at once, and goes on
// when they are on their way.
type Stick struct {
	Serial string `json:"serial"`
	// Bytes are the sizes of the writes, of which the n-th goes to MiB n+1 of the
	// disk.
	Bytes []int `json:"bytes"`
}

// Exit ends the first process, which no kernel survives.
type Exit struct {
	Code int `json:"code"`
}

// Culprit is the argument with which the guest's program does harm, as a process of
// its own: what harm is the next argument, one of these.
const (
	Culprit = "culprit"

	HarmWrite = "write" // to the file that the next argument names, what the one after it says
	HarmWait  = "wait"  // does none, for ever
	// HarmStall writes as HarmWrite does while others wait all the time that each CPU
	// has been out of the kernel: whoever keeps one in there is noticed.
	HarmStall = "stall"
)

// Freeze stops a filesystem as snapshots of volumes do, and starts processes that
// write to it nonetheless: until the end they wait where nothing interrupts them,
// which is D in ps.
type Freeze struct {
	Target  string `json:"target"`
	Writers int    `json:"writers"`
	// Chains starts others that wait for one another: behind a writer, one that writes
	// to the same open file; behind a page of a file that is written to, one that
	// unmaps it and one that maps another.
	Chains bool `json:"chains,omitempty"`
}

// Network gives a network device addresses.
type Network struct {
	Device string `json:"device"`
	// VLAN, if not 0, is one on the device that gets the addresses instead.
	VLAN      int      `json:"vlan,omitempty"`
	Addresses []string `json:"addresses,omitempty"` // like 10.0.2.15/24
	Gateway   string   `json:"gateway,omitempty"`
	// Reach are addresses that there must be a way to at the end: routers may tell
	// one late.
	Reach []string `json:"reach,omitempty"`
}

// Kinds of events, in the order in which a step has them.
const (
	Facts  = "facts" // once, before the first step
	Begin  = "begin"
	Stdout = "stdout" // a line, or more when they came at once
	Stderr = "stderr"
	End    = "end"
	Broken = "broken" // the guest itself failed; it ends the machine
	Finish = "finish" // no step is left; the machine powers off
)

// Event is what the guest says.
type Event struct {
	Kind string `json:"kind"`
	Step int    `json:"step"`           // index, from 0
	Text string `json:"text,omitempty"` // output, or what failed
	// Exit is the exit code of a program, -1 when it was killed or the step
	// failed without one.
	Exit   int      `json:"exit,omitempty"`
	Uptime float64  `json:"uptime"` // seconds of the guest's kernel
	Facts  *Machine `json:"facts,omitempty"`
}

// Machine is what the guest sees of its machine.
type Machine struct {
	Release  string `json:"release"`
	Cmdline  string `json:"cmdline"`
	MMU      string `json:"mmu"`  // sv39, sv48 or sv57
	CPUs     int    `json:"cpus"` // online
	TotalKiB uint64 `json:"total_kib"`
	Crash    uint64 `json:"crash_bytes"` // memory reserved for a crash kernel
	Nodes    int    `json:"nodes"`       // memory nodes
}
