// The train panel: what the model sees, its curves, ranks and samples as it learns, what came of it beside other runs.
import { h, fill, button, said, clean, clock, figure, floats, colourOf, shade, VIEWS } from "./element.js";
import { makeChart, makeChartGroup, pointsOf } from "./chart.js";

import { trainTable, trainVerdict, trainControls, trainRankLogs, trainCosts, trainSample } from "./trainwork.js";
import { trainSweep } from "./trainsweep.js";
import { trainSight } from "./trainsight.js";
import { trainOwn } from "./trainform.js";

// The curves of a run: the two that say whether it learns, the others folded.
function trainCurves(ctx) {
  const points = pointsOf(ctx);
  const group = makeChartGroup();
  let marks = [];
  const first = h("div", { class: "wbp-charts wbp-train-first" });
  const rest = h("div", { class: "wbp-charts" });
  const count = h("span", { class: "wbp-muted" });
  const fold = h("details", { class: "wbp-more", hidden: true }, h("summary", {}, "More curves ", count), rest);
  const charts = new Map();
  const shown = [];
  let words = { first: ["loss"], curves: {} };
  function chartOf(name) {
    if (charts.has(name)) return charts.get(name);
    const [title, measure] = words.curves[name] || [name.replaceAll("_", " "), ""];
    const chart = makeChart({ title, measure, ask: points, group, marks: () => marks, height: words.first.includes(name) ? 200 : 140 });
    charts.set(name, chart);
    return chart;
  }
  function place(names) {
    const known = Object.keys(words.curves).filter((n) => names.includes(n));
    const all = [...known, ...names.filter((n) => !known.includes(n))];
    for (const name of all) {
      const host = words.first.includes(name) ? first : rest;
      const chart = chartOf(name);
      if (chart.element.parentNode !== host) host.append(chart.element);
      for (const { run, label } of shown) chart.add(run, name, label);
    }
    const folded = all.filter((n) => !words.first.includes(n)).length;
    count.textContent = String(folded);
    fold.hidden = folded === 0;
  }
  return {
    elements: [first, fold], charts,
    // Begin anew with a run.
    only(run, label, names, said) {
      this.close();
      words = said || words;
      shown.splice(0, shown.length, { run, label });
      place(names);
    },
    names: place,
    also(run, label) {
      if (shown.some((s) => s.run === run)) return;
      shown.push({ run, label });
      charts.forEach((chart, name) => chart.add(run, name, label));
    },
    without(run) {
      const at = shown.findIndex((s) => s.run === run);
      if (at > 0) shown.splice(at, 1);
      charts.forEach((chart, name) => chart.remove(run, name));
    },
    mark(list) {
      const same = JSON.stringify(list) === JSON.stringify(marks);
      marks = list;
      if (!same) charts.forEach((chart) => chart.redraw());
    },
    append(run, names, buffers) { names.forEach((name, n) => charts.get(name)?.append(run, name, floats(buffers[n]))); },
    reload(run, name) { charts.get(name)?.reload(run, name); },
    close() { charts.forEach((chart) => chart.close()); charts.clear(); group.view = null; first.replaceChildren(); rest.replaceChildren(); },
  };
}

const trainAt = (step) => (step ? `step ${figure(step)}` : "before the first step");

// What the model made of one prompt at one step: words, pictures, clips, sounds.
function trainMade(ctx, row, n, at) {
  const text = row.texts[n];
  const files = (row.files || [])[n] || [];
  return [files.length ? h("div", { class: "wbp-train-files" }, files.map((f) => trainSample(ctx, f, `${row.prompt || "sample"}, ${at}`))) : null, text || !files.length ? h("div", { class: "wbp-train-text" }, text === null ? "–" : said(text)) : null];
}

