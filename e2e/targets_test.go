//go:build e2e

package e2e

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/e2e/lab"
	"github.com/panicroom-kdump/panicroom/internal/sys"
	"github.com/panicroom-kdump/panicroom/target/partition"
)

// Guests of these tests have a network device, and a disk for when all else
// fails.
const targetReservation = "192M"

// remote is a scenario with other machines in it.
func remote(t *testing.T, name string, disk *lab.Disk, steps ...script.Step) *lab.Scenario {
	t.Helper()
	k := kernel(t, "sid")
	return &lab.Scenario{
		Name: name, Kernel: k, MemMiB: 640, Crashkernel: targetReservation, Disk: disk, Programs: []string{panicRoom(t, k)},
		Modules: []string{"virtio_net"}, Extra: lab.UserNetwork(), Steps: steps,
	}
}

// network gives the guest what QEMU's network expects.
func network(reach ...string) script.Step {
	return script.Step{Name: "network", Network: &script.Network{Device: "eth0", Addresses: []string{"10.0.2.15/24"}, Gateway: lab.Host, Reach: reach}}
}

// loadTo loads the panic kernel for targets.
func loadTo(targets []string, flags ...string) script.Step {
	args := []string{"panicroom", "load", "--final", "poweroff"}
	for _, t := range targets {
		args = append(args, "--target", t)
	}
	s := lab.Run(append(args, flags...)...)
	s.Name = "load"
	return s
}

// ends checks that the machine went through all of it by itself.
func ends(t *testing.T, o *lab.Outcome) {
	t.Helper()
	for _, r := range o.Results {
		if r.Ended && r.Exit != 0 {
			t.Fatalf("step %s: exit %d %s\n%s", r.Name, r.Exit, r.Text, o.Story())
		}
	}
	if !o.Panicked() || o.CrashKernel() < 0 || !o.PoweredOff() {
		t.Fatalf("panicked %v, panic kernel at line %d, powered off %v\n%s", o.Panicked(), o.CrashKernel(), o.PoweredOff(), o.Story())
	}
}

// entries of a directory, sorted.
func entries(t *testing.T, dir string) []string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// onlyCrash reads the only crash in a directory of this machine, which must be
// complete and as its manifest says.
func onlyCrash(t *testing.T, o *lab.Outcome, dir string) *saved {
	t.Helper()
	names := slices.DeleteFunc(entries(t, dir), func(n string) bool { return n[0] < '0' || n[0] > '9' })
	if len(names) != 1 || strings.HasSuffix(names[0], "-incomplete") {
		t.Fatalf("crashes %q in %s; want one, complete\n%s", names, dir, o.Story())
	}
	s := readSaved(t, filepath.Join(dir, names[0]))
	m := s.manifest
	if !m.Complete || len(m.Reasons) > 0 || len(m.Warnings) > 0 {
		t.Errorf("manifest: complete %v, reasons %q, warnings %q\n%s", m.Complete, m.Reasons, m.Warnings, o.Story())
	}
	if !strings.Contains(s.dmesg, "sysrq triggered crash") || !strings.Contains(s.report, "sysrq triggered crash") {
		t.Errorf("the log or the report does not tell of the panic")
	}
	for _, want := range []string{"dmesg.txt", "vmcore", "report.txt", "report.json"} {
		i := slices.IndexFunc(m.Files, func(f savedFile) bool { return f.Name == want })
		if i < 0 || m.Files[i].SHA256 != sha(t, s.file(want)) {
			t.Errorf("%s is not what the manifest says: %+v", want, m.Files)
		}
	}
	asLoaded(t, s, "")
	t.Logf("memory of the panic kernel: %d KiB, at least %d KiB available; the worker touched %d KiB at most", m.Memory.Total>>10, m.Memory.AvailableMin>>10, m.Memory.PeakRSS>>10)
	return s
}

