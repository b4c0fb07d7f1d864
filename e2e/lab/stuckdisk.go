package lab

import (
	"fmt"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
)

// StuckDisk is a disk that answers reads, the first write and no other one. It
// gives up when its machine restarts it, as a crash kernel does.
type StuckDisk struct {
	Queues int // 1
	Depth  int // requests that a queue takes; 128
}

// The serial and the size of the disk that is stuck.
const (
	StuckSerial = "stuck"
	StuckMiB    = 64
)

// args are QEMU's for it: a disk of zeros that may write one byte a second, and
// first pays for what it has written.
func (d *StuckDisk) args() []string {
	depth := d.Depth
	if depth == 0 {
		depth = 128
	}
	return []string{
		"-drive", fmt.Sprintf("if=none,id=stuck,driver=null-co,size=%d,read-zeroes=on,throttling.bps-write=1", StuckMiB<<20),
		// How many pieces a request has does not depend on the depth.
		"-device", fmt.Sprintf("virtio-blk-device,drive=stuck,serial=%s,num-queues=%d,queue-size=%d,seg-max-adjust=off",
			StuckSerial, max(1, d.Queues), depth),
	}
}

// Stick is a step that has writes of these sizes wait for the disk.
func (d *StuckDisk) Stick(bytes ...int) script.Step {
	taken := len(bytes)
	if d.Depth > 0 {
		taken = min(taken, d.Depth*max(1, d.Queues))
	}
	return script.Step{Name: "stick", Stick: &script.Stick{Serial: StuckSerial, Bytes: bytes, Taken: taken}}
}
