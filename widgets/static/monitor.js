// The monitor panel: health by word, alerts, curves, rules, the machine; what it shows is told by Python at most four times a second.
import { h, fill, button, said, clean, span, clock, figure, floats, copyButton, markup, fresh, VIEWS } from "./element.js";
import { momentText } from "./axis.js";
import { makeChart, makeChartGroup } from "./chart.js";
import { EDITORS } from "./fields.js";

const MONITOR_RANGES = [[300, "5 min"], [900, "15 min"], [3600, "1 h"], [6 * 3600, "6 h"], [86400, "24 h"], [7 * 86400, "7 d"]];
const MONITOR_STATES = { ok: ["✓", "ok"], pending: ["◌", "pending"], firing: ["▲", "firing"], "no data": ["○", "no data"], "not looked": ["?", "not looked at yet"] };
const MONITOR_HEALTH = { ok: "fine", busy: "at work", alert: "beyond its bounds", failed: "failed", none: "nothing yet", unknown: "not known" };
const MONITOR_SILENCES = [[1800, "30 min"], [3600, "1 h"], [4 * 3600, "4 h"], [86400, "24 h"]];

function monitorAgo(seconds) {
  return `${span(seconds)} ago`;
}

// Health by word: each leads to the run or the alerts it tells of.
function monitorHealth(ctx) {
  const element = h("ul", { class: "wbp-monitor-health", "aria-label": "Health by word" });
  let before = "";
  return { element, show(told) {
    const now = JSON.stringify(told.health || []);
    if (now === before) return;
    before = now;
    fill(element, (told.health || []).map((one) => {
      const words = `${one.word}: ${MONITOR_HEALTH[one.state]}${one.count ? `, ${one.count}` : ""}. ${one.text}`;
      const open = button([h("span", { class: "wbp-monitor-word" }, one.word), " ", h("span", { class: "wbp-monitor-sign", "aria-hidden": "true" }, `${one.sign}${one.count || ""}`)],
        () => (one.state === "alert" ? element.parentElement.querySelector(".wbp-monitor-alerts")?.scrollIntoView({ block: "nearest" }) : one.run && ctx.tell("open", { run: one.run, word: one.word })),
        { class: `wbp-monitor-chip wbp-monitor-is-${one.state}`, title: clean(words), "aria-label": clean(words), disabled: !one.run && one.state !== "alert" });
      return h("li", {}, open);
    }));
  } };
}

// The evaluator itself: it works, it died, it was ended.
function monitorEvaluator(ctx) {
  const sign = h("span", { class: "wbp-monitor-sign", "aria-hidden": "true" });
  const word = h("b", { role: "status" });
  const words = h("span", { class: "wbp-muted" });
  const address = h("code", { class: "wbp-code" });
  const copy = copyButton(() => ctx.get("watching").metrics || "");
  const metrics = h("span", { class: "wbp-bar wbp-monitor-metrics" }, h("span", { class: "wbp-muted" }, "metrics"), address, copy);
  copy.setAttribute("aria-label", "Copy the address of the metrics");
  const again = button("Watch again", async () => { again.disabled = true; words.textContent = "starting …"; await ctx.tell("revive"); again.disabled = ctx.panel.readonly; }, { class: "wbp-button wbp-primary" });
  const end = button("Stop watching", () => ctx.tell("end"), { class: "wbp-button wbp-small" });
  const element = h("div", { class: "wbp-bar wbp-monitor-evaluator" }, sign, word, words, h("span", { class: "wbp-space" }), metrics, end, again);
  let heard = 0;
  const tick = () => {
    const told = ctx.get("watching");
    if (told.state !== "watching") return;
    const age = told.looked === null || told.looked === undefined ? null : told.looked + (performance.now() - heard) / 1000;
    words.textContent = `every ${figure(told.interval)} s · ${age === null ? "not looked yet" : `looked ${monitorAgo(age)}`}${told.owed ? ` · ${told.owed} not yet taken by a webhook${told.owing ? ` (${clean(told.owing)})` : ""}` : ""}`;
  };
  const timer = setInterval(tick, 1000);
  ctx.leave(() => clearInterval(timer));
  return { element, show(told) {
    heard = performance.now();
    const state = told.state || "none";
    element.dataset.state = told.late ? "late" : state;
    sign.textContent = { watching: told.late ? "◌" : "●", died: "✕", ended: "■", none: "○" }[state];
    const text = { watching: told.late ? "Watching, but late" : "Watching", died: "The evaluator is not at work", ended: "Not watching", none: "Nothing is watched yet" }[state];
    if (word.textContent !== text) word.textContent = text;
    if (state === "died") words.textContent = `nothing is watched${told.looked ? ` since ${clock(told.now - told.looked)}` : ""}`;
    else if (state === "ended") words.textContent = "it was ended; what was firing stays so until somebody watches again";
    else if (state === "none") words.textContent = "press Run to begin";
    metrics.hidden = !told.metrics; address.textContent = told.metrics || "";
    again.hidden = state !== "died" && state !== "ended"; end.hidden = state !== "watching";
    again.disabled = end.disabled = ctx.panel.readonly;
    tick();
  } };
}