// attempted checks that the manifest tells of targets that failed, in order, and
// why.
func attempted(t *testing.T, o *lab.Outcome, m manifest, want [][3]string) {
	t.Helper()
	if len(m.Attempts) != len(want) {
		t.Fatalf("attempts %+v; want %d\n%s", m.Attempts, len(want), o.Story())
	}
	for i, w := range want {
		a := m.Attempts[i]
		if a.Target != w[0] || a.Phase != w[1] || !strings.Contains(a.Error, w[2]) || a.Seconds <= 0 {
			t.Errorf("attempt %d: %+v; want target %s to fail in phase %s with %q", i+1, a, w[0], w[1], w[2])
		}
		if _, at := o.Console(regexp.MustCompile(`note: target `+regexp.QuoteMeta(w[0])+` failed, trying .*`+regexp.QuoteMeta(w[2])), o.CrashKernel()); at < 0 {
			t.Errorf("the console does not tell of the failure of %s", w[0])
		}
	}
}

// tmpfs mounts a small filesystem.
func tmpfs(t *testing.T, mib int) string {
	t.Helper()
	dir := t.TempDir()
	if err := sys.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm,mode=0755", mib)); err != nil {
		t.Fatalf("a filesystem that gets full: %v (only root can mount it)", err)
	}
	t.Cleanup(func() {
		if err := sys.Unmount(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// sshFiles are the steps that make a guest know servers and have a key.
func sshFiles(s *lab.SSHServer, known string) []script.Step {
	return []script.Step{
		{Name: "key", Write: &script.Write{Path: "/etc/panicroom/id_ed25519", Mode: 0o600, Data: s.Key}},
		{Name: "known hosts", Write: &script.Write{Path: "/etc/panicroom/known_hosts", Data: []byte(known)}},
	}
}

func startSSH(t *testing.T) *lab.SSHServer {
	t.Helper()
	s, err := lab.StartSSH(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if said, _ := s.Stop(); t.Failed() {
			t.Logf("sshd said:\n%s", said)
		}
	})
	return s
}

func startNFS(t *testing.T, exports map[string]string) *lab.Server {
	t.Helper()
	s, err := lab.StartNFS(t.Context(), t.TempDir(), exports)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if said, _ := s.Stop(); t.Failed() {
			t.Logf("ganesha said:\n%s", said)
		}
	})
	return s
}

func startLine(t *testing.T, to int, after int64) *lab.Line {
	t.Helper()
	l, err := lab.StartLine(to, after)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Stop() })
	return l
}

func place(port int, dir string) string { return fmt.Sprintf("root@%s:%d:%s", lab.Host, port, dir) }

// statusSteps have a guest ask the targets of a configuration.
func statusSteps(tables ...string) []script.Step {
	text := "[[target]]\n" + strings.Join(tables, "\n[[target]]\n") + "\n"
	return []script.Step{
		{Name: "configuration", Write: &script.Write{Path: "/etc/panicroom.toml", Data: []byte(text)}},
		named("status", lab.Run("panicroom", "status", "--json")),
	}
}

// asked is what status says of a target.
type asked struct {
	Asked   bool   `json:"asked"`
	Usable  bool   `json:"usable"`
	Free    uint64 `json:"free"`
	Waiting int    `json:"waiting"`
	Error   string `json:"error"`
}

// targetsOf is what [statusSteps] have found.
func targetsOf(t *testing.T, o *lab.Outcome) []asked {
	t.Helper()
	var answer struct {
		Armed   bool    `json:"armed"`
		Targets []asked `json:"targets"`
	}
	r, _ := o.Step("status")
	if err := json.Unmarshal([]byte(r.Stdout), &answer); err != nil || r.Exit != 0 || !answer.Armed {
		t.Fatalf("status: exit %d, %v\n%s%s", r.Exit, err, r.Stdout, r.Stderr)
	}
	t.Logf("status took %v: %+v", r.Took, answer.Targets)
	return answer.Targets
}

