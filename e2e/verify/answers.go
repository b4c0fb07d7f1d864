package main

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The questions to crash. It answers all of them in one run.
const (
	askSys       = "sys"
	askLog       = "log"
	askModules   = "mod"
	askTasks     = "ps"
	askTimes     = "ps -t"
	askStacks    = "bt -a"
	askBlocked   = "foreach UN bt"
	askMemory    = "kmem -i"
	askCaches    = "kmem -s"
	askZones     = "kmem -z"
	askRunQueues = "runq"
	askMounts    = "mount"
	askNet       = "net"
	askDisks     = "dev -d"
)

var questions = []string{
	askSys, askLog, askModules, askTasks, askTimes, askStacks, askBlocked, askMemory, askCaches, askZones,
	askRunQueues, askMounts, askNet, askDisks,
}

// theirs is what crash said, taken apart.
type theirs struct {
	cannot    map[string]string // what it says where it cannot answer, by the question
	sys       map[string]string
	log       []string // records as it prints them, further lines included
	modules   []theirModule
	tasks     []theirTask
	times     []theirTimes
	stacks    []theirStack
	blocked   []theirStack
	memory    []theirMemory
	caches    []theirCache
	zones     []theirZone
	runQueues []theirQueue
	mounts    []theirMount
	net       []theirInterface
	disks     []theirDisk
}

// parse takes the answers apart. A line that is neither what the question is
// answered with nor known to be said beside it is an error: what is not read is not
// compared.
func parse(text map[string]string) (*theirs, error) {
	t := &theirs{}
	t.cannot = map[string]string{}
	for question, answer := range text {
		for _, line := range lines(answer) {
			if what := strings.TrimSpace(line); slices.Contains(cannot[question], what) {
				t.cannot[question] = what
			}
		}
	}
	for _, q := range []struct {
		question string
		read     func(string) error
	}{
		{askSys, t.readSys},
		{askLog, t.readLog},
		{askModules, t.readModules},
		{askTasks, t.readTasks},
		{askTimes, t.readTimes},
		{askStacks, func(s string) (err error) { t.stacks, err = readStacks(s); return }},
		{askBlocked, func(s string) (err error) { t.blocked, err = readStacks(s); return }},
		{askMemory, t.readMemory},
		{askCaches, t.readCaches},
		{askZones, t.readZones},
		{askRunQueues, t.readRunQueues},
		{askMounts, t.readMounts},
		{askNet, t.readNet},
		{askDisks, t.readDisks},
	} {
		if err := q.read(text[q.question]); err != nil {
			return nil, fmt.Errorf("what crash answers to %q: %w", q.question, err)
		}
	}
	return t, nil
}

// cannot are what crash 9.0.2 says of kernels in which it does not find its way, by the
// question. It may say nothing else in place of an answer.
var cannot = map[string][]string{
	askModules: {"mod: cannot access vmalloc'd module memory"},       // with --no_modules
	askMemory:  {"kmem: invalid structure member offset: " + noNode}, // before the sums
	askCaches:  {"kmem: invalid structure member offset: " + noNode},
}

// noNode is the member that struct kmem_cache has lost between 6.12 and 7.2.
const noNode = "kmem_cache_local_node"

// beside is what crash says of where in itself it failed.
var beside = regexp.MustCompile(`^ *FILE: \S+ +LINE: \d+ +FUNCTION: \w+\(\)$|^\[.*\] error trace: `)

// answer is the lines of an answer without those that say why there is none.
func (t *theirs) answer(question, text string) []string {
	var all []string
	for _, line := range lines(text) {
		if what := strings.TrimSpace(line); t.cannot[question] == "" || what != t.cannot[question] && !beside.MatchString(line) {
			all = append(all, line)
		}
	}
	return all
}

// lines are those of an answer that are not empty, without spaces at their ends.
func lines(text string) []string {
	var all []string
	for line := range strings.Lines(text) {
		if line = strings.TrimRight(line, " \t\r\n"); line != "" {
			all = append(all, line)
		}
	}
	return all
}

// errLine is a line that was not understood.
func errLine(line string) error { return fmt.Errorf("a line that is not understood: %q", line) }

// address reads what crash prints without 0x.
func address(s string) (uint64, error) { return strconv.ParseUint(s, 16, 64) }

// numbers reads decimal numbers.
func numbers(into []*uint64, fields []string) error {
	for i, f := range fields {
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return err
		}
		*into[i] = n
	}
	return nil
}

