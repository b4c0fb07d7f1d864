package capture

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

// RawCopy copies an ELF core as it is: the same bytes at the same offsets.
// Pages that cannot be read, and pages of zeros, become holes of out.
//
// Dumps are judged by such a copy; to keep it, compress it. Nothing is known of
// its pages: those that the hardware failed in are touched as well.
func RawCopy(ctx context.Context, d *vmcore.Dump, out File, opts Options) (*Result, error) {
	if d.Format() != vmcore.FormatELF {
		return nil, fmt.Errorf("raw copy of a %v file: %w: only an ELF core can be copied as it is", d.Format(), vmcore.ErrUnsupported)
	}
	res := &Result{Format: "elf", Threads: 1}
	start := time.Now()
	err := rawCopy(ctx, d, out, opts, res)
	res.Complete = err == nil
	if serr := out.Sync(); serr != nil {
		res.Complete = false
		err = errors.Join(err, fmt.Errorf("raw copy: %w", serr))
	}
	if err != nil {
		res.Reason = err.Error()
	}
	res.Save = Seconds(time.Since(start))
	return res, err
}

// rawBuffer is how much is copied at a time.
const rawBuffer = 1 << 20

func rawCopy(ctx context.Context, d *vmcore.Dump, out File, opts Options, res *Result) error {
	reader := d.NewReader()
	defer reader.Close()
	size, page := d.Size(), int64(d.PageSize())
	res.Pages.Total = uint64((size + page - 1) / page)
	buf, zeros := make([]byte, rawBuffer), make([]byte, page)
	for at := int64(0); at < size; {
		if ctx.Err() != nil {
			return fmt.Errorf("raw copy cut short: %w", context.Cause(ctx))
		}
		n, err := reader.ReadFile(buf[:min(rawBuffer, size-at)], at)
		if err := writeNonZero(out, buf[:n], at, zeros); err != nil {
			return fmt.Errorf("raw copy: %w", err)
		}
		at += int64(n)
		res.Pages.Saved += uint64(n) / uint64(page)
		if err != nil {
			if !errors.Is(err, vmcore.ErrUnreadable) {
				return fmt.Errorf("raw copy: %w", err)
			}
			// Memory begins at a page boundary of the file, so one page of the
			// file is one page of memory.
			res.Pages.Unreadable++
			if addr, ok := physAt(d, at); ok {
				addr -= addr % vmcore.PhysAddr(page)
				res.addUnreadable(addr, addr+vmcore.PhysAddr(page))
			}
			at = (at/page + 1) * page
		}
		if opts.Progress != nil {
			opts.Progress(Progress{Pages: res.Pages.Saved, Done: uint64(at), Total: uint64(size), Written: at})
		}
	}
	res.Bytes = size
	// The file has the size of the original even if it ends in a hole.
	var last [1]byte
	if _, err := reader.ReadFile(last[:], size-1); err != nil && !errors.Is(err, vmcore.ErrUnreadable) {
		return fmt.Errorf("raw copy: %w", err)
	}
	if _, err := out.WriteAt(last[:], size-1); err != nil {
		return fmt.Errorf("raw copy: %w", err)
	}
	return nil
}

// physAt is the memory that a byte of the file holds.
func physAt(d *vmcore.Dump, at int64) (vmcore.PhysAddr, bool) {
	for _, s := range d.Segments() {
		if at >= s.Offset && uint64(at-s.Offset) < s.FileSize {
			return s.Phys.Start + vmcore.PhysAddr(at-s.Offset), true
		}
	}
	return 0, false
}

// writeNonZero writes what is not zero, in runs of pages as large as zeros.
func writeNonZero(out io.WriterAt, data []byte, at int64, zeros []byte) error {
	end := func(from int) int { return min(from+len(zeros), len(data)) }
	for from := 0; from < len(data); {
		to := from
		for to < len(data) && !bytes.Equal(data[to:end(to)], zeros[:end(to)-to]) {
			to = end(to)
		}
		if to == from {
			from = end(from)
			continue
		}
		if _, err := out.WriteAt(data[from:to], at+int64(from)); err != nil {
			return err
		}
		from = to
	}
	return nil
}
