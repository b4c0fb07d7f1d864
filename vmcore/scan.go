package vmcore

import (
	"fmt"
	"io"
	"runtime/debug"
	"sort"
)

// Fill adds n pages from first on as r reads them. done is how many were
// added; an error that wraps an [*AddrError] is about the page behind them, and
// the pages after that one may be readable again.
//
// It costs less than reading and Add: pages of zeros are told where they lie,
// and only others are copied, each into the same few cache lines.
func (e *Extent) Fill(r *Reader, first PFN, n int) (done int, err error) {
	size := PhysAddr(e.pack.pageSize)
	if end := uint64(first) + uint64(n); end < uint64(first) || end > ^uint64(0)/uint64(size) {
		return 0, fmt.Errorf("%d pages from page frame %#x: %w", n, uint64(first), ErrUnsupported)
	}
	if e.page == nil {
		e.page = make([]byte, size)
	}
	for done < n {
		pfn := first + PFN(done)
		zeros, found, err := r.memory.nextPage(e.page, PhysAddr(pfn)*size, n-done)
		if zeros > 0 || found {
			if err := e.follows(pfn); err != nil {
				return done, err
			}
		}
		for i := range zeros {
			e.pages = append(e.pages, extentPage{pfn: pfn + PFN(i)})
		}
		e.zeros += zeros
		done += zeros
		if found {
			e.add(first+PFN(done), e.page)
			done++
		}
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// nextByReading is source.nextPage for sources that can only copy, and for
// pages that lie across two windows.
func nextByReading(s source, page []byte, off int64, most int) (zeros int, found bool, err error) {
	for ; zeros < most; zeros++ {
		if _, err := s.readAt(page, off+int64(zeros)*int64(len(page))); err != nil {
			return zeros, false, err
		}
		if !isZero(page) {
			return zeros, true, nil
		}
	}
	return zeros, false, nil
}

func (s readerSource) nextPage(page []byte, off int64, most int) (int, bool, error) {
	return nextByReading(s, page, off, most)
}

func (s *flatSource) nextPage(page []byte, off int64, most int) (int, bool, error) {
	return nextByReading(s, page, off, most)
}

func (s *mappedSource) nextPage(page []byte, off int64, most int) (zeros int, found bool, err error) {
	for zeros < most && !found && err == nil {
		at := off + int64(zeros)*int64(len(page))
		if at < 0 || at >= s.size {
			return zeros, false, io.ErrUnexpectedEOF
		}
		n := 0
		if w, werr := s.acquire(at); werr == nil {
			whole := min(len(w.data)-int(at-w.off), (most-zeros)*len(page)) / len(page)
			if whole > 0 {
				n, found, err = scanMapped(page, w.data[at-w.off:][:whole*len(page)])
			}
			s.release(w)
			if whole > 0 {
				zeros += n
				continue
			}
		}
		// Across two windows, or not to be mapped.
		n, found, err = nextByReading(s, page, at, 1)
		zeros += n
	}
	return zeros, found, err
}

// scanMapped looks through the pages in src, which is mapped memory: it counts
// those of zeros, and copies the first other one to page. A fault is an error
// about the page behind those of zeros. Nothing but looking and copying is done
// where a fault can happen.
func scanMapped(page, src []byte) (zeros int, found bool, err error) {
	old := debug.SetPanicOnFault(true)
	defer func() {
		debug.SetPanicOnFault(old)
		if r := recover(); r != nil {
			found, err = false, faultError(r)
		}
	}()
	for len(src) >= len(page) {
		if !isZero(src[:len(page)]) {
			copy(page, src)
			return zeros, true, nil
		}
		src = src[len(page):]
		zeros++
	}
	return zeros, false, nil
}

func (m *elfMemory) nextPage(page []byte, addr PhysAddr, most int) (zeros int, found bool, err error) {
	size := PhysAddr(len(page))
	for zeros < most && !found {
		at := addr + PhysAddr(zeros)*size
		i := sort.Search(len(m.pieces), func(i int) bool { return m.pieces[i].End > at })
		if i == len(m.pieces) || m.pieces[i].Start > at {
			return zeros, false, m.why(at)
		}
		piece := &m.pieces[i]
		n := 0
		if whole := int(min(uint64(piece.End-at)/uint64(size), uint64(most-zeros))); whole > 0 {
			n, found, err = m.src.nextPage(page, piece.off+int64(at-piece.Start), whole)
			zeros += n
			if err != nil {
				return zeros, false, &AddrError{addr + PhysAddr(zeros)*size, ErrUnreadable, err}
			}
			continue
		}
		// A page of which another piece has the rest.
		if _, err := m.readPhys(page, at); err != nil {
			return zeros, false, err
		}
		if found = !isZero(page); !found {
			zeros++
		}
	}
	return zeros, found, nil
}

func (m *kdumpMemory) nextPage(page []byte, addr PhysAddr, most int) (zeros int, found bool, err error) {
	for ; zeros < most; zeros++ {
		if _, err := m.readPhys(page, addr+PhysAddr(zeros*len(page))); err != nil {
			return zeros, false, err
		}
		if !isZero(page) {
			return zeros, true, nil
		}
	}
	return zeros, false, nil
}
