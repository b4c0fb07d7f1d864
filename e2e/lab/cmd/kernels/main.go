// Command kernels builds the kernels that Debian does not have, from Debian's
// own source: relocatable and with kexec_file_load. It prints where they are.
// make kernels runs it.
//
//	kernels [-refresh] [-forms] [SUITE...]    trixie and sid without one
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/panicroom-kdump/panicroom/e2e/lab"
	"github.com/panicroom-kdump/panicroom/internal/ui"
)

func main() {
	refresh := flag.Bool("refresh", os.Getenv("REFRESH") == "1", "ask the archive even if that was done within a day")
	forms := flag.Bool("forms", false, "make every form of each kernel's image, which else the tests make that need one")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *refresh, *forms, flag.Args()); err != nil {
		ui.WriteError(os.Stderr, "kernels", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, refresh, forms bool, suites []string) error {
	if len(suites) == 0 {
		suites = []string{"trixie", "sid"}
	}
	say := func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	for _, suite := range suites {
		k, err := lab.BuildKernel(ctx, lab.KernelOptions{Suite: suite, Refresh: refresh, Say: say})
		if err != nil {
			return err
		}
		fmt.Printf("%s: %s, built in %s\n", k.Suite, k.Release, k.Built.Took.Round(time.Second))
		paths := []string{k.Image, k.Built.Vmlinux, k.Built.Relocs, k.Built.ZBoot["gzip"], k.Built.ZBoot["zstd"], k.Built.BTF}
		for _, p := range paths {
			if p == "" {
				continue
			}
			if err := show(filepath.Join(k.Root, p)); err != nil {
				return err
			}
		}
		if !forms {
			continue
		}
		for _, name := range k.Forms() {
			path, err := k.Form(ctx, name)
			if err != nil {
				return err
			}
			if err := show(path); err != nil {
				return err
			}
		}
	}
	return nil
}

func show(path string) error {
	st, err := os.Stat(path)
	if err == nil {
		fmt.Printf("  %9s  %s\n", ui.Bytes(uint64(st.Size())), path)
	}
	return err
}
