package crashenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/panicroom-kdump/panicroom/internal/boot"
	"github.com/panicroom-kdump/panicroom/internal/config"
	"github.com/panicroom-kdump/panicroom/internal/device"
	"github.com/panicroom-kdump/panicroom/internal/network"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/target"
	"github.com/panicroom-kdump/panicroom/target/sshdir"
)

// TargetError is the error of a place that cannot be a target.
type TargetError struct {
	Target string
	Err    error
	hints  []string
}

func (e *TargetError) Error() string { return fmt.Sprintf("target %s: %v", e.Target, e.Err) }
func (e *TargetError) Unwrap() error { return e.Err }

// Hints says what to do.
func (e *TargetError) Hints() []string { return e.hints }

// targets resolves all targets, and the modules that they need. One that cannot
// be used is left out and told of, as long as there is another: a machine whose
// name server does not answer when it boots is protected by its disk.
func (b *builder) targets(ctx context.Context) error {
	if len(b.Targets) == 0 || len(b.Targets) > maxTargets {
		return fmt.Errorf("%d targets, not 1 to %d", len(b.Targets), maxTargets)
	}
	watchdog, err := b.watchdog()
	if err != nil {
		return err
	}
	// Their order of loading is that of one closure: what several need is in it
	// once.
	var failed []error
	wanted := slices.Clone(watchdog)
	for _, c := range b.Targets {
		t, names, err := b.target(ctx, c)
		if err == nil {
			var closure []boot.Module
			if len(b.env.Plan.Targets) == 0 {
				names = append(names, watchdog...) // it is loaded with the first
			}
			if closure, err = b.tree.Closure(names...); err != nil {
				err = fmt.Errorf("modules of %s for %s: %w", b.Release, t.Path, err)
			}
			for _, m := range closure {
				t.Modules = append(t.Modules, m.Name)
			}
		}
		if err != nil {
			failed = append(failed, err)
			continue
		}
		t.Seconds = c.Deadline.Seconds()
		wanted = append(wanted, names...)
		b.env.Plan.Targets = append(b.env.Plan.Targets, *t)
	}
	if len(b.env.Plan.Targets) == 0 {
		return errors.Join(failed...)
	}
	for _, err := range failed {
		b.env.Missing = append(b.env.Missing, "left out: "+oneLine(err.Error()))
	}
	b.modules, err = b.tree.Closure(inOrder(wanted, watchdog)...)
	return err
}

// inOrder puts last what is not a target's: the disk is more urgent.
func inOrder(wanted, last []string) []string {
	first := slices.DeleteFunc(slices.Clone(wanted), func(n string) bool { return slices.Contains(last, n) })
	return append(first, last...)
}

// target resolves one target; names are the modules that it asks for.
func (b *builder) target(ctx context.Context, c config.Target) (t *Target, names []string, err error) {
	switch c.Kind() {
	case config.KindDir:
		return b.directory(c.Dir)
	case config.KindPartition:
		return b.partition(c.Partition)
	case config.KindSSH:
		return b.ssh(ctx, c)
	case config.KindNFS:
		return b.nfs(ctx, c)
	}
	return nil, nil, errors.New("a target that says nowhere")
}

// directory resolves a directory on a local disk.
func (b *builder) directory(name string) (*Target, []string, error) {
	fail := func(err error, hints ...string) (*Target, []string, error) {
		return nil, nil, &TargetError{name, err, hints}
	}
	dir, err := realPath(b.Root, name)
	if err != nil {
		return fail(err)
	}
	mount, inside, err := device.FindMount(b.Root, dir)
	if err != nil {
		return fail(err)
	}
	if mount.ReadOnly() {
		return fail(&target.ReadOnlyError{Target: mount.Point}, "mount -o remount,rw "+mount.Point)
	}
	block, err := device.BlockOf(b.Root, mount)
	if err != nil {
		return fail(err)
	}
	t := &Target{Kind: Directory, Type: mount.Type, Options: mountOptions(mount), Dir: inside, Path: dir, Device: "/dev/" + block.Name}
	under, err := b.under(t, block)
	if err != nil {
		return fail(err)
	}
	var names []string
	for _, u := range under {
		drivers, err := device.Drivers(b.Root, u)
		if err != nil {
			return fail(err)
		}
		more, err := b.names(drivers)
		if err != nil {
			return fail(err)
		}
		names = append(names, more...)
	}
	stack := map[string]bool{"dm_mod": t.Mapped != nil, "md_mod": t.Array != nil}
	if t.Array != nil {
		stack[t.Array.Level] = true
	}
	for _, m := range slices.Sorted(maps.Keys(stack)) {
		if stack[m] && b.known(m) {
			names = append(names, m)
		}
	}
	r, c, err := b.Open(block.Name)
	if err != nil {
		return fail(err)
	}
	defer c.Close()
	filesystem, err := device.Identify(r)
	if err != nil {
		return fail(fmt.Errorf("/dev/%s: %w", block.Name, err), "choose a directory on ext4, xfs, btrfs, f2fs or vfat")
	}
	if filesystem.Devices > 1 {
		return fail(fmt.Errorf("%s on %d devices: %w", filesystem.Type, filesystem.Devices, device.ErrStacked))
	}
	for _, m := range mount.Modules() {
		names = append(names, b.filesystemModule(m)...)
	}
	t.UUID = filesystem.UUID
	if mask, ok := othersRead(mount); ok {
		b.env.Missing = append(b.env.Missing, fmt.Sprintf("%s has no owners and modes: by the options of %s (fmask=%s) others can read dumps there; mount it with umask=0077", mount.Type, mount.Point, mask))
	}
	return t, names, nil
}

