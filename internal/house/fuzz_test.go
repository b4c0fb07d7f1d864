package house

import (
	"go/ast"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// parsers are what reads bytes that nobody vouches for. Each has a fuzz target
// with seeds in its package. decl is a top-level name that shows the parser to
// be there.
var parsers = []struct{ what, pkg, decl, fuzz string }{
	{"flattened device trees", "internal/fdt", `^Parse$`, `^FuzzParse$`},
	{"seals", "internal/seal", `^Read$`, `^FuzzRead$`},
	{"kernel images", "internal/kimage", `^Inspect$`, `^FuzzInspect$`},
	{"vmlinux", "internal/kimage", `^segment$`, `^FuzzVmlinux$`},
	{"unified kernel images", "internal/kimage", `^Unified$`, `^FuzzUKI$`},
	{"zboot kernels", "internal/kimage", `^readPE$`, `^FuzzZBoot$`},
	{"lzop containers", "internal/kimage", `^newLZOP$`, `^FuzzLZOP$`},
	{"xz containers", "internal/kimage", `^newXZ$`, `^FuzzXZ$`},
	{"configurations in kernels", "internal/kimage", `^ParseConfig$`, `^FuzzConfig$`},
	{"LZMA", "internal/kimage", `^newLZMA$`, `^FuzzLZMA$`},
	{"LZMA2", "internal/kimage", `^newLZMA2$`, `^FuzzLZMA2$`},
	{"zstd to memory", "internal/kimage", `^zstdStream$`, `^FuzzZstd$`},
	{"lz4's legacy frame", "internal/kimage", `^newLZ4Legacy$`, `^FuzzLZ4$`},
	{"initramfs", "internal/initramfs", `^Check$`, `^FuzzCheck$`},
	{"ELF cores", "vmcore", `^(New|Open)$`, `^FuzzELF$`},
	{"ELF notes", "vmcore", `^Note$`, `^FuzzNotes$`},
	{"kdump headers", "vmcore", `(?i)kdump`, `^FuzzKdump$`},
	{"flattened dumps", "vmcore", `^Rearrange$`, `^FuzzFlattened$`},
	{"what the deflate encoder writes", "internal/deflate", `^Encoder$`, `^FuzzAppendZlib$`},
	{"what the LZO encoder writes", "internal/lzo", `^Encoder$`, `^FuzzAppend$`},
	{"/proc/kcore as a dump", "vmcore", `^NewLive$`, `^FuzzLive$`},
	{"what the zstd encoder writes", "internal/zstdpage", `^Encoder$`, `^FuzzAppend$`},
	{"vmcoreinfo", "kernel", `(?i)^parsevmcoreinfo$`, `^FuzzVMCoreInfo$`},
	{"the printk ring", "kernel", `^LogRecord$`, `^FuzzLog$`},
	{"page tables", "kernel", `^Arch$`, `^FuzzPageTables$`},
	{"kallsyms", "kernel", `^Symbol$`, `^FuzzKallsyms$`},
	{"BTF", "kernel", `^LayoutFromBTF$`, `^FuzzLayoutFromBTF$`},
	{"all types of a BTF", "kernel/btf", `^Parse$`, `^FuzzParse$`},
	{"objects by their types", "kernel/value", `^Reader$`, `^FuzzRead$`},
	{"lines of the shell", "inspect", `^Shell$`, `^FuzzEval$`},
	{"layouts", "kernel", `^Layout$`, `^FuzzParseLayout$`},
	{"sections of memory", "kernel", `^MemMap$`, `^FuzzSections$`},
	{"struct pages", "kernel", `^PageLayout$`, `^FuzzPageDecode$`},
	{"the list of modules", "kernel", `^Module$`, `^FuzzModules$`},
	{"locks", "kernel/lock", `^Find$`, `^FuzzFind$`},
	{"trees of the kernel", "kernel", `^MapleEntry$`, `^FuzzTrees$`},
	{"tasks and run queues", "kernel/sched", `^Tasks$`, `^FuzzSched$`},
	{"mounts and paths", "kernel/fs", `^Mounts$`, `^FuzzMounts$`},
	{"disks and requests", "kernel/block", `^Disks$`, `^FuzzDisks$`},
	{"network interfaces", "kernel/net", `^Interfaces$`, `^FuzzInterfaces$`},
	{"modules.dep", "internal/boot", `^ModuleTree$`, `^FuzzModules$`},
	{"modules, for what they take", "internal/boot", `^ModuleSize$`, `^FuzzModuleSize$`},
	{"files of boot loaders", "internal/bootloader", `^Make$`, `^FuzzEdit$`},
	{"values of crashkernel=", "reserve", `^Size$`, `^FuzzSize$`},
	{"superblocks", "internal/device", `^Identify$`, `^FuzzIdentify$`},
	{"uevents", "internal/device", `^Wait$`, `^FuzzParseEvent$`},
	{"mountinfo", "internal/device", `^FindMount$`, `^FuzzParseMounts$`},
	{"/proc/iomem", "internal/host", `^Read$`, `^FuzzParseIomem$`},
	{"/proc/kcore", "internal/host", `(?i)kcore`, `^FuzzKcore$`},
	{"memory maps and device trees of machines", "load", `^Make$`, `^FuzzMake$`},
	{"plans", "crashenv", `^Plan$`, `^FuzzParsePlan$`},
	{"command lines of kexec", "internal/kexecline", `^Parse$`, `^FuzzParse$`},
	{"command lines of makedumpfile", "internal/dumpline", `^Parse$`, `^FuzzParse$`},
	{"configurations", "internal/config", `^Parse$`, `^FuzzParse$`},
	{"addresses of targets", "internal/config", `^ParseSSH$`, `^FuzzAddresses$`},
	{"signatures on disks", "internal/device", `^Holds$`, `^FuzzHolds$`},
	{"answers of DHCP servers", "internal/network", `^parseLease$`, `^FuzzParseLease$`},
	{"partitions for crashes", "target/partition", `^readTable$`, `^FuzzOpen$`},
	{"answers of NFS servers", "target/nfs", `^parseCompound$`, `^FuzzAnswer$`},
	{"what was told of crashes", "after", `^parseState$`, `^FuzzState$`},
	{"saved crashes", "saved", `^List$`, `^FuzzParse$`},
	{"manifests", "crashenv", `^Manifest$`, `^FuzzParseManifest$`},
}

func TestEveryParserIsFuzzed(t *testing.T) {
	tr := source(t)
	for _, p := range parsers {
		decl, fuzz := regexp.MustCompile(p.decl), regexp.MustCompile(p.fuzz)
		there := false
		target := ""
		for _, f := range tr.goFiles {
			if f.pkg != p.pkg {
				continue
			}
			for _, d := range f.syntax.Decls {
				switch d := d.(type) {
				case *ast.FuncDecl:
					if d.Recv == nil && !f.test && decl.MatchString(d.Name.Name) {
						there = true
					}
					if d.Recv == nil && f.test && fuzz.MatchString(d.Name.Name) {
						target = d.Name.Name
						if !seeded(d, p.pkg) {
							t.Errorf("%s: %s has no seeds: no f.Add and no testdata/fuzz/%s", f.path, target, target)
						}
					}
				case *ast.GenDecl:
					for _, s := range d.Specs {
						if ts, ok := s.(*ast.TypeSpec); ok && !f.test && decl.MatchString(ts.Name.Name) {
							there = true
						}
					}
				}
			}
		}
		switch {
		case !there:
			t.Errorf("%s: package %s declares nothing like %s; if the parser has another name now, say so here", p.what, p.pkg, p.decl)
		case target == "":
			t.Errorf("%s: package %s has no fuzz target like %s", p.what, p.pkg, p.fuzz)
		}
	}
}

// seeded tells whether a fuzz target starts from something: a call of Add, or
// of a helper that is handed f, or files.
func seeded(fn *ast.FuncDecl, pkg string) bool {
	if files, err := os.ReadDir(filepath.Join(root, filepath.FromSlash(pkg), "testdata", "fuzz", fn.Name.Name)); err == nil && len(files) > 0 {
		return true
	}
	if len(fn.Type.Params.List) != 1 || len(fn.Type.Params.List[0].Names) != 1 {
		return false
	}
	f := fn.Type.Params.List[0].Names[0].Name
	found := false
	ast.Inspect(fn.Body, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		if sel, ok := call.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Add" {
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == f {
				found = true
			}
		}
		if _, ok := call.Fun.(*ast.Ident); ok {
			for _, a := range call.Args {
				if x, ok := a.(*ast.Ident); ok && x.Name == f {
					found = true
				}
			}
		}
		return true
	})
	return found
}

// Fuzz targets that exist are runnable one by one: their names do not collide
// below one package, and `make fuzz` finds them by listing.
func TestFuzzTargetsHaveSeeds(t *testing.T) {
	for _, f := range source(t).goFiles {
		for _, d := range f.syntax.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if ok && f.test && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Fuzz") && !seeded(fn, f.pkg) {
				t.Errorf("%s: %s has no seeds", f.path, fn.Name.Name)
			}
		}
	}
}
