package dumpline

// HelpText is what makedumpfile --help prints.
func HelpText() string {
	return `Usage: makedumpfile [-d LEVEL] [-c|-l|-p|-z|-E] [OPTION]... VMCORE DUMPFILE
       makedumpfile -F [-d LEVEL] [-c|-l|-p|-z|-E] [OPTION]... VMCORE
       makedumpfile --split [OPTION]... VMCORE DUMPFILE DUMPFILE...
       makedumpfile -R DUMPFILE
       makedumpfile --reassemble DUMPFILE... DUMPFILE
       makedumpfile --dump-dmesg [--partial-dmesg] VMCORE LOGFILE
       makedumpfile --dump-dmesg -F VMCORE
       makedumpfile --mem-usage /proc/kcore

Make a smaller dump of a dump: leave pages out, compress the others. This is
panicroom, called by the name and with the options of makedumpfile. VMCORE is a
dump in any format, of a riscv64 kernel for levels above 1; "panicroom convert"
and "panicroom log" do more.
` + Program().List() + `
Exit status: 0 done; 1 not, or incomplete; 2 -i is of another kernel.
`
}
