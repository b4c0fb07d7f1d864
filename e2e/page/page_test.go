//go:build e2e

package page

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/panicroom-kdump/panicroom/report"
	"github.com/panicroom-kdump/panicroom/report/reporttest"
)

// write writes a report as a page; it returns its address.
func write(t *testing.T, r *report.Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "report.html")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return (&url.URL{Scheme: "file", Path: file}).String()
}

// keep leaves a picture where a person may look at it, if OUT says where.
func keep(t *testing.T, name string, data []byte) {
	t.Helper()
	out := os.Getenv("OUT")
	if out == "" {
		return
	}
	dir := filepath.Join(out, "e2e", "page")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func picture(t *testing.T, tab *tab, name string) {
	t.Helper()
	var shot struct{ Data string }
	tab.call("Page.captureScreenshot", map[string]any{"format": "png"}, &shot)
	b, err := base64.StdEncoding.DecodeString(shot.Data)
	if err != nil {
		t.Fatal(err)
	}
	keep(t, name+".png", b)
}

// visible counts the elements that are shown.
func visible(tab *tab, selector string) int {
	tab.b.t.Helper()
	var n int
	tab.eval(fmt.Sprintf(`[...document.querySelectorAll(%q)].filter((e) => getComputedStyle(e).display !== "none" && e.checkVisibility()).length`, selector), &n)
	return n
}

func text(tab *tab, selector string) string {
	tab.b.t.Helper()
	var s string
	tab.eval(fmt.Sprintf(`document.querySelector(%q).textContent`, selector), &s)
	return s
}

func TestDesk(t *testing.T) {
	r := reporttest.Full(2000, 5000, 64)
	address := write(t, r)
	b := open(t)
	tab := b.load(address, func(tab *tab) { tab.screen(1280, 900, false) })
	picture(t, tab, "desk-light")
	tab.media("screen", "dark")
	picture(t, tab, "desk-dark")
	tab.media("screen", "light")

	var scripts int
	tab.eval(`document.scripts.length + document.querySelectorAll("main *[onclick], iframe, img, object, link").length`, &scripts)
	if scripts != 1 {
		t.Errorf("%d scripts and things that load others; want only ours", scripts)
	}

	t.Run("log", func(t *testing.T) {
		const word = "Queue 2" // in whatever case
		want := 0
		for _, line := range r.Log.Tail {
			if strings.Contains(strings.ToLower(line), strings.ToLower(word)) {
				want++
			}
		}
		tab.press("/")
		tab.write(word)
		if n := visible(tab, "#lines p"); n != want || want == 0 {
			t.Errorf("%d lines are shown; %d have %q", n, want, word)
		}
		if got, want := text(tab, "#count-log"), fmt.Sprintf("%d of %d records", want, len(r.Log.Tail)); got != want {
			t.Errorf("it says %q; want %q", got, want)
		}
		var marked int
		tab.eval(`CSS.highlights.get("found").size`, &marked)
		if marked != want {
			t.Errorf("%d matches are marked; want %d", marked, want)
		}
		tab.press("Enter")
		tab.press("Enter")
		if got, want := text(tab, "#count-log"), fmt.Sprintf("2 of %d found", want); got != want {
			t.Errorf("after Enter it says %q; want %q", got, want)
		}
		var at int
		tab.eval(`[...document.querySelectorAll("#lines p")].filter((p) => !p.hidden).findIndex((p) => p.classList.contains("now"))`, &at)
		if at != 1 {
			t.Errorf("line %d of those found is the current one; want 1", at)
		}
		picture(t, tab, "desk-log")

		// All lines, and the current one comes into sight.
		tab.click("#only-log")
		if n := visible(tab, "#lines p"); n != len(r.Log.Tail) {
			t.Errorf("%d lines are shown; want all %d", n, len(r.Log.Tail))
		}
		tab.click("#prev-log")
		var inside bool
		tab.eval(`(() => { const box = document.getElementById("lines").getBoundingClientRect(), p = document.querySelector("#lines .now").getBoundingClientRect();
			return p.top >= box.top - 1 && p.bottom <= box.bottom + 1; })()`, &inside)
		if got, want := text(tab, "#count-log"), fmt.Sprintf("%d of %d found", want, want); got != want || !inside {
			t.Errorf("after Previous it says %q, and the line is in sight: %v; want %q", got, inside, want)
		}
		tab.click("#only-log")

		// Levels.
		tab.click("#find-log")
		tab.press("Escape")
		tab.eval(`(() => { const s = document.getElementById("level-log"); s.value = "3"; s.dispatchEvent(new Event("change")); })()`, nil)
		want = 0
		for _, l := range r.Log.Levels {
			if l <= '3' {
				want++
			}
		}
		if n := visible(tab, "#lines p"); n != want || want == 0 {
			t.Errorf("%d lines are shown; %d are errors", n, want)
		}
	})

	t.Run("tasks", func(t *testing.T) {
		want := 0
		for _, task := range r.Tasks {
			if task.Blocked() {
				want++
			}
		}
		tab.eval(`(() => { const s = document.getElementById("which-tasks"); s.value = "D"; s.dispatchEvent(new Event("change")); })()`, nil)
		if got, want := text(tab, "#count-tasks"), fmt.Sprintf("%d of %d tasks", want, len(r.Tasks)); got != want || visible(tab, "#table-tasks tbody tr:not([hidden])") == 0 {
			t.Errorf("it says %q; want %q", got, want)
		}
		tab.eval(`(() => { const s = document.getElementById("which-tasks"); s.value = ""; s.dispatchEvent(new Event("change")); })()`, nil)
		tab.click("#find-tasks")
		tab.write("worker/1999")
		if got, want := text(tab, "#count-tasks"), fmt.Sprintf("1 of %d tasks", len(r.Tasks)); got != want {
			t.Errorf("it says %q; want %q", got, want)
		}
		tab.press("Escape")

		// The eighth column is memory.
		for i, name := range []string{"descending", "ascending"} {
			tab.click("#table-tasks th:nth-child(8) button")
			var sizes []uint64
			tab.eval(`[...document.querySelectorAll("#table-tasks tbody tr")].map((r) => Number(r.cells[7].dataset.v ?? r.cells[7].textContent))`, &sizes)
			var want []uint64
			for _, task := range r.Tasks {
				want = append(want, task.RSS)
			}
			slices.SortFunc(want, func(a, b uint64) int { return cmp.Compare(a, b) * (2*i - 1) })
			if !slices.Equal(sizes, want) {
				t.Errorf("memory is not sorted %s: %d...", name, sizes[:20])
			}
			var said string
			tab.eval(`document.querySelector("#table-tasks th:nth-child(8)").ariaSort`, &said)
			if said != name {
				t.Errorf("the column says it is sorted %q; want %q", said, name)
			}
		}
		tab.click("#table-tasks th:nth-child(4) button")
		var names []string
		tab.eval(`[...document.querySelectorAll("#table-tasks tbody tr")].map((r) => r.cells[3].textContent)`, &names)
		if !slices.IsSorted(names) {
			t.Errorf("names are not sorted: %q...", names[:20])
		}
		picture(t, tab, "desk-tasks")
	})

	t.Run("fold", func(t *testing.T) {
		all := `document.querySelectorAll("main details").length`
		opened := `document.querySelectorAll("main details[open]").length`
		var n, open int
		tab.eval(all, &n)
		tab.click("#fold")
		if tab.eval(opened, &open); open != 0 {
			t.Errorf("%d of %d are unfolded after Fold", open, n)
		}
		if shown := visible(tab, "main .stack li"); shown != 0 {
			t.Errorf("%d frames are shown after Fold", shown)
		}
		tab.click("#unfold")
		if tab.eval(opened, &open); open != n || n < 10 {
			t.Errorf("%d of %d are unfolded after Unfold", open, n)
		}
		tab.click("#fold")
		tab.click("main summary")
		if tab.eval(opened, &open); open != 1 {
			t.Errorf("%d are unfolded after a click on one", open)
		}
		// A task's name leads to its stack, which unfolds.
		tab.eval(`location.hash = "#blocked-1"`, nil)
		tab.eval(`new Promise((done) => requestAnimationFrame(() => done(document.getElementById("blocked-1").open)))`, new(bool))
		var there bool
		if tab.eval(`document.getElementById("blocked-1").open`, &there); !there {
			t.Error("the stack that a link leads to is folded")
		}
	})
	tab.quiet()
}

// Links and chips of the contents lead somewhere, and names are given once.
func TestAnchors(t *testing.T) {
	tab := open(t).load(write(t, reporttest.Full(400, 100, 8)), nil)
	var wrong []string
	tab.eval(`[...document.querySelectorAll("a")].filter((a) => a.origin !== location.origin || !document.getElementById(a.hash.slice(1))).map((a) => a.outerHTML)`, &wrong)
	for _, s := range wrong {
		t.Errorf("leads nowhere: %s", s)
	}
	tab.eval(`(() => { const seen = new Set(); return [...document.querySelectorAll("[id]")].map((e) => e.id).filter((id) => seen.has(id) || !seen.add(id)); })()`, &wrong)
	for _, s := range wrong {
		t.Errorf("there are two %q", s)
	}
	tab.quiet()
}

func TestPhone(t *testing.T) {
	for _, c := range []struct {
		name   string
		report *report.Report
	}{{"full", reporttest.Full(2000, 5000, 64)}, {"nothing", &report.Report{}}} {
		t.Run(c.name, func(t *testing.T) {
			tab := open(t).load(write(t, c.report), func(tab *tab) { tab.screen(390, 844, true) })
			picture(t, tab, "phone-"+c.name)
			for _, unfold := range []bool{false, true} {
				if unfold {
					tab.eval(`document.getElementById("unfold").click()`, nil)
				}
				var size struct{ Scroll, Inner, Client int }
				tab.eval(`({ scroll: document.scrollingElement.scrollWidth, inner: innerWidth, client: document.documentElement.clientWidth })`, &size)
				if size.Scroll > size.Inner || size.Inner > 390 {
					var wide []string
					tab.eval(`[...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > 391 && !e.closest(".scroll, nav")).slice(0, 10).map((e) => e.outerHTML.slice(0, 100))`, &wide)
					t.Errorf("%d pixels wide on a screen of %d, unfolded %v: %q", size.Scroll, size.Inner, unfold, wide)
				}
			}
			if c.name == "full" {
				for _, id := range []string{"memory", "tasks", "log"} {
					tab.eval(`document.getElementById("`+id+`").scrollIntoView()`, nil)
					picture(t, tab, "phone-"+id)
				}
			}
			tab.quiet()
		})
	}
}

func TestPrint(t *testing.T) {
	r := reporttest.Full(2000, 5000, 64)
	tab := open(t).load(write(t, r), nil)
	tab.eval(`document.getElementById("fold").click()`, nil)
	tab.media("print", "dark") // paper is white nevertheless
	if n := visible(tab, "nav, .controls, input, button, select"); n != visible(tab, "th button") {
		t.Errorf("%d controls are printed", n)
	}
	var back string
	if tab.eval(`getComputedStyle(document.body).backgroundColor`, &back); back != "rgb(255, 255, 255)" {
		t.Errorf("paper is %s", back)
	}
	if n := visible(tab, "#lines p"); n == 0 || n > 200 {
		t.Errorf("%d lines of the log are printed; want its end", n)
	}
	if n := visible(tab, "#table-tasks tbody tr"); n == 0 || n > 100 {
		t.Errorf("%d tasks are printed; want those that matter", n)
	}
	if n := visible(tab, ".paper"); n != 2 {
		t.Errorf("%d remarks on what was left out; want 2", n)
	}
	// What is folded is printed nevertheless.
	var frames struct{ All, High int }
	tab.eval(`(() => { const all = [...document.querySelectorAll("#crash .stack li, #blocked .stack li")].filter((e) => !e.closest(".came details"));
		return { all: all.length, high: all.filter((e) => e.getBoundingClientRect().height > 0).length }; })()`, &frames)
	if frames.All == 0 || frames.High != frames.All {
		t.Errorf("%d of %d frames are printed", frames.High, frames.All)
	}
	tab.media("", "light")

	var pdf struct{ Data string }
	tab.call("Page.printToPDF", map[string]any{"paperWidth": 8.27, "paperHeight": 11.69, "printBackground": false}, &pdf)
	b, err := base64.StdEncoding.DecodeString(pdf.Data)
	if err != nil {
		t.Fatal(err)
	}
	keep(t, "print.pdf", b)
	pages := bytes.Count(b, []byte("/Type /Page\n"))
	if !bytes.HasPrefix(b, []byte("%PDF")) || pages < 3 || pages > 15 {
		t.Errorf("%d pages of paper; want some, and not a book", pages)
	}
	// Printing leaves the page as it was.
	var open int
	if tab.eval(`document.querySelectorAll("main details[open]").length`, &open); open != 0 {
		t.Errorf("%d are unfolded after printing; all were folded", open)
	}
	tab.quiet()
}

// Without scripts all is there; only what needs one is not.
func TestWithoutScript(t *testing.T) {
	r := reporttest.Full(300, 500, 8)
	tab := open(t).load(write(t, r), func(tab *tab) {
		tab.call("Emulation.setScriptExecutionDisabled", map[string]any{"value": true}, nil)
		tab.screen(1280, 900, false)
	})
	tab.call("Emulation.setScriptExecutionDisabled", map[string]any{"value": false}, nil)
	var js bool
	if tab.eval(`document.documentElement.classList.contains("js")`, &js); js {
		t.Fatal("the script ran")
	}
	if n := visible(tab, ".controls"); n != 0 {
		t.Errorf("%d controls that do nothing are shown", n)
	}
	if n := visible(tab, "#lines p"); n != len(r.Log.Tail) {
		t.Errorf("%d lines of the log are shown; want %d", n, len(r.Log.Tail))
	}
	if n := visible(tab, "#table-tasks tbody tr"); n != len(r.Tasks) {
		t.Errorf("%d tasks are shown; want %d", n, len(r.Tasks))
	}
	tab.click("#locks ~ section summary") // folded at first: memory in numbers
	var open bool
	if tab.eval(`document.querySelector("#locks ~ section details").open`, &open); !open {
		t.Error("it cannot be unfolded without the script")
	}
	tab.quiet()
}

// Whatever a dump brings into the page, it must not run or reach anybody.
func TestPolicy(t *testing.T) {
	tab := open(t).load(write(t, reporttest.Full(300, 100, 8)), nil)
	tab.quiet()
	var got json.RawMessage
	tab.eval(`(async () => {
		const s = document.createElement("script");
		s.textContent = "window.ran = true";
		document.body.append(s);
		const d = document.createElement("div");
		d.setAttribute("onclick", "window.ran = true");
		document.body.append(d);
		d.click();
		let reached = false;
		try { await fetch("data:text/plain,x"); reached = true; } catch {}
		return { ran: window.ran === true, reached };
	})()`, &got)
	if string(got) != `{"ran":false,"reached":false}` {
		t.Errorf("the policy let through: %s", got)
	}
}

// Text can be told from what is behind it, in both colours (4.5 is what WCAG 2 asks).
func TestContrast(t *testing.T) {
	tab := open(t).load(write(t, reporttest.Full(400, 100, 8)), nil)
	for _, scheme := range []string{"light", "dark"} {
		tab.media("screen", scheme)
		var low []string
		tab.eval(`(() => {
			const rgb = (s) => s.match(/[\d.]+/g).map(Number);
			const light = (c) => { const [r, g, b] = c.slice(0, 3).map((v) => (v /= 255) <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4); return .2126 * r + .7152 * g + .0722 * b; };
			const behind = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
			const seen = new Map();
			for (const e of document.querySelectorAll("body *")) {
				if (![...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) || e.closest("svg, script, option") || !e.checkVisibility()) continue;
				const a = light(rgb(getComputedStyle(e).color)), b = light(behind(e));
				const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
				if (ratio < 4.5) seen.set(e.tagName + "." + e.className + " in " + e.parentElement.className, ratio.toFixed(2));
			}
			return [...seen].map((s) => s.join(": "));
		})()`, &low)
		for _, s := range low {
			t.Errorf("%s: %s", scheme, s)
		}
	}
}