// Alerts that go on, first those that nobody knows of; then those that ended.
function monitorAlerts(ctx) {
  const list = h("ul", { class: "wbp-monitor-list", "aria-live": "polite" });
  const nothing = h("p", { class: "wbp-monitor-fine" }, h("span", { class: "wbp-monitor-sign", "aria-hidden": "true" }, "✓"), " No alert goes on.");
  const past = h("ul", { class: "wbp-monitor-list" });
  const count = h("span", { class: "wbp-muted" });
  const ended = h("details", { class: "wbp-more" }, h("summary", {}, "Ended alerts ", count), past);
  const element = h("section", { class: "wbp-block wbp-monitor-alerts", "aria-label": "Alerts" }, h("h3", {}, "Alerts"), nothing, list, ended);
  const lines = new Map();
  const value = (a) => (a.value === null || a.value === undefined ? "" : `${clean(a.value)}${a.bound ? `, ${clean(a.bound)}` : ""} · `);

  function line(alert) {
    const about = h("span", { class: "wbp-muted wbp-monitor-about" });
    const known = h("div", { class: "wbp-monitor-known" });
    const note = h("input", { type: "text", class: "wbp-input", placeholder: "what you do about it (optional)", "aria-label": "Note", maxlength: "300" });
    const send = () => { form.hidden = true; ctx.tell("acknowledge", { alert: alert.id, note: note.value }); };
    note.addEventListener("keydown", (event) => { // JupyterLab takes Enter from forms
      if (event.key !== "Enter" && event.key !== "Escape") return;
      event.preventDefault(); event.stopPropagation();
      if (event.key === "Enter") send(); else { form.hidden = true; knows.focus(); }
    });
    const form = h("div", { class: "wbp-bar wbp-monitor-note", role: "group", "aria-label": "Acknowledge", hidden: true },
      note, button("Acknowledge", send, { class: "wbp-button wbp-small wbp-primary" }), button("Cancel", () => { form.hidden = true; knows.focus(); }, { class: "wbp-button wbp-small" }));
    const knows = button("Acknowledge", () => { form.hidden = !form.hidden; if (!form.hidden) note.focus(); }, { class: "wbp-button wbp-small" });
    const back = button("Take back", () => ctx.tell("withdraw", { alert: alert.id }), { class: "wbp-button wbp-small wbp-link" });
    const open = button("Open", () => ctx.tell("open", { alert: alert.id }), { class: "wbp-button wbp-small", "aria-label": `Open what ${clean(alert.rule)} tells of` });
    const sign = h("span", { class: "wbp-monitor-sign" });
    const element_ = h("li", { class: "wbp-monitor-alert" }, sign, h("div", { class: "wbp-monitor-what" }, h("div", {}, h("b", {}, said(alert.rule)), alert.of ? [" ", said(alert.of, "wbp-monitor-of")] : null), h("div", {}, said(alert.summary)), about, known), h("div", { class: "wbp-bar wbp-monitor-acts" }, knows, open), form);
    return { element: element_, show(now, told) {
      const yes = now.acknowledged !== null;
      element_.classList.toggle("wbp-monitor-isknown", yes);
      fill(sign, h("span", { "aria-hidden": "true" }, yes ? "◐" : "▲"), h("span", { class: "wbp-unseen" }, yes ? "acknowledged" : "firing"));
      about.textContent = `${value(now)}since ${clock(now.since)}, for ${span(Math.max(0, told.now - now.since))}`;
      about.title = `${momentText(now.since)}. Fires when ${clean(now.expression)}`;
      knows.hidden = yes; open.hidden = !now.opens; if (yes) form.hidden = true;
      knows.disabled = back.disabled = ctx.panel.readonly;
      const text = yes ? `${now.who}|${now.note}|${now.acknowledged}` : "";
      if (known.dataset.text !== text) {
        known.dataset.text = text;
        fill(known, yes ? [said(now.who), ` knows since ${clock(now.acknowledged)}`, now.note ? [": ", said(now.note)] : null, " ", back] : []);
      }
    } };
  }
  let before = "";
  return { element, show(told) {
    const alerts = told.alerts || [];
    const ids = alerts.map((a) => a.id);
    for (const [id, one] of lines) if (!ids.includes(id)) { one.element.remove(); lines.delete(id); }
    alerts.forEach((alert, n) => {
      if (!lines.has(alert.id)) lines.set(alert.id, line(alert));
      const one = lines.get(alert.id);
      one.show(alert, told);
      // Lines change places only while nobody is among them.
      if (list.children[n] !== one.element && (!list.matches(":hover") && !list.contains(document.activeElement) || !one.element.isConnected)) list.insertBefore(one.element, list.children[n] || null);
    });
    nothing.hidden = alerts.length > 0;
    element.hidden = told.state === "none" && !alerts.length && !(told.ended || []).length; // nobody watched: there can be none
    const past_ = JSON.stringify(told.ended || []);
    ended.hidden = !(told.ended || []).length;
    if (past_ === before) return;
    before = past_;
    count.textContent = String((told.ended || []).length);
    fill(past, (told.ended || []).map((a) => h("li", { class: "wbp-monitor-past" }, h("b", {}, said(a.rule)), " ", said(a.of, "wbp-monitor-of"), h("div", { class: "wbp-muted" }, `${value(a)}${momentText(a.began)}, for ${span(a.ended - a.began)}`, a.why ? [" · ", said(a.why)] : null, a.who ? [" · ", said(a.who), " knew", a.note ? [": ", said(a.note)] : null] : null))));
  } };
}

