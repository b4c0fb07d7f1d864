package nfs

import (
	"encoding/binary"
	"errors"
)

// Operations and results of NFS version 4.0, RFC 7531.
const (
	opAccess      = 3
	opGetAttr     = 9
	opLookup      = 15
	opPutRootFH   = 24
	accessModify  = 0x4
	accessExtend  = 0x8
	accessCreate  = accessModify | accessExtend
	attrType      = 1
	attrAvailable = 42 // bytes
	kindDirectory = 2

	statusOK            = 0
	statusPermission    = 1
	statusNoEntry       = 2
	statusAccess        = 13
	statusNotDirectory  = 20
	statusDelay         = 10008
	statusWrongSecurity = 10016
	statusMinorVersion  = 10021
	statusSymlink       = 10029
)

// compound asks for a directory: walk there from the root, then what we may do, what
// it is, and how much room it has.
func compound(dir string) []byte {
	names := components(dir)
	b := words(0, 0, uint32(len(names)+3), opPutRootFH) // no tag; minor version 0
	for _, n := range names {
		b = opaque(append(b, words(opLookup)...), n)
	}
	return append(b, words(opAccess, accessCreate, opGetAttr, 2, 1<<attrType, 1<<(attrAvailable-32))...)
}

// result is what a server says to [compound].
type result struct {
	status            uint32 // the first that is not OK
	supported, access uint32
	kind              uint32
	free              uint64
}

var errNonsense = errors.New("the answer makes no sense")

// maxOperations is more than a path can have that fits into a request.
const maxOperations = 4096

func parseCompound(b []byte) (*result, error) {
	x := &reader{b: b}
	r := &result{status: x.word()}
	x.opaque() // our tag
	n := x.word()
	if n > maxOperations {
		return nil, errNonsense
	}
	seen := 0
	for range n {
		op, status := x.word(), x.word()
		if x.short || status != statusOK {
			break // it is the last one
		}
		switch op {
		case opPutRootFH, opLookup:
		case opAccess:
			r.supported, r.access = x.word(), x.word()
			seen |= 1
		case opGetAttr:
			if x.word() != 2 || x.word() != 1<<attrType || x.word() != 1<<(attrAvailable-32) || x.word() != 12 {
				return nil, errNonsense // it leaves something out
			}
			r.kind = x.word()
			r.free = uint64(x.word())<<32 | uint64(x.word())
			seen |= 2
		default:
			return nil, errNonsense
		}
	}
	if x.short || r.status == statusOK && seen != 3 {
		return nil, errNonsense
	}
	return r, nil
}

// words is numbers as XDR has them (RFC 4506).
func words(all ...uint32) []byte {
	var b []byte
	for _, w := range all {
		b = binary.BigEndian.AppendUint32(b, w)
	}
	return b
}

// opaque appends bytes of any length, filled up to words.
func opaque(b []byte, text string) []byte {
	b = append(append(b, words(uint32(len(text)))...), text...)
	return append(b, make([]byte, -len(text)&3)...)
}

// reader reads XDR; what is beyond the end is zero, and short tells.
type reader struct {
	b     []byte
	short bool
}

func (r *reader) take(n uint64) []byte {
	if n > uint64(len(r.b)) {
		r.b, r.short = nil, true
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) word() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) opaque() []byte {
	n := uint64(r.word())
	b := r.take(n)
	r.take(-n & 3)
	return b
}