// readSys reads names and values, a line each.
func (t *theirs) readSys(text string) error {
	t.sys = map[string]string{}
	for _, line := range lines(text) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok {
			return errLine(line)
		}
		t.sys[name] = strings.TrimSpace(value)
	}
	return nil
}

var logStamp = regexp.MustCompile(`^\[ *\d+\.\d{6}\] `)

// readLog puts the lines of each record together.
func (t *theirs) readLog(text string) error {
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case logStamp.MatchString(line):
			t.log = append(t.log, line)
		case len(t.log) == 0:
			return errLine(line)
		default:
			t.log[len(t.log)-1] += "\n" + line
		}
	}
	return nil
}

// theirModule is a line of mod.
type theirModule struct {
	addr, base, size uint64
	name             string
}

func (t *theirs) readModules(text string) error {
	for _, line := range t.answer(askModules, text) {
		f := strings.Fields(line)
		switch {
		case f[0] == "MODULE":
			continue
		case len(f) < 5:
			return errLine(line)
		}
		m := theirModule{name: f[1]}
		var err error
		if m.addr, err = address(f[0]); err != nil {
			return errLine(line)
		}
		if m.base, err = address(f[2]); err != nil {
			return errLine(line)
		}
		if m.size, err = strconv.ParseUint(f[3], 10, 64); err != nil {
			return errLine(line)
		}
		t.modules = append(t.modules, m)
	}
	return nil
}

// theirTask is a line of ps; sizes are in KiB.
type theirTask struct {
	active         bool
	pid, ppid, cpu uint64
	addr           uint64
	state          string
	vsz, rss       uint64
	comm           string // without brackets
	kernel         bool   // it had brackets: a kernel thread
}

// psLine: what crash marks with >, PID, PPID, CPU, TASK, ST, %MEM, VSZ, RSS, COMM.
var psLine = regexp.MustCompile(`^([> ]) +(\d+) +(\d+) +(\d+) +([0-9a-f]{16}) +([A-Z?]{2}) +\d+\.\d +(\d+) +(\d+) +(.*)$`)

func (t *theirs) readTasks(text string) error {
	for _, line := range lines(text) {
		if strings.HasPrefix(strings.TrimSpace(line), "PID ") {
			continue
		}
		m := psLine.FindStringSubmatch(line)
		if m == nil {
			return errLine(line)
		}
		x := theirTask{active: m[1] == ">", state: m[6], comm: m[9]}
		var err error
		if x.addr, err = address(m[5]); err != nil {
			return errLine(line)
		}
		if err := numbers([]*uint64{&x.pid, &x.ppid, &x.cpu, &x.vsz, &x.rss}, []string{m[2], m[3], m[4], m[7], m[8]}); err != nil {
			return errLine(line)
		}
		if inner, ok := strings.CutPrefix(x.comm, "["); ok && strings.HasSuffix(inner, "]") {
			x.comm, x.kernel = strings.TrimSuffix(inner, "]"), true
		}
		t.tasks = append(t.tasks, x)
	}
	return nil
}

// theirTimes is what ps -t says of a task, in nanoseconds.
type theirTimes struct {
	addr                  uint64
	started, user, system uint64
}

var timeLine = regexp.MustCompile(`^ *(RUN TIME|START TIME|UTIME|STIME): (.*)$`)

func (t *theirs) readTimes(text string) error {
	for _, line := range lines(text) {
		if head, err := readHead(line); err == nil {
			t.times = append(t.times, theirTimes{addr: head.task})
			continue
		}
		m := timeLine.FindStringSubmatch(line)
		if m == nil || len(t.times) == 0 {
			return errLine(line)
		}
		x := &t.times[len(t.times)-1]
		into := map[string]*uint64{"START TIME": &x.started, "UTIME": &x.user, "STIME": &x.system}[m[1]]
		if into == nil {
			continue
		}
		if err := numbers([]*uint64{into}, m[2:]); err != nil {
			return errLine(line)
		}
	}
	return nil
}

// theirStack is a backtrace.
type theirStack struct {
	pid, task, cpu uint64
	comm           string
	frames         []theirFrame
	// said is what crash says instead of frames, or beside them.
	said []string
}

// theirFrame is a line of it: where the frame lies, and where the function was.
type theirFrame struct {
	at, pc   uint64
	function string
}

var (
	headLine  = regexp.MustCompile(`^PID: (\d+) +TASK: ([0-9a-f]{16}) +CPU: (\d+) +COMMAND: "(.*)"$`)
	frameLine = regexp.MustCompile(`^ *#\d+ \[([0-9a-f]{16})\] (.*) at ([0-9a-f]{1,16})(?: \[\S+\])?$`)
)