// The same prompts before the first step and after the last, side by side; all steps are folded under it.
function trainSamples(ctx, samples) {
  if (!samples || !samples.steps.length) return null;
  const { steps, rows } = samples;
  const ends = steps.length > 1 ? [0, steps.length - 1] : [0];
  const made = (row) => ({ "image/apng": "clips", "audio/wav": "tunes" })[row.files?.flat()[0]?.media] || (row.files ? "pictures" : "(nothing)");
  const name = (row) => h("th", { scope: "row" }, said(row.prompt || made(row)));
  const line = (row, which) => h("tr", {}, name(row), which.map((n) => h("td", {}, trainMade(ctx, row, n, trainAt(steps[n])))));
  const all = h("details", { class: "wbp-more wbp-train-steps" }, h("summary", {}, "All steps ", h("span", { class: "wbp-muted" }, figure(steps.length))));
  all.addEventListener("toggle", () => { if (all.open && all.children.length === 1) all.append(trainTable("Samples by step", ["Prompt", ...steps.map(trainAt)], rows.map((row) => line(row, steps.map((s, n) => n))))); });
  return h("section", { class: "wbp-block wbp-train-samples" }, h("h3", {}, "Before and after"), h("div", { class: "wbp-train-beforeafter" }, trainTable("Before and after", ["Prompt", ...ends.map((n) => trainAt(steps[n]))], rows.map((row) => line(row, ends)))), steps.length > 2 ? all : null);
}

function trainLog(ctx) {
  const level = h("select", { class: "wbp-input wbp-select", "aria-label": "Level", onchange: () => show() }, [["", "all lines"], ["warning", "warnings and errors"], ["error", "errors"]].map(([v, t]) => h("option", { value: v }, t)));
  const search = h("input", { type: "search", class: "wbp-input", placeholder: "Filter", "aria-label": "Filter the log", oninput: () => show() });
  const pre = h("pre", { class: "wbp-pre wbp-log", tabindex: "0", role: "log", "aria-live": "off", "aria-label": "Log" });
  const count = h("span", { class: "wbp-muted" });
  const element = h("details", { class: "wbp-more" }, h("summary", {}, "Log ", count), h("div", { class: "wbp-bar" }, level, search), pre);
  const weight = { info: 0, warning: 1, error: 2 };
  function show() {
    const lines = ctx.get("live").log || [];
    const low = pre.scrollHeight - pre.scrollTop - pre.clientHeight < 24;
    const kept = lines.filter((l) => (weight[l.level] || 0) >= (weight[level.value] || 0) && l.text.toLowerCase().includes(search.value.toLowerCase()));
    element.hidden = !lines.length;
    count.textContent = kept.length === lines.length ? `${figure(lines.length)} line${lines.length === 1 ? "" : "s"}` : `${figure(kept.length)} of ${figure(lines.length)} lines`;
    fill(pre, kept.map((l) => h("span", { class: `wbp-train-${l.level === "info" ? "info" : "loud"}` }, `${clock(l.at)}  ${l.level === "info" ? "" : `${l.level}: `}${clean(l.text)}\n`)));
    if (low) pre.scrollTop = pre.scrollHeight;
  }
  return { element, show };
}

function trainRanks(ctx) {
  const body = h("div", {});
  const element = h("section", { class: "wbp-block wbp-train-ranks" }, h("h3", {}, "Ranks"), body);
  let cells = [];
  const every = [["cpu", "CPU"], ["step", "A step"], ["wait", "of it, waiting for data"], ["memory", "Memory"], ["power", "Power"], ["host", "Where"]];
  let columns = [];
  return { element, show() {
    const ranks = ctx.get("train").ranks || [];
    element.hidden = !ranks.length;
    const known = every.filter(([name]) => name !== "power" || ranks.some((r) => r.power));
    if (cells.length !== ranks.length || columns.length !== known.length) {
      columns = known;
      cells = ranks.map(() => columns.map(([name]) => h("td", { class: name === "host" ? null : "wbp-number" })));
      fill(body, trainTable("Ranks", ["Rank", ...columns.map(([name, label]) => (name === "host" ? label : [label]))], ranks.map((r, n) => h("tr", {}, h("th", { scope: "row" }, figure(r.rank)), cells[n]))));
    }
    ranks.forEach((r, n) => columns.forEach(([name], c) => {
      const text = name === "host" ? `${r.host}${r.pid ? ` · process ${r.pid}` : ""}` : r[name];
      if (cells[n][c].textContent !== text) cells[n][c].textContent = clean(text);
    }));
  } };
}

