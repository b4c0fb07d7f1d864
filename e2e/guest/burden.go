package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/internal/sys"
)

const mib = 1 << 20

// holdCommand is the argument with which the guest starts itself as the
// process that owns memory.
const holdCommand = "hold"

// burden brings memory into use and returns when all of it is.
func burden(b *script.Burden) error {
	noise := contentOf(b)
	if b.Cache > 0 {
		if err := writeNoise(burdenFile(b), int64(b.Cache)*mib, noise); err != nil {
			return err
		}
		sys.Sync() // clean pages are cache, dirty ones would hold the disk up at the end
	}
	if b.Shmem > 0 {
		if err := writeNoise("/tmp/burden", int64(b.Shmem)*mib, noise); err != nil {
			return err
		}
	}
	for i := range b.Inodes {
		dir := filepath.Join("/tmp/inodes", strconv.Itoa(i/256))
		if i%256 == 0 {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return err
			}
		}
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)), nil, 0o644); err != nil {
			return err
		}
	}
	if b.Hugetlb > 0 {
		if err := os.WriteFile("/proc/sys/vm/nr_hugepages", []byte(strconv.Itoa(b.Hugetlb)), 0o644); err != nil {
			return err
		}
	}
	if b.Huge > 0 {
		if err := os.WriteFile("/sys/kernel/mm/transparent_hugepage/enabled", []byte("always"), 0o644); err != nil {
			return err
		}
	}
	if b.Anon == 0 && b.Huge == 0 && !b.Mapped {
		return nil
	}
	spec, err := json.Marshal(b)
	if err != nil {
		return err
	}
	// The holder stays when this function has returned: nobody waits for it.
	c := exec.Command("/proc/self/exe", holdCommand, string(spec))
	c.Stderr = os.Stderr
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return fmt.Errorf("memory holder: %q, %w, %w", line, err, c.Wait())
	}
	return nil
}

func burdenFile(b *script.Burden) string { return filepath.Join(b.Dir, ".burden") }

// hold owns the memory that belongs to a process, for ever.
func hold(spec string) error {
	var b script.Burden
	if err := json.Unmarshal([]byte(spec), &b); err != nil {
		return err
	}
	noise := contentOf(&b)
	anon := make([]byte, b.Anon*mib)
	noise.Read(anon)
	// Large enough allocations of Go are aligned so that whole huge pages are
	// in them.
	huge := make([]byte, b.Huge*mib)
	noise.Read(huge)
	var mapped []byte
	if b.Mapped {
		f, err := os.Open(burdenFile(&b))
		if err != nil {
			return err
		}
		if mapped, err = sys.MmapRead(f, 0, b.Cache*mib); err != nil {
			return err
		}
	}
	sum := byte(0)
	for i := 0; i < len(mapped); i += 4096 {
		sum += mapped[i]
	}
	fmt.Println("holding", len(anon), len(huge), len(mapped), sum)
	// Blocked in a system call: Go calls a program of sleeping goroutines dead.
	r, _, err := os.Pipe()
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, r)
	runtime.KeepAlive(anon)
	runtime.KeepAlive(huge)
	return err
}

// newNoise gives bytes that no compressor shortens, the same in each run.
func newNoise() io.Reader {
	return rand.NewChaCha8([32]byte([]byte("panicroom e2e guest, any 32 byte")))
}

func writeNoise(path string, size int64, noise io.Reader) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.CopyN(f, noise, size)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}
