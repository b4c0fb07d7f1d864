package kimage

import (
	"bytes"
	"compress/gzip"
	"io"
	"strings"
)

const (
	configStart = "IKCFG_ST" // kernel/configs.c, 6.12: gzip follows
	maxConfig   = 4 << 20    // Debian's has 300 KB
)

// Config is what a kernel was configured with: symbols, like "CONFIG_RD_GZIP",
// that are set. nil stands for an unknown configuration.
type Config map[string]string

// Off tells that a symbol is known not to be set.
func (c Config) Off(symbol string) bool { return c != nil && (c[symbol] == "" || c[symbol] == "n") }

// ParseConfig reads a configuration as the kernel's build writes it. It is nil
// for what is none, and for one of more than 4 MiB.
func ParseConfig(text []byte) Config {
	if len(text) > maxConfig {
		return nil
	}
	var c Config
	for line := range bytes.Lines(text) {
		symbol, value, ok := strings.Cut(strings.TrimSpace(string(line)), "=")
		if !ok || !strings.HasPrefix(symbol, "CONFIG_") {
			continue
		}
		if c == nil {
			c = Config{}
		}
		c[symbol] = value
	}
	return c
}

// Config is what the kernel has of its configuration in itself
// (CONFIG_IKCONFIG=y), nil if it has nothing.
func (img *Image) Config() Config {
	for data := img.Data; ; {
		i := bytes.Index(data, []byte(configStart+"\x1f\x8b"))
		if i < 0 {
			return nil
		}
		data = data[i+len(configStart):]
		z, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			continue
		}
		z.Multistream(false) // "IKCFG_ED" follows
		text, err := io.ReadAll(io.LimitReader(z, maxConfig+1))
		if err != nil {
			continue
		}
		// The marker may stand in a program's text, too.
		if c := ParseConfig(text); c != nil {
			return c
		}
	}
}
