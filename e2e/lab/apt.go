package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/panicroom-kdump/panicroom/internal/ui"
)

// archiveKeyring verifies the signatures of the Debian archive, whatever keys
// the machine itself trusts.
const archiveKeyring = "/usr/share/keyrings/debian-archive-keyring.gpg"

// archive is one suite of Debian for one architecture, in an apt state
// directory of its own.
type archive struct {
	dir   string // state directory
	suite string // as it was asked for
	used  string // the name under which the mirror has it whole: suite or its alias
	arch  string // like riscv64, or sourceArch
	uri   string // of the mirror
}

// sourceArch in the place of an architecture means source packages.
const sourceArch = "source"

// openArchive makes the state directory and brings its package lists up to
// date. A mirror that is being synchronised can serve a suite whole under one
// of its two names (stable or trixie) and broken under the other, so both are
// tried; what counts is that the signed Release carries the wanted name.
func openArchive(ctx context.Context, cache, suite, arch string, say Say) (*archive, error) {
	if !suiteName.MatchString(suite) {
		return nil, fmt.Errorf("suite %q: not the name of a suite", suite)
	}
	if _, err := os.Stat(archiveKeyring); err != nil {
		return nil, ui.Hint(fmt.Errorf("the keys of the Debian archive: %w", err),
			"apt-get install debian-archive-keyring (scripts/prerequisites does it)")
	}
	uri, err := mirror(ctx)
	if err != nil {
		return nil, err
	}
	var all []error
	tried := map[string]bool{}
	for names := []string{suite}; len(names) > 0; names = names[1:] {
		name := names[0]
		if tried[name] {
			continue
		}
		tried[name] = true
		a := &archive{dir: filepath.Join(cache, "apt", arch+"-"+name), suite: suite, used: name, arch: arch, uri: uri}
		err := a.update(ctx)
		if err == nil {
			if name != suite {
				say("suite %s: the mirror has it broken under that name (%v); using its alias %s, whose signed Release says %s",
					suite, firstLine(all[0]), name, suite)
			}
			return a, nil
		}
		all = append(all, fmt.Errorf("as %q: %w", name, err))
		if ctx.Err() != nil {
			break
		}
		if name == suite {
			names = append(names, a.aliases()...)
		}
	}
	return nil, ui.Hint(fmt.Errorf("suite %s for %s at %s: %w", suite, arch, uri, errors.Join(all...)),
		"a mirror in the middle of its synchronisation is whole again after some minutes: try again",
		"another mirror: make ... DEBIAN_MIRROR=URL",
		"behind a proxy: apt's own settings (/etc/apt/apt.conf.d, http_proxy) are used")
}

var suiteName = regexp.MustCompile(`^[a-z][a-z0-9-]*$`)

// mirror finds the URI of the Debian archive that this machine uses.
func mirror(ctx context.Context) (string, error) {
	if uri := os.Getenv("DEBIAN_MIRROR"); uri != "" {
		return uri, nil
	}
	missing := ui.Hint(errors.New("this machine's apt configuration names no Debian archive"),
		"give the mirror: make ... DEBIAN_MIRROR=URL",
		"or, if apt was never used here: apt-get update")
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format",
		"$(ORIGIN)\t$(LABEL)\t$(COMPONENT)\t$(REPO_URI)", "Created-By: Packages").Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "", ui.Hint(fmt.Errorf("kernels are fetched with apt: %w", err),
			"run this on Debian (a container of it will do)")
	}
	if err != nil {
		return "", fmt.Errorf("apt-get indextargets: %w", exitText(err))
	}
	for line := range strings.Lines(string(out)) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		if len(f) == 4 && f[0] == "Debian" && f[1] == "Debian" && f[2] == "main" {
			return f[3], nil
		}
	}
	// No package lists on this machine yet: apt still tells what it would fetch.
	out, err = exec.CommandContext(ctx, "apt-get", "--print-uris", "update").Output()
	if err != nil {
		return "", missing
	}
	for line := range strings.Lines(string(out)) {
		quoted, _, _ := strings.Cut(line, " ")
		base, rest, ok := strings.Cut(strings.Trim(quoted, "'"), "/dists/")
		suite, _, _ := strings.Cut(rest, "/")
		if ok && strings.HasSuffix(strings.TrimSuffix(base, "/"), "/debian") && !strings.Contains(suite, "-") {
			return base + "/", nil
		}
	}
	return "", missing
}

