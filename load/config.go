package load

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/panicroom-kdump/panicroom/internal/host"
	"github.com/panicroom-kdump/panicroom/internal/kimage"
)

// configOf is the configuration of a kernel: what is in the image, or else the
// file that distributions put beside it. nil where there is none.
func configOf(path string, image *kimage.Image) kimage.Config {
	if c := image.Config(); c != nil {
		return c
	}
	if image.Release == "" || filepath.Base(image.Release) != image.Release {
		return nil
	}
	for _, name := range []string{
		filepath.Join(filepath.Dir(path), "config-"+image.Release),
		filepath.Join("/usr/lib/modules", image.Release, "config"),
		filepath.Join("/boot", "config-"+image.Release),
	} {
		if text, err := os.ReadFile(name); err == nil {
			if c := kimage.ParseConfig(text); c != nil {
				return c
			}
		}
	}
	return nil
}

// unpackers are the options with which a kernel unpacks an initramfs
// (usr/Kconfig, 6.12), by the names of package kimage.
var unpackers = map[string]string{
	"gzip": "CONFIG_RD_GZIP", "bzip2": "CONFIG_RD_BZIP2", "lzma": "CONFIG_RD_LZMA", "xz": "CONFIG_RD_XZ",
	"lzo": "CONFIG_RD_LZO", "lz4": "CONFIG_RD_LZ4", "zstd": "CONFIG_RD_ZSTD",
}

// checkConfig checks that a kernel was built with what it will need. Of a kernel
// without a known configuration nothing is said.
func checkConfig(m *host.Machine, k *Kernel, purpose Purpose, initramfs bool, opts *Options) error {
	off := func(symbol string) bool {
		if k.Config == nil && k.Image.Release == m.Release {
			return m.Config[symbol] == "n"
		}
		return k.Config.Off(symbol)
	}
	release := k.Image.Release
	if purpose == ForCrash {
		for _, symbol := range []string{"CONFIG_CRASH_DUMP", "CONFIG_PROC_VMCORE"} {
			if off(symbol) {
				return &RuleError{Rule: RuleImage,
					Detail: fmt.Sprintf("kernel %s was built without %s: as a panic kernel it would not see the dead kernel's memory", release, symbol),
					Remedy: []string{fmt.Sprintf("name a panic kernel with %s=y: panicroom load --kernel FILE; Debian's have it", symbol), forceIt}}
			}
		}
	}
	if !initramfs {
		return nil
	}
	if off("CONFIG_BLK_DEV_INITRD") {
		return &RuleError{Rule: RuleImage,
			Detail: fmt.Sprintf("kernel %s was built without CONFIG_BLK_DEV_INITRD: it does not look at an initramfs", release),
			Remedy: []string{"name a kernel with CONFIG_BLK_DEV_INITRD=y: panicroom load --kernel FILE; Debian's have it", forceIt}}
	}
	for _, codec := range opts.Codecs {
		if symbol := unpackers[codec]; symbol != "" && off(symbol) {
			return &RuleError{Rule: RuleInitramfs,
				Detail: fmt.Sprintf("the initramfs is compressed with %s, and kernel %s was built without %s: it cannot unpack it", codec, release, symbol),
				Remedy: []string{"make it anew with another compression, on Debian: COMPRESS= in /etc/initramfs-tools/initramfs.conf, update-initramfs -u -k " + release,
					fmt.Sprintf("or name a kernel with %s=y: panicroom load --kernel FILE", symbol), forceIt}}
		}
	}
	return nil
}

const forceIt = "if the configuration is not the kernel's: panicroom load --force"
