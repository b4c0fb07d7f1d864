package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/panicroom-kdump/panicroom/internal/kimage"
	"github.com/panicroom-kdump/panicroom/internal/ui"
)

func newInspectImage(c *command) *cobra.Command {
	var opts kimage.Options
	cmd := &cobra.Command{
		Use:   "inspect-image FILE",
		Short: "what a kernel image is, and what it is fit for",
		Long: `Say what a kernel image is, as load would read it: its form, what it is packed
in, the memory it takes, its version, and which system call takes it. The name
of the file plays no part. What cannot be loaded is refused with the reason.

Recognised are the flat Image and the vmlinux of riscv64, each also compressed
(gzip, xz, lzma, bzip2, lz4, lzo, zstd), in an EFI zboot program or in a unified
kernel image.`,
		Example: `  panicroom inspect-image /boot/vmlinux-$(uname -r)
  panicroom inspect-image --json vmlinuz.efi | jq .image.release`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(_ *cobra.Command, args []string) error {
			img, err := kimage.Open(args[0], &opts)
			if err != nil {
				return err
			}
			if c.json {
				enc := json.NewEncoder(c.stdout)
				enc.SetIndent("", "  ")
				return enc.Encode(inspectedImage{args[0], img, img.Fit()})
			}
			return writeImage(c.stdout, args[0], img, c.width())
		},
	}
	cmd.Flags().BoolVar(&opts.Force, "force", false, "describe a vmlinux without its relocations too")
	return cmd
}

// inspectedImage is what inspect-image says to programs.
type inspectedImage struct {
	Path  string        `json:"path"`
	Image *kimage.Image `json:"image"`
	Fit   kimage.Fit    `json:"fit"`
}

// writeImage is the same for people.
func writeImage(w io.Writer, path string, img *kimage.Image, width int) error {
	const indent = 17
	var b strings.Builder
	line := func(name, format string, args ...any) {
		b.WriteString(hang(name, fmt.Sprintf(format, args...), indent, width))
	}
	line("file", "%s", path)
	line("form", "%s, for %v", img.Form(), img.Machine)
	if img.Release != "" {
		line("release", "%s", img.Release)
		line("banner", "%s", img.Banner)
	} else {
		line("release", "not found in it")
	}
	line("memory", "%s (%d bytes), of which %s are data", ui.Bytes(img.ImageSize), img.ImageSize, ui.Bytes(img.FileSize))
	switch img.Relocations {
	case kimage.RelocationsFixed:
		line("relocations", "not a relocatable kernel")
	case kimage.RelocationsPresent:
		line("relocations", "a relocatable kernel, and they are there")
	case kimage.RelocationsStripped:
		line("relocations", "a relocatable kernel, and they are missing")
	case kimage.RelocationsUnknown:
		line("relocations", "a flat Image has them if it needs them")
	}
	if u := img.Unified; u != nil {
		if u.Uname != "" {
			line("UKI uname", "%s", u.Uname)
		}
		if u.Cmdline != "" {
			line("UKI command line", "%s", u.Cmdline)
		}
		if u.InitrdSize > 0 {
			line("UKI initrd", "%s", ui.Bytes(u.InitrdSize))
		}
		if u.DTBSize > 0 {
			line("UKI device tree", "%s", ui.Bytes(u.DTBSize))
		}
	}
	fit := img.Fit()
	for _, use := range []struct {
		call string
		kimage.Use
	}{{"kexec_load", fit.KexecLoad}, {"kexec_file_load", fit.KexecFileLoad}} {
		verdict := "no"
		switch {
		case use.AsIs != nil:
			verdict = fmt.Sprintf("yes, the file itself from kernel %v on", use.AsIs)
		case use.Fit:
			verdict = "yes"
		}
		line(use.call, "%s: %s", verdict, use.Why)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// hang sets text beside a name, in lines of width columns. Words that are
// longer stay whole: they are there to be copied.
func hang(name, text string, indent, width int) string {
	var b strings.Builder
	at := indent
	fmt.Fprintf(&b, "%-*s", indent, name)
	// Text out of a foreign file is not to move the cursor.
	text = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, text)
	for i, word := range strings.Fields(text) {
		if i > 0 {
			if at+1+len(word) > width {
				b.WriteString("\n" + strings.Repeat(" ", indent))
				at = indent
			} else {
				b.WriteByte(' ')
				at++
			}
		}
		b.WriteString(word)
		at += len(word)
	}
	return b.String() + "\n"
}