// Two views of the same tab, as a pair of buttons.
function trainPair(names, pick) {
  const buttons = names.map((name, n) => button(name, () => choose(n), { class: "wbp-button wbp-small", "aria-pressed": "false" }));
  function choose(n) {
    buttons.forEach((b, other) => b.setAttribute("aria-pressed", other === n ? "true" : "false"));
    pick(n);
  }
  return { element: h("div", { class: "wbp-bar wbp-train-pair", role: "group", "aria-label": "View" }, buttons), choose };
}

function trainLive(ctx, element) {
  const headline = h("p", { class: "wbp-train-headline" });
  const happened = h("div", { class: "wbp-muted wbp-train-happened" });
  const curves = trainCurves(ctx);
  const ranks = trainRanks(ctx);
  const log = trainLog(ctx);
  const [verdict, controls, rankLogs, sweep] = [trainVerdict(ctx), trainControls(ctx), trainRankLogs(ctx), trainSweep(ctx)];
  const written = h("div", { class: "wbp-train-all", tabindex: "0", role: "region", "aria-label": "Samples" });
  const samples = h("section", { class: "wbp-block" }, h("h3", {}, "Samples"), written);
  const sight = trainSight(ctx, "run");
  const progress = h("div", {}, controls.element, happened, sweep.element, curves.elements, verdict.element, samples, ranks.element, log.element, rankLogs.element);
  const seen = h("div", { hidden: true }, sight.element);
  const pair = trainPair(["Progress", "What the model sees"], (n) => {
    progress.hidden = n === 1; seen.hidden = n === 0;
    if (n === 1) sight.need(ctx.get("status").run);
  });
  const all = h("div", {}, h("div", { class: "wbp-train-top" }, headline, pair.element), progress, seen);
  element.append(all);
  pair.choose(0);
  let run = null;
  let known = null;
  let before = "";

  function status() {
    const now = ctx.get("status");
    all.hidden = !now.run;
    if (now.run === run) return void controls.show();
    run = now.run;
    curves.close(); before = ""; rankLogs.close();
    if (run) curves.only(run, clean(now.name || run), ctx.get("live").curves || [], ctx.get("train").run === run ? ctx.get("train").words : null);
    if (!seen.hidden) sight.need(run);
    live(); state();
    return undefined;
  }
  function live() {
    const now = ctx.get("live");
    if (run && (now.curves || []).some((n) => !curves.charts.has(n))) { curves.names(now.curves); state(); }
    const list = now.samples || [];
    const text = JSON.stringify(list.slice(-12));
    samples.hidden = !list.length;
    if (text !== before) {
      before = text;
      const steps = [...new Set(list.map((s) => s.step))].sort((a, b) => b - a).slice(0, 4);
      fill(written, steps.map((step) => h("div", { class: "wbp-train-written" }, h("div", { class: "wbp-muted" }, step ? `step ${figure(step)}` : "before the first step"),
        h("div", {}, list.filter((s) => s.step === step).map((s) => h("div", { class: "wbp-train-line" }, h("b", {}, said(s.prompt || "")), s.file ? trainSample(ctx, s, `${s.prompt || "sample"}, ${trainAt(s.step)}`) : null, said(s.text || "")))))));
    }
    log.show();
  }
  function state() {
    const now = ctx.get("train");
    const mine = now.run === run;
    if (mine && now.words && known !== run) {
      known = run;
      curves.only(run, clean(ctx.get("status").name || run), ctx.get("live").curves || [], now.words);
    }
    ranks.show(); verdict.show(); controls.show(); sweep.show();
    rankLogs.element.hidden = mine && Boolean(now.sweep);
    const words = mine ? (now.headline || []).join(" · ") : "";
    if (headline.textContent !== words) headline.textContent = clean(words);
    const list = mine ? now.marks || [] : [];
    curves.mark(list);
    const told = list.slice(-3).map((m) => `step ${figure(m.step)}: ${m.text}`).join(" · ");
    if (happened.textContent !== told) happened.textContent = clean(told);
    happened.hidden = !told;
  }
  ctx.on("status", status); ctx.on("live", live); ctx.on("train", state);
  ctx.on("msg:custom", (content, buffers) => {
    if (content && content.read === run) curves.reload(run, content.name);
    if (content && content.points === run) curves.append(run, content.names, buffers);
  });
  ctx.leave(() => curves.close());
  status();
  return { curves: false, samples: false, log: false };
}

