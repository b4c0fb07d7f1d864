package vm

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"sync"
)

// monitor speaks QMP, the machine protocol of QEMU: one JSON object a line, a
// greeting first, then for each command one return or error; events in
// between are dropped.
type monitor struct {
	ready chan struct{} // closed when conn and err are set
	conn  net.Conn
	dec   *json.Decoder
	err   error
	mu    sync.Mutex // one command at a time
}

type qmpReply struct {
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	Event string          `json:"event"`
	QMP   json.RawMessage `json:"QMP"`
}

// newMonitor waits in the background for QEMU to connect.
func newMonitor(l net.Listener) *monitor {
	q := &monitor{ready: make(chan struct{})}
	go func() {
		defer close(q.ready)
		if q.conn, q.err = l.Accept(); q.err != nil {
			return
		}
		q.dec = json.NewDecoder(q.conn)
		var greeting qmpReply
		if q.err = q.dec.Decode(&greeting); q.err == nil && greeting.QMP == nil {
			q.err = fmt.Errorf("no greeting from QEMU's monitor")
		}
		if q.err == nil {
			_, q.err = q.exchange("qmp_capabilities", nil)
		}
	}()
	return q
}

func (q *monitor) close() {
	<-q.ready
	if q.conn != nil {
		q.conn.Close()
	}
}

func (q *monitor) command(ctx context.Context, command string, arguments any) (json.RawMessage, error) {
	select {
	case <-q.ready:
	case <-ctx.Done():
		return nil, fmt.Errorf("QMP %s: %w", command, ctx.Err())
	}
	if q.err != nil {
		return nil, fmt.Errorf("QMP %s: %w", command, q.err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	stop := context.AfterFunc(ctx, func() { q.conn.Close() })
	defer stop()
	r, err := q.exchange(command, arguments)
	if err != nil {
		return nil, fmt.Errorf("QMP %s: %w", command, err)
	}
	return r, nil
}

func (q *monitor) exchange(command string, arguments any) (json.RawMessage, error) {
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := json.NewEncoder(q.conn).Encode(request); err != nil {
		return nil, err
	}
	for {
		var r qmpReply
		if err := q.dec.Decode(&r); err != nil {
			return nil, err
		}
		switch {
		case r.Error != nil:
			return nil, fmt.Errorf("%s: %s", r.Error.Class, r.Error.Desc)
		case r.Return != nil:
			return r.Return, nil
		}
	}
}
