//go:build e2e

package e2e

import (
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/e2e/guest/script"
	"github.com/panicroom-kdump/panicroom/e2e/lab"
)

// freePages is the number of free pages in what makedumpfile says of them.
var freePages = regexp.MustCompile(`(?m)^(?:FREE\s+|    Free pages +: )(0x[0-9a-f]+|\d+)`)

// Called as kexec, with the command lines of scripts and somebody else's
// initramfs: that one is what the panic kernel runs. There, called as
// makedumpfile and vmcore-dmesg with theirs, it saves the dead kernel's memory
// and log; and on the running machine it says how large a dump would be.
func TestKexec(t *testing.T) {
	t.Parallel()
	for _, suite := range []string{"sid", "trixie"} {
		if suite != "sid" && !full() {
			continue
		}
		t.Run(suite, func(t *testing.T) {
			t.Parallel()
			k := kernel(t, suite)
			p := panicRoom(t, k)
			kexec := func(name string, args ...string) script.Step {
				return named(name, lab.Run(append([]string{"kexec"}, args...)...))
			}
			live := func(name, verb string, args ...string) script.Step {
				return named("live: "+name, lab.Run(append([]string{"panicroom", verb, "--live"}, args...)...))
			}
			o := run(t, &lab.Scenario{
				Name: "kexec-" + suite, Kernel: k, CPUs: 2, MemMiB: 2048, Crashkernel: "640M",
				Programs: []string{p}, Files: map[string]string{"/usr/bin/kexec": p, "/usr/bin/makedumpfile": p, "/usr/bin/vmcore-dmesg": p},
				Steps: []script.Step{
					kexec("nothing loaded", "-S"),
					kexec("version", "-v"),
					kexec("size", "--print-ckr-size"),
					kexec("unknown option", "--frobnicate"),
					kexec("no file loading", "-slp", k.Image, "--initrd="+lab.NextInitrd),
					kexec("load the next", "-l", k.Image, "--initrd="+lab.NextInitrd, "--reuse-cmdline"),
					kexec("next loaded", "-S", "-l"),
					kexec("unload the next", "-u"),
					kexec("load", "-p", k.Image, "--initrd="+lab.NextInitrd, "--reuse-cmdline", "--append=nr_cpus=1 by=kexec"),
					kexec("loaded", "-S"),
					named("usage", lab.Run("makedumpfile", "--mem-usage", "/proc/kcore")),
					named("estimate", lab.Run("makedumpfile", "-l", "-d", "31", "/proc/kcore", "/none", "--dry-run", "--show-stats")),
					live("tasks", "ps", "panicroom"),
					live("stack", "bt", "1"),
					live("object", "struct", "task_struct.pid,comm,group_leader->comm", "init_task"),
					live("banner", "rd", "--text", "linux_banner", "13"),
					live("symbols", "sym", "do_epoll_*"),
					live("code", "dis", "schedule", "4"),
					live("use", "mem", "--json"),
					live("modules", "mod"),
					live("kernel log", "log"),
					live("questions", "inspect", "-c", "sys", "-c", "p runqueues.nr_running | runqueues:1", "-c", "mount | /proc"),
					named("nobody", script.Step{Run: &script.Run{Args: []string{"panicroom", "ps", "--live"}, UID: 1000}}),
					crashStep(1),
				},
				Next: []script.Step{
					{Name: "command line", Show: &script.Show{Paths: []string{"/proc/cmdline"}}},
					named("log", lab.Run("vmcore-dmesg", "/proc/vmcore")),
					named("dump-dmesg", lab.Run("makedumpfile", "--dump-dmesg", "/proc/vmcore", "/dmesg")),
					named("dump", lab.Run("makedumpfile", "-l", "--message-level", "7", "-d", "31", "/proc/vmcore", "/vmcore-incomplete")),
					named("log of the dump", lab.Run("panicroom", "log", "/vmcore-incomplete")),
				},
			})
			for step, exit := range map[string]int{
				"nothing loaded": 0, "version": 0, "size": 0, "unknown option": 1, "no file loading": 1,
				"load the next": 0, "next loaded": 1, "unload the next": 0, "load": 0, "loaded": 1, "usage": 0, "estimate": 0,
				"command line": 0, "log": 0, "dump-dmesg": 0, "dump": 0, "log of the dump": 0,
			} {
				if r, ok := o.Step(step); !ok || !r.Ended || r.Exit != exit {
					t.Errorf("%s: %+v; want exit %d", step, r, exit)
				}
			}
			for step, says := range map[string]string{
				"version": "kexec-tools 2.", "size": "671088640", "command line": "nr_cpus=1 by=kexec",
				"log": "] Kernel panic - not syncing: sysrq triggered crash", "dump-dmesg": "The dmesg log is saved to /dmesg.",
				"dump": "makedumpfile Completed.", "log of the dump": "Kernel panic - not syncing: sysrq triggered crash",
				"usage": "FREE\t\t", "estimate": "  Remaining pages  : 0x",
			} {
				if r, _ := o.Step(step); !strings.Contains(r.Stdout, says) {
					t.Errorf("%s says %q; want %q", step, r.Stdout, says)
				}
			}
			for step, says := range map[string]string{"unknown option": "--frobnicate", "no file loading": "CONFIG_KEXEC_FILE"} {
				if r, _ := o.Step(step); !strings.Contains(r.Stderr, says) {
					t.Errorf("%s says %q; want %q", step, r.Stderr, says)
				}
			}
			for _, step := range []string{"usage", "estimate"} {
				// Most of this machine's memory is free.
				r, _ := o.Step(step)
				if m := freePages.FindStringSubmatch(r.Stdout); m == nil {
					t.Errorf("%s does not count free pages: %q, %q", step, r.Stdout, r.Stderr)
				} else if n, err := strconv.ParseInt(m[1], 0, 64); err != nil || n < 1<<17 || n > 1<<19 {
					t.Errorf("%s: %d free pages, %v; want most of 2 GiB without 512 MiB", step, n, err)
				}
			}
			// The running kernel is asked, with the one for a panic in its place.
			for step, says := range map[string]string{
				"tasks": "\n>", "stack": "schedule+0x", "object": "group_leader->comm = \"swapper/0\"", "banner": "Linux version",
				"symbols": " do_epoll_wait\n", "code": "schedule:\n", "use": "\"total\": ", "modules": "NAME\n", "kernel log": "Linux version ",
				"questions": "runqueues:1.nr_running = ",
			} {
				if r, ok := o.Step("live: " + step); !ok || r.Exit != 0 || !strings.Contains(r.Stdout, says) || r.Stderr != "" {
					t.Errorf("live %s: %+v; want %q", step, r, says)
				}
			}
			if r, _ := o.Step("nobody"); r.Exit != 3 || !strings.Contains(r.Stderr, "root") {
				t.Errorf("ps --live of a user: %+v; want exit 3, and that it needs root", r)
			}
			if r, _ := o.Step("command line"); strings.Contains(r.Stdout, "crashkernel") {
				t.Errorf("the panic kernel would reserve memory: %q", r.Stdout)
			}
			if !o.Panicked() || !o.PoweredOff() {
				t.Errorf("it did not panic and power off\n%s", o.Story())
			}
		})
	}
}
