package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/panicroom-kdump/panicroom/kernel"
	"github.com/panicroom-kdump/panicroom/kernel/block"
	"github.com/panicroom-kdump/panicroom/kernel/fs"
	"github.com/panicroom-kdump/panicroom/kernel/mm"
	"github.com/panicroom-kdump/panicroom/kernel/net"
	"github.com/panicroom-kdump/panicroom/kernel/sched"
	"github.com/panicroom-kdump/panicroom/kernel/stack"
	"github.com/panicroom-kdump/panicroom/report"
)

// recorded are answers of crash 9.0.2 about two machines, cut short.
func recorded(t *testing.T) map[string]string {
	t.Helper()
	text := map[string]string{}
	for _, q := range questions {
		b, err := os.ReadFile(filepath.Join("testdata", "answers", strings.ReplaceAll(q, " ", "_")+".txt"))
		if err != nil {
			t.Fatal(err)
		}
		text[q] = string(b)
	}
	return text
}

// agreeing is what panicroom would say if it agreed with crash in everything but in what
// crash is known to tell differently.
func agreeing(t *testing.T, x *theirs) *ours {
	t.Helper()
	at, err := time.Parse(time.UnixDate, x.sys["DATE"])
	if err != nil {
		t.Fatal(err)
	}
	cpus, err := strconv.Atoi(x.sys["CPUS"])
	if err != nil {
		t.Fatal(err)
	}
	o := &ours{symbolAt: func(va kernel.VirtAddr) (string, uint64) {
		return "sysrq_reset_seq_param_set", uint64(va - 0xffffffff806f7f90)
	}, report: &report.Report{
		Kernel:  report.Kernel{Release: x.sys["RELEASE"], Version: x.sys["VERSION"], Arch: "riscv64"},
		Machine: report.Machine{CPUs: cpus},
		Crash:   report.Crash{Time: &at, Reason: strings.TrimPrefix(strings.Trim(x.sys["PANIC"], `"`), "Kernel panic - not syncing: ")},
	}}
	var hours, minutes, seconds uint64
	if _, err := fmt.Sscanf(x.sys["UPTIME"], "%d:%d:%d", &hours, &minutes, &seconds); err != nil {
		t.Fatal(err)
	}
	o.load.Uptime = (hours*3600+minutes*60+seconds)*1e9 + 5e8
	l := &o.load.Averages
	if _, err := fmt.Sscanf(x.sys["LOAD AVERAGE"], "%f, %f, %f", &l[0], &l[1], &l[2]); err != nil {
		t.Fatal(err)
	}
	if o.load.Tasks, err = strconv.Atoi(x.sys["TASKS"]); err != nil {
		t.Fatal(err)
	}
	for _, record := range x.log {
		m := logStamp.FindString(record)
		sec, usec, _ := strings.Cut(strings.Trim(m, "[] "), ".")
		s, err1 := strconv.Atoi(strings.TrimSpace(sec))
		us, err2 := strconv.Atoi(usec)
		if err1 != nil || err2 != nil {
			t.Fatalf("record %q", record)
		}
		o.log = append(o.log, kernel.LogRecord{Time: time.Duration(s)*time.Second + time.Duration(us)*time.Microsecond, Text: record[len(m):]})
	}
	for _, m := range x.modules {
		o.modules = append(o.modules, kernel.Module{Name: m.name, Addr: kernel.VirtAddr(m.addr), Size: m.size,
			Memory: []kernel.ModuleMemory{{Base: kernel.VirtAddr(m.base), Size: m.size}}})
	}
	letters := map[string]string{}
	for letter, word := range states {
		letters[word] = letter
	}
	times := map[uint64]theirTimes{}
	for _, y := range x.times {
		times[y.addr] = y
	}
	o.started = map[kernel.VirtAddr]uint64{}
	for _, y := range x.tasks {
		o.started[kernel.VirtAddr(y.addr)] = times[y.addr].started
		o.tasks = append(o.tasks, sched.Task{
			Addr: kernel.VirtAddr(y.addr), PID: int32(y.pid), TGID: int32(y.pid), PPID: int32(y.ppid), Comm: y.comm, State: letters[y.state],
			CPU: int(y.cpu), OnCPU: y.active, Kernel: y.kernel, RSS: y.rss << 10, Size: y.vsz << 10,
			Started: times[y.addr].started + 1, UserTime: times[y.addr].user, SystemTime: times[y.addr].system,
		})
	}
	for _, y := range x.runQueues {
		q := sched.RunQueue{CPU: int(y.cpu), Current: ref(y.current)}
		for _, w := range y.waiting {
			q.Waiting = append(q.Waiting, ref(w))
		}
		o.runQueues = append(o.runQueues, q)
	}
	for _, y := range x.stacks {
		o.stacks = append(o.stacks, agreeingStack(y))
	}
	for _, y := range x.blocked {
		o.blocked = append(o.blocked, agreeingStack(y))
	}
	pages := map[string]uint64{}
	for _, y := range x.memory {
		pages[y.name] = y.pages * pageSize
	}
	o.memory = &mm.Summary{
		Total: pages["TOTAL MEM"], Free: pages["FREE"], Buffers: pages["BUFFERS"], Cached: pages["CACHED"],
		SlabReclaimable: pages["SLAB"], SwapTotal: pages["TOTAL SWAP"], SwapFree: pages["SWAP FREE"],
		Committed: pages["COMMITTED"] + 77*pageSize, CommitLimit: pages["COMMIT LIMIT"],
		Huge: []mm.HugePages{{Size: 2 << 20, Total: pages["TOTAL HUGE"] >> 21, Free: pages["HUGE FREE"] >> 21}},
	}
	o.shared.committed = pages["COMMITTED"] / pageSize
	for _, z := range x.zones {
		o.memory.Zones = append(o.memory.Zones, mm.Zone{Node: int(z.node), Name: z.name, Present: 2 << 30,
			Free: z.free * pageSize, Min: z.min * pageSize, Low: z.low * pageSize, High: z.high * pageSize})
	}
	for _, y := range x.caches {
		o.caches = append(o.caches, mm.Cache{Name: y.name, Addr: kernel.VirtAddr(y.addr), Object: y.object, Objects: y.total, Slabs: y.slabs})
	}
	for _, y := range x.mounts {
		o.mounts = append(o.mounts, fs.Mount{Addr: kernel.VirtAddr(y.addr), Device: y.device, Point: y.point, Type: y.kind})
	}
	for _, y := range x.net {
		i := net.Interface{Addr: kernel.VirtAddr(y.addr), Name: y.name}
		for _, a := range y.addresses {
			i.Addresses = append(i.Addresses, a+"/24")
		}
		o.net = append(o.net, i)
	}
	for _, y := range x.disks {
		o.disks = append(o.disks, block.Disk{Addr: kernel.VirtAddr(y.addr), Name: y.name, InFlight: make([]block.Request, y.total)})
	}
	return o
}

