package capture

import (
	"bytes"
	"context"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/panicroom-kdump/panicroom/vmcore"
)

func TestFormats(t *testing.T) {
	const all = 16 << 20 / page
	c := machine()
	for _, tt := range []struct {
		name string
		opts Options
		want vmcore.Format
	}{
		{"lzo", Options{Compression: vmcore.CompressionLZO}, vmcore.FormatKdump},
		{"shared", Options{Compression: vmcore.CompressionNone, Share: 100}, vmcore.FormatKdump},
		{"elf", Options{Format: FormatELF}, vmcore.FormatELF},
	} {
		f := disk{room: -1}
		res, err := Run(context.Background(), c.Open(t), nil, &f, tt.opts)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		d := reopen(t, &f)
		if got := compare(t, c, d); got != all || d.Format() != tt.want || res.Pages.Saved != all {
			t.Errorf("%s: %d pages, %d saved, in a file of format %v", tt.name, got, res.Pages.Saved, d.Format())
		}
		if tt.want == vmcore.FormatKdump && d.KdumpHeader().Compression != tt.opts.Compression {
			t.Errorf("%s: compressed with %v", tt.name, d.KdumpHeader().Compression)
		}
	}

	raw := disk{room: -1}
	if _, err := Run(context.Background(), c.Open(t), nil, &raw, Options{Format: FormatRaw}); err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 8<<20)
	if _, err := c.ReadPhys(want, 0x90000000); err != nil || len(raw.data) != 0x10000000+8<<20 || !bytes.Equal(raw.data[0x10000000:], want) {
		t.Errorf("raw: %d bytes; want memory from %#x on at %#x", len(raw.data), 0x90000000, 0x10000000)
	}
	if _, err := Run(context.Background(), c.Open(t), nil, &raw, Options{Format: "tar"}); err == nil {
		t.Error("a format that does not exist was taken")
	}
	if _, err := Run(context.Background(), c.Open(t), nil, &raw, Options{Format: FormatELF, Parts: []File{&raw}}); err == nil {
		t.Error("an ELF core was split")
	}
}

func TestSplitDump(t *testing.T) {
	c := machine()
	files := []*disk{{room: -1}, {room: -1}, {room: -1}}
	res, err := Run(context.Background(), c.Open(t), nil, files[0], Options{Parts: []File{files[1], files[2]}})
	if err != nil || !res.Complete {
		t.Fatal(err)
	}
	var parts []vmcore.Part
	for i, f := range files {
		parts = append(parts, vmcore.Part{R: bytes.NewReader(f.data), Size: int64(len(f.data))})
		if i < 2 && len(f.data) < 100<<10 {
			t.Errorf("part %d has %d bytes", i+1, len(f.data))
		}
	}
	d, err := vmcore.NewSplit(parts...)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if got := compare(t, c, d); got != 16<<20/page {
		t.Errorf("%d pages", got)
	}

	// Without a part it is incomplete, and so is what is made of it.
	d, err = vmcore.NewSplit(parts[0], parts[2])
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	joined := disk{room: -1}
	if res, err = Run(context.Background(), d, nil, &joined, Options{}); err == nil || res == nil || res.Complete || res.Pages.Unreadable == 0 {
		t.Errorf("without a part: %+v, %v", res, err)
	}
	if !reopen(t, &joined).Incomplete() {
		t.Error("made of an incomplete dump, and does not say so")
	}
}

// A filtered dump that is converted has gaps that nobody can fill.
func TestConvertedGaps(t *testing.T) {
	c := machine()
	var kept []vmcore.PFN
	f := disk{room: -1}
	d := c.Open(t)
	kw, err := vmcore.NewKdumpWriter(&f, header(d, nil, 31), d.Ranges(), 5000, vmcore.KdumpOptions{})
	if err != nil {
		t.Fatal(err)
	}
	e := kw.NewExtent(5000)
	b := make([]byte, page)
	for pfn := vmcore.PFN(0x80000); pfn < 0x80800; pfn += 2 {
		if _, err := d.ReadPhys(b, vmcore.PhysAddr(pfn)*page); err != nil {
			t.Fatal(err)
		}
		if err := e.Add(pfn, b); err != nil {
			t.Fatal(err)
		}
		kept = append(kept, pfn)
	}
	if err := kw.Write(e); err != nil {
		t.Fatal(err)
	}
	if err := kw.Finish(true); err != nil {
		t.Fatal(err)
	}
	for _, format := range []Format{FormatELF, FormatKdump} {
		out := disk{room: -1}
		res, err := Run(context.Background(), reopen(t, &f), nil, &out, Options{Format: format})
		if err != nil {
			t.Fatalf("%v: %v", format, err)
		}
		again := reopen(t, &out)
		if got := compare(t, c, again); got != len(kept) {
			t.Errorf("%v: %d pages of %d", format, got, len(kept))
		}
		if want := uint64(16<<20/page - len(kept)); res.Pages.Absent != want {
			t.Errorf("%v: %d pages absent; want %d", format, res.Pages.Absent, want)
		}
		if h := again.KdumpHeader(); h != nil && h.DumpLevel != 31 {
			t.Errorf("level %d; what was left out at 31 is left out still", h.DumpLevel)
		}
	}
}

func TestFillGaps(t *testing.T) {
	const k, f, p = ClassKeep, ClassFree, ClassPoison
	for _, tt := range []struct{ in, want []Class }{
		{nil, nil},
		{[]Class{f, f, k, f, k, f, f}, []Class{f, f, k, k, k, f, f}},
		{[]Class{k, f, f, k}, []Class{k, k, k, k}},
		{[]Class{k, f, f, f, k}, []Class{k, f, f, f, k}},
		{[]Class{k, f, p, k, f, k}, []Class{k, f, p, k, k, k}},
		{[]Class{f, f}, []Class{f, f}},
	} {
		got := append([]Class(nil), tt.in...)
		fillGaps(got, 3)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("fillGaps(%v) (-want +got):\n%s", tt.in, diff)
		}
	}
}