func readHead(line string) (s theirStack, err error) {
	m := headLine.FindStringSubmatch(line)
	if m == nil {
		return s, errLine(line)
	}
	s.comm = m[4]
	if err := numbers([]*uint64{&s.pid, &s.cpu}, []string{m[1], m[3]}); err != nil {
		return s, errLine(line)
	}
	s.task, err = address(m[2])
	return s, err
}

func readStacks(text string) ([]theirStack, error) {
	var all []theirStack
	for _, line := range lines(text) {
		if s, err := readHead(line); err == nil {
			all = append(all, s)
			continue
		}
		if len(all) == 0 {
			return nil, errLine(line)
		}
		s := &all[len(all)-1]
		m := frameLine.FindStringSubmatch(line)
		if m == nil {
			s.said = append(s.said, strings.TrimSpace(line))
			continue
		}
		at, err1 := address(m[1])
		pc, err2 := address(m[3])
		if err1 != nil || err2 != nil {
			return nil, errLine(line)
		}
		s.frames = append(s.frames, theirFrame{at: at, pc: pc, function: m[2]})
	}
	return all, nil
}

// theirMemory is a line of kmem -i: a name and a number of pages.
type theirMemory struct {
	name  string
	pages uint64
}

var memoryLine = regexp.MustCompile(`^ *([A-Z ]+?) +(\d+) +\S.*$`)

func (t *theirs) readMemory(text string) error {
	for _, line := range t.answer(askMemory, text) {
		if strings.HasPrefix(strings.TrimSpace(line), "PAGES ") {
			continue
		}
		m := memoryLine.FindStringSubmatch(line)
		if m == nil {
			return errLine(line)
		}
		x := theirMemory{name: m[1]}
		if err := numbers([]*uint64{&x.pages}, m[2:3]); err != nil {
			return errLine(line)
		}
		t.memory = append(t.memory, x)
	}
	return nil
}

// theirCache is a line of kmem -s.
type theirCache struct {
	addr, object, total, slabs uint64
	counted                    bool // total and slabs are known
	name                       string
}

// besideCaches is what crash says between the caches: it cannot read struct pages on
// riscv64, so it knows of no cache with slabs how many.
var besideCaches = regexp.MustCompile(`^(kmem: |invalid for [0-9a-f]+ address|!_PAGE_PRESENT)`)

var cacheLine = regexp.MustCompile(`^([0-9a-f]{16}) +(\d+) +(\d+|\?) +(\d+|\?) +(\d+|\?) +(\d+k) +(\S.*)$`)

func (t *theirs) readCaches(text string) error {
	for _, line := range t.answer(askCaches, text) {
		if strings.HasPrefix(line, "CACHE ") || besideCaches.MatchString(line) {
			continue
		}
		m := cacheLine.FindStringSubmatch(line)
		if m == nil {
			return errLine(line)
		}
		x := theirCache{name: m[7]}
		var err error
		if x.addr, err = address(m[1]); err != nil {
			return errLine(line)
		}
		if err := numbers([]*uint64{&x.object}, m[2:3]); err != nil {
			return errLine(line)
		}
		if !slices.Contains(m[3:6], "?") {
			x.counted = true
			if err := numbers([]*uint64{&x.total, &x.slabs}, m[4:6]); err != nil {
				return errLine(line)
			}
		}
		t.caches = append(t.caches, x)
	}
	return nil
}

// theirZone is what kmem -z says of a zone that has memory.
type theirZone struct {
	node           uint64
	name           string
	min, low, high uint64 // pages
	free           uint64 // pages
}

var (
	zoneLine  = regexp.MustCompile(`^NODE: (\d+) +ZONE: \d+ +ADDR: [0-9a-f]{16} +NAME: "(.*)"$`)
	marksLine = regexp.MustCompile(`^ *SIZE: \d+ (?: *PRESENT: \d+ )? *MIN/LOW/HIGH: (\d+)/(\d+)/(\d+)$`)
	statLine  = regexp.MustCompile(`^ *([A-Z][A-Z0-9_]+): (-?\d+)$`)
)

