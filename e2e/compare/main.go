// Command compare crashes the same machine with the stock tools of Debian sid
// (kexec-tools, makedumpfile) and with panicroom, and prints side by side what
// each did. It fails when panicroom fails, and also when the stock tools no
// longer fail where docs and README say that they do. make compare runs it;
// KERNEL, MEM, CPUS, CRASHKERNEL and SV change the machine.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/panicroom-kdump/panicroom/e2e/lab"
	"github.com/panicroom-kdump/panicroom/internal/ui"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx); err != nil {
		ui.WriteError(os.Stderr, "compare", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	set, err := lab.Environment()
	if err != nil {
		return err
	}
	if os.Getenv("CRASHKERNEL") == "" {
		set.Crashkernel = "192M" // Debian's and SUSE's; the stock tools' libraries need room
	}
	if os.Getenv("MEM") == "" {
		set.MemMiB = 1024
	}
	start := time.Now()
	say := func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "%6.1f s  %s\n", time.Since(start).Seconds(), fmt.Sprintf(format, args...))
	}
	k, err := lab.FetchKernel(ctx, lab.KernelOptions{Suite: set.Suite, Say: say})
	if err != nil {
		return err
	}
	stock, err := lab.FetchStock(ctx, k, say)
	if err != nil {
		return err
	}
	out, err := lab.OutDir()
	if err != nil {
		return err
	}
	c := &comparison{set: set, kernel: k, stock: stock, dir: filepath.Join(out, "compare"), say: say}
	if err := c.run(ctx); err != nil {
		return err
	}
	table := c.table()
	fmt.Print(table)
	path := filepath.Join(c.dir, "table.md")
	if err := os.WriteFile(path, []byte(table), 0o644); err != nil {
		return err
	}
	say("the table is in %s, the consoles beside it", path)
	return c.verdict()
}

// errUnexpected is the end of a comparison that did not come out as the
// documentation says.
var errUnexpected = errors.New("not as documented")

func (c *comparison) verdict() error {
	var bad []error
	for _, r := range c.rows {
		if !r.ours.ok {
			bad = append(bad, fmt.Errorf("%s: panicroom failed: %s", r.step, r.ours.text))
		}
		if r.stock.ok != r.stockWorks {
			bad = append(bad, fmt.Errorf("%s: the stock tools: %s; %w", r.step, r.stock.text, errUnexpected))
		}
	}
	return errors.Join(bad...)
}
