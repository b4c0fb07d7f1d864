package config

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// Bounds of values.
const (
	maxCPUs = 4096
	// minMemLimit is crashenv's, which stands above this package; a test of the
	// command compares them, and the words below, with those who use them.
	minMemLimit = 16 << 20
	// maxInterface is IFNAMSIZ of linux/if.h without the zero at the end.
	maxInterface = 15
	// maxText bounds every text.
	maxText = 4096
)

var ends = []string{"reboot", "poweroff", "halt"}

// wordError is the error of a value that is none of a few words.
type wordError struct {
	value string
	words []string
}

func (e *wordError) Error() string {
	return fmt.Sprintf("%q is none of %s", e.value, strings.Join(e.words, ", "))
}

// check says what is wrong with a value, beside its type.
func check(table, key string, value any) error {
	if s, ok := value.(string); ok && len(s) > maxText {
		return fmt.Errorf("the text has %d bytes, at most %d", len(s), maxText)
	}
	switch v := value.(type) {
	case string:
		return checkText(table+"."+key, v)
	case int:
		switch {
		case table == "kernel" && key == "cpus" && (v < 1 || v > maxCPUs):
			return fmt.Errorf("%d CPUs: the panic kernel takes 1 to %d", v, maxCPUs)
		case v < 0:
			return fmt.Errorf("%d is below 0", v)
		}
	case time.Duration:
		if v < time.Second || v > 1000*time.Hour {
			return fmt.Errorf("%s is not between one second and 1000h", exactDuration(v))
		}
	}
	return nil
}

func checkText(key, v string) error {
	words := func(words ...string) error {
		if !slices.Contains(words, v) {
			return &wordError{v, words}
		}
		return nil
	}
	// What is left empty has another default than a value.
	optional := func(check func(string) error) error {
		if v == "" {
			return nil
		}
		return check(v)
	}
	switch key {
	case "reserve.size":
		return checkCrashkernel(v)
	case "kernel.image", "kernel.modules", "notify.hooks":
		return optional(checkPath)
	case "kernel.append":
		if word, ok := find1(strings.Fields(v), func(w string) bool { return strings.HasPrefix(w, "crashkernel=") }); ok {
			return fmt.Errorf("%s: the panic kernel reserves no memory; the running kernel's is reserve.size", word)
		}
	case "kernel.method":
		return words("auto", "load", "file")
	case "dump.level":
		if n, err := strconv.Atoi(v); err == nil && (n < 0 || n > 31) {
			return fmt.Errorf("dump level %d is not between 0 and 31", n)
		} else if err == nil {
			return nil
		}
		return words("full", "kernel", "report", "0 to 31")
	case "dump.format":
		return words("kdump", "elf")
	case "dump.compress":
		return words("zstd", "lzo", "snappy", "zlib", "none")
	case "dump.mem-limit":
		return checkMemLimit(v)
	case "target.dir":
		return checkPath(v)
	case "target.key", "target.known-hosts":
		return checkPath(v)
	case "target.partition":
		return checkPartition(v)
	case "target.ssh":
		_, err := ParseSSH(v)
		return err
	case "target.nfs":
		_, err := ParseNFS(v)
		return err
	case "target.options":
		if strings.ContainsAny(v, " \t") {
			return fmt.Errorf("%q has a space in it; options stand behind commas", v)
		}
	case "network.method":
		return words("copy", "dhcp")
	case "network.interface":
		return optional(checkInterface)
	case "after.saved", "after.failed":
		return words(ends...)
	case "notify.webhook":
		return optional(checkURL)
	default:
		return fmt.Errorf("nothing is known of %s", key)
	}
	return nil
}

func find1(list []string, ok func(string) bool) (string, bool) {
	if i := slices.IndexFunc(list, ok); i >= 0 {
		return list[i], true
	}
	return "", false
}

func checkPath(v string) error {
	switch {
	case !path.IsAbs(v):
		return fmt.Errorf("%q does not begin with /", v)
	case path.Clean(v) != v && path.Clean(v)+"/" != v:
		return fmt.Errorf("%q is another way to write %q", v, path.Clean(v))
	}
	return nil
}

func checkInterface(v string) error {
	if len(v) > maxInterface || strings.ContainsAny(v, "/: \t") || v == "." || v == ".." {
		return fmt.Errorf("%q is no name of a network interface", v)
	}
	return nil
}

func checkMemLimit(v string) error {
	if v == "auto" {
		return nil
	}
	n, err := ui.ParseBytes(v)
	switch {
	case err != nil:
		return fmt.Errorf("%q is neither auto nor a size like 64M", v)
	case n < minMemLimit:
		return fmt.Errorf("%s: saving a dump takes at least %s", v, ui.Bytes(minMemLimit))
	}
	return nil
}

func checkPartition(v string) error {
	for _, prefix := range []string{"PARTUUID=", "LABEL="} {
		if value, ok := strings.CutPrefix(v, prefix); ok {
			if strings.TrimSpace(value) != value || value == "" || strings.Contains(value, "/") {
				return fmt.Errorf("%q is not behind %s what can stand there", value, prefix)
			}
			return nil
		}
	}
	if !strings.HasPrefix(v, "/dev/") || checkPath(v) != nil {
		return fmt.Errorf("%q is none of /dev/NAME, PARTUUID=… and LABEL=…", v)
	}
	return nil
}

func checkURL(v string) error {
	// What is wrong is said without the URL: there may be a secret in it.
	u, err := url.Parse(v)
	switch {
	case err != nil:
		return errors.New("the value is no URL")
	case u.Scheme != "https" && u.Scheme != "http":
		return errors.New("the URL begins neither with https:// nor with http://")
	case u.Hostname() == "":
		return errors.New("the URL names no host")
	case u.Fragment != "":
		return errors.New("the URL has a fragment (#…), which no server gets")
	}
	return nil
}

// checkCrashkernel checks what can stand behind crashkernel=, by the grammar of
// Documentation/admin-guide/kdump/kdump.rst (Linux 6.17): SIZE[@OFFSET];
// SIZE,high or ,low or ,cma; RANGE:SIZE[,RANGE:SIZE...][@OFFSET].
func checkCrashkernel(v string) error {
	if v == "auto" {
		return nil
	}
	bad := fmt.Errorf("%q is neither auto nor what can stand behind crashkernel=, like 128M or 2G-8G:160M,8G-:256M", v)
	body, offset, at := strings.Cut(v, "@")
	if at && !isAmount(offset) {
		return bad
	}
	for i, part := range strings.Split(body, ",") {
		span, size, ranged := strings.Cut(part, ":")
		switch {
		case ranged:
			from, to, ok := strings.Cut(span, "-")
			if !ok || !isAmount(from) || to != "" && !isAmount(to) || !isAmount(size) {
				return bad
			}
		case i == 0:
			if !isAmount(part) {
				return bad
			}
		case i > 1 || at || strings.Contains(body, ":") || !slices.Contains([]string{"high", "low", "cma"}, part):
			return bad
		}
	}
	return nil
}

// isAmount tells whether s is a number as the kernel's memparse reads it.
func isAmount(s string) bool {
	if n := len(s); n > 1 && strings.IndexByte("kKmMgGtT", s[n-1]) >= 0 {
		s = s[:n-1]
	}
	_, err := strconv.ParseUint(s, 0, 64)
	return err == nil && !strings.Contains(s, "_")
}