// A searchable list of every curve that exists.
function monitorPicker(ctx, picked) {
  const box = h("input", { type: "search", class: "wbp-input wbp-wide", placeholder: "loss, p95, requests, memory …", "aria-label": "Search curves", autocomplete: "off", role: "combobox", "aria-expanded": "true", "aria-autocomplete": "list" });
  const list = h("ul", { class: "wbp-monitor-offers", role: "listbox", id: fresh("offers"), "aria-label": "Curves" });
  const says = h("p", { class: "wbp-muted", role: "status" });
  const element = h("div", { class: "wbp-monitor-picker", hidden: true }, h("div", { class: "wbp-bar" }, h("h3", {}, "Add a curve"), h("span", { class: "wbp-space" }), button("Close", () => close(), { class: "wbp-button wbp-small" })), box, says, list);
  box.setAttribute("aria-controls", list.id);
  let [asked, at, offers, chart, opener, behind, entered] = [0, 0, [], null, null, false, false];
  async function search() {
    asked += 1;
    const mine = asked;
    [behind, entered] = [true, false];
    const found = (await ctx.ask("offered", { text: box.value }).catch(() => ({ value: [] }))).value;
    if (mine !== asked) return;
    [offers, at, behind] = [found, 0, false];
    if (entered && found.length) return void choose(0);
    says.textContent = found.length ? `${found.length}${found.length >= 60 ? " or more" : ""} curves` : "Nothing matches. What an endpoint or the machine measures appears once somebody watches.";
    fill(list, found.map((one, n) => h("li", { role: "option", id: `${list.id}-${n}`, onclick: () => choose(n) }, said(one.label), h("span", { class: "wbp-muted" }, [one.note, one.unit, one.over === "step" ? "over steps" : ""].filter(Boolean).map(clean).join(" · ")))));
    mark();
    return undefined;
  }
  function mark() {
    [...list.children].forEach((li, n) => li.setAttribute("aria-selected", String(n === at)));
    box.setAttribute("aria-activedescendant", list.children[at]?.id || "");
    list.children[at]?.scrollIntoView({ block: "nearest" });
  }
  function choose(n) { if (offers[n]) { picked(offers[n], chart); close(); } }
  function close() { element.hidden = true; opener?.focus(); }
  box.addEventListener("input", search);
  box.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (by) at = Math.max(0, Math.min(offers.length - 1, at + by));
    else if (event.key === "Enter") { if (behind) entered = true; else choose(at); }
    else if (event.key === "Escape") close();
    else return;
    event.preventDefault(); event.stopPropagation();
    mark();
  });
  return { element, open(which, from) { [chart, opener] = [which, from]; element.hidden = false; box.value = ""; box.focus(); search(); element.scrollIntoView({ block: "nearest" }); } };
}

