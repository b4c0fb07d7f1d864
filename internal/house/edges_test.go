package house

import (
	"go/ast"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// floors are the storeys of the house: a package imports only from floors
// below its own, and of those only what edges allows.
var floors = map[string]int{
	"internal/sys":      -1, // system calls
	"internal/ui":       0,
	"internal/fdt":      0,
	"internal/deflate":  0,
	"internal/lzo":      0,
	"internal/zstdpage": 0,
	"internal/vm":       0,
	"internal/house":    0,

	"vmcore":              1,
	"kernel/btf":          1,
	"internal/getopt":     1,
	"internal/host":       1,
	"internal/kimage":     1,
	"internal/boot":       1,
	"internal/device":     1,
	"internal/seal":       1,
	"internal/bootloader": 1,
	"internal/config":     1,
	"internal/network":    1,

	"internal/initramfs": 2,
	"internal/kexecline": 2,
	"internal/dumpline":  2,

	"internal/getopt/getopttest": 2,

	"kernel": 2,
	"target": 2,

	"target/nfs":        3,
	"target/partition":  3,
	"target/sshdir":     3,
	"target/targettest": 3,
	"vmcore/vmcoretest": 2,

	"kernel/stack":  3,
	"kernel/disasm": 3,
	"kernel/sched":  3,
	"kernel/mm":     3,
	"kernel/fs":     3,
	"kernel/block":  3,
	"kernel/net":    3,
	"reserve":       3,

	"kernel/kerneltest": 3,
	"kernel/lock":       4,
	"kernel/value":      4,

	"load":    4,
	"capture": 4,
	"setup":   4,
	"report":  5,

	"report/reporttest": 6,

	"crashenv": 6,
	"saved":    6,
	"inspect":  6,
	"status":   7,
	"after":    7,

	"cmd/panicroom": 8,

	".": 9, // the story; imports nothing
}

// edges are the imports inside the house that are allowed, each with its
// reason. Whoever needs another one adds a line here and says why.
var edges = []struct{ from, to, because string }{
	{"internal/vm", "internal/sys", "QEMU dies with the test that started it; the RAM file is mapped"},

	{"vmcore", "internal/sys", "dumps are read through mmap, which costs a tenth of read(2) on /proc/vmcore"},
	{"vmcore", "internal/deflate", "pages compressed with zlib; a page at a time, libraries make larger ones or take longer"},
	{"vmcore", "internal/lzo", "pages compressed with LZO; no library with a usable licence writes it"},
	{"internal/getopt", "internal/ui", "the option that was meant, maybe"},
	{"internal/kexecline", "internal/getopt", "kexec reads its command line with getopt_long"},
	{"internal/dumpline", "internal/getopt", "makedumpfile reads its command line with getopt_long"},
	{"internal/getopt/getopttest", "internal/getopt", "documents are compared with the table of options"},
	{"vmcore", "internal/zstdpage", "pages compressed with zstd, in half the time of the library that reads them"},
	{"internal/config", "internal/ui", "sizes as people write them"},
	{"internal/host", "internal/fdt", "the firmware's reserved memory stands in the device tree"},
	{"internal/seal", "internal/fdt", "the seal lies in /chosen of the panic kernel's device tree"},
	{"internal/bootloader", "internal/sys", "a file that is replaced keeps its owner"},
	{"internal/bootloader", "internal/ui", "hints in errors"},
	{"internal/device", "internal/sys", "uevents, device numbers, finit_module"},

	{"kernel", "kernel/btf", "its small table of offsets comes from the types that it carries"},
	{"kernel", "vmcore", "a dead kernel is seen through its dump"},
	{"target", "internal/sys", "free space, preallocation, fsync of whole filesystems"},
	{"target", "internal/ui", "hints in errors"},
	{"vmcore/vmcoretest", "vmcore", "dumps made for tests speak of physical addresses"},
	{"target/targettest", "target", "the conformance suite of all targets"},
	{"target/targettest", "internal/sys", "what a real filesystem can do"},

	{"kernel/kerneltest", "kernel", "the kernel in a machine is opened in one place"},
	{"kernel/kerneltest", "vmcore", "machines made for tests speak of physical addresses"},
	{"kernel/kerneltest", "vmcore/vmcoretest", "a machine with a kernel in it is a machine"},

	{"saved", "internal/sys", "what a crash takes on the disk"},
	{"saved", "internal/ui", "sizes in words"},
	{"saved", "internal/config", "how many crashes stay"},
	{"saved", "target", "how the names of incomplete crashes end"},
	{"saved", "report", "what happened is the headline of the saved report"},

	{"kernel/stack", "kernel", "who called whom is read from a dead kernel's stacks"},
	{"kernel/stack", "vmcore", "whose architecture the stacks are"},
	{"kernel/disasm", "kernel", "instructions are read from a dead kernel's code"},
	{"kernel/disasm", "vmcore", "whose architecture the instructions are of"},
	{"kernel/sched", "kernel", "tasks and run queues are read from a dead kernel"},
	{"kernel/mm", "kernel", "what memory was used for is read from a dead kernel"},
	{"kernel/fs", "kernel", "mounts are read from a dead kernel"},
	{"kernel/block", "kernel", "disks and their requests are read from a dead kernel"},
	{"kernel/net", "kernel", "network interfaces are read from a dead kernel"},
	{"kernel/lock", "kernel", "locks are read from a dead kernel"},
	{"kernel/lock", "kernel/sched", "who waits and who holds are tasks"},

	{"kernel/value", "kernel", "objects are read from a dead kernel"},
	{"kernel/value", "kernel/btf", "of the types that it carries of itself"},

	{"inspect", "kernel", "a kernel is asked"},
	{"inspect", "kernel/btf", "types as C declares them"},
	{"inspect", "kernel/value", "objects of any type, addresses as people write them"},
	{"inspect", "vmcore", "physical addresses"},
	{"inspect", "kernel/stack", "who called whom"},
	{"inspect", "kernel/sched", "tasks, run queues"},
	{"inspect", "kernel/mm", "what memory was used for"},
	{"inspect", "kernel/disasm", "instructions"},
	{"inspect", "kernel/fs", "mounts"},
	{"inspect", "kernel/block", "disks and requests under way"},
	{"inspect", "kernel/net", "network interfaces"},
	{"inspect", "report", "tables; what happened"},
	{"inspect", "internal/ui", "the verb that was meant; errors with hints"},

	{"report", "kernel", "a report is opinions over what kernel answers"},
	{"report", "internal/ui", "sizes in words"},
	{"report", "kernel/stack", "who called whom"},
	{"report", "kernel/sched", "tasks, run queues, load"},
	{"report", "kernel/mm", "what memory was used for"},
	{"report", "kernel/fs", "mounts"},
	{"report", "kernel/block", "disks and requests under way"},
	{"report", "kernel/net", "network interfaces"},
	{"report", "kernel/lock", "who blocks whom"},
	{"report", "kernel/disasm", "the instruction at fault"},

	{"report/reporttest", "report", "a report with everything in it"},
	{"report/reporttest", "kernel", "has one of all"},
	{"report/reporttest", "kernel/block", "has one of all"},
	{"report/reporttest", "kernel/disasm", "has one of all"},
	{"report/reporttest", "kernel/fs", "has one of all"},
	{"report/reporttest", "kernel/lock", "has one of all"},
	{"report/reporttest", "kernel/mm", "has one of all"},
	{"report/reporttest", "kernel/net", "has one of all"},
	{"report/reporttest", "kernel/sched", "has one of all"},
	{"report/reporttest", "kernel/stack", "has one of all"},

	{"reserve", "internal/host", "the sum begins with facts of the machine"},
	{"reserve", "internal/boot", "what modules take"},
	{"reserve", "internal/ui", "quantities in reasons"},
	{"load", "reserve", "whether there is room is the same arithmetic as how much to reserve"},
	{"after", "saved", "which crashes there are"},
	{"after", "internal/config", "hooks, the webhook, how many crashes stay"},
	{"after", "internal/sys", "who owns a hook, ending it and what it started, a lock"},
	{"after", "internal/ui", "sizes in words"},

	{"load", "internal/sys", "kexec_load"},
	{"load", "internal/ui", "hints in errors"},
	{"load", "internal/fdt", "the panic kernel gets an edited device tree"},
	{"load", "internal/host", "the plan is a pure function of the machine's facts"},
	{"load", "internal/seal", "the panic kernel can see whether it was loaded as planned"},
	{"internal/initramfs", "internal/kimage", "an initramfs comes in the same compressions as a kernel"},
	{"load", "internal/initramfs", "an initramfs that somebody else has made is checked first"},
	{"load", "internal/kimage", "what is loaded is checked first"},

	{"capture", "vmcore", "memory goes from one dump format into another"},
	{"capture", "kernel", "which pages matter stands in the kernel's struct pages"},

	{"crashenv", "internal/ui", "hints in errors, progress on the console"},
	{"crashenv", "internal/sys", "PID 1 mounts, loads modules, reboots"},
	{"crashenv", "internal/seal", "crash half: is the panic room as it was loaded?"},
	{"crashenv", "internal/fdt", "crash half: the seal lies in the device tree"},
	{"crashenv", "internal/host", "crash half: the dump's header is only in memory"},
	{"crashenv", "internal/boot", "host half: packs the initramfs"},
	{"crashenv", "internal/device", "host half finds the target's devices; crash half waits for them"},
	{"crashenv", "vmcore", "crash half opens /proc/vmcore"},
	{"crashenv", "kernel", "layouts are resolved on the healthy machine and used after the crash"},
	{"crashenv", "target", "crash half writes the dump there"},
	{"crashenv", "capture", "crash half saves the memory"},
	{"crashenv", "reserve", "host half knows what the environment needs"},
	{"crashenv", "report", "crash half leaves a report beside the dump"},

	{"setup", "internal/ui", "hints in errors"},
	{"setup", "internal/config", "what is set up depends on the targets"},
	{"status", "internal/ui", "sizes in words, hints in errors"},
	{"status", "internal/device", "a partition by its label"},
	{"status", "internal/network", "the addresses that load would find"},
	{"status", "target", "the room of directories"},
	{"status", "target/sshdir", "other machines are asked as the panic kernel would"},
	{"status", "target/nfs", "the same"},
	{"status", "target/partition", "what waits on a partition"},
	{"status", "internal/config", "the targets, and what a dump has"},
	{"status", "internal/host", "how many loads are left"},
	{"status", "load", "what is loaded and whether it is still right"},
	{"status", "saved", "the last crash"},
	{"status", "setup", "what setup would have made"},

	{"cmd/panicroom", "setup", "setup; status asks systemd"},
	{"cmd/panicroom", "status", "status"},
	{"crashenv", "internal/config", "host half: what the owner wants for targets"},
	{"crashenv", "internal/network", "host half records the way to other machines; crash half takes it"},
	{"crashenv", "target/sshdir", "crash half writes the dump to another machine"},
	{"crashenv", "target/partition", "crash half writes the dump to a partition"},

	{"internal/network", "internal/sys", "its error where there is no netlink"},
	{"internal/network", "internal/ui", "hints in errors"},
	{"target/nfs", "internal/ui", "hints of what to do on the server"},
	{"target/sshdir", "target", "implements one"},
	{"target/sshdir", "internal/ui", "hints of what to do about keys"},
	{"target/partition", "target", "implements one; what it has is unpacked into another"},
	{"target/partition", "internal/device", "a partition that holds something is refused"},
	{"target/partition", "internal/ui", "hints of what to do about such a partition"},

	{"cmd/panicroom", "internal/sys", "version and machine of the command itself"},
	{"cmd/panicroom", "internal/ui", "every word to a person or a pipe"},
	{"cmd/panicroom", "reserve", "reserve recommends; load refuses what is too small"},
	{"cmd/panicroom", "internal/bootloader", "reserve puts crashkernel= where it is read from"},
	{"cmd/panicroom", "internal/kexecline", "called as kexec, it reads the command lines of kexec-tools"},
	{"cmd/panicroom", "internal/dumpline", "called as makedumpfile, it reads the command lines of makedumpfile"},
	{"cmd/panicroom", "internal/host", "load reads the machine"},
	{"cmd/panicroom", "vmcore", "save, log and report open dumps"},
	{"cmd/panicroom", "capture", "convert saves a dump again"},
	{"cmd/panicroom", "kernel", "log prints the dead kernel's log"},
	{"cmd/panicroom", "target", "save writes to one"},
	{"cmd/panicroom", "saved", "list prints them"},
	{"cmd/panicroom", "after", "the boot after a crash"},
	{"cmd/panicroom", "internal/config", "what no flag says stands in the configuration"},
	{"cmd/panicroom", "inspect", "what people ask a crash, a verb each"},
	{"cmd/panicroom", "report", "report prints one"},
	{"cmd/panicroom", "load", "load, unload, crash"},
	{"cmd/panicroom", "internal/kimage", "inspect-image prints what one is"},
	{"cmd/panicroom", "internal/network", "load says how to get addresses"},
	{"cmd/panicroom", "target/sshdir", "target key makes one"},
	{"cmd/panicroom", "target/partition", "target init and unpack"},
	{"cmd/panicroom", "crashenv", "load builds the crash environment; as PID 1 the command is it"},
}

// foreign are the modules that are not ours and where each may be imported;
// "e2e" and "test" stand for everything below e2e/ and for tests anywhere.
var foreign = []struct{ module, from, because string }{
	{"golang.org/x/sys/unix", "internal/sys", "one package knows system calls, all others run anywhere"},
	{"github.com/spf13/cobra", "cmd/panicroom", "help, completion and flags as people know them"},
	{"github.com/spf13/pflag", "cmd/panicroom", "cobra's flags: which one is wrong, and how"},
	{"github.com/pelletier/go-toml/v2/unstable", "internal/config", "its parser tells where a key stands; its decoder does not, and weighs 180 KB more"},
	{"github.com/pelletier/go-toml/v2", "test", "the referee of what our configuration takes"},
	{"golang.org/x/term", "inspect", "lines that can be edited, as others have tried them on many terminals"},
	{"github.com/cavaliergopher/cpio", "internal/boot", "initramfs are newc cpio archives"},
	{"github.com/cilium/ebpf/btf", "test", "the referee of our BTF reader; it links os/exec, so it is nothing more"},
	{"github.com/klauspost/compress", "vmcore", "pages of kdump-compressed dumps"},
	{"golang.org/x/arch/riscv64/riscv64asm", "kernel/disasm", "the instructions of an architecture, kept up by those who compile for it"},
	{"github.com/anchore/go-lzo", "vmcore", "pages compressed with LZO are read"},
	{"github.com/anchore/go-lzo", "test", "the referee of our LZO encoder"},
	{"github.com/klauspost/compress", "internal/boot", "compressed initramfs and modules"},
	{"github.com/ulikunitz/xz", "internal/boot", "modules as Debian ships them"},
	{"github.com/klauspost/compress", "internal/kimage", "kernel images in zstd"},
	{"github.com/pierrec/lz4/v4", "internal/kimage", "kernel images in lz4's modern frame"},
	{"github.com/anchore/go-lzo", "internal/kimage", "kernel images in lzo; the container around the blocks is read here"},
	{"golang.org/x/crypto/ssh", "setup", "key pairs in the form of OpenSSH"},
	{"golang.org/x/crypto/ssh", "target/sshdir", "dumps on other machines"},
	{"github.com/pkg/sftp", "target/sshdir", "files on other machines"},
	{"github.com/vishvananda/netlink", "internal/network", "links, addresses and routes over netlink"},
	{"github.com/vishvananda/netlink", "e2e", "the network of machines that are crashed"},
	{"github.com/vishvananda/netns", "test", "networks of tests are in namespaces of their own"},
	{"github.com/insomniacslk/dhcp", "internal/network", "addresses from a server"},
	{"github.com/google/go-cmp", "test", "differences that can be read"},
	{"github.com/google/go-cmp", "internal/getopt/getopttest", "differences that can be read; only tests import it"},
	{"github.com/klauspost/compress", "test", "dumps made by hand; the referee of our zstd encoder"},
	{"github.com/anchore/go-lzo", "e2e", "dumps with LZO, written by an encoder of ours"},
	{"github.com/klauspost/compress", "e2e", "dumps read by a reader that shares nothing with ours"},
	{"github.com/cavaliergopher/cpio", "e2e", "initramfs of the machines that are crashed"},
	{"github.com/ulikunitz/xz", "test", "initramfs as distributions make them"},
	{"github.com/cavaliergopher/cpio", "test", "initramfs are read back"},
}

func TestImportsGoDown(t *testing.T) {
	allowed := map[[2]string]bool{}
	for _, e := range edges {
		if e.because == "" {
			t.Errorf("edges: %s -> %s has no reason", e.from, e.to)
		}
		if allowed[[2]string{e.from, e.to}] {
			t.Errorf("edges: %s -> %s stands twice", e.from, e.to)
		}
		allowed[[2]string{e.from, e.to}] = true
		if _, ok := floors[e.from]; !ok {
			t.Errorf("edges: %s has no floor", e.from)
		}
		if down, ok := floors[e.to]; !ok || down >= floors[e.from] {
			t.Errorf("edges: %s (floor %d) -> %s (floor %d) does not go down", e.from, floors[e.from], e.to, down)
		}
	}
	seen := map[[2]string]bool{}
	for _, f := range source(t).goFiles {
		for _, imp := range f.imports {
			to, ours := strings.CutPrefix(imp, module+"/")
			if !ours || to == f.pkg { // external tests import their own package
				continue
			}
			if f.pkg == "e2e" || strings.HasPrefix(f.pkg, "e2e/") {
				continue // the house is seen whole from outside
			}
			if strings.HasPrefix(to, "e2e/") || to == "e2e" {
				t.Errorf("%s imports %s: nothing in the house knows its end-to-end tests", f.path, to)
				continue
			}
			if f.test {
				// Tests may look sideways and at what is below their own
				// directory, never up.
				if floors[to] > floors[f.pkg] && !strings.HasPrefix(to, f.pkg+"/") {
					t.Errorf("%s (floor %d) imports %s (floor %d): tests do not look up either", f.path, floors[f.pkg], to, floors[to])
				}
				continue
			}
			edge := [2]string{f.pkg, to}
			if !allowed[edge] && !seen[edge] {
				t.Errorf("%s imports %s, which no line of edges in internal/house/edges_test.go allows; if it should:\n\t{%q, %q, \"the reason\"},",
					f.path, to, f.pkg, to)
			}
			seen[edge] = true
		}
	}
	for _, e := range edges {
		if !seen[[2]string{e.from, e.to}] {
			t.Errorf("edges: %s no longer imports %s: take the line out", e.from, e.to)
		}
	}
}

// A referee that shares code with what it judges repeats its mistakes.
func TestRefereesShareNothing(t *testing.T) {
	may := []string{"e2e/lab", "e2e/referee", "internal/ui"}
	for _, f := range source(t).goFiles {
		if f.pkg != "e2e/referee" && !strings.HasPrefix(f.pkg, "e2e/referee/") {
			continue
		}
		for _, imp := range f.imports {
			if to, ours := strings.CutPrefix(imp, module+"/"); ours && !slices.Contains(may, to) {
				t.Errorf("%s imports %s: referees share no code with what they judge", f.path, to)
			}
		}
	}
}

func TestEveryPackageHasAFloor(t *testing.T) {
	for _, pkg := range source(t).packages() {
		if pkg == "e2e" || strings.HasPrefix(pkg, "e2e/") || strings.HasPrefix(pkg, "tools") || strings.HasPrefix(pkg, "internal/house/") {
			continue
		}
		if _, ok := floors[pkg]; !ok {
			t.Errorf("package %s has no floor; give it one in internal/house/edges_test.go and in docs/architecture.md", pkg)
		}
		base := pkg[strings.LastIndex(pkg, "/")+1:]
		if slices.Contains([]string{"util", "utils", "common", "types", "helpers", "misc", "pkg"}, base) {
			t.Errorf("package %s: a package is named for what it provides", pkg)
		}
	}
}

func TestForeignModules(t *testing.T) {
	used := make([]bool, len(foreign))
	for _, f := range source(t).goFiles {
	imports:
		for _, imp := range f.imports {
			host, _, _ := strings.Cut(imp, "/")
			if !strings.Contains(host, ".") || imp == module || strings.HasPrefix(imp, module+"/") {
				continue // the standard library's, or ours
			}
			for i, a := range foreign {
				if imp != a.module && !strings.HasPrefix(imp, a.module+"/") {
					continue
				}
				switch {
				case a.from == f.pkg,
					a.from == "test" && f.test,
					a.from == "e2e" && strings.HasPrefix(f.pkg+"/", "e2e/"):
					used[i] = true
					continue imports
				}
			}
			t.Errorf("%s imports %s, which no line of foreign in internal/house/edges_test.go allows there", f.path, imp)
		}
	}
	for i, a := range foreign {
		if !used[i] {
			t.Errorf("foreign: %s is no longer imported by %s: take the line out", a.module, a.from)
		}
	}
}

// Packages of the standard library that are kept out of the source, because
// the crash binary would link them or because another package is their one
// place.
func TestStandardLibraryKeptOut(t *testing.T) {
	for _, rule := range []struct {
		std     string
		except  []string
		because string
	}{
		{"os/exec", []string{"internal/vm", "internal/house", "e2e"}, "the crash binary starts no programs but itself (os.StartProcess)"},
		{"net/http", []string{"after", "e2e"}, "3 MB of crash memory; the webhook needs it"},
		{"html/template", nil, "keeps every exported method of the program alive: 1.9 MB"},
		{"text/template", nil, "keeps every exported method of the program alive: 1.0 MB"},
		{"database/sql", nil, "no database in the crash room"},
		{"encoding/gob", nil, "not a format that anybody else reads"},
		{"io/ioutil", nil, "deprecated"},
		{"C", nil, "the binary is static"},
	} {
		for _, f := range source(t).goFiles {
			if f.test || !slices.Contains(f.imports, rule.std) {
				continue
			}
			if slices.ContainsFunc(rule.except, func(p string) bool { return f.pkg == p || strings.HasPrefix(f.pkg, p+"/") }) {
				continue
			}
			t.Errorf("%s imports %s: %s", f.path, rule.std, rule.because)
		}
	}
}

// Error numbers and signals are words; calls are internal/sys's.
func TestSyscallForItsWordsOnly(t *testing.T) {
	word := regexp.MustCompile(`^(E[A-Z0-9]+|SIG[A-Z0-9]+|Errno|Signal)$`)
	calls := []string{"internal/sys", "internal/vm"}
	tr := source(t)
	for _, f := range tr.goFiles {
		if !slices.Contains(f.imports, "syscall") || slices.Contains(calls, f.pkg) || strings.HasPrefix(f.pkg+"/", "e2e/") {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := sel.X.(*ast.Ident); ok && x.Name == "syscall" && x.Obj == nil && !word.MatchString(sel.Sel.Name) {
					t.Errorf("%s: syscall.%s: system calls are internal/sys's business", tr.fset.Position(sel.Pos()), sel.Sel.Name)
				}
			}
			return true
		})
	}
}