// A dump goes to OpenSSH's server, with the addresses of the dead machine, and is
// as good as one on a disk.
func TestTargetSSH(t *testing.T) {
	t.Parallel()
	server := startSSH(t)
	dir := filepath.Join(t.TempDir(), "srv", "crash")
	to := place(server.Port, dir)
	steps := append(sshFiles(server, lab.KnownHost(lab.Host, server.Port, server.HostKey)), network(), loadTo([]string{"ssh:" + to, lab.CrashDir}, "--test-raw"))
	steps = append(steps, statusSteps(fmt.Sprintf("ssh = %q", to), fmt.Sprintf("ssh = %q", place(9, dir)), fmt.Sprintf("dir = %q", lab.CrashDir))...)
	o := run(t, remote(t, "target-ssh", &lab.Disk{SizeMiB: 64}, append(steps, crashStep(0))...))
	ends(t, o)
	if a := targetsOf(t, o); len(a) != 3 || !a[0].Usable || a[0].Free == 0 || a[1].Usable || a[1].Error == "" || !a[2].Usable {
		t.Errorf("status: %+v; want the first and the last usable", a)
	}
	s := onlyCrash(t, o, dir)
	if len(s.manifest.Attempts) > 0 || !strings.HasPrefix(s.manifest.Path, to+"/") {
		t.Errorf("path %s, attempts %+v", s.manifest.Path, s.manifest.Attempts)
	}
	if crashes, err := o.Crashes(t.Context()); err != nil || len(crashes) > 0 {
		t.Errorf("crashes on the disk: %q, %v; want none", crashes, err)
	}
	judge(t, s, false)
	if t.Failed() {
		t.Log(o.Story())
	}
}

