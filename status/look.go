package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/panicroom-kdump/panicroom/internal/config"
	"github.com/panicroom-kdump/panicroom/internal/device"
	"github.com/panicroom-kdump/panicroom/internal/network"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/target"
	"github.com/panicroom-kdump/panicroom/target/nfs"
	"github.com/panicroom-kdump/panicroom/target/partition"
	"github.com/panicroom-kdump/panicroom/target/sshdir"
)

// Target is what a look at a target has shown.
type Target struct {
	config.Target
	Asked bool   // it was; if not, Note says why
	Free  uint64 // bytes that may be written; unknown is false then
	// Known tells that Free is.
	Known bool
	// Waiting are crashes that no boot has unpacked, on the partition Device.
	Waiting int
	Device  string
	// Err is why the target cannot be used now.
	Err error
	// Note is what else is to be said.
	Note string
}

// MarshalJSON writes what was seen, not the configuration.
func (t Target) MarshalJSON() ([]byte, error) {
	seen := struct {
		Target  string  `json:"target"`
		Asked   bool    `json:"asked"`
		Usable  *bool   `json:"usable,omitempty"`
		Free    *uint64 `json:"free,omitempty"`
		Waiting int     `json:"waiting,omitempty"`
		Note    string  `json:"note,omitempty"`
		Error   string  `json:"error,omitempty"`
	}{Target: t.String(), Asked: t.Asked, Waiting: t.Waiting, Note: t.Note}
	if t.Asked {
		usable := t.Err == nil
		seen.Usable = &usable
	}
	if t.Known {
		seen.Free = &t.Free
	}
	if t.Err != nil {
		seen.Error = t.Err.Error()
	}
	return json.Marshal(seen)
}

// asker looks at targets.
type asker struct {
	root       fs.FS
	privileged bool // may read everything
	// answer is how long a target has to answer, whole how long all of them are
	// waited for, whatever hangs, and slow how long nobody wonders.
	answer, whole, slow time.Duration
	say                 func(waiting string)
}

// Look looks at targets, all at once, as the panic kernel would: nothing of what
// it does stays. It takes ten seconds at most, and what hangs is left behind. After
// a second it says what it waits for, if say is not nil.
func Look(ctx context.Context, list []config.Target, say func(waiting string)) []Target {
	a := &asker{root: os.DirFS("/"), privileged: os.Geteuid() == 0, answer: 8 * time.Second, whole: 10 * time.Second, slow: time.Second, say: say}
	return a.all(ctx, list, a.look)
}

// all has look look at each target.
func (a *asker) all(ctx context.Context, list []config.Target, look func(context.Context, config.Target) Target) []Target {
	ctx, cancel := context.WithTimeoutCause(ctx, a.answer, fmt.Errorf("no answer within %s", a.answer))
	defer cancel()
	type seen struct {
		i int
		t Target
	}
	answers := make(chan seen, len(list)) // whoever is late is not waited for
	all := make([]Target, len(list))
	for i, t := range list {
		all[i] = Target{Target: t, Asked: true, Err: fmt.Errorf("no answer within %s", a.whole)}
		go func() { answers <- seen{i, look(ctx, t)} }()
	}
	slow, late := time.NewTimer(a.slow), time.NewTimer(a.whole)
	defer slow.Stop()
	defer late.Stop()
	done := make([]bool, len(list))
	for range list {
		for waits := true; waits; {
			select {
			case s := <-answers:
				all[s.i], done[s.i], waits = s.t, true, false
			case <-slow.C:
				var names []string
				for i, t := range list {
					if !done[i] {
						names = append(names, t.String())
					}
				}
				if a.say != nil {
					a.say(strings.Join(names, ", "))
				}
			case <-late.C:
				return all
			}
		}
	}
	return all
}

// look looks at one target.
func (a *asker) look(ctx context.Context, t config.Target) Target {
	l := Target{Target: t, Asked: true}
	switch t.Kind() {
	case config.KindDir:
		l.Free, l.Err = target.RoomFor(t.Dir)
		l.Known = l.Err == nil
	case config.KindPartition:
		a.partition(&l)
	case config.KindSSH:
		a.ssh(ctx, &l)
	case config.KindNFS:
		l.nfs(ctx)
	}
	return l
}

// kept tells of what only root can read: no fault of the target.
func (a *asker) kept(l *Target, what string, err error) bool {
	if a.privileged || !errors.Is(err, fs.ErrPermission) {
		return false
	}
	l.Asked, l.Note = false, "not asked: only root can read "+what
	return true
}

// partition reads what a partition has.
func (a *asker) partition(l *Target) {
	node, err := device.Node(a.root, l.Partition)
	if err != nil {
		l.Err = err
		return
	}
	l.read("/dev/"+node, a)
}

func (l *Target) read(path string, a *asker) {
	s, err := partition.Look(path)
	if a.kept(l, path, err) {
		return
	}
	l.Device, l.Free, l.Known, l.Waiting, l.Err = path, s.Free, err == nil, s.Waiting, err
}

// ssh logs in with the key and the host keys that the next load would take.
func (a *asker) ssh(ctx context.Context, l *Target) {
	at, err := config.ParseSSH(l.SSH)
	if err != nil {
		l.Err = err
		return
	}
	s := &sshdir.Server{User: at.User, Host: at.Host, Port: uint16(at.Port), Dir: at.Dir}
	if err := s.FindHostKeys(l.KnownHosts); err != nil {
		if !a.kept(l, l.KnownHosts, err) {
			l.Err = err
		}
		return
	}
	key, err := sshdir.ReadKey(l.Key)
	if err != nil {
		if !a.kept(l, "the key "+l.Key, err) {
			l.Err = err
		}
		return
	}
	if s.Addresses, l.Err = network.Resolve(ctx, at.Host, nil); l.Err != nil {
		return
	}
	state, err := sshdir.Look(ctx, s, key)
	l.Free, l.Known, l.Err = state.Free, state.Known, err
	switch {
	case err != nil:
	case !state.Known:
		l.Note = "it can be written to; how much room there is, its server does not say"
	case state.Missing:
		l.Note = "the next crash makes the directory"
	}
}

// nfs asks the server for the directory.
func (l *Target) nfs(ctx context.Context) {
	at, err := config.ParseNFS(l.NFS)
	e := &nfs.Export{Host: at.Host, Dir: at.Dir, Port: nfsPort(l.Options)}
	if err == nil {
		e.Addresses, err = network.Resolve(ctx, at.Host, nil)
	}
	if err != nil {
		l.Err = err
		return
	}
	state, err := nfs.Look(ctx, e)
	l.Free, l.Known, l.Note, l.Err = state.Free, state.Known, state.Note, err
	l.Asked = err != nil || state.Known
}

// nfsPort is the port that options of a mount name; the last one counts.
func nfsPort(options string) uint16 {
	port := uint16(nfs.Port)
	for o := range strings.SplitSeq(options, ",") {
		if v, ok := strings.CutPrefix(o, "port="); ok {
			if n, err := strconv.ParseUint(v, 10, 16); err == nil && n > 0 {
				port = uint16(n)
			}
		}
	}
	return port
}

// room says how much there is, and how much a dump may have.
func (t *Target) room(need uint64) string {
	return fmt.Sprintf("%s free; a dump now has up to %s before it is compressed", ui.Bytes(t.Free), ui.Bytes(need))
}
