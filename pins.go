//go:build pins

package panicroom

import (
	_ "github.com/cavaliergopher/cpio"
	_ "github.com/cilium/ebpf/btf"
	_ "github.com/google/go-cmp/cmp"
	_ "github.com/klauspost/compress/zstd"
	_ "github.com/moby/sys/mountinfo"
	_ "github.com/rogpeppe/go-internal/testscript"
	_ "github.com/spf13/cobra"
	_ "github.com/ulikunitz/xz"
)