// The charts of the spec, or what there is; their zoom in time is one.
function monitorBoard(ctx) {
  const group = makeChartGroup();
  const charts = h("div", { class: "wbp-charts" });
  const picker = monitorPicker(ctx, (curve, chart) => ctx.tell("chart", { curve: { of: curve.of, metric: curve.metric, labels: curve.labels, over: curve.over }, chart }));
  const ranges = h("select", { class: "wbp-input wbp-select", "aria-label": "How much time the curves show", onchange: () => { range = Number(ranges.value); drawn.forEach((c) => c.timed && c.chart.span(range)); } }, MONITOR_RANGES.map(([seconds, words]) => h("option", { value: String(seconds), selected: seconds === 900 }, `last ${words}`)));
  const add = button("Add a curve", () => picker.open(null, add), { class: "wbp-button wbp-small" });
  const element = h("section", { class: "wbp-block wbp-monitor-board", "aria-label": "Curves" }, h("div", { class: "wbp-bar" }, h("h3", {}, "Curves"), h("span", { class: "wbp-space" }), ranges, add), picker.element, charts);
  let [range, drawn, before] = [900, [], ""];
  const keys = () => drawn.flatMap((c) => c.curves.map((k) => ({ of: k.of, metric: k.metric, labels: k.labels, over: c.timed ? "time" : "step" })));
  const now = () => { const told = ctx.get("watching"); return told.last && told.state === "watching" ? told.last : told.now || Date.now() / 1000; };

  async function points(of, key, low, high, columns, over) {
    const curve = drawn.flatMap((c) => c.curves).find((k) => k.of === of && k.key === key);
    if (!curve) return new Float64Array(0);
    const end = (x) => (Number.isFinite(x) ? x : null);
    const found = await ctx.ask("series", { of, metric: curve.metric, labels: curve.labels, low: low === null ? null : end(low), high: high === null ? null : end(high), columns, over });
    const got = found.buffers.length ? floats(found.buffers[0]) : new Float64Array(0);
    if (found.value?.nan || found.value?.inf) got.odd = { nan: found.value.nan, inf: found.value.inf };
    return got;
  }
  function make(one, n) {
    const timed = one.over === "time";
    const units = [...new Set(one.curves.map((c) => c.unit))];
    const entry = { timed, curves: one.curves };
    drawn.push(entry); // before it asks for points
    const chart = makeChart({ title: one.title, ask: points, over: one.over, measure: units.length === 1 ? units[0] : "", group: timed ? group : null, range: timed ? range : null, now, log: one.log, smooth: one.smooth,
      marks: () => (ctx.get("watching").marks || []).filter((m) => (timed ? true : one.curves.some((c) => m.of === `run/${c.run}`) && m.step !== null)),
      changed: (how) => { if (!ctx.panel.readonly) { quiet = true; ctx.tell("set", { chart: n, ...how }); } } });
    entry.chart = chart;
    for (const curve of one.curves) chart.add(curve.of, curve.key, curve.label, curve.run || curve.of);
    const label = clean(one.title);
    const more = button("+", (event) => picker.open(n, event.currentTarget), { class: "wbp-charttool", title: "Add a curve to this chart", "aria-label": `Add a curve to ${label}` });
    const steps = one.curves.every((c) => c.run) ? button(timed ? "steps" : "time", () => ctx.tell("set", { chart: n, over: timed ? "step" : "time" }), { class: "wbp-charttool", title: timed ? "Over steps" : "Over time" }) : null;
    const less = button("×", () => ctx.tell("unchart", { chart: n }), { class: "wbp-charttool", title: "Take this chart away (undo brings it back)", "aria-label": `Take away ${label}` });
    chart.tools.append(...[steps, more, less].filter(Boolean));
    if (ctx.panel.readonly) [more, less, steps].forEach((b) => { if (b) b.hidden = true; });
    return chart.element;
  }
  let quiet = false;
  function show() {
    const board = ctx.get("board") || [];
    const now0 = JSON.stringify(board.map((b) => (quiet ? { ...b, log: 0, smooth: 0 } : b)));
    const was = quiet ? JSON.stringify(JSON.parse(before || "[]").map((b) => ({ ...b, log: 0, smooth: 0 }))) : before;
    quiet = false;
    if (now0 === was) { before = JSON.stringify(board); return; }
    before = JSON.stringify(board);
    const focused = charts.contains(document.activeElement);
    drawn.forEach((c) => c.chart.close());
    drawn = [];
    fill(charts, board.map(make));
    if (focused) add.focus();
    look();
  }
  function look() { if (seen && document.visibilityState === "visible") ctx.ask("looking", { shown: keys() }).catch(() => {}); }
  let seen = false;
  const watcher = new IntersectionObserver((entries) => { seen = entries[entries.length - 1].isIntersecting; look(); });
  watcher.observe(element);
  const timer = setInterval(look, 5000);
  document.addEventListener("visibilitychange", look);
  ctx.leave(() => { watcher.disconnect(); clearInterval(timer); document.removeEventListener("visibilitychange", look); drawn.forEach((c) => c.chart.close()); });
  ctx.on("msg:custom", (content, buffers) => {
    if (content && content.read) drawn.forEach((c) => c.curves.forEach((k) => { if (k.run === content.read && k.metric === content.name) c.chart.reload(k.of, k.key); }));
    if (!content || !content.series) return;
    content.series.forEach(([of, key], n) => { const came = floats(buffers[n]); drawn.forEach((c) => c.chart.append(of, key, came)); });
    drawn.forEach((c) => c.timed && c.chart.redraw());
  });
  ctx.on("board", show);
  return { element, show, redraw: () => drawn.forEach((c) => c.chart.redraw()) };
}

