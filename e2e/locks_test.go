//go:build e2e

package e2e

import (
	"slices"
	"testing"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/e2e/lab"
	dead "github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/lock"
	"github.com/panicroom-kdump/panicroom/kernel/sched"
)

// TestLocks crashes machines on which tasks wait for one another, and finds who
// waits for what in their dumps.
func TestLocks(t *testing.T) {
	t.Parallel()
	for _, suite := range []string{"trixie", "sid"} {
		t.Run(suite, func(t *testing.T) {
			t.Parallel()
			k := kernel(t, suite)
			o := run(t, &lab.Scenario{
				Name: "locks-" + suite, Kernel: k, CPUs: 2, MemMiB: 768, Crashkernel: "144M",
				Disk: &lab.Disk{SizeMiB: 1024}, Programs: []string{panicRoom(t, k)},
				Steps: []script.Step{
					loadStep(),
					{Name: "freeze", Freeze: &script.Freeze{Target: lab.CrashDir, Writers: 4, Chains: true}},
					crashStep(1),
				},
			})
			crashes, err := o.Crashes(t.Context())
			if err != nil || len(crashes) != 1 {
				t.Fatalf("saved crashes %q, %v; want one\n%s", crashes, err, o.Story())
			}
			_, crashed := openDump(t, readSaved(t, crashes[0]).file("vmcore"))
			seesLocks(t, crashed)
		})
	}
}

func seesLocks(t *testing.T, k *dead.Kernel) {
	tasks, err := sched.Tasks(k)
	if err != nil {
		t.Errorf("tasks: %v", err)
	}
	locks, chains, err := lock.Find(k, tasks)
	if err != nil {
		t.Errorf("locks: %v", err)
	}
	t.Logf("%+v\n%+v", locks, chains)
	frozen := map[int32]bool{} // who waits for the filesystem
	var position, memory *lock.Lock
	for i := range locks {
		switch l := &locks[i]; l.Kind {
		case lock.PerCPURWSem:
			if l.Owner != nil {
				t.Errorf("%+v: a frozen filesystem is held by no task", l)
			}
			for _, w := range l.Waiters {
				frozen[w.PID] = true
			}
		case lock.Mutex:
			position = l
		case lock.RWSem:
			memory = l
		default:
			t.Errorf("%+v; want no such lock", l)
		}
	}
	// Four writers, one that has the position of a file, one in a page fault.
	if len(frozen) != 6 {
		t.Errorf("%d tasks wait for the filesystem; want 6", len(frozen))
	}
	if position == nil || position.Owner == nil || len(position.Waiters) != 1 || !frozen[position.Owner.PID] {
		t.Errorf("file's position: %+v; want it held by one that waits for the filesystem", position)
	} else if !slices.ContainsFunc(chains, func(c lock.Chain) bool {
		return len(c.Tasks) == 2 && len(c.Locks) == 2 && !c.Deadlock && c.Tasks[1].PID == position.Owner.PID
	}) {
		t.Errorf("chains %+v; want one of two tasks and two locks that ends with PID %d", chains, position.Owner.PID)
	}
	if memory == nil || len(memory.Waiters) == 0 || memory.Owner == nil && memory.Readers == 0 {
		t.Errorf("memory of a process: %+v; want it held", memory)
	}
}