// othersRead tells whether files of a filesystem that has no modes can be read by
// others than root, by the mask that it is mounted with in the healthy system.
func othersRead(m *device.Mount) (mask string, ok bool) {
	if m.Type != "vfat" && m.Type != "msdos" {
		return "", false
	}
	mask, _ = m.Option("fmask")
	if bits, err := strconv.ParseUint(mask, 8, 32); err == nil && bits&0o044 == 0o044 {
		return mask, false
	}
	return mask, true
}

// under are the block devices that have drivers: a device itself, or those that
// the device mapper or MD makes it of, which is noted in the target.
func (b *builder) under(t *Target, block *device.Block) (under []*device.Block, err error) {
	// look looks at one of those, for what it can be found by again.
	look := func(major, minor uint32, id func(io.ReaderAt) (string, error)) (string, error) {
		u, err := device.FindBlock(b.Root, major, minor)
		if err != nil {
			return "", err
		}
		r, c, err := b.Open(u.Name)
		if err != nil {
			return "", err
		}
		defer c.Close()
		under = append(under, u)
		return id(r)
	}
	switch {
	case device.IsMapped(b.Root, block):
		table, err := b.Table(block.Major, block.Minor)
		if err != nil {
			return nil, err
		}
		t.Mapped, err = device.Linear("/dev/"+block.Name, table, func(major, minor uint32) (string, error) {
			return look(major, minor, device.PhysicalVolume)
		})
		if err != nil {
			return nil, stackHint(err)
		}
	case device.IsArray(b.Root, block):
		t.Array, err = device.ArrayOf(b.Root, block, func(major, minor uint32) (string, error) { return look(major, minor, device.Member) })
		if err != nil {
			return nil, stackHint(err)
		}
	default:
		under = []*device.Block{block}
	}
	return under, nil
}

func stackHint(err error) error {
	if errors.Is(err, device.ErrStacked) {
		return ui.Hint(err, "choose a directory on a disk, a partition, a linear volume of LVM or a mirror of MD")
	}
	return err
}

// mountOptions are what the filesystem needs to be mounted with in the panic
// kernel.
func mountOptions(m *device.Mount) string {
	switch m.Type {
	case "ext2", "ext3", "ext4":
		// The superblock may say errors=panic, which would be the end of us.
		return "errors=remount-ro"
	case "btrfs":
		// The path in the Plan begins at the top, whatever the default subvolume.
		return "subvolid=5"
	case "vfat", "msdos":
		var options []string
		for _, name := range []string{"codepage", "iocharset"} {
			if v, ok := m.Option(name); ok {
				options = append(options, name+"="+v)
			}
		}
		// How the names on the way to the directory are written.
		if _, ok := m.Option("utf8"); ok {
			options = append(options, "utf8")
		}
		return strings.Join(options, ",")
	}
	return ""
}

