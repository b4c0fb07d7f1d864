// Package fs tells what a dead kernel had mounted, and the names of its files.
package fs

import (
	"errors"
	"fmt"
	"iter"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// Mount is a mounted filesystem, in the mount namespace of the first process.
type Mount struct {
	Addr   kernel.VirtAddr `json:"addr"` // of its struct mount
	Device string          `json:"device"`
	Point  string          `json:"point"` // absolute path
	Type   string          `json:"type"`
	Flags  []string        `json:"flags,omitempty"` // "ro", "nosuid", ...
}

// Bounds of what is believed of mounts. A namespace may have 100,000 of them
// (fs/namespace.c, sysctl_mount_max); whoever reads a report has enough before.
const (
	maxMounts = 20000
	maxDevice = 4096 // bytes: a page, as mount(2) takes it
	maxType   = 64   // bytes
	maxErrors = 8
)

// Mounts are the mounts of the first mount namespace, in the order in which they
// were made. One that cannot be read whole is there with what could be read; the
// error says so.
func Mounts(k *kernel.Kernel) ([]Mount, error) {
	init, err := k.Variable("init_task")
	if err != nil {
		return nil, fmt.Errorf("mounts: %w", err)
	}
	r, err := newMountReader(k)
	if err != nil {
		return nil, fmt.Errorf("mounts: %w", err)
	}
	all, err := r.mounts(init)
	if err != nil {
		err = fmt.Errorf("mounts: %w", err)
	}
	return all, err
}

// mountReader knows the structs around mounts.
type mountReader struct {
	*Paths
	task, proxy, namespace, super, kind *kernel.StructReader
}

func newMountReader(k *kernel.Kernel) (*mountReader, error) {
	paths, err := NewPaths(k)
	if err != nil {
		return nil, err
	}
	r := &mountReader{Paths: paths}
	for _, s := range []struct {
		r       **kernel.StructReader
		name    string
		members []string
	}{
		{&r.task, "task_struct", []string{"nsproxy"}},
		{&r.proxy, "nsproxy", []string{"mnt_ns"}},
		{&r.namespace, "mnt_namespace", []string{"?mounts", "?list"}},
		{&r.super, "super_block", []string{"s_type", "s_flags", "?s_subtype"}},
		{&r.kind, "file_system_type", []string{"name"}},
	} {
		if *s.r, err = k.Struct(s.name, s.members...); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// mounts reads the mounts of a task's namespace.
func (r *mountReader) mounts(task kernel.VirtAddr) ([]Mount, error) {
	t, err := r.task.At(task)
	if err != nil {
		return nil, err
	}
	proxy, err := r.proxy.At(t.Pointer("nsproxy"))
	if err != nil {
		return nil, err
	}
	list, err := r.inNamespace(proxy.Pointer("mnt_ns"))
	if err != nil {
		return nil, err
	}
	var all []Mount
	var errs []error
	for at, err := range list {
		if err == nil && len(all) == maxMounts {
			errs = append(errs, fmt.Errorf("only the first %d of them are read", maxMounts))
			break
		}
		var m Mount
		skip := false
		if err == nil {
			m, skip, err = r.read(at)
		}
		if err != nil && len(errs) < maxErrors {
			errs = append(errs, err)
		}
		if !skip && m.Addr != 0 {
			all = append(all, m)
		}
	}
	return all, errors.Join(errs...)
}

// inNamespace is the mounts of a namespace: a tree since 6.8, which is in the
// order of their making; a list before, when mnt_namespace.mounts was their number.
func (r *mountReader) inNamespace(ns kernel.VirtAddr) (iter.Seq2[kernel.VirtAddr, error], error) {
	at := func(member string) kernel.VirtAddr { return ns + kernel.VirtAddr(r.namespace.Offset(member)) }
	switch {
	case r.namespace.Has("mounts") && r.mount.Has("mnt_node"):
		return r.k.RBTree(at("mounts"), r.mount.Offset("mnt_node")), nil
	case r.namespace.Has("list") && r.mount.Has("mnt_list"):
		return r.k.List(at("list"), r.mount.Offset("mnt_list")), nil
	}
	return nil, fmt.Errorf("mnt_namespace.mounts: %w", kernel.ErrNoInfo)
}

// read reads one mount; skip tells that it is none, but a mark that a reader
// of /proc/mounts has left in the list.
func (r *mountReader) read(at kernel.VirtAddr) (m Mount, skip bool, err error) {
	o, err := r.mount.At(at)
	if err != nil {
		return m, false, err
	}
	v := r.vfsmount.In(o, "mnt", 0)
	flags := v.Uint("mnt_flags")
	if flags&mountCursor != 0 {
		return m, true, nil
	}
	m.Addr = at
	var errs []error
	say := func(err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("mount %v: %w", at, err))
		}
	}
	m.Device = "none"
	if name := o.Pointer("mnt_devname"); name != 0 {
		m.Device, err = r.k.ReadString(name, maxDevice)
		say(err)
	}
	m.Point, err = r.Of(o.AddrOf("mnt"), v.Pointer("mnt_root"))
	say(err)
	super, err := r.super.At(v.Pointer("mnt_sb"))
	say(err)
	if err == nil {
		m.Type, err = r.typeOf(super)
		say(err)
		m.Flags = words(flags, super.Uint("s_flags"))
	}
	return m, false, errors.Join(errs...)
}

// typeOf is the type of a filesystem, with that of what is behind it where
// programs make filesystems: "fuse.sshfs".
func (r *mountReader) typeOf(super kernel.Object) (string, error) {
	kind, err := r.kind.At(super.Pointer("s_type"))
	if err != nil {
		return "", err
	}
	name, err := r.k.ReadString(kind.Pointer("name"), maxType)
	if sub := super.Pointer("s_subtype"); sub != 0 && err == nil {
		var more string
		more, err = r.k.ReadString(sub, maxType)
		name += "." + more
	}
	return name, err
}
