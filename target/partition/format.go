package partition

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/bits"
	"slices"

	"github.com/panicroom-kdump/panicroom/internal/device"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/target"
)

const (
	version    = 1
	headerSize = 4096
	tableSize  = 512 << 10
	tableHead  = 24
	dataStart  = 2 << 20
	minChunk   = 64 << 10
	maxChunks  = 16384
	maxShift   = 30 // 16 TiB

	maxCrashes = 64
	maxFiles   = 64 // of a crash

	tableMagic = "PRTABLE\n"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	// ErrNotOurs: the partition has no header of ours.
	ErrNotOurs = errors.New("not a partition for crashes")
	// ErrDamaged: it has, and what follows makes no sense.
	ErrDamaged = errors.New("partition for crashes is damaged")
)

// header is the first block.
type header struct {
	UUID   [16]byte
	Shift  uint32 // log2 of the size of a chunk
	Chunks uint64
}

// newHeader lays out a partition of size bytes.
func newHeader(size int64, uuid [16]byte) (*header, error) {
	const least = dataStart + 4*minChunk
	if size < least {
		return nil, fmt.Errorf("%s are too few for crashes: at least %s", ui.Bytes(uint64(max(0, size))), ui.Bytes(least))
	}
	h := &header{UUID: uuid, Shift: uint32(bits.TrailingZeros(minChunk))}
	for uint64(size-dataStart)>>h.Shift > maxChunks {
		h.Shift++
	}
	if h.Shift > maxShift {
		return nil, fmt.Errorf("%s are more than a partition for crashes can have", ui.Bytes(uint64(size)))
	}
	h.Chunks = uint64(size-dataStart) >> h.Shift
	return h, nil
}

func (h *header) id() string {
	s := hex.EncodeToString(h.UUID[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

func (h *header) marshal() []byte {
	b := make([]byte, headerSize)
	le := binary.LittleEndian
	copy(b, device.DumpsMagic)
	le.PutUint32(b[16:], version)
	le.PutUint32(b[20:], h.Shift)
	copy(b[24:], h.UUID[:])
	le.PutUint64(b[40:], h.Chunks)
	le.PutUint32(b[headerSize-4:], crc32.Checksum(b[:headerSize-4], castagnoli))
	return b
}

func readHeader(r io.ReaderAt) (*header, error) {
	b := make([]byte, headerSize)
	if n, err := r.ReadAt(b, 0); n < len(b) {
		if err == io.EOF || err == nil {
			return nil, ErrNotOurs
		}
		return nil, err
	}
	le := binary.LittleEndian
	if string(b[:len(device.DumpsMagic)]) != device.DumpsMagic {
		return nil, ErrNotOurs
	}
	if sum := crc32.Checksum(b[:headerSize-4], castagnoli); sum != le.Uint32(b[headerSize-4:]) {
		return nil, fmt.Errorf("%w: checksum of the header", ErrDamaged)
	}
	if v := le.Uint32(b[16:]); v != version {
		return nil, fmt.Errorf("%w: version %d; this is for %d", ErrDamaged, v, version)
	}
	h := &header{Shift: le.Uint32(b[20:]), Chunks: le.Uint64(b[40:])}
	copy(h.UUID[:], b[24:])
	if h.Shift < 16 || h.Shift > maxShift || h.Chunks == 0 || h.Chunks > maxChunks {
		return nil, fmt.Errorf("%w: %d chunks of 2^%d bytes", ErrDamaged, h.Chunks, h.Shift)
	}
	return h, nil
}

// table says what is on a partition.
type table struct {
	Crashes []tableCrash `json:"crashes"`
}

type tableCrash struct {
	Name     string      `json:"name"` // without the suffix of an incomplete one
	Complete bool        `json:"complete,omitempty"`
	Files    []tableFile `json:"files"`
}

type tableFile struct {
	Name string `json:"name"`
	Size int64  `json:"size"`
	// Runs are where its chunks are, in order.
	Runs []run `json:"runs,omitempty"`
}

// run is chunks of a file that follow each other on the partition too: Count of
// them, which are At and so on in the file, lie at On and so on.
type run struct {
	At    uint32 `json:"at"`
	On    uint32 `json:"on"`
	Count uint32 `json:"n"`
}

// errTooLarge: a table does not fit into its place.
var errTooLarge = errors.New("table is full")

func (t *table) marshal(sequence uint64) ([]byte, error) {
	text, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	if len(text) > tableSize-tableHead {
		return nil, errTooLarge
	}
	b := make([]byte, tableHead, tableHead+len(text))
	le := binary.LittleEndian
	copy(b, tableMagic)
	le.PutUint64(b[8:], sequence)
	le.PutUint32(b[16:], uint32(len(text)))
	b = append(b, text...)
	le.PutUint32(b[20:], tableSum(b))
	return b, nil
}

// tableSum is the checksum of a table, without itself.
func tableSum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[8:20], castagnoli), castagnoli, b[tableHead:])
}

