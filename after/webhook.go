package after

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/panicroom-kdump/panicroom/saved"
)

const (
	// attemptLimit bounds one post, postLimit all of a run: the network may need
	// minutes after a boot.
	attemptLimit = 30 * time.Second
	postLimit    = 10 * time.Minute
	// firstPause doubles until it is lastPause.
	firstPause = time.Second
	lastPause  = time.Minute
	// maxTries is on how many runs a description is posted.
	maxTries = 5
)

// Description is what the webhook gets.
type Description struct {
	Version int    `json:"version"` // 1
	Event   string `json:"event"`   // "crash"
	// Host is the machine's name now; that of the crash is in it.
	Host  string      `json:"host"`
	Crash saved.Crash `json:"crash"`
}

// webhook posts what has not been posted.
func (r *runner) webhook(ctx context.Context) {
	to := r.Config.Notify.Webhook
	pending := r.pending()
	if to == "" || len(pending) == 0 {
		return
	}
	if r.DryRun {
		r.say("the webhook would get %d descriptions", len(pending))
		return
	}
	ctx, cancel := context.WithTimeout(ctx, postLimit)
	defer cancel()
	client := &http.Client{
		Timeout: attemptLimit, Transport: r.transport,
		// A POST that is redirected becomes a GET.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	host, _ := os.Hostname()
	for _, c := range pending {
		text, err := json.Marshal(Description{Version: 1, Event: "crash", Host: host, Crash: c})
		if err != nil {
			r.problem("webhook: %v", err)
			continue
		}
		t := r.state.Crashes[c.Path]
		switch final, err := r.post(ctx, client, to, text); {
		case err == nil:
			t.Webhook = webhookSent
			r.say("webhook: %s was told of %s", hostOf(to), c.Name)
		case final:
			t.Webhook = webhookFailed
			r.problem("webhook: %s was not told of %s: %v", hostOf(to), c.Name, err)
		default:
			again := "the next run tries again"
			if t.Tries++; t.Tries >= maxTries {
				t.Webhook, again = webhookFailed, fmt.Sprintf("that was the last of %d runs", maxTries)
			}
			r.problem("webhook: %s was not told of %s: %v; %s", hostOf(to), c.Name, err, again)
		}
		r.note()
	}
}

// pending are the crashes that the webhook has not got and that are still there.
func (r *runner) pending() []saved.Crash {
	known := map[string]saved.Crash{}
	for _, c := range r.result.New {
		known[c.Path] = c
	}
	lists := map[string][]saved.Crash{}
	var all []saved.Crash
	for _, path := range slices.Sorted(maps.Keys(r.state.Crashes)) {
		if r.state.Crashes[path].Webhook != webhookPending {
			continue
		}
		c, ok := known[path]
		if !ok {
			dir := filepath.Dir(path)
			if _, read := lists[dir]; !read {
				lists[dir], _ = saved.List(dir) // an error was told before
			}
			i := slices.IndexFunc(lists[dir], func(c saved.Crash) bool { return c.Path == path })
			if i < 0 {
				continue
			}
			c = lists[dir][i]
		}
		all = append(all, c)
	}
	slices.SortStableFunc(all, func(a, b saved.Crash) int { return a.Time.Compare(b.Time) })
	return all
}

// hostOf is what may be said of the URL: the rest of it can be secret.
func hostOf(to string) string {
	u, err := url.Parse(to)
	if err != nil {
		return "it"
	}
	return u.Host
}

// post posts until the server has taken or refused it, or the time is over; final
// tells that trying again is of no use.
func (r *runner) post(ctx context.Context, client *http.Client, to string, text []byte) (final bool, err error) {
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		final, err = attempt(ctx, client, to, text)
		if err == nil || final {
			return final, err
		}
		if r.wait(ctx, pause) != nil {
			return false, err
		}
	}
}

func attempt(ctx context.Context, client *http.Client, to string, text []byte) (final bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(text))
	if err != nil {
		return true, quiet(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "panicroom")
	res, err := client.Do(req)
	if err != nil {
		return false, quiet(err)
	}
	defer res.Body.Close()
	// Some servers want to be heard out.
	_, _ = io.Copy(io.Discard, io.LimitReader(res.Body, 64<<10))
	switch code := res.StatusCode; {
	case code >= 200 && code < 300:
		return false, nil
	case code >= 500, code == http.StatusRequestTimeout, code == http.StatusTooManyRequests, code == http.StatusTooEarly:
		return false, fmt.Errorf("the server answers %d %s", code, http.StatusText(code))
	default:
		return true, fmt.Errorf("the server answers %d %s", code, http.StatusText(code))
	}
}

// quiet takes the URL out of an error.
func quiet(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		if e.Timeout() {
			return fmt.Errorf("no answer in time: %w", e.Err)
		}
		return e.Err
	}
	return err
}

// wait waits, or until nobody wants it any more.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