// Whatever is wrong with other machines, the next target is tried, and the disk
// has the dump in the end, with the reasons.
func TestTargetSSHFails(t *testing.T) {
	t.Parallel()
	server, other := startSSH(t), startSSH(t)
	line := startLine(t, server.Port, 6<<20)
	dir, full := t.TempDir(), tmpfs(t, 4)
	const nobody = 9 // discard, which nobody serves
	known := lab.KnownHost(lab.Host, nobody, server.HostKey) +
		lab.KnownHost(lab.Host, other.Port, server.HostKey) +
		lab.KnownHost(lab.Host, line.Port, server.HostKey) +
		lab.KnownHost(lab.Host, server.Port, server.HostKey)
	down, wrong, small, cut := place(nobody, "/crash"), place(other.Port, filepath.Join(dir, "wrong")), place(server.Port, full), place(line.Port, filepath.Join(dir, "cut"))
	steps := append(sshFiles(server, known), network(),
		loadTo([]string{"ssh:" + down, "ssh:" + wrong, "ssh:" + small, "ssh:" + cut, lab.CrashDir}), crashStep(0))
	o := run(t, remote(t, "target-ssh-fails", &lab.Disk{SizeMiB: 512}, steps...))
	ends(t, o)
	disk, err := o.Files(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := onlyCrash(t, o, disk)
	attempted(t, o, s.manifest, [][3]string{
		{down, "target", "refused"}, {wrong, "target", "host key is not the known one"},
		{small, "dump", "no space left"}, {cut, "dump", "connection lost"},
	})
	if _, err := os.Stat(filepath.Join(dir, "wrong")); err == nil {
		t.Errorf("something was written to the machine with the wrong key")
	}
	// What had arrived is there, and is not taken for whole.
	for _, dir := range []string{full, filepath.Join(dir, "cut")} {
		names := entries(t, dir)
		if len(names) != 1 || !strings.HasSuffix(names[0], "-incomplete") {
			t.Errorf("%s has %q; want one incomplete crash", dir, names)
			continue
		}
		if log, err := os.ReadFile(filepath.Join(dir, names[0], "dmesg.txt")); err != nil || !strings.Contains(string(log), "sysrq triggered crash") {
			t.Errorf("the log in %s: %d bytes, %v", dir, len(log), err)
		}
	}
	if t.Failed() {
		t.Log(o.Story())
	}
}

// Addresses come from a DHCP server, and for IPv6 from a router: the first target
// is reached by the one, and refuses us, the second by the other.
func TestTargetDHCP(t *testing.T) {
	t.Parallel()
	server, other := startSSH(t), startSSH(t)
	dir := t.TempDir()
	known := lab.KnownHost(lab.Host, other.Port, server.HostKey) + lab.KnownHost(lab.HostV6, server.Port, server.HostKey)
	wrong := place(other.Port, dir)
	right := fmt.Sprintf("root@[%s]:%d:%s", lab.HostV6, server.Port, dir)
	steps := append(sshFiles(server, known), network(lab.HostV6),
		loadTo([]string{"ssh:" + wrong, "ssh:" + right, lab.CrashDir}, "--network", "dhcp"), crashStep(0))
	o := run(t, remote(t, "target-dhcp", &lab.Disk{SizeMiB: 64}, steps...))
	ends(t, o)
	s := onlyCrash(t, o, dir)
	attempted(t, o, s.manifest, [][3]string{{wrong, "target", "host key is not the known one"}})
	if !strings.HasPrefix(s.manifest.Path, right+"/") {
		t.Errorf("path %s; want it at %s", s.manifest.Path, right)
	}
	if t.Failed() {
		t.Log(o.Story())
	}
}

// A dump goes to an NFS server, after another has refused and a third is full.
func TestTargetNFS(t *testing.T) {
	t.Parallel()
	dir, full := tmpfs(t, 1024), tmpfs(t, 4)
	startNFS(t, map[string]string{"/crash": dir, "/full": full})
	none, small, right := lab.Host+":/none", lab.Host+":/full", lab.Host+":/crash"
	steps := []script.Step{network(), loadTo([]string{"nfs:" + none, "nfs:" + small, "nfs:" + right, lab.CrashDir}, "--test-raw")}
	steps = append(steps, statusSteps(fmt.Sprintf("nfs = %q", none), fmt.Sprintf("nfs = %q", right))...)
	sc := remote(t, "target-nfs", &lab.Disk{SizeMiB: 64}, append(steps, crashStep(0))...)
	sc.Beside = []string{"nfs", "nfsv4"}
	o := run(t, sc)
	ends(t, o)
	s := onlyCrash(t, o, dir)
	attempted(t, o, s.manifest, [][3]string{{none, "target", "no such file"}, {small, "dump", "no space left"}})
	if a := targetsOf(t, o); len(a) != 2 || a[0].Usable || !strings.Contains(a[0].Error, "does not exist") || !a[1].Usable || a[1].Free == 0 {
		t.Errorf("status: %+v; want the second usable", a)
	}
	judge(t, s, false)
	if t.Failed() {
		t.Log(o.Story())
	}
}

// An NFS server that is not there, one that goes away in the middle, and a partition
// that is too small are given up one after the other, and the disk has the dump.
func TestTargetNFSFails(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	server := startNFS(t, map[string]string{"/crash": dir})
	line := startLine(t, server.Port, 6<<20)
	small := emptyPartition(t, 8)
	const nobody = 9 // discard, which nobody serves
	down, cut := lab.Host+":/down", lab.Host+":/crash"
	var config strings.Builder
	fmt.Fprintf(&config, "[[target]]\nnfs = %q\noptions = \"port=%d\"\n", down, nobody)
	fmt.Fprintf(&config, "[[target]]\nnfs = %q\noptions = \"port=%d\"\n", cut, line.Port)
	// Nobody knows which of two disks comes first. The one that has a filesystem is
	// left out.
	fmt.Fprintf(&config, "[[target]]\npartition = \"/dev/vda\"\n[[target]]\npartition = \"/dev/vdb\"\n[[target]]\ndir = %q\n", lab.CrashDir)
	sc := remote(t, "target-nfs-fails", &lab.Disk{SizeMiB: 512},
		script.Step{Name: "config", Write: &script.Write{Path: "/etc/panicroom.toml", Data: []byte(config.String())}}, network(), loadTo(nil), crashStep(0))
	sc.Beside = []string{"nfs", "nfsv4"}
	sc.Extra = append(sc.Extra, attach(small, "room")...)
	o := run(t, sc)
	ends(t, o)
	disk, err := o.Files(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := onlyCrash(t, o, disk)
	if len(s.manifest.Attempts) != 3 {
		t.Fatalf("attempts %+v\n%s", s.manifest.Attempts, o.Story())
	}
	attempted(t, o, s.manifest, [][3]string{
		{down, "target", "refused"}, {cut, "dump", "does not answer any more"}, {s.manifest.Attempts[2].Target, "dump", "no space left"},
	})
	names := entries(t, dir)
	if len(names) != 1 || !strings.HasSuffix(names[0], "-incomplete") {
		t.Errorf("the server has %q; want one incomplete crash", names)
	}
	// The log had room on the partition.
	to := t.TempDir()
	paths, err := partition.Unpack(t.Context(), small, to)
	if len(paths) != 1 || !strings.HasSuffix(paths[0], "-incomplete") {
		t.Fatalf("Unpack = %q, %v; want one incomplete crash", paths, err)
	}
	if log, err := os.ReadFile(filepath.Join(paths[0], "dmesg.txt")); err != nil || !strings.Contains(string(log), "sysrq triggered crash") {
		t.Errorf("the log on the partition: %d bytes, %v", len(log), err)
	}
	if t.Failed() {
		t.Log(o.Story())
	}
}

// emptyPartition is an image of a partition of so many MiB that was prepared.
func emptyPartition(t *testing.T, mib int64) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "partition")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, mib<<20); err != nil {
		t.Fatal(err)
	}
	if _, err := partition.Init(image); err != nil {
		t.Fatal(err)
	}
	return image
}

