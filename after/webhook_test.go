package after

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// receiver is a server that answers with these codes, one after the other, and
// then with the last.
type receiver struct {
	*httptest.Server
	codes []int
	got   []string
}

func newReceiver(t *testing.T, codes ...int) *receiver {
	r := &receiver{codes: codes}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			t.Error(err)
		}
		user, password, _ := req.BasicAuth()
		r.got = append(r.got, fmt.Sprintf("%s %s %s %s:%s %s", req.Method, req.URL, req.Header.Get("Content-Type"), user, password, body))
		code := r.codes[0]
		if len(r.codes) > 1 {
			r.codes = r.codes[1:]
		}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(code)
		fmt.Fprint(w, "hunter2")
	}))
	t.Cleanup(r.Close)
	return r
}

// url is that of the server, with secrets in it.
func (r *receiver) url() string {
	return strings.Replace(r.URL, "://", "://user:hunter2@", 1) + "/hunter2?token=hunter2"
}

func (r *receiver) host() string { return strings.TrimPrefix(r.URL, "http://") }

func TestWebhook(t *testing.T) {
	m := newMachine(t)
	r := newReceiver(t, 503, 429, 200)
	m.opts.Config.Notify.Webhook = r.url()
	path := m.put("crash-incomplete", 10, "the disk was full")
	said, err := m.run()
	if err != nil || !strings.HasSuffix(said, "\nwebhook: "+r.host()+" was told of crash-incomplete") || strings.Contains(said, "hunter2") {
		t.Errorf("said %q, %v", said, err)
	}
	if len(r.got) != 3 || r.got[0] != r.got[2] {
		t.Fatalf("the server got %q", r.got)
	}
	text, ok := strings.CutPrefix(r.got[0], "POST /hunter2?token=hunter2 application/json user:hunter2 ")
	var got map[string]any
	if err := json.Unmarshal([]byte(text), &got); !ok || err != nil {
		t.Fatalf("%q: %v", r.got[0], err)
	}
	crash := got["crash"].(map[string]any)
	for key, want := range map[string]any{"path": path, "name": "crash-incomplete", "time": "2026-11-25T11:50:00Z", "kernel": "6.12.107", "host": "board", "complete": false, "title": "Kernel panic - not syncing: test"} {
		if crash[key] != want {
			t.Errorf("crash.%s = %v; want %v", key, crash[key], want)
		}
	}
	if got["version"] != 1.0 || got["event"] != "crash" || got["host"] == "" || fmt.Sprint(crash["reasons"]) != "[the disk was full]" {
		t.Errorf("got %v", got)
	}
	m.runs() // it has arrived
}

// A server that refuses, or sends elsewhere, is not asked again.
func TestWebhookRefused(t *testing.T) {
	for _, code := range []int{400, 404, 301, 307} {
		m := newMachine(t)
		r := newReceiver(t, code)
		m.opts.Config.Notify.Webhook = r.url()
		m.put("crash", 10)
		said, err := m.run()
		want := fmt.Sprintf("\nwebhook: %s was not told of crash: the server answers %d %s", r.host(), code, http.StatusText(code))
		if !errors.Is(err, ErrProblems) || !strings.HasSuffix(said, want) || len(r.got) != 1 {
			t.Errorf("%d: said %q, %v; the server got %d", code, said, err, len(r.got))
		}
		m.runs()
	}
}

// The network is down: the next boot tries again, and at some time no more.
func TestWebhookUnreachable(t *testing.T) {
	m := newMachine(t)
	r := newReceiver(t, 200)
	m.opts.Config.Notify.Webhook = r.url()
	m.put("crash", 10)
	down := errors.New("network is unreachable")
	var attempts int
	m.opts.transport = roundTripper(func(*http.Request) (*http.Response, error) { attempts++; return nil, down })
	m.opts.wait = giveUpAfter(3)
	said, err := m.run()
	if !errors.Is(err, ErrProblems) || attempts != 3 || !strings.HasSuffix(said, "\nwebhook: "+r.host()+" was not told of crash: network is unreachable; the next run tries again") {
		t.Errorf("%d attempts, said %q, %v", attempts, said, err)
	}
	m.opts.transport = nil
	m.runs("webhook: " + r.host() + " was told of crash")
	m.runs()

	m.put("another", 5)
	m.opts.transport = roundTripper(func(*http.Request) (*http.Response, error) { return nil, down })
	for i := range maxTries {
		m.opts.wait = giveUpAfter(1)
		said, err := m.run()
		if last := strings.Contains(said, "that was the last of 5 runs"); !errors.Is(err, ErrProblems) || last != (i == maxTries-1) || strings.Contains(said, "hunter2") {
			t.Errorf("run %d: said %q, %v", i+1, said, err)
		}
	}
	m.runs()
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// giveUpAfter has no patience for more attempts than that.
func giveUpAfter(n int) func(context.Context, time.Duration) error {
	var pauses []time.Duration
	return func(_ context.Context, d time.Duration) error {
		pauses = append(pauses, d)
		if len(pauses) >= n {
			return context.DeadlineExceeded
		}
		return nil
	}
}

// Pauses grow, and not for ever.
func TestWebhookPauses(t *testing.T) {
	m := newMachine(t)
	r := newReceiver(t, 500)
	m.opts.Config.Notify.Webhook = r.url()
	m.put("crash", 10)
	var pauses []time.Duration
	m.opts.wait = func(_ context.Context, d time.Duration) error {
		if pauses = append(pauses, d); len(pauses) == 9 {
			return context.DeadlineExceeded
		}
		return nil
	}
	if _, err := m.run(); !errors.Is(err, ErrProblems) {
		t.Error(err)
	}
	if got, want := fmt.Sprint(pauses), "[1s 2s 4s 8s 16s 32s 1m0s 1m0s 1m0s]"; got != want {
		t.Errorf("pauses %s; want %s", got, want)
	}
}

// The real pause ends when nobody wants it any more.
func TestWait(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	if err := wait(ctx, time.Nanosecond); err != nil {
		t.Error(err)
	}
	cancel()
	if err := wait(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
