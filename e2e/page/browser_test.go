//go:build e2e

package page

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// browsers are the programs that will do, the smallest first.
var browsers = []string{"chromium-headless-shell", "chromium"}

// browser is a Chromium that is told what to do in its DevTools protocol: JSON with a
// zero byte behind each message, on file descriptors 3 and 4.
type browser struct {
	t   *testing.T
	out *os.File

	mu      sync.Mutex
	last    int
	waiting map[int]chan message
	tabs    map[string]*tab
	dead    chan struct{}
}

// message is what goes over the pipes, in both directions.
type message struct {
	ID      int             `json:"id,omitempty"`
	Session string          `json:"sessionId,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

// patience is how long the browser may take for one thing on a busy machine.
const patience = 60 * time.Second

// open starts a browser that ends with the test.
func open(t *testing.T) *browser {
	t.Helper()
	program := ""
	for _, name := range browsers {
		if p, err := exec.LookPath(name); err == nil && program == "" {
			program = p
		}
	}
	if program == "" {
		t.Fatal("no Chromium on this machine; scripts/prerequisites page installs one")
	}
	toRead, toWrite, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fromRead, fromWrite, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--headless", "--remote-debugging-pipe", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
		"--disable-dev-shm-usage", "--user-data-dir=" + t.TempDir()}
	if os.Geteuid() == 0 {
		args = append(args, "--no-sandbox") // it has none for root
	}
	cmd := exec.CommandContext(t.Context(), program, append(args, "about:blank")...)
	cmd.ExtraFiles = []*os.File{toRead, fromWrite}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	toRead.Close()
	fromWrite.Close()
	b := &browser{t: t, out: toWrite, waiting: map[int]chan message{}, tabs: map[string]*tab{}, dead: make(chan struct{})}
	go b.read(fromRead)
	t.Cleanup(func() {
		toWrite.Close() // it ends when nobody can tell it anything
		select {
		case <-b.dead:
		case <-time.After(patience):
			_ = cmd.Process.Kill()
		}
		_ = cmd.Wait()
		fromRead.Close()
		if t.Failed() {
			t.Logf("the browser said:\n%s", &stderr)
		}
	})
	return b
}

// read hands on what the browser says.
func (b *browser) read(f *os.File) {
	defer close(b.dead)
	r := bufio.NewReaderSize(f, 1<<20)
	for {
		line, err := r.ReadBytes(0)
		if err != nil {
			return
		}
		var m message
		if err := json.Unmarshal(line[:len(line)-1], &m); err != nil {
			b.t.Errorf("the browser said %.200q: %v", line, err)
			return
		}
		b.mu.Lock()
		if m.ID != 0 {
			if c := b.waiting[m.ID]; c != nil {
				c <- m
				delete(b.waiting, m.ID)
			}
		} else if tab := b.tabs[m.Session]; tab != nil {
			tab.event(m)
		}
		b.mu.Unlock()
	}
}

// call tells the browser to do something, and fills result with what it answers.
func (b *browser) call(session, method string, params, result any) {
	b.t.Helper()
	if params == nil {
		params = struct{}{}
	}
	raw, err := json.Marshal(params)
	if err != nil {
		b.t.Fatal(err)
	}
	answer := make(chan message, 1)
	b.mu.Lock()
	b.last++
	m := message{ID: b.last, Session: session, Method: method, Params: raw}
	b.waiting[m.ID] = answer
	b.mu.Unlock()
	line, err := json.Marshal(m)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.out.Write(append(line, 0)); err != nil {
		b.t.Fatalf("%s: %v", method, err)
	}
	select {
	case m := <-answer:
		if m.Error != nil {
			b.t.Fatalf("%s: %s", method, m.Error.Message)
		}
		if result != nil {
			if err := json.Unmarshal(m.Result, result); err != nil {
				b.t.Fatalf("%s: %v", method, err)
			}
		}
	case <-b.dead:
		b.t.Fatalf("%s: the browser has died", method)
	case <-time.After(patience):
		b.t.Fatalf("%s: no answer in %v", method, patience)
	}
}

// tab is a page that was loaded.
type tab struct {
	b       *browser
	session string
	url     string
	loaded  chan struct{}

	// Guarded by b.mu.
	complaints []string // errors of the console, exceptions, what a policy forbade
	requests   []string // other than for the page itself
}

// load opens a page and waits until it is there. What setup tells the browser comes
// first.
func (b *browser) load(url string, setup func(*tab)) *tab {
	b.t.Helper()
	var target struct{ TargetID string }
	b.call("", "Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var attached struct{ SessionID string }
	b.call("", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	tab := &tab{b: b, session: attached.SessionID, url: url, loaded: make(chan struct{}, 1)}
	b.mu.Lock()
	b.tabs[tab.session] = tab
	b.mu.Unlock()
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		tab.call(domain+".enable", nil, nil)
	}
	if setup != nil {
		setup(tab)
	}
	tab.call("Page.navigate", map[string]any{"url": url}, nil)
	select {
	case <-tab.loaded:
	case <-time.After(patience):
		b.t.Fatalf("%s is not there after %v", url, patience)
	}
	return tab
}

// event notes what the browser tells of its own accord; b.mu is held.
func (t *tab) event(m message) {
	var p struct {
		Type  string
		Args  []struct{ Value, Description any }
		Entry struct{ Level, Text, URL string }
		// The stack of an exception is in its description.
		ExceptionDetails struct {
			Text      string
			Exception struct{ Description string }
		}
		Request struct{ URL string }
	}
	_ = json.Unmarshal(m.Params, &p) // of other events these are not there
	switch m.Method {
	case "Page.loadEventFired":
		select {
		case t.loaded <- struct{}{}:
		default:
		}
	case "Runtime.consoleAPICalled":
		t.complaints = append(t.complaints, fmt.Sprintf("console.%s: %v", p.Type, p.Args))
	case "Runtime.exceptionThrown":
		t.complaints = append(t.complaints, p.ExceptionDetails.Text+" "+p.ExceptionDetails.Exception.Description)
	case "Log.entryAdded":
		t.complaints = append(t.complaints, p.Entry.Level+": "+p.Entry.Text+" "+p.Entry.URL)
	case "Network.requestWillBeSent":
		if u, _, _ := strings.Cut(p.Request.URL, "#"); u != t.url {
			t.requests = append(t.requests, p.Request.URL)
		}
	}
}

func (t *tab) call(method string, params, result any) {
	t.b.t.Helper()
	t.b.call(t.session, method, params, result)
}

// eval fills result with the value of an expression, which may be a promise.
func (t *tab) eval(expression string, result any) {
	t.b.t.Helper()
	var answer struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct {
			Text      string
			Exception struct{ Description string }
		}
	}
	t.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &answer)
	if e := answer.ExceptionDetails; e != nil {
		t.b.t.Fatalf("%s: %s %s", expression, e.Text, e.Exception.Description)
	}
	if result == nil {
		return
	}
	if err := json.Unmarshal(answer.Result.Value, result); err != nil {
		t.b.t.Fatalf("%s = %s: %v", expression, answer.Result.Value, err)
	}
}

// screen is a size in CSS pixels.
func (t *tab) screen(width, height int, mobile bool) {
	t.b.t.Helper()
	t.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile}, nil)
}

// media is what the page is shown on ("screen", "print"), and in which colours
// ("light", "dark").
func (t *tab) media(media, scheme string) {
	t.b.t.Helper()
	t.call("Emulation.setEmulatedMedia", map[string]any{"media": media,
		"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
}

// click clicks an element in its middle, as a mouse does.
func (t *tab) click(selector string) {
	t.b.t.Helper()
	var at struct{ X, Y float64 }
	t.eval(fmt.Sprintf(`(() => { const e = document.querySelector(%q); e.scrollIntoView({ block: "center" });
		const r = e.getBoundingClientRect(); return { x: r.x + r.width / 2, y: r.y + r.height / 2 }; })()`, selector), &at)
	for _, what := range []string{"mousePressed", "mouseReleased"} {
		t.call("Input.dispatchMouseEvent", map[string]any{"type": what, "x": at.X, "y": at.Y, "button": "left", "clickCount": 1}, nil)
	}
}

// press presses a key that writes a character, or one with a name.
func (t *tab) press(key string) {
	t.b.t.Helper()
	down := map[string]any{"type": "keyDown", "key": key}
	switch {
	case len(key) == 1:
		down["text"] = key
	case key == "Enter":
		down["text"], down["windowsVirtualKeyCode"] = "\r", 13
	case key == "Escape":
		down["windowsVirtualKeyCode"] = 27
	}
	t.call("Input.dispatchKeyEvent", down, nil)
	t.call("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": key}, nil)
}

// write writes text where the cursor is.
func (t *tab) write(text string) {
	t.b.t.Helper()
	t.call("Input.insertText", map[string]any{"text": text}, nil)
}

// quiet fails the test if the page complained or asked for anything.
func (t *tab) quiet() {
	t.b.t.Helper()
	t.b.mu.Lock()
	defer t.b.mu.Unlock()
	for _, s := range t.complaints {
		t.b.t.Errorf("the page complains: %s", s)
	}
	for _, s := range t.requests {
		t.b.t.Errorf("the page asks for %s", s)
	}
}