function monitorMachine() {
  const element = h("section", { class: "wbp-block wbp-monitor-machine", "aria-label": "This machine" });
  const rows = new Map();
  return { element, show(told) {
    const parts = told.machine || [];
    element.hidden = !parts.length;
    if (parts.map((p) => p.name).join() !== [...rows.keys()].join()) {
      rows.clear();
      fill(element, h("h3", {}, "This machine"), h("div", { class: "wbp-monitor-gauges" }, parts.map((p) => {
        const [meter, text] = [h("progress", { max: "1", class: "wbp-progress", "aria-label": clean(p.name) }), h("span", { class: "wbp-muted" })];
        rows.set(p.name, [meter, text]);
        return h("div", { class: "wbp-monitor-gauge" }, h("span", {}, clean(p.name)), meter, text);
      })));
    }
    for (const part of parts) {
      const [meter, text] = rows.get(part.name);
      meter.value = part.share; text.textContent = clean(part.text);
      meter.classList.toggle("wbp-monitor-high", part.share > 0.9);
    }
  } };
}

function monitorRules(ctx) {
  const body = h("tbody");
  const count = h("span", { class: "wbp-muted" });
  const element = h("details", { class: "wbp-more", open: true }, h("summary", {}, "Rules ", count), h("div", { class: "wbp-monitor-scroll", tabindex: "0", role: "region", "aria-label": "Rules" }, h("table", { class: "wbp-monitor-rules" }, h("thead", {}, h("tr", {}, ["state", "rule", "fires when", "now", ""].map((t) => h("th", { scope: "col" }, t || h("span", { class: "wbp-unseen" }, "silence"))))), body)));
  let before = "";
  return { element, show(told) {
    const rules = told.rules || [];
    element.hidden = !rules.length;
    count.textContent = String(rules.length);
    const now = JSON.stringify(rules.map((r) => ({ ...r, value: 0, waits: r.state === "pending" ? Math.round((told.now - r.since) / 5) : 0 })));
    if (now === before || body.contains(document.activeElement)) return;
    before = now;
    fill(body, rules.map((rule) => {
      const [sign, word] = MONITOR_STATES[rule.state];
      const since = rule.since ? (rule.state === "pending" ? ` for ${span(told.now - rule.since)} of ${span(rule.for)}` : ` since ${clock(rule.since)}`) : "";
      const silence = h("select", { class: "wbp-input wbp-select wbp-monitor-silence", "aria-label": `Silence ${clean(rule.name)}`, disabled: ctx.panel.readonly || told.state === "none", onchange: (event) => { const seconds = Number(event.target.value); event.target.blur(); ctx.tell("silence", { rule: rule.name, seconds }); } },
        h("option", { value: "" }, rule.silence ? `silent until ${clock(rule.silence.until).slice(0, 5)}` : "tells"), rule.silence ? h("option", { value: "0" }, "tell again") : null, MONITOR_SILENCES.map(([seconds, words]) => h("option", { value: String(seconds) }, `silent for ${words}`)));
      silence.title = rule.silence ? clean(`Silenced by ${rule.silence.who}${rule.silence.note ? `: ${rule.silence.note}` : ""}`) : "Whether webhooks are told of it";
      return h("tr", { class: `wbp-monitor-rule-${rule.state.replace(" ", "-")}` }, h("td", { class: "wbp-monitor-state" }, h("span", { class: "wbp-monitor-sign", "aria-hidden": "true" }, sign), ` ${word}${since}`),
        h("th", { scope: "row" }, said(rule.name), rule.builtin ? h("span", { class: "wbp-muted" }, " built in") : null), h("td", {}, said(rule.expression), rule.summary ? h("div", { class: "wbp-muted" }, said(rule.summary)) : null), h("td", { class: "wbp-number" }, clean(rule.shown)), h("td", {}, silence));
    }));
  } };
}