// Measures before the first step beside those after it.
function trainGain(gain, measured) {
  if (!gain) return null;
  const better = gain.high < 0;
  const worse = gain.low > 0;
  const several = gain.low !== null;  // a module of one's own gives one figure: no interval
  const words = better ? "it learned" : worse ? "it got worse" : several ? "no difference that is sure" : "before and after";
  return h("section", { class: "wbp-block wbp-train-gain" }, h("h3", {}, "What training brought"), h("div", { class: "wbp-train-two" },
    h("div", {}, h("div", { class: "wbp-muted" }, "before the first step"), h("div", { class: "wbp-train-big" }, gain.before.toFixed(3))),
    h("div", { class: "wbp-train-arrow", "aria-hidden": "true" }, "→"),
    h("div", {}, h("div", { class: "wbp-muted" }, "after the last"), h("div", { class: "wbp-train-big" }, gain.after.toFixed(3))),
    h("div", { class: "wbp-train-difference" }, h("div", { class: better ? "wbp-train-better" : "wbp-train-unsure" }, `${better ? "✓" : worse ? "✕" : "○"} ${words}: ${gain.difference > 0 ? "+" : "−"}${Math.abs(gain.difference).toFixed(3)} ${measured || ""}`),
      h("div", { class: "wbp-muted" }, several ? `95 % interval ${gain.low.toFixed(3)} to ${gain.high.toFixed(3)}, on the same ${figure(gain.windows)} held-out parts; less is better`.replaceAll("-", "−").replace("held−out", "held-out") : "as the module measures it"))));
}

function trainCompare(ctx, curves, here) {
  const table = h("div", {});
  const list = h("div", { class: "wbp-train-others" });
  const element = h("details", { class: "wbp-more wbp-train-compare" }, h("summary", {}, "Compare with other runs"), list, table);
  const picked = new Set();
  let known = null;

  // The name where it says enough; where runs share it, when each was.
  function labelOf(other) {
    const same = [ctx.get("status").name, ...known.filter((o) => o.run !== other.run).map((o) => o.name)].includes(other.name);
    return same ? `${other.name} (${other.when})` : other.name;
  }
  async function load() {
    if (known) return;
    known = (await ctx.ask("others")).value;
    if (!known.length) return void fill(list, h("p", { class: "wbp-muted" }, "There is no other run of train yet."));
    fill(list, known.map((o) => {
      const box = h("input", { type: "checkbox", class: "wbp-check", onchange: () => pick(o, box) });
      return h("label", { class: "wbp-train-other" }, box, h("i", { class: "wbp-train-dot", style: `background:${shade(colourOf(o.run))}`, "aria-hidden": "true" }), said(o.name), h("span", { class: "wbp-muted" }, clean([o.when, o.state, o.bits].filter(Boolean).join(" · "))));
    }));
  }
  function pick(other, box) {
    if (box.checked && picked.size >= 5) { box.checked = false; ctx.say("Six runs at once are as many as can be told apart."); return; }
    if (box.checked) { picked.add(other.run); curves.also(other.run, clean(labelOf(other))); } else { picked.delete(other.run); curves.without(other.run); }
    compare();
  }
  async function compare() {
    if (!picked.size) return void table.replaceChildren();
    const { value } = await ctx.ask("compare", { others: [...picked] });
    const head = (r) => h("th", { scope: "col" }, said(r.run === here ? `${r.name} (this run)` : r.name), h("div", { class: "wbp-muted" }, clean(r.when)));
    const line = (label, values) => h("tr", {}, h("th", { scope: "row" }, said(label)), values.map((v) => h("td", {}, said(v || "–"))));
    fill(table, h("div", { class: "wbp-scroll wbp-train-scroll", tabindex: "0", role: "region", "aria-label": "Comparison" }, h("table", { class: "wbp-table" }, h("caption", { class: "wbp-unseen" }, "Comparison"),
      h("thead", {}, h("tr", {}, h("th", { scope: "col" }, ""), value.runs.map(head))),
      h("tbody", {}, line("held out", value.runs.map((r) => r.bits)), line("last loss", value.runs.map((r) => r.loss)), line("trained", value.runs.map((r) => r.tokens)), line("took", value.runs.map((r) => r.seconds)), value.rows.map((r) => line(r.path, r.values))))),
      value.rows.length ? null : h("p", { class: "wbp-muted" }, "Their specs are the same."));
    return undefined;
  }
  element.addEventListener("toggle", () => { if (element.open) load(); });
  return element;
}

