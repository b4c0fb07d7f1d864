package block

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// Bounds of what is believed of disks.
const (
	maxDisks  = 20000
	maxErrors = 8

	sectorSize = 512
)

// Disks are the block devices as a whole, partitions left out, by their names,
// with the requests that were under way. What could not be read is said in the
// error.
func Disks(k *kernel.Kernel) ([]Disk, error) {
	super, err := k.Variable("blockdev_superblock")
	if err == nil {
		super, err = k.ReadPointer(super)
	}
	if err != nil {
		return nil, fmt.Errorf("disks: %w", err)
	}
	all, queues, err := disks(k, super)
	if len(all) > 0 {
		now, cerr := clock(k)
		if cerr != nil {
			cerr = fmt.Errorf("age of requests: %w", cerr)
		}
		err = errors.Join(err, cerr, addRequests(k, all, queues, now))
	}
	if err != nil {
		err = fmt.Errorf("disks: %w", err)
	}
	return all, err
}

// disks finds the disks and the queue of each. Every block device, disk or
// partition, is an inode of one filesystem, whose superblock lists them: struct
// bdev_inode, block/bdev.c (Linux 6.1 to 7.2).
func disks(k *kernel.Kernel, super kernel.VirtAddr) ([]Disk, []kernel.VirtAddr, error) {
	var superBlock, inode, bdevInode, bdev, gendisk *kernel.StructReader
	for _, s := range []struct {
		r       **kernel.StructReader
		name    string
		members []string
	}{
		{&superBlock, "super_block", []string{"s_inodes"}},
		{&inode, "inode", []string{"i_sb_list"}},
		{&bdevInode, "bdev_inode", []string{"bdev", "vfs_inode"}},
		{&bdev, "block_device", []string{"bd_disk", "bd_nr_sectors"}},
		{&gendisk, "gendisk", []string{"disk_name", "part0", "queue"}},
	} {
		var err error
		if *s.r, err = k.Struct(s.name, s.members...); err != nil {
			return nil, nil, err
		}
	}
	type found struct {
		Disk
		queue kernel.VirtAddr
	}
	var all []found
	var errs []error
	say := func(err error) {
		if len(errs) < maxErrors {
			errs = append(errs, err)
		}
	}
	link := bdevInode.Offset("vfs_inode") + inode.Offset("i_sb_list")
	for at, err := range k.List(super+kernel.VirtAddr(superBlock.Offset("s_inodes")), link) {
		if err != nil {
			say(fmt.Errorf("block devices: %w", err))
			break
		}
		if len(all) == maxDisks {
			say(fmt.Errorf("only the first %d of them are read", maxDisks))
			break
		}
		part := at + kernel.VirtAddr(bdevInode.Offset("bdev"))
		b, err := bdev.At(part)
		if err != nil {
			say(err)
			continue
		}
		disk := b.Pointer("bd_disk")
		if disk == 0 {
			continue // the filesystem's root is no device
		}
		g, err := gendisk.At(disk)
		if err != nil {
			say(err)
			continue
		}
		if g.Pointer("part0") != part {
			continue // a partition
		}
		d := Disk{Addr: disk, Name: g.String("disk_name")}
		if n := b.Uint("bd_nr_sectors"); n < 1<<63/sectorSize {
			d.Bytes = n * sectorSize
		} else {
			say(fmt.Errorf("disk %s of %d sectors: %w", d.Name, n, kernel.ErrCorrupt))
		}
		all = append(all, found{d, g.Pointer("queue")})
	}
	slices.SortFunc(all, func(a, b found) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Addr, b.Addr)) })
	var ds []Disk
	var queues []kernel.VirtAddr
	for _, f := range all {
		ds, queues = append(ds, f.Disk), append(queues, f.queue)
	}
	return ds, queues, errors.Join(errs...)
}