// configure writes the private apt configuration. It starts from the
// machine's own acquire settings (proxies, certificates, timeouts), but not
// from the rest: hooks that other packages put into the machine's apt must not
// run, and only the index of packages is wanted, not descriptions and icons.
func (a *archive) configure(ctx context.Context) error {
	for _, d := range []string{"lists/partial", "archives/partial", "parts"} {
		if err := os.MkdirAll(filepath.Join(a.dir, d), 0o755); err != nil {
			return err
		}
	}
	source := fmt.Sprintf("deb [arch=%s signed-by=%s] %s %s main\n", a.arch, archiveKeyring, a.uri, a.used)
	if a.arch == sourceArch {
		source = fmt.Sprintf("deb-src [signed-by=%s] %s %s main\n", archiveKeyring, a.uri, a.used)
	}
	var conf strings.Builder
	dump, err := exec.CommandContext(ctx, "apt-config", "dump", "Acquire").Output()
	if err != nil {
		return fmt.Errorf("apt-config dump: %w", exitText(err))
	}
	for line := range strings.Lines(string(dump)) {
		key, _, _ := strings.Cut(line, " ")
		switch {
		case !strings.HasPrefix(key, "Acquire::"),
			strings.HasPrefix(key, "Acquire::IndexTargets"),
			strings.HasPrefix(key, "Acquire::Languages"),
			strings.HasPrefix(key, "Acquire::AllowInsecure"),
			strings.HasPrefix(key, "Acquire::AllowDowngrade"),
			strings.HasPrefix(key, "Acquire::AllowWeak"):
			continue
		}
		conf.WriteString(line)
	}
	set := func(key, value string) { fmt.Fprintf(&conf, "%s %q;\n", key, value) }
	set("Dir::State", a.dir)
	set("Dir::State::lists", filepath.Join(a.dir, "lists"))
	set("Dir::State::status", filepath.Join(a.dir, "status"))
	set("Dir::State::extended_states", filepath.Join(a.dir, "extended_states"))
	set("Dir::Cache", a.dir)
	set("Dir::Cache::archives", filepath.Join(a.dir, "archives"))
	set("Dir::Etc::sourcelist", filepath.Join(a.dir, "sources.list"))
	for _, k := range []string{"sourceparts", "preferencesparts", "parts", "trustedparts"} {
		set("Dir::Etc::"+k, filepath.Join(a.dir, "parts"))
	}
	set("Dir::Etc::main", "/dev/null")
	set("Dir::Etc::preferences", "/dev/null")
	set("Dir::Etc::trusted", "/dev/null")
	if a.arch != sourceArch {
		set("APT::Architecture", a.arch)
		set("APT::Architectures::", a.arch)
	}
	set("APT::Install-Recommends", "false")
	set("APT::Sandbox::User", "") // the state directory may not be open to apt's own user
	set("Acquire::Languages", "none")
	set("Acquire::Retries", "2")
	set("Debug::NoLocking", "true") // the lock of the cache covers it
	for name, text := range map[string]string{"sources.list": source, "apt.conf": conf.String(), "status": ""} {
		if err := os.WriteFile(filepath.Join(a.dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// run runs one of apt's programs on the private state and returns its output.
func (a *archive) run(ctx context.Context, workdir string, argv ...string) ([]byte, error) {
	c := exec.CommandContext(ctx, argv[0], argv[1:]...)
	c.Dir = workdir
	c.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(a.dir, "apt.conf"), "LC_ALL=C", "DEBIAN_FRONTEND=noninteractive")
	out, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", argv[0], exitText(err))
	}
	return out, nil
}

// update fetches the package lists and checks that they are the wanted ones.
func (a *archive) update(ctx context.Context) error {
	if err := a.configure(ctx); err != nil {
		return err
	}
	// Without Error-Mode=any apt calls a mirror that cannot be reached a
	// warning and goes on with what it had.
	if _, err := a.run(ctx, a.dir, "apt-get", "-q", "update", "--error-on=any"); err != nil {
		return err
	}
	index := "Packages"
	if a.arch == sourceArch {
		index = "Sources"
	}
	out, err := a.run(ctx, a.dir, "apt-get", "indextargets", "--format", "$(SUITE)\t$(CODENAME)", "Created-By: "+index)
	if err != nil {
		return err
	}
	names := strings.Fields(string(out))
	if !slices.Contains(names, a.suite) {
		return fmt.Errorf("its signed Release says %s; want %s", strings.Join(names, ", "), a.suite)
	}
	return nil
}

// aliases are other names under which the mirror may have the same suite: the
// ones in a Release that the failed update left, then the names that move.
// They are guesses; update checks each against its signed Release.
func (a *archive) aliases() []string {
	var names []string
	found, _ := filepath.Glob(filepath.Join(a.dir, "lists", "partial", "*Release"))
	more, _ := filepath.Glob(filepath.Join(a.dir, "lists", "*Release"))
	for _, path := range append(found, more...) {
		b, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		for _, m := range releaseName.FindAllSubmatch(b[:min(len(b), 4096)], -1) {
			names = append(names, string(m[1]))
		}
	}
	names = append(names, "stable", "testing", "unstable", "oldstable")
	slices.Sort(names[:len(names)-4])
	return names
}

var releaseName = regexp.MustCompile(`(?m)^(?:Suite|Codename): ([a-z][a-z0-9-]*)$`)

// control is one stanza of a package index.
type control map[string]string

// show reads the newest stanza of a package.
func (a *archive) show(ctx context.Context, pkg string) (control, error) {
	out, err := a.run(ctx, a.dir, "apt-cache", "show", "--no-all-versions", pkg)
	if err != nil {
		return nil, fmt.Errorf("package %s in %s (%s): %w", pkg, a.suite, a.arch, err)
	}
	return parseControl(out), nil
}

// parseControl reads the first stanza of deb822 text.
func parseControl(text []byte) control {
	c := control{}
	last := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimRight(line, "\n")
		if line == "" {
			break
		}
		if line[0] == ' ' || line[0] == '\t' {
			c[last] += "\n" + strings.TrimSpace(line)
			continue
		}
		key, value, ok := strings.Cut(line, ":")
		if !ok {
			continue
		}
		last = key
		c[key] = strings.TrimSpace(value)
	}
	return c
}

// pinned are the packages that c depends on in exactly its own version: the
// parts of the same build.
func (c control) pinned() []string {
	var names []string
	for dep := range strings.SplitSeq(c["Depends"], ",") {
		name, rest, ok := strings.Cut(strings.TrimSpace(dep), " ")
		if ok && rest == "(= "+c["Version"]+")" {
			names = append(names, name)
		}
	}
	return names
}

// download fetches packages into dir, checked against the signed index.
func (a *archive) download(ctx context.Context, dir string, packages []string) error {
	_, err := a.run(ctx, dir, append([]string{"apt-get", "-q", "download"}, packages...)...)
	return err
}

// unpack unpacks every package in from into root and removes it.
func unpack(ctx context.Context, from, root string) error {
	debs, err := filepath.Glob(filepath.Join(from, "*.deb"))
	if err != nil {
		return err
	}
	if len(debs) == 0 {
		return fmt.Errorf("%s: apt fetched no package", from)
	}
	for _, deb := range debs {
		c := exec.CommandContext(ctx, "dpkg-deb", "--extract", deb, root)
		if _, err := c.Output(); err != nil {
			return fmt.Errorf("dpkg-deb --extract %s: %w", filepath.Base(deb), exitText(err))
		}
		if err := os.Remove(deb); err != nil {
			return err
		}
	}
	return nil
}

// exitText puts what a program said on its standard error into its error.
func exitText(err error) error {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return err
	}
	var said []string
	for line := range bytes.Lines(exit.Stderr) {
		s := strings.TrimSpace(string(line))
		if s == "" || strings.HasPrefix(s, "W:") {
			continue
		}
		said = append(said, strings.TrimPrefix(s, "E: "))
	}
	if len(said) == 0 {
		return err
	}
	return fmt.Errorf("%s", strings.Join(said, "; "))
}

func firstLine(err error) string {
	s, _, _ := strings.Cut(err.Error(), ";")
	s, _, _ = strings.Cut(s, "\n")
	return s
}