function trainCharted(ctx, element, results) {
  const curves = trainCurves(ctx);
  ctx.leave(() => curves.close());
  const here = results.run;
  element.append(h("section", { class: "wbp-block" }, h("h3", {}, "Curves"), curves.elements, trainCompare(ctx, curves, here)));
  curves.only(here, clean(ctx.get("status").name || here), results.curves || [], results.words);
  curves.mark(results.marks || []);
}

function trainTrials(ctx, element) {
  const sweep = trainSweep(ctx);
  if (!ctx.get("train").sweep) return;
  element.append(sweep.element);
  sweep.show();
}

function trainResults(ctx, element, results) {
  if (!results.facts) return;
  const facts = h("dl", { class: "wbp-train-facts" }, results.facts.map(([name, value, note]) => h("div", {}, h("dt", {}, name), h("dd", {}, said(value), note ? h("div", { class: "wbp-muted" }, clean(note)) : null,
    name === "taught by" && value.includes("@") ? h("div", {}, button("Open the dataset", () => ctx.tell("dataset"), { class: "wbp-button wbp-link wbp-train-open" })) : null))));
  const costs = trainCosts(results.costs);
  element.append(h("section", { class: "wbp-block" }, facts), costs ? h("details", { class: "wbp-more" }, h("summary", {}, "What it took"), costs) : "", trainGain(results.gain, results.words?.measured) || "");
  trainTrials(ctx, element);
  if ((results.curves || []).length) trainCharted(ctx, element, results);
  element.append(trainSamples(ctx, results.samples) || "", results.card ? h("details", { class: "wbp-more" }, h("summary", {}, "Model card"), h("pre", { class: "wbp-pre", tabindex: "0" }, clean(results.card))) : "");
}

function trainLeft(ctx, element, results) {
  trainTrials(ctx, element);
  if (!(results.curves || []).length) return;
  trainCharted(ctx, element, results);
  element.append(trainSamples(ctx, results.samples) || "");
}

function trainSpec(ctx, element) {
  const sight = trainSight(ctx, "spec");
  const fold = h("details", { class: "wbp-more wbp-train-before" }, h("summary", {}, "What the model sees"), sight.element);
  const now = () => { const edit = ctx.get("edit"); if (fold.open && edit.valid) sight.need(edit.yaml); };
  let timer = 0;
  fold.addEventListener("toggle", now);
  ctx.on("edit", () => { clearTimeout(timer); timer = setTimeout(now, 600); });
  ctx.on("own", now);
  ctx.leave(() => clearTimeout(timer));
  trainOwn(ctx, element);
  element.append(fold);
  now();
}

VIEWS.train = { spec: trainSpec, live: trainLive, results: trainResults, left: trainLeft };
