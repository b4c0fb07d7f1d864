package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/capture"
	"github.com/panicroom-kdump/panicroom/crashenv"
	"github.com/panicroom-kdump/panicroom/internal/ui"
	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// conversion is what convert was asked for.
type conversion struct {
	in      []string
	out     string
	opts    capture.Options
	flatten bool
	split   int
	stats   bool
}

func newConvert(c *command) *cobra.Command {
	var (
		v                   conversion
		format, compression string
		memory              string
	)
	cmd := &cobra.Command{
		Use:   "convert IN... OUT",
		Short: "filter a dump, compress it anew, change its format",
		Long: `Write a dump again, in another format or compression, or with less in it. IN is
a dump in any format, also flattened, or all files of a split dump, or the
directory of a saved crash. OUT must not exist; while it is written, and if
something is missing in the end, its name ends in "-incomplete". With "-" a
flattened dump goes to standard output.

Formats are kdump (kdump-compressed), elf, and raw: memory as it lies in the
machine, from its lowest address on. Compressions are zstd, lzo, snappy, zlib
and none. --flatten writes a dump that can go through a pipe; panicroom reads it
as it is, and makedumpfile -R takes it apart. --split writes OUT.1, OUT.2, …

` + levelHelp,
		Example: `  panicroom convert vmcore.elf vmcore
  panicroom convert --level 31 --compress lzo vmcore small
  panicroom convert --format elf vmcore vmcore.elf
  panicroom convert vmcore - | ssh host 'cat > vmcore.flat'
  panicroom convert part.1 part.2 part.3 vmcore`,
		Args: args(cobra.MinimumNArgs(2)),
		RunE: func(cmd *cobra.Command, args []string) error {
			v.in, v.out = args[:len(args)-1], args[len(args)-1]
			if v.opts.Threads < 0 || v.opts.Share < 0 {
				return usage(cmd, errors.New("numbers are not below 0"))
			}
			var err error
			if v.opts.MemLimit, err = memLimit(cmd, memory); err != nil {
				return err
			}
			v.opts.Format = capture.Format(format)
			if !slices.Contains(capture.Formats, v.opts.Format) {
				return usage(cmd, fmt.Errorf("--format %q is none of %q", format, capture.Formats))
			}
			if v.opts.Compression, err = vmcore.ParseCompression(compression); err != nil {
				return usage(cmd, fmt.Errorf("--compress: %w", err))
			}
			v.flatten = v.flatten || v.out == "-"
			switch {
			case v.split < 1:
				return usage(cmd, fmt.Errorf("--split %d is no number of files", v.split))
			case v.split > 1 && (v.flatten || v.opts.Format != capture.FormatKdump):
				return usage(cmd, errors.New("only a dump in the format kdump, not flattened, can be split"))
			case v.out == "-" && c.json:
				return usage(cmd, errors.New("--json and the dump would both go to standard output"))
			}
			return v.run(cmd.Context(), c)
		},
	}
	f := cmd.Flags()
	f.StringVar(&format, "format", string(capture.FormatKdump), "kdump, elf or raw: `F`")
	f.StringVar(&compression, "compress", vmcore.CompressionZstd.String(), "compress pages with `C`")
	f.Var(levelFlag{&v.opts.Level}, "level", "what is saved")
	f.IntVar(&v.opts.Threads, "threads", 0, "compress with `N` threads (default: one per CPU)")
	f.StringVar(&memory, "mem-limit", "", memLimitFlag)
	f.IntVar(&v.opts.Share, "share", 0, "let pages share data with the `N` stored last")
	f.BoolVar(&v.flatten, "flatten", false, "write a flattened dump")
	f.IntVar(&v.split, "split", 1, "write `N` files")
	f.BoolVar(&v.stats, "stats", false, "say how many pages there are of each class")
	return cmd
}

// converted is what convert says to programs.
type converted struct {
	Paths []string `json:"paths"`
	*capture.Result
}

func (v *conversion) run(ctx context.Context, c *command) error {
	crashenv.LimitHeap(cmp.Or(v.opts.MemLimit, capture.DefaultMemLimit))
	d, err := openDump(v.in)
	if err != nil {
		return err
	}
	defer d.Close()
	// A dump that says too little of its kernel is converted whole.
	k, kerr := kernel.Open(d, nil)
	if kerr != nil {
		k = nil
		fmt.Fprintf(c.stderr, "note: %v\n", kerr)
	}
	out, err := v.create(c.stdout)
	if err != nil {
		return err
	}
	opts := v.opts
	opts.WriteOnce = v.flatten
	for _, f := range out[1:] {
		opts.Parts = append(opts.Parts, f)
	}
	bar := c.progress("converting")
	var last capture.Progress
	opts.Progress = func(p capture.Progress) {
		last = p
		bar.Update(p.Done, p.Total, p.String())
	}
	res, err := capture.Run(ctx, d, k, out[0], opts)
	bar.Done(last.Done, last.Total, fmt.Sprintf("%d pages", last.Pages))
	if res == nil {
		return errors.Join(err, out.abandon())
	}
	paths, cerr := out.close(res.Complete)
	if cerr != nil {
		return errors.Join(err, cerr)
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %w", strings.Join(paths, ", "), crashenv.ErrIncomplete, err)
	}
	if c.json {
		enc := json.NewEncoder(c.stdout)
		enc.SetIndent("", "  ")
		return enc.Encode(converted{paths, res})
	}
	if v.stats {
		writeStats(c.stderr, res)
	}
	return nil
}

