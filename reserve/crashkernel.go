package reserve

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// ErrValue: a value of crashkernel= that the kernel does not take.
var ErrValue = errors.New("the kernel does not take this value of crashkernel=")

// Asked is what a kernel's command line asks for: the value that counts. The last
// one without a suffix does, and if all have one, the last with ",high"; ",low" is
// beside it (kernel/crash_reserve.c, Linux 6.12 and 7.2). "" is none.
func Asked(cmdline string) string {
	plain, high := "", ""
	for word := range strings.FieldsSeq(cmdline) {
		v, ok := strings.CutPrefix(word, "crashkernel=")
		switch {
		case !ok:
		case strings.HasSuffix(v, ",high"):
			high = v
		case strings.HasSuffix(v, ",low"), strings.HasSuffix(v, ",cma"):
		default:
			plain = v
		}
	}
	if plain != "" {
		return plain
	}
	return high
}

// ranged is how much of a machine's memory is rounded up by before ranges are
// looked up, for firmware keeps some of it.
const ranged = 128 * mib

// Size is how much the kernel reserves for a value of crashkernel= on a machine
// with so much memory; 0 if no range of the value has it. The errors wrap
// [ErrValue].
func Size(value string, ram uint64) (uint64, error) {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("%w: %q: %s", ErrValue, value, fmt.Sprintf(format, args...))
	}
	s := strings.TrimSuffix(value, ",high")
	at := func(rest string) error {
		if offset, ok := strings.CutPrefix(rest, "@"); ok && rest != value {
			_, after, ok := quantity(offset)
			if !ok || after != "" {
				return bad("%q is no address", offset)
			}
			return nil
		}
		if rest != "" {
			return bad("what is %q", rest)
		}
		return nil
	}
	if !strings.Contains(s, ":") {
		n, rest, ok := quantity(s)
		if !ok {
			return 0, bad("no size; write it like 128M")
		}
		if n >= ram {
			return 0, bad("the machine has less memory")
		}
		return n, at(rest)
	}
	if s != value {
		return 0, bad("ranges and ,high do not go together")
	}
	list, offset, hasOffset := strings.Cut(s, "@")
	if hasOffset {
		if err := at("@" + offset); err != nil {
			return 0, err
		}
	}
	total := ram
	if ram <= math.MaxUint64-ranged {
		total = roundUp(ram, ranged)
	}
	for part := range strings.SplitSeq(list, ",") {
		span, text, ok := strings.Cut(part, ":")
		if !ok {
			return 0, bad("%q is no RANGE:SIZE", part)
		}
		size, rest, ok := quantity(text)
		if !ok || rest != "" {
			return 0, bad("%q is no size", text)
		}
		start, rest, ok := quantity(span)
		rest, dash := strings.CutPrefix(rest, "-")
		if !ok || !dash {
			return 0, bad("%q is no range; write it like 1G-4G or 4G-", span)
		}
		end := uint64(math.MaxUint64)
		if rest != "" {
			if end, rest, ok = quantity(rest); !ok || rest != "" || end <= start {
				return 0, bad("%q is no range; write it like 1G-4G or 4G-", span)
			}
		}
		if size >= total {
			return 0, bad("%q is more than the machine has", text)
		}
		if total >= start && total < end {
			return size, nil
		}
	}
	return 0, nil
}

// quantity reads a number as the kernel's memparse does, in decimal, hexadecimal or
// octal with K, M, G, T, P or E behind it, and returns what follows.
func quantity(s string) (n uint64, rest string, ok bool) {
	base, digits := uint64(10), s
	switch {
	case strings.HasPrefix(s, "0x"), strings.HasPrefix(s, "0X"):
		base, digits = 16, s[2:]
	case strings.HasPrefix(s, "0"):
		base = 8
	}
	i := 0
	for ; i < len(digits); i++ {
		d := digit(digits[i])
		if d >= base {
			break
		}
		if n > (math.MaxUint64-d)/base {
			return 0, s, false
		}
		n = n*base + d
	}
	if i == 0 {
		return 0, s, false
	}
	rest = digits[i:]
	if rest != "" {
		if shift := strings.IndexByte("KMGTPE", rest[0]&^0x20); shift >= 0 {
			shift = 10 * (shift + 1)
			if n > math.MaxUint64>>shift {
				return 0, s, false
			}
			return n << shift, rest[1:], true
		}
	}
	return n, rest, true
}

// digit is the value of a hexadecimal digit, or more than any.
func digit(c byte) uint64 {
	switch {
	case '0' <= c && c <= '9':
		return uint64(c - '0')
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return uint64(c|0x20-'a') + 10
	}
	return math.MaxUint64
}
