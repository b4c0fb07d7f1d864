package nfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// Port is where servers of NFS version 4 are.
const Port = 2049

// Export is a directory of a server.
type Export struct {
	Host      string // as people name it
	Addresses []netip.Addr
	Port      uint16
	Dir       string // begins with /
}

// State is what a look at an export has shown.
type State struct {
	// Free is how many bytes it takes, if Known.
	Free  uint64
	Known bool
	// Note says what could not be asked; all that was is well.
	Note string
}

// ErrVersion: the server speaks no NFS of version 4.
var ErrVersion = errors.New("no NFS of version 4")

// leastTime is the least time that one of several addresses gets, dialLimit the most.
const (
	leastTime = time.Second
	dialLimit = time.Minute
)

// Look asks the first address that answers. ctx bounds all of it. Whoever may not use
// a port that only root has learns no more than that the server is there.
func Look(ctx context.Context, e *Export) (State, error) {
	var errs []error
	for i, a := range e.Addresses {
		limit := dialLimit
		if deadline, ok := ctx.Deadline(); ok {
			limit = max(leastTime, time.Until(deadline)/time.Duration(len(e.Addresses)-i))
		}
		c, trusted, err := dial(ctx, net.JoinHostPort(a.String(), strconv.Itoa(int(e.Port))), limit)
		if err == nil {
			state, err := c.look(e, trusted)
			c.Close()
			return state, err
		}
		errs = append(errs, fmt.Errorf("%s at %s: %w", e.Host, a, err))
		if ctx.Err() != nil {
			break
		}
	}
	if len(errs) == 0 {
		return State{}, fmt.Errorf("%s has no address", e.Host)
	}
	err := errors.Join(errs...)
	if errors.Is(err, syscall.ECONNREFUSED) {
		err = ui.Hint(err, fmt.Sprintf("start the NFS server of %s, and let TCP port %d through", e.Host, e.Port))
	}
	return State{}, err
}

// lowest and highest are the ports that servers take for root's, those below that
// services have left out.
const (
	lowest  = 665
	highest = 1023
)

// dial connects, from a port that only root may use if we may: trusted.
func dial(ctx context.Context, to string, limit time.Duration) (c *conn, trusted bool, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("no answer within %s", limit.Round(time.Second/10)))
	fail := func(err error) (*conn, bool, error) {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		cancel()
		return nil, false, err
	}
	var d net.Dialer
	first := int(time.Now().UnixNano() % (highest - lowest + 1))
	const tries = 16
	for n := 0; ; n++ {
		trusted = n < tries
		d.LocalAddr = nil
		if trusted {
			d.LocalAddr = &net.TCPAddr{Port: lowest + (first+n)%(highest-lowest+1)}
		}
		tcp, err := d.DialContext(ctx, "tcp", to)
		switch {
		case err == nil:
			c := &conn{Conn: tcp, ctx: ctx}
			stop := context.AfterFunc(ctx, func() { tcp.Close() })
			c.end = func() { stop(); cancel() }
			return c, trusted, nil
		case trusted && errors.Is(err, syscall.EACCES):
			n = tries - 1 // none of them is for us
		case trusted && (errors.Is(err, syscall.EADDRINUSE) || errors.Is(err, syscall.EADDRNOTAVAIL)):
		default:
			return fail(err)
		}
	}
}

// look asks all that can be asked.
func (c *conn) look(e *Export, trusted bool) (State, error) {
	dir := path.Clean(e.Dir)
	fail := func(err error) (State, error) {
		return State{}, fmt.Errorf("%s:%s: %w", e.Host, dir, c.late(err))
	}
	if _, err := c.call(procNull, nil); err != nil {
		return fail(err)
	}
	if !trusted {
		return State{Note: "its server answers; the directory was not asked: only root can"}, nil
	}
	name, _ := os.Hostname()
	answer, err := c.call(procCompound, compound(dir), credentials(name)...)
	if denied, ok := errors.AsType[*authError](err); ok {
		return State{}, ui.Hint(fmt.Errorf("%s:%s: %w", e.Host, dir, denied), export(dir))
	}
	if err != nil {
		return fail(err)
	}
	r, err := parseCompound(answer)
	if err != nil {
		return fail(err)
	}
	return r.state(e, dir)
}

// export says what usually is behind a server that refuses.
func export(dir string) string {
	return "the server must export " + dir + " to this machine for writing, and the directory must belong to whom root becomes there (exports(5), no_root_squash)"
}

// state is what an answer means.
func (r *result) state(e *Export, dir string) (State, error) {
	name := e.Host + ":" + dir
	switch r.status {
	case statusOK:
	case statusNoEntry:
		return State{}, ui.Hint(fmt.Errorf("%s: %w", name, fs.ErrNotExist), "make "+dir+" on "+e.Host+", and export it")
	case statusPermission, statusAccess:
		return State{}, ui.Hint(fmt.Errorf("%s: %w", name, fs.ErrPermission), export(dir))
	case statusNotDirectory:
		return State{}, fmt.Errorf("%s is not a directory", name)
	case statusMinorVersion:
		return State{Note: "its server answers; the directory was not asked: that needs NFS 4.0, which the server does not speak"}, nil
	case statusWrongSecurity:
		return State{Note: "its server answers; the directory was not asked: the server wants more security than AUTH_SYS (sec=)"}, nil
	case statusSymlink:
		return State{Note: "its server answers; the directory was not asked: a symbolic link is on the way"}, nil
	case statusDelay:
		return State{Note: "its server answers, and wants to be asked later"}, nil
	default:
		return State{}, fmt.Errorf("%s: the server says error %d (RFC 7530, 13.1)", name, r.status)
	}
	switch {
	case r.kind != kindDirectory:
		return State{}, fmt.Errorf("%s is not a directory", name)
	case r.supported&r.access&accessCreate != r.supported&accessCreate:
		return State{}, ui.Hint(fmt.Errorf("%s: root of this machine may not write: %w", name, fs.ErrPermission), export(dir))
	}
	return State{Free: r.free, Known: true}, nil
}

// components are the names on the way from the root of a server.
func components(dir string) []string {
	return strings.FieldsFunc(dir, func(r rune) bool { return r == '/' })
}
