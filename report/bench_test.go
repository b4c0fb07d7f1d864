package report

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/panicroom-kdump/panicroom/kernel"
)

// large is a machine as servers are: many CPUs, modules and messages.
func large() *dead {
	d := &dead{
		info: "CRASHTIME=1764000000\n", panic: 1, symbols: map[kernel.VirtAddr]string{},
		uts: &kernel.Utsname{Release: "6.12.107-test", Version: "#1 SMP", Nodename: "large", Machine: "riscv64"},
	}
	const text = kernel.VirtAddr(0xffffffff80000000)
	for i := range 2000 {
		d.symbols[text+kernel.VirtAddr(i)<<8] = fmt.Sprintf("function_%d", i)
	}
	names := d.Arch().Registers
	for i := range 64 {
		c := kernel.CPU{Number: i, PID: uint32(100 + i), PC: text + kernel.VirtAddr(i)<<8 + 0x42, RA: text + 0x1020}
		for r, name := range names {
			c.Registers = append(c.Registers, kernel.Register{Name: name, Value: uint64(i*100 + r)})
		}
		d.cpus = append(d.cpus, c)
	}
	for i := range 200 {
		d.modules = append(d.modules, kernel.Module{Name: fmt.Sprintf("module_%d", i), State: "live", Size: uint64(i) << 12})
	}
	for i := range 10_000 {
		d.log = append(d.log, kernel.LogRecord{Seq: uint64(i), Time: time.Duration(i) * time.Millisecond, Level: 6,
			Text: fmt.Sprintf("driver %d: a message as drivers write them, with a number or two: %#x", i%50, i)})
	}
	for _, line := range []string{
		"Kernel panic - not syncing: sysrq triggered crash",
		"CPU: 0 UID: 0 PID: 100 Comm: bash Not tainted 6.12.107-test #1",
		"Call Trace:",
		"[<ffffffff80000142>] function_1+0x42/0x100",
		"[<ffffffff80000242>] function_2+0x42/0x100",
		"Starting crashdump kernel...",
	} {
		d.log = append(d.log, kernel.LogRecord{Seq: uint64(len(d.log)), Time: 11 * time.Second, Text: line})
	}
	return d
}

// BenchmarkReport makes and writes the report of a large machine.
func BenchmarkReport(b *testing.B) {
	d := large()
	r := build(d, nil)
	for _, x := range []struct {
		name string
		run  func() error
	}{
		{"make", func() error { build(d, nil); return nil }},
		{"text", func() error { return r.WriteText(io.Discard, 80) }},
		{"json", func() error { return r.WriteJSON(io.Discard) }},
	} {
		b.Run(x.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := x.run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// The log of a busy machine has a hundred thousand records, and the report shows some:
// it must not keep, nor make garbage of, the others.
func TestRecordsCostNothing(t *testing.T) {
	d := large()
	if r := build(d, nil); r.Crash.Kind != KindSysrq {
		t.Fatalf("kind %q: the log was not read to its end", r.Crash.Kind)
	}
	whole := testing.AllocsPerRun(5, func() { build(d, nil) })
	records := len(d.log)
	d.log = d.log[records-1006:]
	some := testing.AllocsPerRun(5, func() { build(d, nil) })
	if each := (whole - some) / 9000; each > 2 {
		t.Errorf("%.1f allocations for each record of the log", each)
	}
}
