package load

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/internal/kimage"
)

// What the configuration of the panic kernel speaks against is refused with the
// option's name, unless it is forced; what is not known is not refused.
func TestConfigOfKernel(t *testing.T) {
	const enough = "CONFIG_CRASH_DUMP=y\nCONFIG_PROC_VMCORE=y\nCONFIG_BLK_DEV_INITRD=y\nCONFIG_RD_GZIP=y\n"
	without := func(symbol string) string { return strings.Replace(enough, symbol+"=y", "# "+symbol+" is not set", 1) }
	for _, c := range []struct {
		name, config string
		codecs       []string
		purpose      Purpose
		rule         Rule   // "" for none
		says         string // in the message
	}{
		{name: "unknown", codecs: []string{"zstd"}},
		{name: "enough", config: enough, codecs: []string{"gzip"}},
		{name: "plain", config: without("CONFIG_RD_GZIP")},
		{name: "no vmcore", config: without("CONFIG_PROC_VMCORE"), rule: RuleImage, says: "CONFIG_PROC_VMCORE"},
		{name: "no crash dump", config: without("CONFIG_CRASH_DUMP"), rule: RuleImage, says: "CONFIG_CRASH_DUMP"},
		{name: "no vmcore, to reboot", config: without("CONFIG_PROC_VMCORE"), purpose: ForReboot},
		{name: "no initramfs at all", config: without("CONFIG_BLK_DEV_INITRD"), rule: RuleImage, says: "CONFIG_BLK_DEV_INITRD"},
		{name: "no gzip", config: without("CONFIG_RD_GZIP"), codecs: []string{"gzip"}, rule: RuleInitramfs, says: "CONFIG_RD_GZIP"},
		{name: "no gzip, to reboot", config: without("CONFIG_RD_GZIP"), codecs: []string{"gzip"}, purpose: ForReboot, rule: RuleInitramfs, says: "CONFIG_RD_GZIP"},
		{name: "one of two", config: enough, codecs: []string{"gzip", "lz4"}, rule: RuleInitramfs, says: "with lz4"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := recorded(t, sv57)
			kernel, err := NewKernel("", flat("6.99.1-test", 0x1e6b000))
			if err != nil {
				t.Fatal(err)
			}
			kernel.Config = kimage.ParseConfig([]byte(c.config))
			opts := &Options{Codecs: c.codecs, Purpose: c.purpose}
			_, err = Make(m, kernel, make([]byte, 1<<20), opts)
			if c.rule == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			e, ok := errors.AsType[*RuleError](err)
			if !ok || e.Rule != c.rule || !strings.Contains(e.Detail, c.says) || !strings.Contains(strings.Join(e.Hints(), "\n"), "--force") {
				t.Fatalf("Make = %v; want rule %s with %q and --force in a hint", err, c.rule, c.says)
			}
			opts.Force = true
			p, err := Make(m, kernel, make([]byte, 1<<20), opts)
			if err != nil || !slices.ContainsFunc(p.Warnings, func(w string) bool { return strings.Contains(w, c.says) && strings.Contains(w, "forced") }) {
				t.Errorf("forced: %v, %+v", err, p)
			}
		})
	}
}

// The file beside an image is for the image's release only.
func TestConfigBesideKernel(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config-6.99.1-test"), []byte("CONFIG_RD_XZ=y\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "Image")
	if c := configOf(path, &kimage.Image{Release: "6.99.1-test"}); c.Off("CONFIG_RD_XZ") || !c.Off("CONFIG_RD_GZIP") {
		t.Errorf("configOf = %v", c)
	}
	for _, release := range []string{"", "6.99.2-test", "../6.99.1-test"} {
		if c := configOf(path, &kimage.Image{Release: release}); c != nil {
			t.Errorf("configOf of release %q = %v; want nil", release, c)
		}
	}
}
