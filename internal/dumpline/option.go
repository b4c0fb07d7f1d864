package dumpline

import "github.com/panicroom-kdump/panicroom/internal/getopt"

// Compatible is the release of makedumpfile whose command lines are understood.
const Compatible = "1.7.8"

// The groups of options beside those of getopt.
const (
	Asking  getopt.Group = "Questions, which write nothing"
	Acting  getopt.Group = "What to do, if not to make a dump"
	Shaping getopt.Group = "What the dump is like"
	Manner  getopt.Group = "How"
)

// Program is makedumpfile with all options that are known.
func Program() *getopt.Program {
	return &getopt.Program{
		Name:    "makedumpfile",
		Options: table,
		Groups:  []getopt.Group{Asking, Acting, Shaping, Manner, getopt.NoEffect, getopt.Without},
	}
}

// Names of options that the code asks for.
const (
	optHelp       = "--help"
	optVersion    = "-v"
	optCheck      = "--check-params"
	optMemUsage   = "--mem-usage"
	optDmesg      = "--dump-dmesg"
	optPartial    = "--partial-dmesg"
	optRearrange  = "-R"
	optReassemble = "--reassemble"
	optSplit      = "--split"
	optZlib       = "-c"
	optLZO        = "-l"
	optSnappy     = "-p"
	optZstd       = "-z"
	optELF        = "-E"
	optLevel      = "-d"
	optLimit      = "-L"
	optFlatten    = "-F"
	optForce      = "-f"
	optInfo       = "-i"
	optThreads    = "--num-threads"
	optMessages   = "--message-level"
	optStats      = "--show-stats"
	optDryRun     = "--dry-run"
	optDebug      = "-D"
	optVtop       = "--vtop"
)

// Reasons that several options share.
const (
	noXen    = "it is for dumps of a Xen hypervisor, which panicroom knows nothing of"
	noErase  = "nothing is erased within pages here, and a dump with the secrets still in it would look as if it were"
	noBitmap = "what is kept in memory of a dump has the same size whatever the size of the machine"
	leaveOut = "leave it out"
)

