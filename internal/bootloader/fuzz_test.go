package bootloader

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// editors are all kinds of files.
func editors() map[string]editor {
	return map[string]editor{
		"grub":     {words: shellWords("GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT"), add: shellAdd("GRUB_CMDLINE_LINUX_DEFAULT", "$GRUB_CMDLINE_LINUX_DEFAULT")},
		"u-boot":   {words: shellWords("U_BOOT_PARAMETERS"), add: shellAdd("U_BOOT_PARAMETERS", "ro quiet")},
		"entry":    {words: entryWords, add: entryAdd},
		"cmdline":  {words: cmdlineWords, add: cmdlineAdd},
		"extlinux": extlinuxEditor(),
	}
}

// Whatever is in a file: it is edited or refused; edited twice is edited once; all
// other words stay; the parameter is found with the value wanted and no other; and
// taken out again, it is gone, and all that was there before is there.
func FuzzEdit(f *testing.F) {
	err := filepath.WalkDir("testdata/machines", func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		f.Add(text)
		return err
	})
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{
		"GRUB_CMDLINE_LINUX_DEFAULT=", "GRUB_CMDLINE_LINUX_DEFAULT='a' GRUB_X=1", `GRUB_CMDLINE_LINUX_DEFAULT="a`, `GRUB_CMDLINE_LINUX_DEFAULT="\""#`,
		"U_BOOT_PARAMETERS=a\\\nb", "U_BOOT_PARAMETERS+=x", "options\r\n", "options crashkernel= crashkernel=1M crashkernel=1M", "label\nkernel", "label a\nlinux\nappend\nappend x",
	} {
		f.Add([]byte(s))
	}
	const value = "123M"
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 4096 || bytes.Contains(text, []byte(value)) {
			return
		}
		for name, e := range editors() {
			original := bytes.Clone(text)
			had := values(text, e.words(text))
			once, err := e.edit(text, value)
			if !bytes.Equal(text, original) {
				t.Fatalf("%s: editing changes what it was given", name)
			}
			if err != nil {
				continue
			}
			set := values(once, e.words(once))
			if len(set) == 0 || slices.ContainsFunc(set, func(v string) bool { return v != value }) {
				t.Fatalf("%s: %q has %q\nwas %q", name, once, set, text)
			}
			if twice, err := e.edit(once, value); err != nil || !bytes.Equal(once, twice) {
				t.Fatalf("%s: once %q\ntwice %q, %v", name, once, twice, err)
			}
			if d := diff("f", text, once, false); !bytes.Equal(text, once) && len(d) < 10 {
				t.Fatalf("%s: no difference of %q and %q", name, text, once)
			}
			if len(had) > 0 {
				continue // what was replaced is brought back by the record
			}
			after := e.without(once, value, nil)
			if left := e.words(after); len(left) > 0 {
				t.Fatalf("%s: %q still has %q", name, after, values(after, left))
			}
			if rest := words(after); len(rest) < len(words(text)) || !subsequence(words(text), rest) {
				t.Fatalf("%s: %q\nbecame %q\nand back %q", name, text, once, after)
			}
		}
	})
}

// words are the words of a text without quotes, which an edit may add.
func words(text []byte) []string {
	return strings.Fields(strings.NewReplacer(`"`, "", "'", "").Replace(string(text)))
}

func subsequence(short, long []string) bool {
	for _, w := range long {
		if len(short) > 0 && short[0] == w {
			short = short[1:]
		}
	}
	return len(short) == 0
}

// An edit applied to a file and undone gives the same bytes, whatever they are.
func FuzzApplyUndo(f *testing.F) {
	f.Add([]byte("label a\n\tlinux /Image\n\tappend quiet\n"), true)
	f.Add([]byte("label a\r\nkernel x\r\nappend crashkernel=1M crashkernel=2M,high"), false)
	f.Fuzz(func(t *testing.T, text []byte, replace bool) {
		if len(text) > 4096 {
			return
		}
		root, store := t.TempDir(), filepath.Join(t.TempDir(), "store")
		at := filepath.Join(root, "boot/extlinux/extlinux.conf")
		if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, text, 0o644); err != nil {
			t.Fatal(err)
		}
		for _, v := range []string{"123M", "124M"} {
			r, err := OpenRecord(store)
			if err != nil {
				t.Fatal(err)
			}
			p, err := Make(os.DirFS(root), Wanted{Value: v, Replace: replace}, r)
			if err != nil {
				return
			}
			if err := p.Apply(root, store, v); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Undo(root, store); err != nil {
			t.Fatal(err)
		}
		if back, err := os.ReadFile(at); err != nil || !bytes.Equal(back, text) {
			t.Fatalf("%q came back as %q, %v", text, back, err)
		}
	})
}
