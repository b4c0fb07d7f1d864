package crashenv

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/panicroom-kdump/panicroom/internal/device"
	"github.com/panicroom-kdump/panicroom/internal/sys"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/target"
	"github.com/panicroom-kdump/panicroom/target/partition"
	"github.com/panicroom-kdump/panicroom/target/sshdir"
)

// opened is a target in use.
type opened struct {
	target.Target
	// local tells that crashes have paths in this system.
	local bool
	// close ends the use; failed: the target did not take all.
	close func(failed bool) error
}

// mountedAt is where the filesystem of a target is mounted in the panic room.
func mountedAt(n int) string { return fmt.Sprintf("%s/%d", mountPoint, n) }

// openTarget gets to a target, in phases.
func (w *worker) openTarget(ctx context.Context, n int) (o *opened, err error) {
	t := &w.plan.Targets[n]
	// A module that does not load may not be needed; the device tells.
	_ = w.phases.run(ctx, PhaseModules, func(ctx context.Context) (string, error) { return w.modules(ctx, t.Modules) })
	if t.Network != nil {
		if err := w.phases.run(ctx, PhaseNetwork, func(ctx context.Context) (string, error) {
			// Servers of NFS tell machines by their names.
			if w.plan.Host.Name != "" {
				if err := sys.SetHostname(w.plan.Host.Name); err != nil {
					w.say.line("note: %v", err)
				}
			}
			return t.Network.Up(ctx)
		}); err != nil {
			return nil, err
		}
	}
	var found device.Found
	if t.UUID != "" {
		if err := w.phases.run(ctx, PhaseDevice, func(ctx context.Context) (text string, err error) {
			if t.Mapped != nil {
				if err := w.mapDevice(ctx, n, t.Mapped); err != nil {
					return "", err
				}
			}
			if t.Array != nil {
				if err := w.assemble(ctx, n, t.Array); err != nil {
					return "", err
				}
			}
			found, err = w.wait(ctx, t.UUID)
			return fmt.Sprintf("%s is %s", found.Device, found.Filesystem), err
		}); err != nil {
			return nil, err
		}
	}
	err = w.phases.run(ctx, PhaseTarget, func(phase context.Context) (text string, err error) {
		switch t.Kind {
		case Directory:
			o, err = mountDisk(t, mountedAt(n), found)
			return "mounted " + t.Path, err
		case Partition:
			p, err := partition.Open(found.Device, t.Path)
			if err != nil {
				return "", err
			}
			o = &opened{Target: p, close: func(bool) error { return p.Close() }}
			return "opened " + t.Path, nil
		case SSH:
			o, err = dial(ctx, phase, t)
			return "connected to " + t.Path, err
		case NFS:
			o, text, err = mountExport(phase, t, mountedAt(n))
			return text, err
		}
		return "", fmt.Errorf("kind %q", t.Kind)
	})
	return o, err
}

// wait waits for a filesystem or a partition.
func (w *worker) wait(ctx context.Context, uuid string) (device.Found, error) {
	src, err := device.System()
	if err != nil {
		return device.Found{}, err
	}
	return device.Wait(ctx, src, uuid)
}

// mapDevice has the device mapper make the block device of a target, once the
// volumes that it is made of have come.
func (w *worker) mapDevice(ctx context.Context, n int, m *device.Mapped) error {
	numbers, err := w.numbers(ctx, m.Volumes())
	if err != nil {
		return err
	}
	_, _, err = sys.MapperCreate(fmt.Sprintf("panicroom%d", n), m.Table(numbers))
	return err
}

// assemble has MD make the block device of a target, once all its members have
// come: one that is left out would have to be made equal again.
func (w *worker) assemble(ctx context.Context, n int, a *device.Array) error {
	numbers, err := w.numbers(ctx, a.Members)
	if err != nil {
		return err
	}
	var members [][2]uint32
	for _, m := range a.Members {
		major, minor, err := device.ParseNumber(numbers[m])
		if err != nil {
			return err
		}
		members = append(members, [2]uint32{major, minor})
	}
	_, err = sys.RAIDAssemble(uint32(n), a.Minor, members)
	return err
}

// numbers are those of block devices by their UUIDs, when all have come.
func (w *worker) numbers(ctx context.Context, uuids []string) (map[string]string, error) {
	numbers := map[string]string{}
	for _, u := range uuids {
		found, err := w.wait(ctx, u)
		if err != nil {
			return nil, err
		}
		if numbers[u], err = device.Number(os.DirFS("/"), found.Device); err != nil {
			return nil, err
		}
	}
	return numbers, nil
}

// mountFlags: nothing on a target may be executed or taken for a device.
const mountFlags = sys.MountNoSuid | sys.MountNoDev | sys.MountNoExec