// openDump opens what a person names as a dump.
func openDump(in []string) (*vmcore.Dump, error) {
	first, err := dumpIn(in[0])
	if err != nil {
		return nil, err
	}
	d, err := vmcore.Open(first, in[1:]...)
	return d, noDump(err)
}

// writeStats says how many pages there are of each class, and what was done.
func writeStats(w io.Writer, res *capture.Result) {
	row := func(n uint64, what string) { fmt.Fprintf(w, "%12d pages %s\n", n, what) }
	p := res.Pages
	row(p.Total, "in the machine's memory")
	for _, class := range slices.SortedFunc(maps.Keys(res.Classes), func(a, b string) int {
		return cmp.Or(-cmp.Compare(res.Classes[a], res.Classes[b]), cmp.Compare(a, b))
	}) {
		row(res.Classes[class], "of class "+class)
	}
	if p.Absent > 0 {
		row(p.Absent, "not in what was converted")
	}
	if p.NoRoom > 0 {
		row(p.NoRoom, "left out for want of room")
	}
	if p.Unreadable > 0 {
		row(p.Unreadable, "unreadable")
	}
	row(p.Saved, fmt.Sprintf("saved, in %s", ui.Bytes(uint64(res.Bytes))))
	row(p.Zero, "of them nothing but zeros")
	if res.Why != "" {
		fmt.Fprintf(w, "level %s in place of %s: %s\n", capture.LevelName(res.Used), capture.LevelName(res.Level), res.Why)
	}
}

// outputs are the files that convert writes.
type outputs []*output

// output is one file, which has its name when it is complete.
type output struct {
	path string // "" for standard output
	file *os.File
	flat *vmcore.Flattener
	buf  *bufio.Writer // below flat
}

const incompleteSuffix = "-incomplete"

func (v *conversion) create(stdout io.Writer) (outputs, error) {
	if v.out == "-" {
		o := &output{}
		return outputs{o}, o.flatten(stdout)
	}
	var all outputs
	for i := range v.split {
		path := v.out
		if v.split > 1 {
			path = fmt.Sprintf("%s.%d", v.out, i+1)
		}
		o, err := createOutput(path)
		if err != nil {
			return nil, errors.Join(err, all.abandon())
		}
		all = append(all, o)
		if v.flatten {
			if err := o.flatten(o.file); err != nil {
				return nil, errors.Join(err, all.abandon())
			}
		}
	}
	return all, nil
}

func createOutput(path string) (*output, error) {
	if err := absent(path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path+incompleteSuffix, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		err = ui.Hint(err, "it is of a conversion that was cut short, or that goes on; remove it if not")
	}
	if err != nil {
		return nil, err
	}
	return &output{path: path, file: f}, nil
}

func absent(path string) error {
	_, err := os.Lstat(path)
	switch {
	case err == nil:
		return ui.Hint(fmt.Errorf("%s: %w", path, fs.ErrExist), "name a file that does not exist: no dump is overwritten")
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return err
}

// flatten makes what is written go to w in the flattened format.
func (o *output) flatten(w io.Writer) error {
	o.buf = bufio.NewWriterSize(w, 64<<10)
	var err error
	o.flat, err = vmcore.NewFlattener(o.buf)
	return err
}

// WriteAt is io.WriterAt.
func (o *output) WriteAt(p []byte, off int64) (int, error) {
	if o.flat != nil {
		return o.flat.WriteAt(p, off)
	}
	return o.file.WriteAt(p, off)
}

// Sync is capture.File's.
func (o *output) Sync() error {
	if o.flat == nil {
		return o.file.Sync()
	}
	return nil // ends in close
}

// close ends all files and gives the complete ones their names.
func (all outputs) close(complete bool) (paths []string, err error) {
	for _, o := range all {
		if o.flat != nil {
			err = errors.Join(err, o.flat.Close(), o.buf.Flush())
		}
		if o.file != nil {
			err = errors.Join(err, o.file.Sync(), o.file.Close())
		}
	}
	for _, o := range all {
		if o.file == nil {
			continue
		}
		path := o.path + incompleteSuffix
		if complete && err == nil {
			// Whoever made a file of this name meanwhile keeps it.
			if err = absent(o.path); err == nil {
				err = os.Rename(path, o.path)
				path = o.path
			}
		}
		paths = append(paths, path)
	}
	return paths, err
}

// abandon takes the files away: nothing was saved.
func (all outputs) abandon() error {
	var errs []error
	for _, o := range all {
		if o.file != nil {
			errs = append(errs, o.file.Close(), os.Remove(o.file.Name()))
		}
	}
	return errors.Join(errs...)
}