func ref(y theirStack) sched.Ref {
	return sched.Ref{Addr: kernel.VirtAddr(y.task), PID: int32(y.pid), Comm: y.comm}
}

// agreeingStack is one with the same frames, and with what crash leaves out at the end.
func agreeingStack(y theirStack) cpuStack {
	s := cpuStack{cpu: int(y.cpu), task: kernel.VirtAddr(y.task)}
	for _, f := range y.frames {
		x := stack.Frame{PC: kernel.VirtAddr(f.pc), Function: f.function, Offset: 0x10, Size: 0x20}
		if f.function == "sysrq_reset_seq_param_set" {
			x.Function, x.Offset = "sysrq_handle_crash", x.Size
		}
		s.stack.Frames = append(s.stack.Frames, x)
	}
	s.stack.Frames = append(s.stack.Frames, stack.Frame{PC: 0xffffffff80a8138a, Function: "handle_exception"})
	return s
}

// Whoever agrees has no difference without a reason; who says one thing otherwise has
// that one.
func TestComparisonNotices(t *testing.T) {
	text := recorded(t)
	x, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	o := agreeing(t, x)
	wrong := func(text map[string]string) (all []string) {
		x, err := parse(text)
		if err != nil {
			return []string{err.Error()}
		}
		for _, c := range compareAll(o, x) {
			c.something(true)
			for _, d := range c.Wrong {
				all = append(all, c.Question+": "+d.String())
			}
		}
		return all
	}
	if got := wrong(text); len(got) > 0 {
		t.Fatalf("the same answers differ: %q", got)
	}
	for _, c := range []struct{ question, old, new, want string }{
		{askSys, "RELEASE: 6.12.117", "RELEASE: 6.12.118", "RELEASE"},
		{askSys, "CPUS: 2", "CPUS: 3", "CPUS"},
		{askSys, "20:59:15", "20:59:14", "DATE"},
		{askSys, "20:59:15", "20:59:19", "DATE"},
		{askSys, "00:05:04", "00:05:05", "UPTIME"},
		{askSys, "1.36, 1.05", "1.36, 1.06", "LOAD"},
		{askSys, "TASKS: 80", "TASKS: 81", "TASKS"},
		{askSys, "2 GB", "2.1 GB", "MEMORY"},
		{askSys, "sysrq triggered", "sysrq trigered", "PANIC"},
		{askSys, "NODENAME: (none)", "NODENAME: pc", "NODENAME"},
		{askLog, "1.669142", "1.669143", "record 3"},
		{askLog, "MPTCP", "MPTCQ", "record 3"},
		{askLog, "[  305.237467] Bye...\n", "", "number of records"},
		{askModules, "   208896 ", "   208897 ", "virtio_blk: size"},
		{askModules, "ffffffff01ea1000", "ffffffff01ea2000", "virtio_blk: code"},
		{askModules, "ffffffff01ea5480", "ffffffff01ea5481", "virtio_blk: struct"},
		{askModules, "crc16", "crc17", "module crc16"},
		{askTasks, "    148     136   1", "    148     136   0", "PID 148 (exe): CPU"},
		{askTasks, "    148     136   1", "    148     135   1", "PID 148 (exe): parent"},
		{askTasks, "ff600000037aaac0  IN", "ff600000037aaac0  UN", "PID 148 (exe): state"},
		{askTasks, "832648", "832652", "PID 148 (exe): memory"},
		{askTasks, "2096620", "2096624", "PID 148 (exe): address space"},
		{askTasks, "[kthreadd]", "[kthreade]", "PID 2 (kthreadd): name"},
		{askTasks, ">     158", "      158", "PID 158 (panicroom): on a CPU"},
		{askTasks, "ff6000000373d580", "ff6000000373d581", "nothing"},
		{askTimes, "START TIME: 52000000", "START TIME: 52000002", "PID 1 (init): began"},
		{askTimes, "UTIME: 504000000", "UTIME: 508000000", "PID 1 (init): user"},
		{askStacks, "ffffffff806f864c", "ffffffff806f864e", "frame 3"},
		{askStacks, "__handle_sysrq", "handle_sysrq", "frame 3"},
		{askStacks, "#0 [ff200000000b3e40]", "#0 [ff200000000b3e41] arch_cpu_idle at ffffffff80a75bd0\n #0 [ff200000000b3e40]", "arch_cpu_idle"},
		{askStacks, " #4 [ff20000000343c50] write_sysrq_trigger at ffffffff806f8d7c\n", "", "write_sysrq_trigger"},
		{askStacks, "CPU: 1 ", "CPU: 2 ", "CPU 1"},
		{askBlocked, "ffffffff804b33a6", "ffffffff804b33a8", "frame 4"},
		{askBlocked, "path_openat", "path_openas", "frame 5"},
		{askBlocked, "TASK: ffffffd608ffc200", "TASK: ffffffd608ffc201", "blocked task"},
		{askMemory, "FREE   164167", "FREE   164168", "FREE"},
		{askMemory, "COMMITTED   180316", "COMMITTED   180317", "COMMITTED"},
		{askZones, "5632/7040/8448", "5632/7041/8448", "low"},
		{askCaches, "     1160 ", "     1168 ", "ext4_inode_cache"},
		{askCaches, "fsverity_info", "fsverity", "fsverity_info"},
		{askRunQueues, "ff60000002702ac0", "ff60000002702ac1", "CPU 1: task"},
		{askMounts, "/var/crash", "/var/crush", "/var/crash"},
		{askNet, "lo ", "la ", "lo"},
		{askNet, "10.0.2.15", "10.0.2.16", "eth0: addresses"},
		{askDisks, "vda", "vdb", "vda"},
		{askDisks, "  0     0     0", "  1     0     1", "requests"},
	} {
		changed := strings.Replace(text[c.question], c.old, c.new, 1)
		if changed == text[c.question] {
			t.Errorf("%q is not in the answer to %q", c.old, c.question)
			continue
		}
		altered := map[string]string{}
		for q, a := range text {
			altered[q] = a
		}
		altered[c.question] = changed
		got := wrong(altered)
		if len(got) == 0 || !strings.Contains(strings.Join(got, "; "), c.want) {
			t.Errorf("%s: %q for %q: found %q; want %q", c.question, c.new, c.old, got, c.want)
		}
		for _, w := range got {
			if !strings.HasPrefix(w, c.question+":") && c.question != askTasks {
				t.Errorf("%s: %q for %q: another question is wrong too: %s", c.question, c.new, c.old, w)
			}
		}
	}
}