// A dump lies on a partition until the next boot moves it to the disk.
func TestTargetPartition(t *testing.T) {
	t.Parallel()
	image := emptyPartition(t, 768)
	extra := attach(image, "room")
	k := kernel(t, "sid")
	// Nobody knows which of two disks comes first. The other one is refused, and
	// what was loaded stays.
	first := named("/dev/vda", loadTo([]string{"partition:/dev/vda"}, "--test-raw"))
	second := named("/dev/vdb", loadTo([]string{"partition:/dev/vdb"}, "--test-raw"))
	o := run(t, &lab.Scenario{
		Name: "target-partition", Kernel: k, MemMiB: 640, Crashkernel: "144M", Disk: &lab.Disk{SizeMiB: 64},
		Programs: []string{panicRoom(t, k)}, Extra: extra, Steps: []script.Step{first, second, crashStep(0)},
	})
	var dev string
	for _, name := range []string{"/dev/vda", "/dev/vdb"} {
		r, _ := o.Step(name)
		switch {
		case r.Exit == 0:
			dev = name
		case !strings.Contains(r.Stderr, "it holds ext4") || !strings.Contains(r.Stderr, "hint: choose another partition"):
			t.Errorf("load to a partition with a filesystem: exit %d, %s", r.Exit, r.Stderr)
		}
	}
	if dev == "" || !o.Panicked() || o.CrashKernel() < 0 || !o.PoweredOff() {
		t.Fatalf("loaded for %q, panicked %v, powered off %v\n%s", dev, o.Panicked(), o.PoweredOff(), o.Story())
	}
	copied := image + ".copy"
	raw, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	paths, err := partition.Unpack(t.Context(), copied, dir)
	if err != nil || len(paths) != 1 {
		t.Fatalf("Unpack = %q, %v\n%s", paths, err, o.Story())
	}
	s := onlyCrash(t, o, dir)
	judge(t, s, false)
	inGuest(t, k, extra, dev, s)
	if t.Failed() {
		t.Log(o.Story())
	}
}

