package host

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"io/fs"
	"strconv"
	"strings"
)

// Info is the value of one line "KEY=VALUE" of VMCoreInfoText, such as
// "OSRELEASE" or "NUMBER(PAGE_OFFSET)".
func (m *Machine) Info(key string) (string, bool) {
	for line := range bytes.Lines(m.VMCoreInfoText) {
		k, v, ok := strings.Cut(strings.TrimSuffix(string(line), "\n"), "=")
		if ok && k == key {
			return v, true
		}
	}
	return "", false
}

// Number is NUMBER(name) or SYMBOL(name) of VMCoreInfoText. The kernel prints
// numbers as it likes: signed decimal, hexadecimal with 0x; symbols always in
// hexadecimal without (kernel/vmcore_info.c, arch/riscv/kernel/vmcore_info.c).
func (m *Machine) Number(name string) (uint64, bool) {
	if s, ok := m.Info("SYMBOL(" + name + ")"); ok {
		v, err := strconv.ParseUint(s, 16, 64)
		return v, err == nil
	}
	s, ok := m.Info("NUMBER(" + name + ")")
	if !ok {
		return 0, false
	}
	if v, err := strconv.ParseUint(s, 0, 64); err == nil {
		return v, true
	}
	v, err := strconv.ParseInt(s, 0, 64)
	return uint64(v), err == nil
}

// kernelMemory reads what only the running kernel's own memory tells.
func (r *reader) kernelMemory(m *Machine, opts *Options) error {
	var k *kcore
	if opts.NoKernelMemory {
		m.unknown("kernel memory (/proc/kcore)", errors.New("not asked for"))
	} else {
		f, err := r.fsys.Open("proc/kcore")
		if err == nil {
			defer f.Close()
			if at, ok := f.(io.ReaderAt); ok {
				k, err = openKcore(at)
			} else {
				err = errors.New("cannot be read at an offset")
			}
		}
		if err != nil {
			m.unknown("kernel memory (/proc/kcore)", err)
		}
	}
	if k != nil {
		m.VMCoreInfoText = k.vmcoreinfo
	}
	if s, ok := m.Info("PAGESIZE"); ok {
		m.PageSize, _ = strconv.ParseUint(s, 10, 32)
	}
	offset, known := m.Number("va_kernel_pa_offset")
	image, haveImage := m.KernelImage()
	if pgd, ok := m.Number("swapper_pg_dir"); ok && known && haveImage {
		m.Symbols["swapper_pg_dir"] = pgd
		m.Symbols["_text"] = image.Start + offset
	} else if err := r.kallsyms(m); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if text := m.Symbols["_text"]; text != 0 && haveImage {
		if pgd := m.Symbols["swapper_pg_dir"]; pgd != 0 {
			m.PageTable = image.Start + (pgd - text)
		}
	}
	if k != nil {
		r.vmemmap(m, k)
		if r.core != nil {
			r.core(k)
		}
	}
	return nil
}

// vmemmap finds the memory of the page structs through the page tables.
func (r *reader) vmemmap(m *Machine, k *kcore) {
	const fact = "memory of the page structs"
	start, ok1 := m.Number("VMEMMAP_START")
	end, ok2 := m.Number("VMEMMAP_END")
	bits, ok3 := m.Number("VA_BITS")
	if k.machine != emRISCV || !ok1 || !ok2 || !ok3 || m.PageTable == 0 {
		m.unknown(fact, errors.New("vmcoreinfo does not say where they are"))
		return
	}
	list, err := riscvMapped(k, m.PageTable, int(bits&0xff), start, end)
	if err != nil {
		m.unknown(fact, err)
		return
	}
	m.Vmemmap = list
}

// kallsyms reads the few symbols that kernels before 6.2 do not tell
// otherwise. The file has megabytes, so it is only read then, and not to its
// end.
func (r *reader) kallsyms(m *Machine) error {
	f, err := r.fsys.Open("proc/kallsyms")
	if err != nil {
		return err
	}
	defer f.Close()
	want := map[string]bool{"_text": true, "_end": true, "swapper_pg_dir": true}
	var kept []byte
	lines := bufio.NewScanner(f)
	for len(want) > 0 && lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 3 || !want[fields[2]] {
			continue
		}
		v, err := strconv.ParseUint(fields[0], 16, 64)
		if err != nil || v == 0 {
			continue // zeros are shown to those who may not see
		}
		m.Symbols[fields[2]] = v
		delete(want, fields[2])
		kept = append(append(kept, lines.Bytes()...), '\n')
	}
	if r.kept != nil {
		r.kept("proc/kallsyms", kept)
	}
	return lines.Err()
}

// configOptions are the kernel options a loader wants to know about.
var configOptions = []string{
	"CONFIG_KEXEC", "CONFIG_KEXEC_FILE", "CONFIG_CRASH_DUMP", "CONFIG_PROC_VMCORE", "CONFIG_RELOCATABLE",
	"CONFIG_RANDOMIZE_BASE", "CONFIG_CMA_SIZE_MBYTES", "CONFIG_STRICT_KERNEL_RWX", "CONFIG_RISCV_BOOT_SPINWAIT",
}

// config reads the options of the running kernel, from where distributions put
// them or from the kernel itself (CONFIG_IKCONFIG_PROC).
func (r *reader) config(m *Machine) {
	keep := r.kept
	r.kept = nil // the whole file is large
	defer func() { r.kept = keep }()
	names := []string{"boot/config-" + m.Release, "usr/lib/modules/" + m.Release + "/config", "lib/modules/" + m.Release + "/config"}
	var b []byte
	err := fs.ErrNotExist
	for _, name := range append(names, "proc/config.gz") {
		if !fs.ValidPath(name) {
			continue
		}
		if b, err = r.file(name, maxConfig); err != nil {
			continue
		}
		if strings.HasSuffix(name, ".gz") {
			// A recorded machine has the plain text.
			name = names[0]
			if b, err = gunzip(b, maxConfig); err != nil {
				break
			}
		}
		m.Config = parseConfig(b)
		if keep != nil {
			keep(name, formatConfig(m.Config))
		}
		return
	}
	m.unknown("configuration of the kernel", err)
}

func gunzip(b []byte, limit int64) ([]byte, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(z, limit))
}

func parseConfig(b []byte) map[string]string {
	out := map[string]string{}
	for _, key := range configOptions {
		out[key] = "n"
	}
	for line := range bytes.Lines(b) {
		k, v, ok := strings.Cut(strings.TrimSpace(string(line)), "=")
		if _, wanted := out[k]; ok && wanted {
			out[k] = strings.Trim(v, `"`)
		}
	}
	return out
}

func formatConfig(c map[string]string) []byte {
	var b []byte
	for _, key := range configOptions {
		if v := c[key]; v != "n" {
			b = append(b, key+"="+v+"\n"...)
		}
	}
	return b
}
