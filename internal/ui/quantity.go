package ui

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Bytes says a size in the largest binary unit that keeps it above one, like
// "1.9 GiB", "128 MiB" or "512 B".
func Bytes(n uint64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	f, u := float64(n)/1024, 0
	for f >= 1023.95 && u < len(units)-1 {
		f /= 1024
		u++
	}
	digits := 1
	if f >= 99.95 {
		digits = 0
	}
	return strings.TrimSuffix(strconv.FormatFloat(f, 'f', digits, 64), ".0") + " " + units[u:u+1] + "iB"
}

// Seconds says a duration with the precision that a person can use: "0.12 s",
// "9.8 s", "73 s", "5m10s".
func Seconds(d time.Duration) string {
	switch s := d.Seconds(); {
	case s < 1:
		return fmt.Sprintf("%.2f s", s)
	case s < 10:
		return fmt.Sprintf("%.1f s", s)
	case s < 120:
		return fmt.Sprintf("%.0f s", s)
	default:
		return d.Round(time.Second).String()
	}
}
