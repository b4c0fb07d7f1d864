package sys

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// KernelLog reads the kernel's log from where it stood when it was opened.
type KernelLog struct{ fd int }

// ReadKernelLog reads the kernel's log as far back as it is kept, at most limit
// lines.
func ReadKernelLog(limit int) ([]string, error) {
	l, err := openKernelLog(unix.SEEK_SET)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	return l.New(limit), nil
}

// OpenKernelLog opens the kernel's log, /dev/kmsg, at its end.
func OpenKernelLog() (*KernelLog, error) { return openKernelLog(unix.SEEK_END) }

func openKernelLog(whence int) (*KernelLog, error) {
	fd, err := unix.Open("/dev/kmsg", unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: "/dev/kmsg", Err: err}
	}
	if _, err := unix.Seek(fd, 0, whence); err != nil {
		unix.Close(fd)
		return nil, &os.PathError{Op: "seek", Path: "/dev/kmsg", Err: err}
	}
	return &KernelLog{fd}, nil
}

// New returns what the kernel has said since the last call, at most limit
// lines, without waiting. A record is "PRIORITY,SEQUENCE,TIME,FLAGS;TEXT" and
// then lines of properties (Documentation/ABI/testing/dev-kmsg); the text is
// returned.
func (l *KernelLog) New(limit int) []string {
	var lines []string
	buf := make([]byte, 8<<10)
	for len(lines) < limit {
		n, err := unix.Read(l.fd, buf)
		if err == unix.EPIPE || err == unix.EINTR { // records were overwritten: go on with the next
			continue
		}
		if err != nil || n <= 0 {
			break
		}
		if _, text, ok := strings.Cut(string(buf[:n]), ";"); ok {
			text, _, _ = strings.Cut(text, "\n")
			lines = append(lines, text)
		}
	}
	return lines
}

// Close ends the reading.
func (l *KernelLog) Close() error { return unix.Close(l.fd) }
