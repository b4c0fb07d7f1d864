package lab

import (
	"fmt"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
)

// StuckDisk is a disk that answers reads, the first write and no other one. It
// gives up when its machine restarts it, as a crash kernel does.
type StuckDisk struct {
	Queues int // 1
}

// The serial and the size of the disk that is stuck.
const (
	StuckSerial = "stuck"
	StuckMiB    = 64
)

// args are QEMU's for it: a disk of zeros that may write one byte a second, and
// first pays for what it has written.
func (d *StuckDisk) args() []string {
	return []string{
		"-drive", fmt.Sprintf("if=none,id=stuck,driver=null-co,size=%d,read-zeroes=on,throttling.bps-write=1", StuckMiB<<20),
		"-device", fmt.Sprintf("virtio-blk-device,drive=stuck,serial=%s,num-queues=%d", StuckSerial, max(1, d.Queues)),
	}
}

// Stick is a step that has writes of these sizes wait for the stuck disk.
func Stick(bytes ...int) script.Step {
	return script.Step{Name: "stick", Stick: &script.Stick{Serial: StuckSerial, Bytes: bytes}}
}