// inGuest boots again and unpacks there.
func inGuest(t *testing.T, k *lab.Kernel, extra []string, dev string, first *saved) {
	t.Helper()
	unpack := named("unpack", lab.Run("panicroom", "target", "unpack", dev, "--to", lab.CrashDir))
	again := named("again", lab.Run("panicroom", "target", "unpack", dev))
	o := run(t, &lab.Scenario{
		Name: "target-partition-next", Kernel: k, MemMiB: 512, Disk: &lab.Disk{SizeMiB: 1024}, Programs: []string{panicRoom(t, k)}, Extra: extra,
		Steps: []script.Step{unpack, again},
	})
	if r, ok := o.Step("unpack"); !ok || r.Exit != 0 || !strings.Contains(r.Stdout, lab.CrashDir+"/") {
		t.Fatalf("unpack: exit %d, %q, %q\n%s", r.Exit, r.Stdout, r.Stderr, o.Story())
	}
	if r, ok := o.Step("again"); !ok || r.Exit != 0 || r.Stdout != "" {
		t.Errorf("unpack again: exit %d, %q; want nothing left", r.Exit, r.Stdout)
	}
	crashes, err := o.Crashes(t.Context())
	if err != nil || len(crashes) != 1 {
		t.Fatalf("crashes %q, %v; want one", crashes, err)
	}
	s := readSaved(t, crashes[0])
	for _, f := range first.manifest.Files {
		if f.SHA256 != "" && sha(t, s.file(f.Name)) != f.SHA256 {
			t.Errorf("%s is not what was saved", f.Name)
		}
	}
}

// stacked makes an image of so many MiB of an ext4 filesystem from the first MiB
// on, with something before it.
func stacked(t *testing.T, mib int64, before []byte, at int64) string {
	t.Helper()
	image := filepath.Join(t.TempDir(), "member")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, (1+mib)<<20); err != nil {
		t.Fatal(err)
	}
	mkfs := exec.CommandContext(t.Context(), "/usr/sbin/mkfs.ext4", "-q", "-F", "-m", "0",
		"-U", "01234567-89ab-4def-8123-456789abcdef", "-E", "offset=1048576,root_owner=0:0,hash_seed=01234567-89ab-4def-8123-456789abcdef",
		image, fmt.Sprintf("%dM", mib))
	mkfs.Env = append(os.Environ(), "E2FSPROGS_FAKE_TIME=1764000000")
	if out, err := mkfs.CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v: %s", err, out)
	}
	f, err := os.OpenFile(image, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt(before, at); err != nil {
		t.Fatal(err)
	}
	return image
}

// extracted are the files of the filesystem in such an image, which must have been
// unmounted.
func extracted(t *testing.T, o *lab.Outcome, image string) string {
	t.Helper()
	raw, err := os.ReadFile(image)
	if err != nil {
		t.Fatal(err)
	}
	volume, dir := image+".ext4", t.TempDir()
	if err := os.WriteFile(volume, raw[1<<20:], 0o600); err != nil {
		t.Fatal(err)
	}
	clean, err := lab.ExtractDisk(t.Context(), volume, dir)
	if err != nil || !clean {
		t.Fatalf("the volume was unmounted: %v, %v\n%s", clean, err, o.Story())
	}
	return dir
}

// attach gives a machine one more disk.
func attach(image, serial string) []string {
	return []string{"-drive", "if=none,id=" + serial + ",format=raw,file=" + image, "-device", "virtio-blk-device,drive=" + serial + ",serial=" + serial}
}

const stackedMiB = 384

// A directory on a volume of LVM: the panic kernel makes the volume again.
func TestTargetLVM(t *testing.T) {
	t.Parallel()
	label := make([]byte, 512)
	copy(label, "LABELONE")
	label[8], label[20] = 1, 32
	copy(label[24:], "LVM2 001")
	copy(label[32:], "0a1b2c3d4e5f6g7h8i9j0k1l2m3n4o5p")
	image := stacked(t, stackedMiB, label, 512)
	k := kernel(t, "trixie")
	o := run(t, &lab.Scenario{
		Name: "target-lvm", Kernel: k, MemMiB: 640, Crashkernel: targetReservation, Disk: &lab.Disk{SizeMiB: 64}, Programs: []string{panicRoom(t, k)},
		Modules: []string{"dm_mod"}, Extra: attach(image, "pv"),
		Steps: []script.Step{
			{Name: "map", Map: &script.Map{Serial: "pv", Name: "vg-crash", From: 2048, Sectors: stackedMiB << 11, Target: "/data", Type: "ext4"}},
			loadTo([]string{"/data/crash"}), crashStep(0),
		},
	})
	ends(t, o)
	onlyCrash(t, o, filepath.Join(extracted(t, o, image), "crash"))
	if t.Failed() {
		t.Log(o.Story())
	}
}

