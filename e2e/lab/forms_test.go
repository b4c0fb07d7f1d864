package lab

import (
	"bytes"
	"debug/elf"
	"debug/pe"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// image is an Image with more memory than file.
func image() []byte {
	b := make([]byte, 100_000)
	rand.NewChaCha8([32]byte{1}).Read(b[64:50_000])
	copy(b[0x38:], "RSC\x05")
	binary.LittleEndian.PutUint64(b[0x10:], 120_000)
	return b
}

// A form is unpacked again by the program that is the other half of the one
// that made it, and read by Go's own readers of the formats.
func TestForms(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PANICROOM_CACHE", filepath.Join(dir, "cache"))
	want := image()
	write(t, dir, "kernel/boot/vmlinux-6", string(want))
	k := &Kernel{Release: "6", Root: filepath.Join(dir, "kernel"), Image: "/boot/vmlinux-6"}
	padded := append(slices.Clone(want), make([]byte, 20_000)...)
	unpack := map[string][]string{
		"gz": {"gzip", "-dc"}, "xz": {"xz", "-dc"}, "lzma": {"xz", "-dc", "--format=lzma"}, "bz2": {"bzip2", "-dc"},
		"lz4": {"lz4", "-dc"}, "lzo": {"lzop", "-dc"}, "zst": {"zstd", "-dc"},
	}
	method := map[string]string{}
	for _, z := range zboots() {
		method[z.method] = z.suffix
	}
	for _, name := range k.Forms() {
		t.Run(name, func(t *testing.T) {
			// Which programs are there is no matter of unit tests.
			suffix := strings.TrimPrefix(filepath.Ext(name), ".")
			if m, ok := strings.CutPrefix(name, "zboot-"); ok {
				suffix = method[m]
			}
			if name == "uki-zboot" {
				suffix = "gz"
			}
			if argv := unpack[suffix]; argv != nil {
				if _, err := exec.LookPath(argv[0]); err != nil {
					if os.Getenv("CI") != "" {
						t.Fatalf("%v: scripts/prerequisites forms installs it", err)
					}
					t.Skip(err)
				}
			}
			path, err := k.Form(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			again, err := k.Form(t.Context(), name)
			if err != nil || again != path {
				t.Errorf("the second time: %s, %v; want %s", again, err, path)
			}
			file, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case name == "Image":
				mustEqual(t, file, want)
			case name == "Image.elf":
				mustEqual(t, elfMemory(t, path), padded)
			case strings.HasPrefix(name, "Image."):
				mustEqual(t, pipe(t, file, unpack[suffix]), want)
			case strings.HasPrefix(name, "zboot-"):
				mustEqual(t, zbootImage(t, file, strings.TrimPrefix(name, "zboot-"), unpack[suffix]), padded)
			case name == "uki":
				mustEqual(t, ukiPart(t, file, ".linux"), want)
				if got := string(ukiPart(t, file, ".cmdline")); got != UKICmdline {
					t.Errorf(".cmdline %q; want %q", got, UKICmdline)
				}
			case name == "uki-zboot":
				mustEqual(t, zbootImage(t, ukiPart(t, file, ".linux"), "gzip", unpack["gz"]), padded)
			default:
				t.Errorf("a form that this test does not know")
			}
		})
	}
	if _, err := k.Form(t.Context(), "vmlinux"); err == nil {
		t.Error("a kernel that was not built has a vmlinux")
	}
}

func mustEqual(t *testing.T, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%d bytes that differ from the %d wanted", len(got), len(want))
	}
}

// pipe runs what is packed through a program.
func pipe(t *testing.T, packed []byte, argv []string) []byte {
	t.Helper()
	c := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
	c.Stdin = bytes.NewReader(packed)
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s: %v", argv[0], exitText(err))
	}
	return out
}

// zbootImage is the Image that the header of a vmlinuz.efi describes.
func zbootImage(t *testing.T, file []byte, method string, unpack []string) []byte {
	t.Helper()
	if _, err := pe.NewFile(bytes.NewReader(file)); err != nil {
		t.Fatal(err)
	}
	name, _, _ := strings.Cut(string(file[0x18:0x38]), "\x00")
	if string(file[4:8]) != "zimg" || name != method {
		t.Fatalf("type %q, compression %q; want zimg and %q", file[4:8], name, method)
	}
	at, size := binary.LittleEndian.Uint32(file[8:]), binary.LittleEndian.Uint32(file[12:])
	payload := file[at:][:size]
	if method != "gzip" {
		if n := binary.LittleEndian.Uint32(file[at+size:]); n != 120_000 {
			t.Errorf("the length after the payload is %d; want 120000", n)
		}
	}
	return pipe(t, payload, unpack)
}

func ukiPart(t *testing.T, file []byte, name string) []byte {
	t.Helper()
	f, err := pe.NewFile(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	s := f.Section(name)
	if s == nil || f.Machine != 0x5064 {
		t.Fatalf("machine %#x, section %s %v", f.Machine, name, s)
	}
	data, err := s.Data()
	if err != nil {
		t.Fatal(err)
	}
	return data[:s.VirtualSize]
}

// elfMemory is what the one segment of an ELF is in memory.
func elfMemory(t *testing.T, path string) []byte {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Machine != elf.EM_RISCV || f.Type != elf.ET_EXEC || len(f.Progs) != 1 || f.Progs[0].Vaddr != f.Entry || f.Progs[0].Paddr != 0 {
		t.Fatalf("%+v", f)
	}
	p := f.Progs[0]
	data, err := io.ReadAll(p.Open())
	if err != nil {
		t.Fatal(err)
	}
	return append(data, make([]byte, p.Memsz-p.Filesz)...)
}