// mountDisk mounts a filesystem and opens the directory. The filesystem is never
// checked or repaired here; its journal is replayed by the kernel.
func mountDisk(t *Target, at string, found device.Found) (*opened, error) {
	if err := os.MkdirAll(at, 0o700); err != nil {
		return nil, err
	}
	if ro, err := os.ReadFile(path.Join("/sys/class/block", strings.ReplaceAll(strings.TrimPrefix(found.Device, "/dev/"), "/", "!"), "ro")); err == nil && strings.TrimSpace(string(ro)) == "1" {
		return nil, &target.ReadOnlyError{Target: t.Path + " (" + found.Device + ")"}
	}
	err := sys.Mount(found.Device, at, t.Type, mountFlags, t.Options)
	switch {
	case errors.Is(err, syscall.EROFS) || errors.Is(err, syscall.EACCES):
		return nil, &target.ReadOnlyError{Target: t.Path + " (" + found.Device + ")", Err: err}
	case err != nil:
		return nil, fmt.Errorf("%s as %s: %w", found.Device, t.Type, err)
	}
	return inDirectory(path.Join(at, t.Dir), t.Path, func(bool) error { return sys.Unmount(at) })
}

// inDirectory opens a directory of a mounted filesystem.
func inDirectory(dir, name string, unmount func(failed bool) error) (*opened, error) {
	d, err := target.NewDirectoryAs(dir, name)
	if err != nil {
		return nil, errors.Join(err, unmount(true))
	}
	return &opened{Target: d, local: true, close: func(failed bool) error { return errors.Join(d.Close(), unmount(failed)) }}, nil
}

// dial connects to a directory of another machine; the connection stands until
// ctx ends, connecting may take as long as its phase.
func dial(ctx, phase context.Context, t *Target) (*opened, error) {
	key, err := os.ReadFile(t.Key)
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(phase, func() { cancel(context.Cause(phase)) })
	s, err := sshdir.Dial(ctx, t.SSH, key)
	if !stop() && err == nil {
		err = errors.Join(context.Cause(phase), s.Close())
	}
	if err != nil {
		cancel(err)
		return nil, err
	}
	return &opened{Target: s, close: func(bool) error {
		defer cancel(nil)
		return s.Close()
	}}, nil
}

// exportOptions end what a server that is gone would make last for ever: after
// three requests in vain, which are 5, 10 and 15 s, ETIMEDOUT comes back (nfs(5),
// softerr, timeo and retrans).
const exportOptions = "softerr,timeo=50,retrans=2"

// exportVersions are tried in this order. 4.2 is not the first: its READ_PLUS fails
// with some servers (EIO from Ganesha 4.3, when Linux 7.2 reads what it has just
// written), and nothing here needs what is new in it.
var exportVersions = []string{"4.1", "4.2", "4.0"}

// mountExport mounts a directory of an NFS server by its first address that
// answers, with the first version that it speaks.
func mountExport(ctx context.Context, t *Target, at string) (*opened, string, error) {
	if err := os.MkdirAll(at, 0o700); err != nil {
		return nil, "", err
	}
	var errs []error
	for _, a := range t.Export.Addresses {
		for _, version := range exportVersions {
			if ctx.Err() != nil {
				return nil, "", errors.Join(append(errs, context.Cause(ctx))...)
			}
			source, data := exportMount(t, a, version)
			err := sys.Mount(source, at, "nfs4", mountFlags, data)
			if err == nil {
				text := fmt.Sprintf("mounted %s from %s with NFS %s", t.Path, a, version)
				o, err := inDirectory(at, t.Path, func(failed bool) error {
					if failed {
						return sys.UnmountNow(at) // a server that is gone is not waited for
					}
					return sys.Unmount(at)
				})
				return o, text, explainExport(t, err)
			}
			errs = append(errs, fmt.Errorf("%s with NFS %s: %w", source, version, err))
			// What a server or kernel without the version says.
			if !errors.Is(err, syscall.EPROTONOSUPPORT) && !errors.Is(err, syscall.EINVAL) && !errors.Is(err, syscall.EPROTO) {
				break
			}
		}
	}
	return nil, "", explainExport(t, errors.Join(errs...))
}

// exportMount is what mount(2) needs to be told.
func exportMount(t *Target, a netip.Addr, version string) (source, data string) {
	host, proto := a.String(), "tcp"
	if a.Is6() {
		host, proto = "["+host+"]", "tcp6"
	}
	options := []string{"vers=" + version, "addr=" + a.String(), "proto=" + proto, exportOptions}
	// The server calls back at this address, in version 4.0.
	for _, r := range t.Network.Routes {
		if r.To == a && r.Source.IsValid() {
			options = append(options, "clientaddr="+r.Source.String())
		}
	}
	if t.Options != "" {
		options = append(options, t.Options)
	}
	return host + ":" + t.Export.Dir, strings.Join(options, ",")
}

// explainExport says what usually is behind an error.
func explainExport(t *Target, err error) error {
	switch {
	case errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM):
		return ui.Hint(err, "the server must export "+t.Export.Dir+" to this machine for writing, and the directory must belong to whom root becomes there (exports(5), no_root_squash)")
	case errors.Is(err, syscall.ENOENT):
		return ui.Hint(err, "make "+t.Export.Dir+" on "+t.Export.Host)
	}
	return err
}