// raidMember is a superblock of MD of version 1.2, for a member of a clean mirror of
// two (struct mdp_superblock_1, include/uapi/linux/raid/md_p.h, Linux 7.2).
func raidMember(number int) []byte {
	const maxDev = 2
	b := make([]byte, 256+2*maxDev)
	le := binary.LittleEndian
	le.PutUint32(b, 0xa92b4efc)
	le.PutUint32(b[4:], 1)
	copy(b[16:], "the array itself")
	copy(b[32:], "lab:crash")
	le.PutUint32(b[72:], 1)               // level
	le.PutUint64(b[80:], stackedMiB<<11)  // sectors of it
	le.PutUint32(b[92:], 2)               // disks
	le.PutUint64(b[128:], 2048)           // where data begins
	le.PutUint64(b[136:], stackedMiB<<11) // and how much there is
	le.PutUint64(b[144:], 8)              // where this is
	le.PutUint32(b[160:], uint32(number))
	copy(b[168:], fmt.Sprintf("member number %2d", number))
	le.PutUint64(b[200:], 1)          // events
	le.PutUint64(b[208:], ^uint64(0)) // all is equal
	le.PutUint32(b[220:], maxDev)
	le.PutUint16(b[256:], 0)
	le.PutUint16(b[258:], 1)
	var sum uint64
	for i := 0; i < len(b); i += 4 {
		sum += uint64(le.Uint32(b[i:]))
	}
	le.PutUint32(b[216:], uint32(sum)+uint32(sum>>32))
	return b
}

// A directory on a mirror: the panic kernel assembles it of both disks.
func TestTargetRAID(t *testing.T) {
	t.Parallel()
	k := kernel(t, "trixie")
	images := []string{stacked(t, stackedMiB, raidMember(0), 4096), stacked(t, stackedMiB, raidMember(1), 4096)}
	o := run(t, &lab.Scenario{
		Name: "target-raid", Kernel: k, MemMiB: 640, Crashkernel: targetReservation, Disk: &lab.Disk{SizeMiB: 64}, Programs: []string{panicRoom(t, k)},
		Modules: []string{"raid1"}, Extra: append(attach(images[0], "m0"), attach(images[1], "m1")...),
		Steps: []script.Step{
			{Name: "assemble", Mirror: &script.Mirror{Serials: []string{"m0", "m1"}, Target: "/data", Type: "ext4"}},
			loadTo([]string{"/data/crash"}), crashStep(0),
		},
	})
	ends(t, o)
	// Each half has all of it.
	for _, image := range images {
		onlyCrash(t, o, filepath.Join(extracted(t, o, image), "crash"))
	}
	if t.Failed() {
		t.Log(o.Story())
	}
}

// The kernels that our tests run on may have neither VLANs nor bonds; this one has.
func TestNetworkInGuest(t *testing.T) {
	t.Parallel()
	k := kernel(t, "sid")
	program, err := lab.BuildTest(t.Context(), "internal/network", k.GoArch())
	if err != nil {
		t.Fatal(err)
	}
	tests := named("tests", lab.Run("/usr/bin/network.test", "-test.v", "-test.run", "^TestUp"))
	o := run(t, &lab.Scenario{
		Name: "network", Kernel: k, MemMiB: 512, Modules: []string{"veth", "8021q", "bonding"},
		Files: map[string]string{"/usr/bin/network.test": program}, Steps: []script.Step{tests},
	})
	r, ok := o.Step("tests")
	if !ok || r.Exit != 0 || strings.Contains(r.Stdout, "--- SKIP") || strings.Count(r.Stdout, "--- PASS: TestUp") < 4 {
		t.Errorf("tests of internal/network: exit %d\n%s%s", r.Exit, r.Stdout, r.Stderr)
	}
}
