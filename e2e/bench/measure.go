package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"
)

// sample is what one run of a program took.
type sample struct {
	Wall, CPU time.Duration // CPU is user and system time of all its threads
	RSS       int64         // peak, bytes; windows mapped from a file count
}

// measureCommand is the argument with which the bench starts itself to run one
// program: the kernel begins a program's peak with that of the process that
// started it (fs/exec.c: exec_mmap, Linux 6.1), so that one must be small.
const measureCommand = "measure"

// onCPUs are the CPUs that a program may use, for taskset.
func onCPUs(n int) string {
	if n == 1 {
		return "0"
	}
	return fmt.Sprintf("0-%d", n-1)
}

// measure runs a program on the first cpus CPUs.
func measure(ctx context.Context, cpus int, argv ...string) (sample, error) {
	self, err := os.Executable()
	if err != nil {
		return sample{}, err
	}
	c := exec.CommandContext(ctx, self, append([]string{measureCommand, "taskset", "-c", onCPUs(cpus)}, argv...)...)
	var said bytes.Buffer
	c.Stderr = &said
	out, err := c.Output()
	if err != nil {
		return sample{}, fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, lastLine(said.String()))
	}
	var s sample
	return s, json.Unmarshal(out, &s)
}

// runMeasured is the process between: it runs the program and says what it took.
func runMeasured(argv []string) error {
	c := exec.Command(argv[0], argv[1:]...)
	c.Stderr = os.Stderr
	start := time.Now()
	err := c.Run()
	wall := time.Since(start)
	if err != nil {
		return err
	}
	usage := c.ProcessState.SysUsage().(*syscall.Rusage)
	return json.NewEncoder(os.Stdout).Encode(sample{
		Wall: wall, CPU: c.ProcessState.UserTime() + c.ProcessState.SystemTime(),
		RSS: usage.Maxrss << 10, // in KiB, getrusage(2)
	})
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

// samples are runs of the same.
type samples []sample

func (s samples) sorted(f func(sample) float64) []float64 {
	all := make([]float64, len(s))
	for i, x := range s {
		all[i] = f(x)
	}
	slices.Sort(all)
	return all
}

// median is of what f tells of each; of an even number the mean of the two in
// the middle.
func (s samples) median(f func(sample) float64) float64 {
	all := s.sorted(f)
	n := len(all)
	return (all[(n-1)/2] + all[n/2]) / 2
}

func (s samples) min(f func(sample) float64) float64 { return s.sorted(f)[0] }
func (s samples) max(f func(sample) float64) float64 { return s.sorted(f)[len(s)-1] }

func wall(s sample) float64 { return s.Wall.Seconds() }
func cpu(s sample) float64  { return s.CPU.Seconds() }
func rss(s sample) float64  { return float64(s.RSS) }
