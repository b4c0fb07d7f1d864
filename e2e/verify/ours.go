package main

import (
	"errors"
	"fmt"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/block"
	"github.com/panicroom-kdump/panicroom/kernel/fs"
	"github.com/panicroom-kdump/panicroom/kernel/mm"
	"github.com/panicroom-kdump/panicroom/kernel/net"
	"github.com/panicroom-kdump/panicroom/kernel/sched"
	"github.com/panicroom-kdump/panicroom/report"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// ours is what panicroom says of the same dump: through the packages of which the
// report is made, for a report shows a selection.
type ours struct {
	symbolAt symbolNamer
	report   *report.Report
	log      []kernel.LogRecord
	modules  []kernel.Module

	tasks     []sched.Task
	runQueues []sched.RunQueue
	load      sched.Load
	stacks    []cpuStack
	blocked   []cpuStack
	memory    *mm.Summary
	// committed is the part of Memory.Committed that is no CPU's own, in pages.
	committed uint64
	caches    []mm.Cache
	mounts    []fs.Mount
	disks     []block.Disk
	net       []net.Interface
}

// ask reads a dump. All that is compared must be readable: an error is one of ours.
func ask(d *vmcore.Dump) (*ours, error) {
	k, err := kernel.Open(d, nil)
	if err != nil {
		return nil, err
	}
	o := &ours{symbolAt: func(va kernel.VirtAddr) (string, uint64) {
		s, offset, err := k.SymbolAt(va)
		if err != nil {
			return "", 0
		}
		return s.Name, offset
	}}
	var errs []error
	failed := func(what string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", what, err))
		}
	}
	o.report, err = report.Make(k, nil)
	failed("report", err)
	for r, err := range k.Log() {
		if err != nil {
			failed("log", err)
			break
		}
		o.log = append(o.log, r)
	}
	for m, err := range k.Modules() {
		if err != nil {
			failed("modules", err)
			break
		}
		o.modules = append(o.modules, m)
	}
	o.memory, err = mm.Read(k)
	failed("memory", err)
	o.committed, err = committedOfAll(k)
	failed("committed memory", err)
	o.caches, err = mm.Caches(k)
	failed("slab caches", err)
	return o, errors.Join(errs...)
}

// committedOfAll is vm_committed_as without what each CPU keeps to itself: struct
// percpu_counter, include/linux/percpu_counter.h (Linux 6.12 and 7.2).
func committedOfAll(k *kernel.Kernel) (uint64, error) {
	counter, err := k.Struct("percpu_counter", "count")
	if err != nil {
		return 0, err
	}
	at, err := k.Variable("vm_committed_as")
	if err != nil {
		return 0, err
	}
	o, err := counter.At(at)
	return o.Uint("count"), err
}