func (t *theirs) readZones(text string) error {
	var z *theirZone
	for _, line := range lines(text) {
		if m := zoneLine.FindStringSubmatch(line); m != nil {
			z = &theirZone{name: m[2]}
			if err := numbers([]*uint64{&z.node}, m[1:2]); err != nil {
				return errLine(line)
			}
			continue
		}
		if z == nil {
			return errLine(line)
		}
		text := strings.TrimSpace(line)
		if m := marksLine.FindStringSubmatch(line); m != nil {
			if err := numbers([]*uint64{&z.min, &z.low, &z.high}, m[1:]); err != nil {
				return errLine(line)
			}
			continue
		}
		m := statLine.FindStringSubmatch(line)
		switch {
		case text == "[unpopulated]", text == "VM_STAT:":
		case m == nil:
			return errLine(line)
		case m[1] == "NR_FREE_PAGES":
			if err := numbers([]*uint64{&z.free}, m[2:]); err != nil {
				return errLine(line)
			}
			t.zones = append(t.zones, *z)
		}
	}
	return nil
}

// theirQueue is what runq says of a CPU.
type theirQueue struct {
	cpu     uint64
	current theirStack
	waiting []theirStack // without frames
}

var (
	queueLine   = regexp.MustCompile(`^CPU (\d+) RUNQUEUE: [0-9a-f]{16}$`)
	currentLine = regexp.MustCompile(`^ *CURRENT: PID: (\d+) +TASK: ([0-9a-f]{16}) +COMMAND: "(.*)"$`)
	waitingLine = regexp.MustCompile(`^ *\[ *\d+\] (?:GROUP: .* )?PID: (\d+) +TASK: ([0-9a-f]{16}) +COMMAND: "(.*)"`)
	queueKind   = regexp.MustCompile(`^ *(RT PRIO_ARRAY|CFS RB_ROOT|DL RB_ROOT|GROUP CFS RB_ROOT|\[no tasks queued\])`)
)

func (t *theirs) readRunQueues(text string) error {
	task := func(m []string) (s theirStack, err error) {
		s.comm = m[3]
		if err := numbers([]*uint64{&s.pid}, m[1:2]); err != nil {
			return s, err
		}
		s.task, err = address(m[2])
		return s, err
	}
	for _, line := range lines(text) {
		if m := queueLine.FindStringSubmatch(line); m != nil {
			q := theirQueue{}
			if err := numbers([]*uint64{&q.cpu}, m[1:]); err != nil {
				return errLine(line)
			}
			t.runQueues = append(t.runQueues, q)
			continue
		}
		if len(t.runQueues) == 0 {
			return errLine(line)
		}
		q := &t.runQueues[len(t.runQueues)-1]
		var err error
		if m := currentLine.FindStringSubmatch(line); m != nil {
			if q.current, err = task(m); err != nil {
				return errLine(line)
			}
			continue
		}
		if m := waitingLine.FindStringSubmatch(line); m != nil {
			s, err := task(m)
			if err != nil {
				return errLine(line)
			}
			q.waiting = append(q.waiting, s)
			continue
		}
		if !queueKind.MatchString(line) {
			return errLine(line)
		}
	}
	return nil
}

// theirMount is a line of mount.
type theirMount struct {
	addr                uint64
	kind, device, point string
}

func (t *theirs) readMounts(text string) error {
	for _, line := range lines(text) {
		f := strings.Fields(line)
		if f[0] == "MOUNT" {
			continue
		}
		at, err := address(f[0])
		if err != nil || len(f) != 5 {
			return errLine(line)
		}
		t.mounts = append(t.mounts, theirMount{addr: at, kind: f[2], device: f[3], point: f[4]})
	}
	return nil
}

// theirInterface is a line of net.
type theirInterface struct {
	addr      uint64
	name      string
	addresses []string
}

func (t *theirs) readNet(text string) error {
	for _, line := range lines(text) {
		f := strings.Fields(line)
		if f[0] == "NET_DEVICE" {
			continue
		}
		at, err := address(f[0])
		if err != nil || len(f) < 2 {
			return errLine(line)
		}
		x := theirInterface{addr: at, name: f[1]}
		for _, a := range f[2:] {
			x.addresses = append(x.addresses, strings.TrimSuffix(a, ","))
		}
		t.net = append(t.net, x)
	}
	return nil
}

// theirDisk is a line of dev -d.
type theirDisk struct {
	addr  uint64
	name  string
	total uint64 // requests under way
}

func (t *theirs) readDisks(text string) error {
	for _, line := range lines(text) {
		f := strings.Fields(line)
		if f[0] == "MAJOR" {
			continue
		}
		if len(f) < 7 {
			return errLine(line)
		}
		x := theirDisk{name: f[2]}
		var err error
		if x.addr, err = address(f[1]); err != nil {
			return errLine(line)
		}
		if err := numbers([]*uint64{&x.total}, f[4:5]); err != nil {
			return errLine(line)
		}
		t.disks = append(t.disks, x)
	}
	return nil
}
