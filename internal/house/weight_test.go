package house

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write testdata/linked.txt anew")

// crashTarget is what the crash binary is built for.
var crashTarget = []string{"GOOS=linux", "GOARCH=riscv64", "CGO_ENABLED=0", "GOFLAGS=-buildvcs=false"}

// maxBytes is the size that the stripped crash binary may have. It is memory
// of the panic room twice over while the initramfs is unpacked, once after.
// Whoever raises it says here what for:
//
//   - 13.4 MB: the report out of the dead kernel's memory: stacks, tasks, locks,
//     memory, disks, mounts, networks (0.35 MB), why it died and its code (0.15 MB),
//     the page (0.1 MB); and the questions to a dump with all types and the shell over
//     them (0.5 MB), which the panic kernel has no use for, but there is one binary.
//     Measured 13.11 MB.
//   - 12 MB: all of the next, and setup and status (0.15 MB). Measured 11.53 MB.
//   - 11.3 MB: net/http with TLS for the webhook (1.7 MB beside SSH, 3 MB alone), and
//     what is done after a crash: listing, hooks, what stays (0.3 MB). Measured
//     11.21 MB.
//   - 9.25 MB: dumps go to other machines: SSH and SFTP with the curves and ciphers
//     that servers want (1.3 MB), netlink and DHCP (0.7 MB), the network of the
//     standard library with its resolver (0.6 MB), the partition for crashes, the
//     configuration and what finds the way (0.4 MB). The libraries are those whose
//     bugs others have found already. Measured 9.24 MB.
//   - 6.3 MB: how much memory to reserve and why, what modules take (from their ELF
//     headers), and the files of boot loaders, edited, compared and put back. All of
//     it is of the running system, but there is one binary. Measured 6.292 MB.
//   - 6.1 MB: the walk to what a report needs (--level report, and first when room
//     is short), free lists, LZMA into the kernel's own memory, the panic kernel's
//     configuration; one step of the file. Measured 6.095 MB.
//   - 6.0 MB: the command lines of makedumpfile and vmcore-dmesg, whose places in
//     kdump initramfs it takes, and /proc/kcore as a dump; 64 KiB, one step of the
//     file. Measured 5.96 MB.
//   - 5.9 MB: dumps in every format and compression that their readers know
//     (zlib 46 KB, snappy 11 KB, LZO 5 KB; ELF, flattened, split and raw ones and
//     convert, 60 KB), and the command lines of kexec-tools. Measured 5.83 MB.
//   - 5.7 MB: kernel images in every form (lz4, lzo, bzip2, lzma, ELF, unified
//     images; 0.2 MB), and beside them both system calls, status and digests.
//     Measured 5.57 MB; the file grows in steps of 64 KiB.
//   - 5.3 MB: the whole command as first built has 5.1 MB; packing the initramfs
//     unpacks modules of any codec, and load and save bring os, os/signal and
//     the plans. Measured in a 128 MiB panic room: 19 MiB still available at the
//     lowest, with an ext4 target.
//   - 4.5 MB: cobra, encoding/json, kdump formats with zstd, BTF, xz, page
//     selection and the report; the "disk only" budget of the first design was
//     4.0 MB without a command line library (0.3 MB) and BTF (0.4 MB).
const maxBytes = 13_400_000

// forbidden are packages that the crash binary must not link. An exception
// names the only package that may import it.
var forbidden = []struct{ pkg, except, because string }{
	{"os/exec", "", "the crash binary starts no programs but itself"},
	{"net/http", module + "/after", "3 MB, for the webhook; it brings crypto/tls and crypto/x509"},
	{"net/http/pprof", "", "registers itself"},
	{"html/template", "", "1.9 MB: keeps every exported method alive"},
	{"text/template", "github.com/spf13/cobra", "1.0 MB for whoever calls it; cobra imports it and the linker drops it, which TestCrashBinaryWeight proves"},
	{"database/sql", "", "no database"},
	{"encoding/gob", "", "not a format of ours"},
	{"plugin", "", "static"},
	{"runtime/cgo", "", "static"},
	{"testing", "", "tests stay in tests"},
	{"debug/dwarf", "debug/elf", "debuginfo is not there in a crash; debug/elf knows it and the linker drops what is not called"},
}

type linkedPackage struct {
	path     string
	standard bool
	imports  []string
}

func linked(t *testing.T) []linkedPackage {
	t.Helper()
	source(t) // so that a cached result does not outlive a change
	out, err := goCommand(t, crashTarget, "list", "-deps", "-f", `{{.ImportPath}} {{.Standard}} {{join .Imports ","}}`, "./cmd/panicroom")
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, out)
	}
	var all []linkedPackage
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		p := linkedPackage{path: f[0], standard: f[1] == "true"}
		if len(f) > 2 {
			p.imports = strings.Split(f[2], ",")
		}
		all = append(all, p)
	}
	return all
}

func TestForbiddenPackages(t *testing.T) {
	all := linked(t)
	for _, rule := range forbidden {
		for _, p := range all {
			if slices.Contains(p.imports, rule.pkg) && p.path != rule.except {
				t.Errorf("the crash binary links %s, imported by %s: %s", rule.pkg, p.path, rule.because)
			}
		}
	}
}

// The ledger shows in review what a change makes the crash binary link that
// is not of the standard library.
func TestLinkedPackages(t *testing.T) {
	var b strings.Builder
	b.WriteString("# Packages of other modules that the crash binary links.\n" +
		"# Made by: go test ./internal/house -run TestLinkedPackages -update\n")
	var names []string
	for _, p := range linked(t) {
		if !p.standard && !strings.HasPrefix(p.path, module+"/") { // edges_test.go knows ours
			names = append(names, p.path)
		}
	}
	slices.Sort(names)
	for _, n := range names {
		b.WriteString(n + "\n")
	}
	golden := filepath.Join("testdata", "linked.txt")
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(b.String(), "\n")); diff != "" {
		t.Errorf("the crash binary links something else than testdata/linked.txt says; if it should:\n"+
			"go test ./internal/house -run TestLinkedPackages -update\n%s", diff)
	}
}

// crashBinary builds the command as make does.
func crashBinary(t *testing.T) []byte {
	t.Helper()
	if testing.Short() {
		t.Skip("builds the crash binary")
	}
	source(t)
	path := filepath.Join(t.TempDir(), "panicroom")
	if out, err := goCommand(t, crashTarget, "build", "-trimpath", "-ldflags=-s -w", "-o", path, "./cmd/panicroom"); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestCrashBinaryWeight(t *testing.T) {
	b := crashBinary(t)
	t.Logf("%d bytes of %d", len(b), maxBytes)
	if len(b) > maxBytes {
		t.Errorf("the crash binary has %d bytes; want at most %d (raise it with a sentence of reason)", len(b), maxBytes)
	}
	// One reachable call of it with a name known only at run time makes the
	// linker keep every exported method of every type: megabytes. The table of
	// functions that panics are traced with survives stripping.
	if bytes.Contains(b, []byte("reflect.Value.MethodByName")) {
		t.Error("reflect.Value.MethodByName is reachable; find the caller with -ldflags=-dumpdep")
	}
}
