package partition

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/panicroom-kdump/panicroom/internal/device"
	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// ErrInUse: there is something on the partition.
var ErrInUse = errors.New("partition is in use")

// Init prepares a partition for crashes and returns its UUID. It refuses one that
// holds anything; ours may be prepared again if no crash is waiting on it.
func Init(path string) (uuid string, err error) {
	f, err := openDevice(path, os.O_RDWR)
	if err != nil {
		return "", err
	}
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return "", err
	}
	switch t, err := open(f, nil, path); {
	case err == nil && len(t.table.Crashes) > 0:
		return "", ui.Hint(fmt.Errorf("%s: %w: %d crashes are waiting on it", path, ErrInUse, len(t.table.Crashes)),
			"panicroom target unpack "+path)
	case err == nil:
		return t.UUID(), nil
	case errors.Is(err, ErrDamaged):
		return "", ui.Hint(fmt.Errorf("%s: %w", path, err), "to give up what is on it: wipefs --all "+path+", then try again")
	}
	what, err := device.Holds(f, size)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	if what != "" {
		return "", ui.Hint(fmt.Errorf("%s: %w: it holds %s", path, ErrInUse, what),
			"to give up what is on it: wipefs --all "+path+" && blkdiscard -z -l 1M "+path+", then try again")
	}
	h, err := format(f, size)
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return h.id(), nil
}

// format writes a header, once there is a table.
func format(d disk, size int64) (*header, error) {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return nil, err
	}
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // RFC 9562, version 4
	h, err := newHeader(size, id)
	if err != nil {
		return nil, err
	}
	b, err := (&table{}).marshal(1)
	if err != nil {
		return nil, err
	}
	for _, w := range []struct {
		b  []byte
		at int64
	}{{make([]byte, tableHead), headerSize}, {b, headerSize + tableSize}, {h.marshal(), 0}} {
		if _, err := d.WriteAt(w.b, w.at); err != nil {
			return nil, err
		}
		if err := d.Sync(); err != nil {
			return nil, err
		}
	}
	return h, nil
}