// What was not understood is not compared, so it must not pass.
func TestParseRefuses(t *testing.T) {
	text := recorded(t)
	for _, q := range questions {
		if q == askLog || q == askStacks || q == askBlocked {
			continue // any line can be one of theirs
		}
		altered := map[string]string{}
		for q, a := range text {
			altered[q] = a
		}
		altered[q] += "Segmentation fault\n"
		if _, err := parse(altered); err == nil || !strings.Contains(err.Error(), q) {
			t.Errorf("%s: %v", q, err)
		}
	}
}

// Where crash cannot answer it says so, in words that are known; other words are no
// excuse.
func TestCannot(t *testing.T) {
	text := recorded(t)
	o := agreeing(t, parsed(t, text))
	for _, question := range []string{askModules, askMemory, askCaches} {
		name := strings.ReplaceAll(question, " ", "_") + ".txt"
		b, err := os.ReadFile(filepath.Join("testdata", "answers-7.2", name))
		if err != nil {
			t.Fatal(err)
		}
		text[question] = string(b)
	}
	x := parsed(t, text)
	for _, c := range compareAll(o, x) {
		switch c.Question {
		case askModules, askCaches:
			if c.Unanswered == "" || c.Things > 0 || len(c.Wrong) > 0 {
				t.Errorf("%s: %+v; want no answer", c.Question, c)
			}
		case askMemory:
			// It is another machine: what matters is that swap has its reason.
			if i := slices.IndexFunc(c.Reasons, func(e explained) bool { return e.Reason == whyNoSwap }); i < 0 || c.Reasons[i].Count != 4 || c.Things != 10 {
				t.Errorf("%s: %+v; want 10 sums, 4 of them without crash's", c.Question, c)
			}
		}
	}
	for _, question := range []string{askModules, askCaches} {
		altered := maps.Clone(text)
		altered[question] = strings.Replace(text[question], "access", "read", 1)
		altered[question] = strings.Replace(altered[question], "kmem_cache_local_node", "kmem_cache_node", 1)
		if _, err := parse(altered); err == nil || altered[question] == text[question] {
			t.Errorf("%s: crash fails in another way, and nobody notices", question)
		}
	}
}

func parsed(t *testing.T, text map[string]string) *theirs {
	t.Helper()
	x, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return x
}
