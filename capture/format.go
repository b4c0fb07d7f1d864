package capture

import (
	"errors"
	"fmt"
	"io"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// Format is the format in which memory is saved.
type Format string

// The formats.
const (
	FormatKdump Format = "kdump" // kdump-compressed, the default
	FormatELF   Format = "elf"   // as /proc/vmcore is
	FormatRaw   Format = "raw"   // memory as it lies in the machine, without a header
)

// Formats are all of them.
var Formats = []Format{FormatKdump, FormatELF, FormatRaw}

// elfGap is how many pages must be left out in a row for an ELF core to have a
// hole there; makedumpfile -E has the same number. Shorter gaps are saved: they
// would cost a program header each.
const elfGap = 256

// elfSpareRuns is room for runs of pages that the survey did not foresee.
const elfSpareRuns = 4096

// newWriter begins the dump.
func (r *run) newWriter(out File, s *survey) (vmcore.Writer, error) {
	d, o := r.dump, &r.opts
	pages, runs := s.kept+sparePages, 2*s.runs+elfSpareRuns
	if d.Live() {
		// Between the two looks at it anything may have come into use.
		pages = r.memory / d.PageSize()
		runs = int(pages/elfGap) + elfSpareRuns
	}
	if o.Format != FormatKdump && len(o.Parts) > 0 {
		return nil, fmt.Errorf("%w: a split dump in the format %q", vmcore.ErrUnsupported, o.Format)
	}
	switch o.Format {
	case FormatKdump:
		h := header(d, r.kernel, r.res.Used)
		h.Compression = o.Compression
		files := []io.WriterAt{out}
		for _, p := range o.Parts {
			files = append(files, p)
		}
		return vmcore.NewSplitKdumpWriter(files, h, d.Ranges(), pages,
			vmcore.KdumpOptions{Share: o.Share, WriteOnce: o.WriteOnce})
	case FormatELF:
		h := vmcore.ELFHeader{ByteOrder: d.ByteOrder(), Machine: d.Machine(), PageSize: d.PageSize(),
			Notes: d.Notes(), Segments: segments(d, r.kernel)}
		// A level that was lowered may have more runs than were counted.
		return vmcore.NewELFWriter(out, h, vmcore.ELFOptions{MaxRuns: runs, WriteOnce: o.WriteOnce})
	case FormatRaw:
		return vmcore.NewRawWriter(out, d.Ranges(), d.PageSize())
	}
	return nil, fmt.Errorf("%w: the format %q", errors.ErrUnsupported, o.Format)
}

// segments is where memory is and where the dead kernel had it mapped: as the
// core says that is saved, or by the kernel's linear map.
func segments(d *vmcore.Dump, k *kernel.Kernel) []vmcore.Segment {
	if s := d.Segments(); len(s) > 0 {
		return s
	}
	const rwx = 7
	var all []vmcore.Segment
	for _, r := range d.Ranges() {
		all = append(all, vmcore.Segment{Phys: r, Flags: rwx})
	}
	if k == nil {
		return all
	}
	base, ok := k.Info().Number("phys_ram_base")
	linear, ok2 := k.Info().Number("PAGE_OFFSET")
	if !ok || !ok2 {
		return all
	}
	for i := range all {
		all[i].Virt = uint64(linear) + uint64(all[i].Phys.Start) - uint64(base)
	}
	text, err := k.Lookup("_start", "_end")
	start, ok := text["_start"]
	end, ok2 := text["_end"]
	if err != nil || !ok || !ok2 || end <= start {
		return all
	}
	// The kernel's image, which lies in one piece.
	if pa, err := k.Translate(start); err == nil {
		all = append(all, vmcore.Segment{Phys: vmcore.Range{Start: pa, End: pa + vmcore.PhysAddr(end-start)}, Virt: uint64(start), Flags: rwx})
	}
	return all
}

// filtered tells whether pages may have been left out of a dump.
func filtered(d *vmcore.Dump) bool {
	if d.Format() != vmcore.FormatELF {
		return true
	}
	for _, s := range d.Segments() {
		if s.FileSize < s.Phys.Size() {
			return true
		}
	}
	return false
}

// keepOrDrop turns the classes of an extent into what is done with its pages:
// those that are saved become ClassKeep.
func (r *run) keepOrDrop(start vmcore.PFN, classes []Class) {
	for i, c := range classes {
		if c.Dropped(r.res.Used) {
			continue
		}
		classes[i] = ClassKeep
		if r.filtered {
			err := r.dump.Missing(vmcore.PhysAddr(start+vmcore.PFN(i)) * vmcore.PhysAddr(r.dump.PageSize()))
			if errors.Is(err, vmcore.ErrHole) || errors.Is(err, vmcore.ErrExcluded) {
				classes[i] = ClassAbsent
			}
		}
	}
	if r.opts.Format == FormatELF {
		fillGaps(classes, elfGap)
	}
}

// fillGaps keeps pages between kept ones when there are fewer than least of
// them and all may be touched.
func fillGaps(classes []Class, least int) {
	kept := -1
	for i, c := range classes {
		if c != ClassKeep {
			continue
		}
		if gap := classes[kept+1 : i]; kept >= 0 && len(gap) < least && touchable(gap) {
			clear(gap) // ClassKeep
		}
		kept = i
	}
}

func touchable(classes []Class) bool {
	for _, c := range classes {
		if c.Dropped(0) {
			return false
		}
	}
	return true
}

// count is the number of kept pages and of the runs that they stand in.
func count(classes []Class) (pages uint64, runs int) {
	for i, c := range classes {
		if c != ClassKeep {
			continue
		}
		pages++
		if i == 0 || classes[i-1] != ClassKeep {
			runs++
		}
	}
	return pages, runs
}