// partition resolves a partition of ours.
func (b *builder) partition(name string) (*Target, []string, error) {
	fail := func(err error, hints ...string) (*Target, []string, error) {
		return nil, nil, &TargetError{name, err, hints}
	}
	node, err := device.Node(b.Root, name)
	if err != nil {
		return fail(err)
	}
	block, err := device.BlockNamed(b.Root, node)
	if err != nil {
		return fail(err)
	}
	drivers, err := device.Drivers(b.Root, block)
	if err != nil {
		return fail(err)
	}
	r, c, err := b.Open(block.Name)
	if err != nil {
		return fail(err)
	}
	defer c.Close()
	prepare := "panicroom target init /dev/" + block.Name
	found, err := device.Identify(r)
	switch {
	case errors.Is(err, device.ErrUnknownFilesystem):
		return fail(errors.New("it is not prepared for crashes"), prepare)
	case err != nil:
		return fail(fmt.Errorf("/dev/%s: %w", block.Name, err))
	case found.Type != device.DumpsType:
		return fail(fmt.Errorf("it holds %s, and a partition for crashes holds nothing else", found), "choose another partition, and prepare it: "+prepare)
	}
	names, err := b.names(drivers)
	if err != nil {
		return fail(err)
	}
	return &Target{Kind: Partition, UUID: found.UUID, Path: name, Device: "/dev/" + block.Name}, names, nil
}

// keyDir is where private keys are in the initramfs.
const keyDir = "/keys"

// ssh resolves a directory of another machine.
func (b *builder) ssh(ctx context.Context, c config.Target) (*Target, []string, error) {
	fail := func(err error) (*Target, []string, error) {
		return nil, nil, &TargetError{c.SSH, err, nil}
	}
	at, err := config.ParseSSH(c.SSH)
	if err != nil {
		return fail(err)
	}
	s := &sshdir.Server{User: at.User, Host: at.Host, Port: uint16(at.Port), Dir: at.Dir}
	if err := s.FindHostKeys(c.KnownHosts); err != nil {
		return fail(err)
	}
	key, err := sshdir.ReadKey(c.Key)
	if err != nil {
		return fail(err)
	}
	addresses, way, names, err := b.way(ctx, at.Host)
	if err != nil {
		return fail(err)
	}
	s.Addresses = addresses
	file := path.Join(keyDir, fmt.Sprint(len(b.keys)))
	b.keys = append(b.keys, secret{file, key})
	return &Target{Kind: SSH, Path: s.String(), SSH: s, Key: file, Network: way}, names, nil
}

// nfs resolves a directory of an NFS server.
func (b *builder) nfs(ctx context.Context, c config.Target) (*Target, []string, error) {
	fail := func(err error) (*Target, []string, error) {
		return nil, nil, &TargetError{c.NFS, err, nil}
	}
	at, err := config.ParseNFS(c.NFS)
	if err != nil {
		return fail(err)
	}
	addresses, way, names, err := b.way(ctx, at.Host)
	if err != nil {
		return fail(err)
	}
	// The kernel would ask for the second while it mounts.
	for _, m := range []string{"fs-nfs4", "nfsv4"} {
		names = append(names, b.filesystemModule(m)...)
	}
	return &Target{Kind: NFS, Path: at.String(), Options: c.Options, Network: way,
		Export: &Export{Host: at.Host, Addresses: addresses, Dir: path.Clean(at.Dir)}}, names, nil
}

// way finds out how to get to a host: its addresses, what the network has to be
// for that, and the modules of the network devices.
func (b *builder) way(ctx context.Context, host string) ([]netip.Addr, *network.Plan, []string, error) {
	addresses, err := network.Resolve(ctx, host, b.Lookup)
	if err != nil {
		return nil, nil, nil, err
	}
	facts, err := b.Record(addresses, b.Network.Interface)
	if err != nil {
		return nil, nil, nil, err
	}
	plan, err := network.Make(facts, b.Network.Method)
	if err != nil {
		return nil, nil, nil, ui.Hint(fmt.Errorf("the way to %s: %w", host, err),
			"ip route get ADDRESS shows which way the running kernel would go; it must be there while the panic kernel is being loaded")
	}
	// What there is no way to is not tried.
	addresses = slices.DeleteFunc(addresses, func(a netip.Addr) bool {
		return !slices.ContainsFunc(plan.Routes, func(r network.Route) bool { return r.To == a })
	})
	var names []string
	for _, d := range plan.Devices() {
		drivers, err := device.NetDrivers(b.Root, d)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("network device %s: %w", d, err)
		}
		more, err := b.names(drivers)
		if err != nil {
			return nil, nil, nil, err
		}
		names = append(names, more...)
	}
	for _, m := range plan.Modules() {
		if b.known(m) {
			names = append(names, m)
		}
	}
	return addresses, plan, names, nil
}
