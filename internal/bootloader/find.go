package bootloader

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"unicode/utf16"
)

// Found is a boot loader that has files on the machine.
type Found struct {
	Loader string `json:"loader"`
	// Used tells whether its files are edited, and Why says why, or why not.
	Used bool   `json:"used"`
	Why  string `json:"why"`
	// Run is the program that makes what the boot loader reads from the files
	// that are edited, nil if it reads these.
	Run []string `json:"run,omitempty"`

	files []file
}

// file is one that may be edited.
type file struct {
	path   string // from "/"
	editor editor
	// text is what is in it; missing, that it is made anew, from template.
	text     []byte
	missing  bool
	template string // with %s for the parameter
	why      string
}

// finder reads the files of a machine; absent files are no errors.
type finder struct {
	root fs.FS
	errs []error
}

func (f *finder) exists(name string) bool {
	_, err := fs.Stat(f.root, name)
	return err == nil
}

// first returns the first of several files that exists, "" if none does.
func (f *finder) first(names ...string) string {
	for _, n := range names {
		if f.exists(n) {
			return n
		}
	}
	return ""
}

// read reads a file of at most maxFile bytes; ok is false if it is not there or
// cannot be read, which is noted.
func (f *finder) read(name string) (text []byte, ok bool) {
	r, err := f.root.Open(name)
	if err == nil {
		defer r.Close()
		if text, err = io.ReadAll(io.LimitReader(r, maxFile+1)); err == nil && (len(text) > maxFile || bytes.Count(text, []byte("\n")) > maxLines) {
			err = fmt.Errorf("/%s: more than %d bytes or %d lines", name, maxFile, maxLines)
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, false
	case err != nil:
		f.errs = append(f.errs, err)
		return nil, false
	}
	return text, true
}

// head reads the beginning of a file that is only looked at, and may be long.
func (f *finder) head(name string) []byte {
	r, err := f.root.Open(name)
	if err != nil {
		return nil
	}
	defer r.Close()
	text, _ := io.ReadAll(io.LimitReader(r, maxFile))
	return text
}

func (f *finder) glob(pattern string) []string {
	names, _ := fs.Glob(f.root, pattern) // sorted; the patterns are good
	return names
}

// program finds where a program of root's is.
func (f *finder) program(name string) string {
	if found := f.first("usr/sbin/"+name, "usr/bin/"+name, "sbin/"+name, "bin/"+name); found != "" {
		return "/" + found
	}
	return ""
}

// loaderInfo is the variable in which a boot loader says what it is
// (systemd.io/BOOT_LOADER_INTERFACE): four bytes of attributes, then UTF-16.
const loaderInfo = "sys/firmware/efi/efivars/LoaderInfo-4a67b082-0a4c-41cf-b6c7-440b29bb8c4f"

// started tells which boot loader has started the running kernel, as far as it
// left a sign: GRUB, Entries, Extlinux for U-Boot, or "".
func (f *finder) started(cmdline string) (loader, sign string) {
	if b := f.head(loaderInfo); len(b) > 4 {
		var units []uint16
		for i := 4; i+1 < len(b); i += 2 {
			units = append(units, uint16(b[i])|uint16(b[i+1])<<8)
		}
		name := strings.TrimRight(string(utf16.Decode(units)), "\x00")
		switch {
		case strings.HasPrefix(name, "systemd-boot"):
			return Entries, fmt.Sprintf("the firmware's variable LoaderInfo says %q", name)
		case strings.HasPrefix(name, "GRUB"):
			return GRUB, fmt.Sprintf("the firmware's variable LoaderInfo says %q", name)
		}
	}
	for word := range strings.FieldsSeq(cmdline) {
		// All of GRUB's loaders put it there (grub-core/loader, GRUB 2.12).
		if strings.HasPrefix(word, "BOOT_IMAGE=") {
			return GRUB, "the running kernel's command line has GRUB's BOOT_IMAGE="
		}
	}
	return "", ""
}

// find looks for all boot loaders.
func find(root fs.FS, cmdline string) ([]*Found, error) {
	f := &finder{root: root}
	started, sign := f.started(cmdline)
	var list []*Found
	for _, look := range []func() *Found{f.grub, f.entries, f.kernelInstall, f.ubootMenu, f.extlinux} {
		if found := look(); found != nil {
			list = append(list, found)
		}
	}
	// What u-boot-update takes from kernel-install's file it must take again.
	for i, l := range list {
		if l.Loader == UBootMenu && l.Used && len(l.files) == 0 && i > 0 && list[i-1].Loader == KernelInstall {
			list[i-1].Run = l.Run
		}
	}
	readsEntries := bytes.Contains(f.head("boot/grub/grub.cfg"), []byte("blscfg")) || bytes.Contains(f.head("boot/grub2/grub.cfg"), []byte("blscfg"))
	for _, l := range list {
		if !l.Used {
			continue
		}
		switch {
		case started == GRUB && l.Loader == Entries && !readsEntries,
			started == GRUB && (l.Loader == UBootMenu || l.Loader == Extlinux),
			started == Entries && (l.Loader == GRUB || l.Loader == UBootMenu || l.Loader == Extlinux):
			l.Used, l.Why = false, "another boot loader started this kernel: "+sign
		case started == l.Loader:
			l.Why += "; " + sign
		}
	}
	return list, errors.Join(f.errs...)
}

// grub finds GRUB by its configuration and the program that writes it.
func (f *finder) grub() *Found {
	cfg := f.first("boot/grub/grub.cfg", "boot/grub2/grub.cfg")
	mkconfig := f.program("grub-mkconfig")
	if mkconfig == "" {
		mkconfig = f.program("grub2-mkconfig")
	}
	if !f.exists("etc/default/grub") && cfg == "" {
		return nil
	}
	l := &Found{Loader: GRUB, Used: true}
	switch {
	case cfg == "":
		l.Used, l.Why = false, "/etc/default/grub is there, but no grub.cfg in /boot/grub or /boot/grub2"
		return l
	case mkconfig == "":
		l.Used, l.Why = false, "/"+cfg+" is there, but no grub-mkconfig that writes it"
		return l
	}
	l.Why = "/" + cfg + " is there, and " + mkconfig + " writes it"
	if l.Run = []string{f.program("update-grub")}; l.Run[0] == "" {
		l.Run = []string{mkconfig, "-o", "/" + cfg}
	}
	e := editor{words: shellWords("GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT")}
	const dropIns = "etc/default/grub.d"
	main, _ := f.read("etc/default/grub")
	names := []string{"etc/default/grub"}
	readsDropIns := bytes.Contains(f.head(mkconfig[1:]), []byte("default/grub.d"))
	if readsDropIns {
		names = append(names, f.glob(dropIns+"/*.cfg")...)
	}
	const ours = dropIns + "/panicroom.cfg"
	// Whoever has set the parameter already is edited where it stands.
	set := false
	for _, name := range names {
		text, ok := f.read(name)
		if ok && name != ours && len(e.words(text)) > 0 {
			set = true
			l.files = append(l.files, file{path: name, text: text, editor: e, why: "it has the parameter"})
		}
	}
	mine, ok := f.read(ours)
	switch {
	case ok && readsDropIns:
		e.add = shellAdd("GRUB_CMDLINE_LINUX_DEFAULT", "$GRUB_CMDLINE_LINUX_DEFAULT")
		l.files = append(l.files, file{path: ours, text: mine, editor: e, why: "grub-mkconfig reads it after /etc/default/grub"})
	case set:
	case readsDropIns:
		l.files = append(l.files, file{path: ours, missing: true, editor: e, why: "grub-mkconfig reads it after /etc/default/grub",
			template: "# Written by panicroom reserve; panicroom reserve --undo takes it away.\n" +
				"GRUB_CMDLINE_LINUX_DEFAULT=\"$GRUB_CMDLINE_LINUX_DEFAULT %s\"\n"})
	default:
		name := "GRUB_CMDLINE_LINUX"
		if slices.ContainsFunc(assignments(main), func(a assignment) bool { return a.name == name+"_DEFAULT" }) {
			name += "_DEFAULT"
		}
		e.add = shellAdd(name, "")
		l.files = append(l.files, file{path: "etc/default/grub", text: main, editor: e, why: "this grub-mkconfig reads no other file"})
	}
	return l
}

// entries finds boot loader entries on the partitions where they may be.
func (f *finder) entries() *Found {
	l := &Found{Loader: Entries}
	e := editor{words: entryWords, add: entryAdd}
	var dirs []string
	for _, dir := range []string{"boot", "efi", "boot/efi"} {
		if info, err := fs.Lstat(f.root, dir); err != nil || info.Mode()&fs.ModeSymlink != 0 {
			continue // the same files under another name
		}
		for _, name := range f.glob(dir + "/loader/entries/*.conf") {
			if text, ok := f.read(name); ok && startsKernel(text) {
				l.files = append(l.files, file{path: name, text: text, editor: e, why: "an entry of the boot menu"})
				if at := "/" + path.Dir(name); !slices.Contains(dirs, at) {
					dirs = append(dirs, at)
				}
			}
		}
	}
	if len(l.files) == 0 {
		return nil
	}
	l.Used, l.Why = true, "there are entries in "+strings.Join(dirs, " and ")
	return l
}

// kernelInstall finds the command line that new entries and unified images get.
func (f *finder) kernelInstall() *Found {
	const name = "etc/kernel/cmdline"
	text, ok := f.read(name)
	if !ok {
		return nil
	}
	return &Found{Loader: KernelInstall, Used: true, Why: "/" + name + " is there: kernels that are installed later get it",
		files: []file{{path: name, text: text, editor: editor{words: cmdlineWords, add: cmdlineAdd}, why: "the command line of kernels that are installed later"}}}
}

// ubootMenu finds u-boot-update(8) and the file of those it reads which sets the
// kernel's parameters last: /etc/default/u-boot, then conf.d of the packages, then
// that of /etc (u-boot-update of u-boot-menu 4.2.2).
func (f *finder) ubootMenu() *Found {
	const (
		main = "etc/default/u-boot"
		name = "U_BOOT_PARAMETERS"
		conf = "etc/u-boot-menu/conf.d"
		ours = conf + "/panicroom.conf"
	)
	run := f.program("u-boot-update")
	if run == "" {
		return nil
	}
	l := &Found{Loader: UBootMenu, Used: true, Run: []string{run}, Why: run + " is there, which writes /boot/extlinux/extlinux.conf"}
	text, there := f.read(main)
	if slices.ContainsFunc(assignments(text), func(a assignment) bool {
		return a.name == "U_BOOT_UPDATE" && !bytes.Contains(text[a.start:a.end], []byte("true"))
	}) {
		l.Used, l.Why = false, "/"+main+" says U_BOOT_UPDATE=false"
		return l
	}
	e := editor{words: shellWords(name), add: shellAdd(name, "ro quiet")}
	at := file{path: main, text: text, missing: !there, editor: e, why: "u-boot-update reads it", template: name + "=\"ro quiet %s\"\n"}
	set := false
	for _, n := range append(append([]string{main}, f.glob("usr/share/u-boot-menu/conf.d/*.conf")...), f.glob(conf+"/*.conf")...) {
		text, ok := f.read(n)
		if ok && slices.ContainsFunc(assignments(text), func(a assignment) bool { return a.name == name }) {
			set = true
			at = file{path: n, text: text, editor: e, why: "u-boot-update takes the parameters from it"}
		}
	}
	if strings.HasPrefix(at.path, "usr/") { // a package's: it would lose the change
		at = file{path: ours, missing: true, editor: e, why: "u-boot-update reads it after /" + at.path,
			template: "# Written by panicroom reserve; panicroom reserve --undo takes it away.\n" + name + "=\"$" + name + " %s\"\n"}
	}
	if !set && f.exists("etc/kernel/cmdline") {
		return l // u-boot-update takes the parameters from there
	}
	l.files = []file{at}
	return l
}

// extlinux finds the menu of U-Boot that a person has written.
func (f *finder) extlinux() *Found {
	l := &Found{Loader: Extlinux, Used: true}
	for _, name := range []string{"boot/extlinux/extlinux.conf", "extlinux/extlinux.conf", "boot/efi/extlinux/extlinux.conf", "boot/firmware/extlinux/extlinux.conf"} {
		text, ok := f.read(name)
		switch {
		case !ok:
		case generated(text):
			if f.program("u-boot-update") == "" {
				l.files = append(l.files, file{path: name, text: text, editor: extlinuxEditor(), why: "U-Boot reads it, and u-boot-update, which wrote it, is gone"})
			}
		case len(labels(text)) > 0:
			l.files = append(l.files, file{path: name, text: text, editor: extlinuxEditor(), why: "U-Boot reads it"})
		}
	}
	if len(l.files) == 0 {
		return nil
	}
	l.Why = "/" + l.files[0].path + " is there, written by hand"
	return l
}
