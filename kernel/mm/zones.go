package mm

import (
	"fmt"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// Bounds of zones.
const (
	maxOrders   = 64
	maxZoneName = 32
)

// readZones reads the zones and, of their counters, what is free.
func (r *reader) readZones() {
	z, err := r.newZoneReader()
	if err != nil {
		r.missing("watermarks and free blocks of zones", err)
		r.noZones = true
	}
	for zone, err := range r.k.Zones() {
		if err != nil {
			r.missing("zones", err)
			r.noZones = true
			r.s.Free = r.freeWithoutZones()
			return
		}
		free, err := r.bytes(zone.Free)
		if err == nil {
			r.s.Free += free
		}
		if !zone.FreeExact && err == nil {
			err = fmt.Errorf("without what CPUs keep of the counter: %w", kernel.ErrNoInfo)
		}
		if err != nil {
			r.missing(fmt.Sprintf("free memory of zone %d of node %d", zone.Index, zone.Node), err)
		}
		out := Zone{Node: zone.Node, Free: free}
		if z != nil {
			if err := z.read(zone, &out); err != nil {
				r.missing(fmt.Sprintf("zone %d of node %d", zone.Index, zone.Node), err)
				r.noZones = true
			}
			r.lowMarks += out.Low
		}
		r.s.Zones = append(r.s.Zones, out)
	}
}

// freeWithoutZones is the kernel's sum over all zones.
func (r *reader) freeWithoutZones() uint64 {
	nr, ok := r.k.Info().Number("NR_FREE_PAGES")
	at, err := r.k.Variable("vm_zone_stat")
	if err == nil && (!ok || nr < 0 || nr > maxCounters) {
		err = fmt.Errorf("NUMBER(NR_FREE_PAGES): %w", kernel.ErrNoInfo)
	}
	var n, b uint64
	if err == nil {
		n, err = r.k.ReadUint64(at + kernel.VirtAddr(8*nr))
	}
	if err == nil {
		b, err = r.bytes(int64(n))
	}
	if err != nil {
		r.missing("free", err)
	}
	return b
}

// zoneReader reads of struct zone what [kernel.Zones] does not.
type zoneReader struct {
	r              *reader
	zone, area     *kernel.StructReader
	low, min, high int64 // in the array of watermarks
}

func (r *reader) newZoneReader() (*zoneReader, error) {
	z := &zoneReader{r: r}
	var err error
	if z.zone, err = r.k.Struct("zone", "_watermark", "?watermark_boost", "managed_pages", "present_pages", "name", "free_area"); err != nil {
		return nil, err
	}
	if z.area, err = r.k.Struct("free_area", "nr_free"); err != nil {
		return nil, err
	}
	l, err := r.k.Layout()
	if err != nil {
		return nil, err
	}
	for _, m := range []struct {
		into *int64
		name string
	}{{&z.min, "WMARK_MIN"}, {&z.low, "WMARK_LOW"}, {&z.high, "WMARK_HIGH"}} {
		var ok bool
		if *m.into, ok = l.EnumValue("zone_watermarks", m.name); !ok {
			return nil, fmt.Errorf("enum zone_watermarks: %w", kernel.ErrNoInfo)
		}
	}
	return z, nil
}

func (z *zoneReader) read(in kernel.Zone, out *Zone) error {
	o, err := z.zone.At(in.Addr)
	if err != nil {
		return err
	}
	marks, boost := o.Uints("_watermark"), o.Uint("watermark_boost")
	mark := func(i int64) int64 {
		if i < 0 || i >= int64(len(marks)) {
			return 0
		}
		// The kernel wakes up early for a while after memory was mixed up.
		return int64(marks[i] + boost)
	}
	for _, n := range []struct {
		into  *uint64
		pages int64
	}{
		{&out.Present, o.Int("present_pages")},
		{&out.Managed, int64(o.Uint("managed_pages"))},
		{&out.Min, mark(z.min)},
		{&out.Low, mark(z.low)},
		{&out.High, mark(z.high)},
	} {
		if *n.into, err = z.r.bytes(n.pages); err != nil {
			return err
		}
	}
	orders, _ := z.zone.Field("free_area")
	for i := range min(orders.Count, maxOrders) {
		out.Orders = append(out.Orders, z.area.In(o, "free_area", int(i)).Uint("nr_free"))
	}
	if out.Name, err = z.r.k.ReadString(o.Pointer("name"), maxZoneName); err != nil {
		return fmt.Errorf("name: %w", err)
	}
	return nil
}
