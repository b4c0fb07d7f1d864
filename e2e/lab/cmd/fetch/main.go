// Command fetch brings kernels and programs of the Debian archive into the
// cache and prints where they are:
//
//	fetch [-suite trixie] [-arch riscv64] [-vmlinux]    a kernel; its debug data too
//	fetch -suite sid -arch amd64 PACKAGE...             packages, with what they depend on
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"

	"github.com/panicroom-kdump/panicroom/e2e/lab"
	"github.com/panicroom-kdump/panicroom/internal/ui"
)

func main() {
	suite := flag.String("suite", "trixie", "suite of Debian")
	arch := flag.String("arch", "riscv64", "architecture")
	vmlinux := flag.Bool("vmlinux", false, "fetch the kernel's debug data too (1 GB)")
	refresh := flag.Bool("refresh", os.Getenv("REFRESH") == "1", "ask the archive even if that was done within a day")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *suite, *arch, *refresh, *vmlinux, flag.Args()); err != nil {
		ui.WriteError(os.Stderr, "fetch", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, suite, arch string, refresh, vmlinux bool, packages []string) error {
	say := func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	if len(packages) > 0 {
		root, err := lab.FetchSysroot(ctx, lab.SysrootOptions{
			Suite: suite, Arch: arch, Packages: packages, Refresh: refresh, Say: say,
		})
		if err != nil {
			return err
		}
		fmt.Println(root)
		return nil
	}
	k, err := lab.FetchKernel(ctx, lab.KernelOptions{Suite: suite, Arch: arch, Refresh: refresh, Say: say})
	if err != nil {
		return err
	}
	fmt.Printf("version %s\nrelease %s\nimage   %s\nmodules %s\n", k.Version, k.Release, k.ImagePath(), k.ModulesDir())
	if !vmlinux {
		return nil
	}
	path, err := k.Vmlinux(ctx, say)
	if err != nil {
		return err
	}
	fmt.Printf("vmlinux %s\n", path)
	return nil
}
