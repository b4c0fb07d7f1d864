package nfs

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
)

// Numbers of ONC RPC, RFC 5531.
const (
	rpcVersion = 2
	isCall     = 0
	isReply    = 1
	program    = 100003 // NFS
	version    = 4
	authNone   = 0
	authSys    = 1

	procNull     = 0
	procCompound = 1

	lastFragment = 1 << 31
	// maxAnswer bounds an answer, in bytes; it has a few hundred.
	maxAnswer = 64 << 10
)

// authError is the error of a server that does not take us for who we are.
type authError struct{ why uint32 }

func (e *authError) Error() string {
	return fmt.Sprintf("the server refuses this machine (auth_stat %d, RFC 5531, 9)", e.why)
}

// conn is a connection to a server, which makes one call at a time.
type conn struct {
	net.Conn
	ctx context.Context
	end func()
	xid uint32
}

// Close ends the connection.
func (c *conn) Close() error {
	c.end()
	return c.Conn.Close()
}

// late says why a connection was ended, if we ended it.
func (c *conn) late(err error) error {
	if err != nil && c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	return err
}

// credentials are root's of a machine (RFC 5531, appendix A).
func credentials(machine string) []byte {
	b := opaque(words(0), machine[:min(len(machine), 255)])
	body := append(b, words(0, 0, 0)...) // user, group, no others
	return opaque(words(authSys), string(body))
}

// call calls a procedure; without credentials as nobody.
func (c *conn) call(procedure uint32, args []byte, credentials ...byte) ([]byte, error) {
	if len(credentials) == 0 {
		credentials = words(authNone, 0)
	}
	c.xid++
	b := words(0, c.xid, isCall, rpcVersion, program, version, procedure)
	b = append(append(b, credentials...), words(authNone, 0)...)
	b = append(b, args...)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4)|lastFragment)
	if _, err := c.Write(b); err != nil {
		return nil, err
	}
	answer, err := readRecord(c)
	if errors.Is(err, io.EOF) {
		err = errors.New("the server ends the connection")
	}
	if err != nil {
		return nil, err
	}
	return parseReply(answer, c.xid)
}

// readRecord reads the fragments of an answer.
func readRecord(r io.Reader) ([]byte, error) {
	var record []byte
	for {
		var mark [4]byte
		if _, err := io.ReadFull(r, mark[:]); err != nil {
			return nil, err
		}
		n := binary.BigEndian.Uint32(mark[:])
		size := int64(n &^ lastFragment)
		if size == 0 && n&lastFragment == 0 || size > maxAnswer-int64(len(record)) {
			return nil, errNonsense
		}
		part := make([]byte, size)
		if _, err := io.ReadFull(r, part); err != nil {
			return nil, err
		}
		record = append(record, part...)
		if n&lastFragment != 0 {
			return record, nil
		}
	}
}

// parseReply reads the head of an answer and returns what follows.
func parseReply(b []byte, xid uint32) ([]byte, error) {
	x := &reader{b: b}
	if got, kind := x.word(), x.word(); x.short || got != xid || kind != isReply {
		return nil, errNonsense
	}
	if denied := x.word(); denied != 0 {
		if x.word() == 1 && !x.short {
			return nil, &authError{x.word()}
		}
		return nil, errNonsense
	}
	x.word() // of the server's verifier
	x.opaque()
	status := x.word()
	if x.short {
		return nil, errNonsense
	}
	switch status {
	case 0:
		return x.b, nil
	case 1, 2: // the program, or its version, is not there
		return nil, ErrVersion
	}
	return nil, fmt.Errorf("the server does not understand (accept_stat %d, RFC 5531, 9)", status)
}
