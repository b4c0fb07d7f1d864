package capture

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/panicroom-kdump/panicroom/kernel/kerneltest"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// What a report needs lies at the end of memory, and the disk is too small for
// all that comes before it.
func TestRoomForWhatMatters(t *testing.T) {
	const ram, first = 48 << 20, 46 << 20 // what comes first is from there on
	m := kerneltest.New(1)
	m.RAM[0].End = kerneltest.Base + ram
	noise := make([]byte, 40<<20)
	rand.NewChaCha8([32]byte{3}).Read(noise)
	m.Put(kerneltest.Base+8<<20, noise)
	// What is mapped by vmalloc is needed; here that is a part of the linear map.
	m.Info["NUMBER(VMALLOC_START)"] = fmt.Sprintf("%#x", kerneltest.Linear(kerneltest.Base+first))
	m.Info["NUMBER(VMALLOC_END)"] = fmt.Sprintf("%#x", kerneltest.Linear(kerneltest.Base+ram))
	m.Finish()
	for _, format := range []Format{FormatKdump, FormatELF} {
		for _, c := range []struct {
			room  uint64
			whole bool
		}{{20 << 20, false}, {10 << 20, false}, {64 << 20, true}, {46 << 20, true}} {
			f := faultyDisk{disk: disk{room: -1}, room: int(c.room), failAt: -1}
			res, err := runKernel(t, m, &f, Options{Level: LevelAll, Format: format, Room: c.room, Compression: vmcore.CompressionLZO})
			if res == nil || res.Complete != c.whole || c.whole != (err == nil) || !c.whole && (!errors.Is(err, ErrNoRoom) || !NoRoom(err)) {
				t.Fatalf("%s, room %d: %+v, %v", format, c.room, res, err)
			}
			if (res.Pages.NoRoom > 0) == c.whole {
				t.Errorf("%s, room %d: %d bytes, %d pages left out", format, c.room, len(f.data), res.Pages.NoRoom)
			}
			d := reopen(t, &f.disk)
			if d.Incomplete() == c.whole {
				t.Errorf("%s, room %d: incomplete %v", format, c.room, d.Incomplete())
			}
			var b [page]byte
			has := 0
			for at := kerneltest.Base; at < kerneltest.Base+ram; at += page {
				_, err := d.ReadPhys(b[:], at)
				if err == nil {
					has++
				} else if at >= kerneltest.Base+first {
					t.Fatalf("%s, room %d: page %#x: %v", format, c.room, at, err)
				}
			}
			if uint64(has) != res.Pages.Saved || res.Pages.Saved+res.Pages.NoRoom != res.Pages.Total {
				t.Errorf("%s, room %d: %d pages can be read; %+v", format, c.room, has, res.Pages)
			}
			// The rest of the disk is used.
			if used := uint64(len(f.blocks) * page); !c.whole && used < c.room-6<<20 {
				t.Errorf("%s, room %d: only %d bytes were written", format, c.room, used)
			}
		}
	}
}

// Nothing is known of the kernel: what fits is saved as it comes.
func TestRoomWithoutKernel(t *testing.T) {
	c := machine()
	f := faultyDisk{disk: disk{room: -1}, room: 2 << 20, failAt: -1}
	res, err := Run(t.Context(), c.Open(t), nil, &f, Options{Room: 2 << 20})
	if !errors.Is(err, errFull) || res == nil || res.Complete || res.Pages.Saved == 0 || res.Pages.NoRoom != 0 {
		t.Errorf("%+v, %v; want as much as fits", res, err)
	}
}