// readTable reads the table at one of its two places; the sequence number is 0
// if there is none that is whole.
func readTable(r io.ReaderAt, place int, h *header) (*table, uint64, error) {
	at := int64(headerSize + place*tableSize)
	head := make([]byte, tableHead)
	if _, err := r.ReadAt(head, at); err != nil && err != io.EOF {
		return nil, 0, err
	}
	le := binary.LittleEndian
	length := le.Uint32(head[16:])
	if string(head[:8]) != tableMagic || length > tableSize-tableHead {
		return nil, 0, nil
	}
	b := make([]byte, tableHead+int(length))
	if _, err := r.ReadAt(b, at); err != nil && err != io.EOF {
		return nil, 0, err
	}
	if !bytes.Equal(b[:tableHead], head) || tableSum(b) != le.Uint32(b[20:]) {
		return nil, 0, nil // torn
	}
	t := new(table)
	if err := json.Unmarshal(b[tableHead:], t); err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err := t.check(h); err != nil {
		return nil, 0, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return t, le.Uint64(b[8:]), nil
}

// newestTable reads the table that counts.
func newestTable(r io.ReaderAt, h *header) (*table, uint64, error) {
	best, sequence := &table{}, uint64(0)
	var errs []error
	for place := range 2 {
		t, s, err := readTable(r, place, h)
		if err != nil {
			errs = append(errs, err)
		}
		if t != nil && s > sequence {
			best, sequence = t, s
		}
	}
	if sequence == 0 {
		return nil, 0, errors.Join(append(errs, fmt.Errorf("%w: neither table is whole", ErrDamaged))...)
	}
	return best, sequence, nil
}

// check makes sure that the table leads nowhere: all is on the partition, nothing
// twice, and the names are names.
func (t *table) check(h *header) error {
	used := make([]bool, h.Chunks)
	if len(t.Crashes) > maxCrashes {
		return fmt.Errorf("%d crashes", len(t.Crashes))
	}
	var names []string
	for _, c := range t.Crashes {
		if err := target.CheckName(c.Name); err != nil {
			return err
		}
		if slices.Contains(names, c.Name) || len(c.Files) > maxFiles {
			return fmt.Errorf("crash %s is there twice, or has too many files", c.Name)
		}
		names = append(names, c.Name)
		var files []string
		for _, f := range c.Files {
			if err := target.CheckName(f.Name); err != nil {
				return err
			}
			if slices.Contains(files, f.Name) {
				return fmt.Errorf("file %s is there twice", f.Name)
			}
			files = append(files, f.Name)
			if err := f.check(h, used); err != nil {
				return fmt.Errorf("file %s: %w", f.Name, err)
			}
		}
	}
	return nil
}

func (f *tableFile) check(h *header, used []bool) error {
	if f.Size < 0 || f.Size > maxFile(h) {
		return fmt.Errorf("%d bytes", f.Size)
	}
	chunks := (uint64(f.Size) + 1<<h.Shift - 1) >> h.Shift
	next := uint64(0)
	for _, r := range f.Runs {
		at, on, n := uint64(r.At), uint64(r.On), uint64(r.Count)
		if n == 0 || at < next || at+n > chunks || on+n > h.Chunks {
			return fmt.Errorf("run of %d chunks, %d of the file, at %d", n, at, on)
		}
		next = at + n
		for i := on; i < on+n; i++ {
			if used[i] {
				return fmt.Errorf("chunk %d is used twice", i)
			}
			used[i] = true
		}
	}
	return nil
}

// maxFile is how large a file may be, holes included.
func maxFile(h *header) int64 { return int64(16*maxChunks) << h.Shift }