function monitorFiles(ctx, paths) {
  return paths.length ? h("section", { class: "wbp-block" }, h("h3", {}, "For Prometheus and Grafana"), h("ul", { class: "wbp-monitor-list" }, paths.map((path) => {
    const copy = copyButton(path);
    copy.setAttribute("aria-label", `Copy the path of ${clean(path.split("/").pop())}`);
    return h("li", { class: "wbp-bar wbp-monitor-file" }, h("b", {}, said(path.split("/").pop())), h("code", { class: "wbp-code wbp-muted" }, said(path)), copy);
  }))) : null;
}

VIEWS.monitor = {
  live(ctx, element) {
    const parts = [monitorHealth(ctx), monitorEvaluator(ctx), monitorAlerts(ctx), monitorBoard(ctx), monitorMachine(), monitorRules(ctx)];
    const files = h("div");
    let paths = "";
    element.classList.add("wbp-monitor");
    element.append(...parts.map((p) => p.element), files);
    const show = () => {
      const told = ctx.get("watching");
      ctx.root.classList.toggle("wbp-monitor-forever", !ctx.get("status").active);
      if (!told.state) return;
      parts.forEach((p) => p.show(told));
      parts[3].redraw();
      const now = (told.files || []).join();
      if (now !== paths) { paths = now; fill(files, monitorFiles(ctx, told.files || [])); }
    };
    ctx.on("watching", show);
    ctx.on("status", show);
    show();
    // What is watched now is what somebody comes for, not how the run that started it ended.
    queueMicrotask(() => { if (ctx.get("status").run && ctx.get("status").state !== "failed") ctx.tab("live"); });
    return { curves: false, samples: false, log: false };
  },
  spec(ctx, element) {
    const list = h("ul", { class: "wbp-monitor-list" });
    const box = h("section", { class: "wbp-block wbp-monitor-trial", "aria-label": "Tried against the past", "aria-live": "polite", hidden: true }, h("h3", {}, "Tried against what was recorded"), list);
    element.append(box);
    let [asked, timer, before] = [0, null, ""];
    async function look() {
      asked += 1;
      tried = performance.now();
      const mine = asked;
      const found = (await ctx.ask("trial").catch(() => ({ value: [] }))).value;
      if (mine !== asked) return;
      box.hidden = !found.length;
      fill(list, found.map((one) => h("li", { class: "wbp-monitor-tried" }, h("span", { class: "wbp-monitor-sign", "aria-hidden": "true" }, !one.known ? "○" : one.fired ? "▲" : "✓"), h("div", {}, h("b", {}, said(one.name)), " ", said(one.expression, "wbp-muted"), h("div", {}, said(one.text)), one.times.length ? h("div", { class: "wbp-muted" }, one.times.slice(-5).map((t) => `${clock(t.began)}${t.ended ? `–${clock(t.ended)}` : " and on"}`).join(", ")) : null))));
    }
    let tried = 0;
    // What nothing was known of is tried again as more is recorded.
    ctx.on("watching", () => { if (box.offsetParent && performance.now() - tried > 10_000 && list.textContent) look(); });
    const show = () => {
      const edit = ctx.get("edit");
      const rules = JSON.stringify([edit.valid, edit.mapping.rules || []]);
      if (rules === before) return;
      before = rules;
      clearTimeout(timer);
      if (edit.valid) timer = setTimeout(look, 350);
    };
    ctx.on("edit", show);
    ctx.leave(() => clearTimeout(timer));
    show();
  },
  results(ctx, element, results) {
    element.append(...[results.html ? markup(results.html) : null, monitorFiles(ctx, Object.values(results.files || {}))].filter(Boolean));
  },
};

// A metric's name, out of those that were seen.
EDITORS.metric = (ctx, field, path, at) => {
  const known = h("datalist", { id: fresh("metrics") });
  const element = h("input", { id: at.id, class: "wbp-input wbp-monitor-metric", type: "text", list: known.id, autocomplete: "off", spellcheck: "false", placeholder: "workbench_endpoint_p95_seconds", "aria-describedby": at.describedBy, oninput: () => at.put(element.value) });
  ctx.ask("metrics").then(({ value }) => fill(known, value.map((name) => h("option", { value: name })))).catch(() => {});
  return { element: h("span", { class: "wbp-monitor-named" }, element, known), show: (value, given) => {
    const text = given && value !== null && value !== undefined ? String(value) : "";
    if (element.value !== text && !(document.activeElement === element && ctx.behind())) element.value = text;
  }, focus: () => element.focus() };
};
