"use strict";
(() => {
	const $ = (id) => document.getElementById(id);
	document.documentElement.classList.add("js");

	// Folding.
	const folds = [...document.querySelectorAll("main details")];
	const fold = (open) => { for (const d of folds) d.open = open; };
	$("unfold").onclick = () => fold(true);
	$("fold").onclick = () => fold(false);
	let before = null;
	addEventListener("beforeprint", () => { before = folds.map((d) => d.open); fold(true); });
	addEventListener("afterprint", () => { if (before) folds.forEach((d, i) => { d.open = before[i]; }); before = null; });
	const reveal = () => {
		const d = location.hash && $(decodeURIComponent(location.hash.slice(1)));
		if (d && d.tagName === "DETAILS") d.open = true;
	};
	addEventListener("hashchange", reveal);
	reveal();

	// Sorting: by data-v where there is one, numbers as numbers; once more turns it round.
	const value = (row, i) => { const c = row.cells[i]; return c.dataset.v ?? c.textContent; };
	for (const table of document.querySelectorAll("table.sort")) {
		const heads = [...table.tHead.rows[0].cells];
		heads.forEach((th, i) => {
			const button = document.createElement("button");
			button.type = "button";
			button.textContent = th.textContent;
			th.replaceChildren(button);
			button.onclick = () => {
				const numbers = th.classList.contains("n");
				const was = th.getAttribute("aria-sort");
				const down = was ? was === "ascending" : numbers;
				for (const h of heads) h.removeAttribute("aria-sort");
				th.setAttribute("aria-sort", down ? "descending" : "ascending");
				const sign = down ? -1 : 1;
				const rows = [...table.tBodies[0].rows].map((row) => [numbers ? Number(value(row, i)) || 0 : value(row, i), row]);
				rows.sort(numbers ? (a, b) => sign * (a[0] - b[0]) : (a, b) => sign * (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0));
				// Emptied first: to move rows one by one takes the square of the time.
				const body = table.tBodies[0], sorted = new DocumentFragment();
				body.replaceChildren();
				for (const r of rows) sorted.append(r[1]);
				body.append(sorted);
			};
		});
	}

	// Searching tasks.
	const table = $("table-tasks");
	if (table) {
		const rows = [...table.tBodies[0].rows].map((row) => ({
			row, state: row.cells[4].textContent[0], kernel: row.classList.contains("kernel"),
			text: [0, 1, 3, 4].map((i) => row.cells[i].textContent).join(" ").toLowerCase(),
		}));
		const find = () => {
			const words = $("find-tasks").value.toLowerCase().split(/\s+/).filter(Boolean);
			const which = $("which-tasks").value;
			let n = 0;
			for (const r of rows) {
				const hit = (!which || which === r.state || which === "kernel" && r.kernel || which === "user" && !r.kernel) && words.every((w) => r.text.includes(w));
				r.row.hidden = !hit;
				n += hit;
			}
			$("count-tasks").textContent = n === rows.length ? `${n} tasks` : `${n} of ${rows.length} tasks`;
		};
		$("find-tasks").oninput = find;
		$("which-tasks").onchange = find;
		find();
	}

	// Searching the log.
	const box = $("lines");
	let step = () => {};
	if (box) {
		const lines = [...box.querySelectorAll("p")].map((p) => ({ p, text: p.textContent.toLowerCase(), level: Number(p.className[1]) }));
		const marks = window.Highlight && CSS.highlights ? new Highlight() : null;
		if (marks) CSS.highlights.set("found", marks);
		let hits = [], now = -1;
		const say = () => {
			const looked = $("find-log").value || $("level-log").value !== "9";
			$("count-log").textContent = !looked ? `${lines.length} records` : now < 0 ? `${hits.length} of ${lines.length} records` : `${now + 1} of ${hits.length} found`;
		};
		const find = () => {
			const word = $("find-log").value.toLowerCase(), level = Number($("level-log").value), only = $("only-log").checked;
			if (now >= 0 && hits[now]) hits[now].p.classList.remove("now");
			hits = [];
			now = -1;
			if (marks) marks.clear();
			for (const l of lines) {
				const hit = l.level <= level && (!word || l.text.includes(word));
				l.p.hidden = only && !hit;
				if (!hit) continue;
				hits.push(l);
				if (!word || !marks || hits.length > 2000) continue;
				// Static ones: each move of a node goes through all live ranges.
				const text = l.p.firstChild, at = l.text.indexOf(word);
				marks.add(new StaticRange({ startContainer: text, startOffset: at, endContainer: text, endOffset: at + word.length }));
			}
			say();
		};
		step = (by) => {
			if (!hits.length) return;
			if (now >= 0) hits[now].p.classList.remove("now");
			now = now < 0 ? (by > 0 ? 0 : hits.length - 1) : (now + by + hits.length) % hits.length;
			hits[now].p.classList.add("now");
			hits[now].p.scrollIntoView({ block: "nearest" });
			say();
		};
		$("find-log").oninput = find;
		$("level-log").onchange = find;
		$("only-log").onchange = find;
		$("next-log").onclick = () => step(1);
		$("prev-log").onclick = () => step(-1);
		$("find-log").onkeydown = (e) => { if (e.key === "Enter") { e.preventDefault(); step(e.shiftKey ? -1 : 1); } };
		say();
		box.scrollTop = box.scrollHeight; // the end matters
	}

	// Where one is, for the contents; and the search that "/" goes to.
	const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
	let here = "";
	const look = new IntersectionObserver((seen) => {
		for (const s of seen) if (s.isIntersecting) here = s.target.id;
		for (const [id, a] of links) a.classList.toggle("here", id === here);
	}, { rootMargin: "-30% 0px -60% 0px" });
	for (const s of document.querySelectorAll("main section")) look.observe(s);

	addEventListener("keydown", (e) => {
		if (e.ctrlKey || e.metaKey || e.altKey) return;
		const typing = /^(INPUT|SELECT|TEXTAREA)$/.test(e.target.tagName);
		if (e.key === "Escape" && typing && e.target.type === "search") {
			e.target.value = "";
			e.target.dispatchEvent(new Event("input"));
			e.target.blur();
		} else if (typing) {
			return;
		} else if (e.key === "/") {
			const search = (here === "tasks" ? $("find-tasks") : null) || $("find-log") || $("find-tasks");
			if (!search) return;
			e.preventDefault();
			search.focus();
			search.closest("section").scrollIntoView({ block: "start" });
		} else if (e.key === "n") {
			step(1);
		} else if (e.key === "N") {
			step(-1);
		}
	});
})();
