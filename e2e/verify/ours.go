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
	"github.com/panicroom-kdump/panicroom/kernel/stack"
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
	started   map[kernel.VirtAddr]uint64 // start_time by task
	runQueues []sched.RunQueue
	load      sched.Load
	ticks     uint64 // since boot
	stacks    []cpuStack
	blocked   []cpuStack
	memory    *mm.Summary
	shared    shared
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
	o.tasks, err = sched.Tasks(k)
	failed("tasks", err)
	o.started, err = startTimes(k, o.tasks)
	failed("tasks", err)
	o.runQueues, err = sched.RunQueues(k)
	failed("run queues", err)
	o.load, err = sched.ReadLoad(k, o.tasks)
	failed("load", err)
	o.ticks, err = ticks(k)
	failed("ticks", err)
	failed("stacks", o.walk(k))
	o.memory, err = mm.Read(k)
	failed("memory", err)
	o.shared, err = readShared(k)
	failed("counters of memory", err)
	o.caches, err = mm.Caches(k)
	failed("slab caches", err)
	o.mounts, err = fs.Mounts(k)
	failed("mounts", err)
	o.disks, err = block.Disks(k)
	failed("disks", err)
	o.net, err = net.Interfaces(k)
	failed("network interfaces", err)
	return o, errors.Join(errs...)
}

// startTimes are start_time of tasks: what crash reads where we read start_boottime.
func startTimes(k *kernel.Kernel, tasks []sched.Task) (map[kernel.VirtAddr]uint64, error) {
	r, err := k.Struct("task_struct", "start_time")
	if err != nil {
		return nil, err
	}
	all := map[kernel.VirtAddr]uint64{}
	for _, t := range tasks {
		o, err := r.At(t.Addr)
		if err != nil {
			return nil, err
		}
		all[t.Addr] = o.Uint("start_time")
	}
	return all, nil
}

// ticks reads jiffies_64, which begins five minutes before it overflows 32 bits:
// INITIAL_JIFFIES, include/linux/jiffies.h (Linux 6.12 and 7.2).
func ticks(k *kernel.Kernel) (uint64, error) {
	at, err := k.Variable("jiffies_64")
	if err != nil {
		return 0, err
	}
	n, err := k.ReadUint64(at)
	return n - (1<<32 - 300*ticksPerSecond), err
}

// walk finds the stacks of CPUs and of blocked tasks.
func (o *ours) walk(k *kernel.Kernel) error {
	u, err := stack.New(k)
	if err != nil {
		return err
	}
	current, err := sched.Current(k)
	if err != nil {
		return err
	}
	cpus, err := k.CPUs()
	if err != nil {
		return err
	}
	for _, c := range cpus {
		task := current[c.Number].Addr
		o.stacks = append(o.stacks, cpuStack{c.Number, task, u.CPU(c, task)})
	}
	for _, t := range o.tasks {
		if t.Blocked() {
			o.blocked = append(o.blocked, cpuStack{t.CPU, t.Addr, u.Sleeping(t.Addr)})
		}
	}
	return nil
}
