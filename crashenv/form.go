package crashenv

import (
	"fmt"

	"github.com/panicroom-kdump/panicroom/capture"
	"github.com/panicroom-kdump/panicroom/vmcore"
)

// Form is how a dump is written. The zero value is kdump-compressed with zstd.
type Form struct {
	Format      capture.Format `json:"format,omitempty"`      // "" is capture.FormatKdump
	Compression string         `json:"compression,omitempty"` // "" is zstd
}

// Check says what is wrong with it. Raw memory is no form for a dump that a
// report is made of.
func (f Form) Check() error {
	if f.Format != "" && f.Format != capture.FormatKdump && f.Format != capture.FormatELF {
		return fmt.Errorf("format %q is neither %q nor %q", f.Format, capture.FormatKdump, capture.FormatELF)
	}
	_, err := f.compression()
	return err
}

func (f Form) compression() (vmcore.Compression, error) {
	if f.Compression == "" {
		return vmcore.CompressionZstd, nil
	}
	return vmcore.ParseCompression(f.Compression)
}