var table = []getopt.Option{
	{Long: "help", Short: 'h', Group: Asking, Help: "print this text"},
	{Short: 'v', Group: Asking, Help: "print the version of makedumpfile whose command lines are understood, panicroom's own, and the compressions"},
	{Long: "check-params", Group: Asking, Help: "only find out whether the command line is understood: exit with 0 if it is, with 1 if not"},
	{Long: "mem-usage", Group: Asking, Help: "count the pages of the running machine by what they are used for; VMCORE is /proc/kcore"},
	{Long: "vtop", Value: "ADDR", Group: Asking, Help: "print the physical address of a virtual address of the dead kernel, then go on"},

	{Long: "dump-dmesg", Group: Acting, Help: "write the dead kernel's log to LOGFILE, with -F to standard output"},
	{Long: "partial-dmesg", Group: Acting, Help: "with --dump-dmesg: only what was logged after the last dmesg --clear"},
	{Short: 'R', Group: Acting, Help: "read a flattened dump from standard input and write the dump that it carries to DUMPFILE"},
	{Long: "reassemble", Group: Acting, Help: "put the parts of a split dump together"},

	{Short: 'd', Value: "LEVEL", Group: Shaping, Help: "leave the sum of these pages out: 1 zero pages, 2 cache, 4 all cache, 8 memory of programs, 16 free pages. Of a list, like 1,31, the next level is tried when the dump does not fit"},
	{Short: 'L', Value: "SIZE", Group: Shaping, Help: "the largest size of a file in bytes, or with K, M, G, T behind: beyond it the next level of -d is tried, and after the last the dump ends incomplete"},
	{Short: 'c', Group: Shaping, Help: "compress pages with zlib. Of -c, -l, -p and -z the last counts; without them pages are not compressed"},
	{Short: 'l', Group: Shaping, Help: "compress pages with LZO"},
	{Short: 'p', Group: Shaping, Help: "compress pages with snappy"},
	{Short: 'z', Group: Shaping, Help: "compress pages with zstd"},
	{Short: 'E', Group: Shaping, Help: "write an ELF core, without compression"},
	{Short: 'F', Group: Shaping, Help: "write a flattened dump to standard output; messages go to standard error"},
	{Long: "split", Group: Shaping, Help: "write the dump to several files, one for each DUMPFILE"},

	{Short: 'f', Group: Manner, Help: "write over DUMPFILE if it exists"},
	{Short: 'i', Value: "FILE", Group: Manner, Help: "a VMCOREINFO, looked at where the dump has none; exit with 2 if it is of another release than the dump"},
	{Long: "num-threads", Value: "N", Group: Manner, Help: "compress with N threads; without it, or with 0, with one per CPU"},
	{Long: "message-level", Value: "SUM", Group: Manner, Help: "print the sum of these messages: 1 progress, 2 common ones, 8 debugging, 16 a report on pages; 7 if it is not said. Errors, 4, are always printed"},
	{Long: "show-stats", Group: Manner, Help: "print a report on pages, as 16 in --message-level"},
	{Short: 'D', Group: Manner, Help: "print debugging messages, as 8 in --message-level"},
	{Long: "dry-run", Group: Manner, Help: "do all the work and write nothing"},

	{Short: 'x', Value: "FILE", Group: getopt.NoEffect, Support: getopt.Ignored,
		Why: "what debuginfo would tell stands in the dump itself"},
	{Short: 'b', Value: "ORDER", Group: getopt.NoEffect, Support: getopt.Ignored,
		Why: "pages are written in pieces of up to 4 MiB as they come from the compressors"},
	{Long: "cyclic-buffer", Value: "KB", Group: getopt.NoEffect, Support: getopt.Ignored, Why: noBitmap},
	{Long: "non-cyclic", Group: getopt.NoEffect, Support: getopt.Ignored, Elsewhere: "older releases", Why: noBitmap},
	{Long: "work-dir", Value: "DIR", Group: getopt.NoEffect, Support: getopt.Ignored,
		Why: "no file is needed beside the dump"},
	{Long: "non-mmap", Group: getopt.NoEffect, Support: getopt.Ignored,
		Why: "a page that cannot be mapped or read costs that page and nothing else, and read(2) takes many times as long"},
	{Long: "splitblock-size", Value: "KB", Group: getopt.NoEffect, Support: getopt.Ignored,
		Why: "the parts of a split dump get about the same number of pages each"},

	{Short: 'g', Value: "FILE", Group: getopt.Without, Support: getopt.Refused,
		Why:     "the kernel itself puts VMCOREINFO into every dump, since 2.6.24, and nothing here reads debuginfo",
		Instead: "make dumps without -i"},
	{Short: 'e', Group: getopt.Without, Support: getopt.Refused,
		Why:     "it leaves page structs out, and no kernel but that of x86_64 is known to be readable then",
		Instead: leaveOut},
	{Short: 'X', Group: getopt.Without, Support: getopt.Refused, Why: noXen, Instead: leaveOut},
	{Long: "xen-syms", Value: "FILE", Group: getopt.Without, Support: getopt.Refused, Why: noXen, Instead: leaveOut},
	{Long: "xen-vmcoreinfo", Value: "FILE", Group: getopt.Without, Support: getopt.Refused, Why: noXen, Instead: leaveOut},
	{Long: "xen_phys_start", Value: "ADDR", Group: getopt.Without, Support: getopt.Refused, Why: noXen, Instead: leaveOut},
	{Long: "config", Value: "FILE", Group: getopt.Without, Support: getopt.Refused, Why: noErase,
		Instead: "leave the memory of programs out, with -d 31, and look through the rest before you hand it on"},
	{Long: "eppic", Value: "FILE", Group: getopt.Without, Support: getopt.Refused, Why: noErase,
		Instead: "leave the memory of programs out, with -d 31, and look through the rest before you hand it on"},
	{Long: "extension", Value: "FILE", Group: getopt.Without, Support: getopt.Refused, Elsewhere: "its git",
		Why:     "it loads code for makedumpfile's own process, and one static binary loads none",
		Instead: "choose pages with -d"},
	{Long: "diskset", Value: "FILE", Group: getopt.Without, Support: getopt.Refused,
		Why:     "it is for dumps that the firmware of some x86_64 servers makes (sadump)",
		Instead: leaveOut},
}
