// The data panel's Results: what was kept, what was dropped and why, bounds to move, records to go through, versions to compare.
import { h, fill, button, said, clean, figure, fresh, VIEWS } from "./element.js";
import { makeTable } from "./table.js";
import { makeReader } from "./reader.js";
import { dataBytes, dataShare } from "./data.js";

const REVIEW_NAMES = { characters: "length", symbols: "symbols", repeated_lines: "repeated lines", repeated_words: "repeated words" };

function reviewValue(histogram, value) {
  return histogram.name === "characters" ? `${figure(value)} characters` : `${figure(Math.round(value * 1000) / 10)} %`;
}

// Where a value lies on its axis, from 0 to 1, and back.
function reviewPlace(histogram, value) {
  const { low, high, logarithmic } = histogram;
  const share = logarithmic ? Math.log(Math.max(value, low) / low) / Math.log(high / low) : (value - low) / (high - low);
  return Math.max(0, Math.min(1, share));
}

function reviewAt(histogram, share) {
  const { low, high, logarithmic } = histogram;
  const value = logarithmic ? low * (high / low) ** share : low + (high - low) * share;
  if (histogram.name !== "characters") return Math.round(value * 200) / 200;
  const step = 10 ** Math.max(0, Math.floor(Math.log10(Math.max(1, value))) - 1);
  return Math.max(0, Math.round(value / step) * step);
}

// A histogram of kept and dropped records with its bounds as sliders.
function reviewHistogram(ctx, histogram, bounds) {
  const most = Math.max(1, ...histogram.kept.map((k, n) => k + histogram.dropped[n]));
  const height = (count) => (count ? Math.max(2, 44 * Math.sqrt(count / most)) : 0);
  const bins = histogram.kept.map((kept, n) => {
    const all = height(kept + histogram.dropped[n]);
    const share = kept + histogram.dropped[n] ? kept / (kept + histogram.dropped[n]) : 0;
    return h("span", { class: "wbp-data-bin", style: `height:${all}px` }, h("i", { class: "wbp-data-binkept", style: `height:${100 * share}%` }));
  });
  const bars = h("div", { class: "wbp-data-bins", role: "img", "aria-label": `${REVIEW_NAMES[histogram.name]}: ${figure(histogram.kept.reduce((a, b) => a + b, 0))} kept and ${figure(histogram.dropped.reduce((a, b) => a + b, 0))} dropped records measured` }, bins);
  const track = h("div", { class: "wbp-data-track" });
  const says = h("span", { class: "wbp-data-bounds" });
  const thumbs = histogram.bounds.map((bound) => {
    const lower = bound.field.startsWith("min");
    const thumb = h("div", { class: "wbp-data-thumb", role: "slider", tabindex: ctx.panel.readonly ? "-1" : "0", "aria-disabled": ctx.panel.readonly ? "true" : "false", "aria-orientation": "horizontal", "aria-label": `${REVIEW_NAMES[histogram.name]}, ${bound.says}`, "data-field": bound.field,
      "aria-valuemin": String(histogram.name === "characters" ? 0 : histogram.low), "aria-valuemax": String(histogram.name === "characters" ? Math.round(histogram.high) : Math.max(1, histogram.high)) });
    const shade = h("div", { class: "wbp-data-shade" });
    track.append(shade, thumb);
    const one = { bound, thumb, draw(value) {
      const share = reviewPlace(histogram, value);
      thumb.style.left = `${100 * share}%`;
      thumb.setAttribute("aria-valuenow", String(value)); thumb.setAttribute("aria-valuetext", `${bound.says} ${reviewValue(histogram, value)}`);
      shade.style.left = lower ? "0" : `${100 * share}%`; shade.style.right = lower ? `${100 * (1 - share)}%` : "0";
    } };
    const move = (value, last) => bounds.move(bound.field, value, last);
    if (!ctx.panel.readonly) {
      let dragging = false;
      const at = (event) => { const box = bars.getBoundingClientRect(); return reviewAt(histogram, Math.max(0, Math.min(1, (event.clientX - box.left) / box.width))); };
      thumb.addEventListener("pointerdown", (event) => { dragging = true; thumb.setPointerCapture(event.pointerId); thumb.focus(); event.preventDefault(); });
      thumb.addEventListener("pointermove", (event) => { if (dragging) move(at(event), false); });
      thumb.addEventListener("pointerup", (event) => { if (dragging) { dragging = false; move(at(event), true); } });
      thumb.addEventListener("pointercancel", () => { dragging = false; move(bounds.value(bound.field), true); });
      thumb.addEventListener("keydown", (event) => {
        const by = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 }[event.key];
        if (!by && event.key !== "Home" && event.key !== "End") return;
        event.preventDefault(); event.stopPropagation();
        const now = bounds.value(bound.field);
        let next = event.key === "Home" ? (histogram.name === "characters" ? 0 : histogram.low) : event.key === "End" ? reviewAt(histogram, 1) : now;
        if (by && histogram.name === "characters") next = Math.max(0, now + by * Math.max(1, 10 ** (Math.floor(Math.log10(Math.max(1, now))) - 1)));
        else if (by) next = Math.max(0, Math.min(1, Math.round((now + by * 0.005) * 1000) / 1000));
        move(next, true);
      });
    }
    return one;
  });
  const [low, high] = [histogram.name === "characters" ? "1" : `${figure(histogram.low * 100)} %`, histogram.name === "characters" ? figure(Math.round(histogram.high)) : `${figure(Math.round(histogram.high * 1000) / 10)} %`];
  const element = h("div", { class: "wbp-data-histogram" }, h("div", { class: "wbp-data-caption" }, h("b", {}, REVIEW_NAMES[histogram.name]), says), h("div", { class: "wbp-data-plot" }, bars, track), h("div", { class: "wbp-data-axis wbp-muted", "aria-hidden": "true" }, h("span", {}, low), h("span", {}, high)));
  return { element, draw() {
    for (const t of thumbs) t.draw(bounds.value(t.bound.field));
    const values = thumbs.map((t) => bounds.value(t.bound.field));
    says.textContent = values.length > 1 ? `${figure(values[0])} … ${reviewValue(histogram, values[1])}` : thumbs.map((t) => `${t.bound.says} ${reviewValue(histogram, values[0])}`).join("");
  } };
}

// The bounds as they are dragged: told at once how many records they would move, written to the spec when they are let go.
function reviewBounds(ctx, results, moved) {
  const made = Object.fromEntries(results.histograms.flatMap((x) => x.bounds.map((b) => [b.field, b.value])));
  const held = {};
  const step = () => { const steps = ctx.get("edit").mapping.steps; return steps ? steps.find((s) => s && s.step === "quality" && s.on !== false) : {}; };
  const usual = (field) => { const steps = ctx.get("form").fields.find((f) => f.name === "steps"); return steps.of.variants.find((v) => v.value === "quality").fields.find((f) => f.name === field).default; };
  const value = (field) => held[field] ?? step()?.[field] ?? usual(field);
  const now = () => Object.fromEntries(Object.keys(made).map((f) => [f, value(f)]));
  let [busy, waiting, timer] = [false, false, 0];
  async function ask() {
    if (busy) { waiting = true; return; }
    busy = true;
    const bounds = now();
    try {
      const found = (await ctx.ask("moved", { bounds })).value;
      moved(found, Object.keys(made).some((f) => bounds[f] !== made[f]));
    } catch { /* the spec does not hold: its own errors are told */ }
    busy = false;
    if (waiting) { waiting = false; ask(); }
  }
  const drawings = [];
  const draw = () => drawings.forEach((d) => d());
  return { value, now, ask, drawings, draw, has: () => Boolean(step()), move(field, to, last) {
    held[field] = to;
    if (field === "min_characters" && to > value("max_characters")) held[field] = value("max_characters");
    if (field === "max_characters" && to < Math.max(1, value("min_characters"))) held[field] = Math.max(1, value("min_characters"));
    draw(); ask();
    clearTimeout(timer);
    if (last) timer = setTimeout(() => Promise.all(Object.entries(held).map(([f, v]) => ctx.tell("bound", { field: f, value: v }).then(() => { if (held[f] === v) delete held[f]; }))).then(draw), 250);
  } };
}

// The card, of whose Markdown only what it uses is drawn; text stays text.
function reviewCard(markdown) {
  const plain = (text) => clean(text.replace(/\\([\\\x60*_[\]|#!~])/g, "$1").replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&amp;/g, "&"));
  const found = [];
  let [table, list, code] = [null, null, null];
  for (const line of markdown.split("\n")) {
    if (line.startsWith("\x60\x60\x60")) { if (code) code = null; else { code = h("pre", { class: "wbp-pre", tabindex: "0" }); found.push(code); } continue; }
    if (code) { code.append(`${clean(line)}\n`); continue; }
    const cells = line.startsWith("|") ? line.split(/(?<!\\)\|/).slice(1, -1).map((c) => plain(c.trim())) : null;
    if (cells) {
      if (!table) { table = h("tbody", {}); found.push(h("div", { class: "wbp-scroll", tabindex: "0" }, h("table", { class: "wbp-table" }, h("thead", {}, h("tr", {}, cells.map((c) => h("th", { scope: "col" }, c)))), table))); }
      else if (!cells.every((c) => /^-+$/.test(c))) table.append(h("tr", {}, cells.map((c) => h("td", {}, c))));
      continue;
    }
    table = null;
    const item = line.match(/^(?:-|\d+\.) (.*)/);
    if (item) { if (!list) { list = h(/^\d/.test(line) ? "ol" : "ul", {}); found.push(list); } list.append(h("li", {}, plain(item[1]))); continue; }
    list = null;
    if (line.startsWith("#")) found.push(h("h4", {}, plain(line.replace(/^#+ /, ""))));
    else if (line.trim()) found.push(h("p", {}, plain(line.replace(/\x60/g, ""))));
  }
  return h("div", { class: "wbp-data-card" }, found);
}

function reviewRecords(ctx, results, bounds) {
  const query = { show: "all", code: null, split: "" };
  const images = results.modality !== "text";
  const mapping = () => ctx.get("edit").mapping;
  const chosen = (id) => ["keep", "drop", "unsure"].find((c) => (mapping()[c] || []).includes(id)) || null;
  const asked = () => ({ ...query, ...(query.show === "moved" ? { bounds: bounds.now() } : {}) });
  const CHOSEN = { keep: "kept by hand", drop: "dropped by hand", unsure: "unsure" };
  const search = h("input", { type: "search", class: "wbp-input wbp-data-search", placeholder: "Search the text", "aria-label": "Search the records' text", id: fresh("search"), autocomplete: "off", spellcheck: "false", hidden: images });
  const state = (_, row) => {
    const by = chosen(row.id);
    return [h("span", { class: row.reason ? "wbp-dropped" : "wbp-kept" }, row.reason ? "✕ " : "✓ ", h("span", {}, row.reason ? said(row.reason) : "kept")), by ? h("span", { class: "wbp-data-by" }, CHOSEN[by]) : null];
  };
  const table = makeTable({ label: "records", search, columns: [{ key: "reason", label: "state", draw: state, sorts: false }, { key: "text", label: "text", draw: (v) => said(v), sorts: false }, images ? { key: "label", label: "label", numeric: true, sorts: false } : { key: "length", label: "length", numeric: true }],
    rows: async ({ filter, ...order }) => (await ctx.ask("page", { ...asked(), text: filter, ...order })).value, open: (row, index) => { reader.show(index); },
    heard: (found) => { if (fresh_) { fresh_ = false; if (found.rows.length || found.done !== false) reader.show(table.asked.start, true); else fresh_ = true; } } });
  let fresh_ = true;
  const decide = async (choice, record) => {
    if (!record?.id) return;
    const now = chosen(record.id) === choice ? null : choice;
    await ctx.tell("decide", { record: record.id, choice: now });
    if (now && query.show !== "hand" && query.show !== "unsure") await reader.show(reader.index() + 1);
    reader.pressed();
  };
  const fixed = ctx.panel.readonly;
  const actions = fixed ? [] : [...[["1", "Keep", "keep"], ["2", "Drop", "drop"], ["3", "Unsure", "unsure"]].map(([key, label, choice]) => ({ key, label, act: (_, record) => decide(choice, record), pressed: (record) => chosen(record.id) === choice })),
    { key: "u", label: "Undo", needs: false, act: async () => {
      const { value } = (await ctx.tell("undecide")) || {};
      if (!value) return;
      const here = [...Array(6).keys()].map((n) => reader.index() - n).filter((n) => n >= 0);
      for (const index of here) {
        const found = (await ctx.ask("record", { ...asked(), ...order(), index })).value;
        if (found.id === value.id) { await reader.show(index, true); break; }
      }
      reader.pressed();
    } }];
  const order = () => ({ text: table.asked.filter, sort: table.asked.sort, descending: table.asked.descending });
  const reader = makeReader({ label: "record", actions, shown: (index) => table.point(index), fetch: async (index) => {
    const { value, buffers } = await ctx.ask("record", { ...asked(), ...order(), index });
    const by = value.id ? chosen(value.id) : null;
    return { ...value, says: value.says ? value.says + (by ? ` · ${CHOSEN[by]} from the next run on` : "") : "", image: value.picture ? new Blob([buffers[0]], { type: "image/png" }) : null, sound: value.sound ? new Blob([buffers[0]], { type: "audio/wav" }) : null };
  } });
  const chips = h("div", { class: "wbp-bar wbp-data-chips", role: "group", "aria-label": "Which records" });
  const split = h("select", { class: "wbp-input wbp-select wbp-data-split", "aria-label": "Split", onchange: () => { query.split = ["", "train", "validation", "test"][split.selectedIndex]; again(); } }, ["every split", "train", "validation", "test"].map((t) => h("option", {}, t)));
  function again() { table.asked.start = 0; fresh_ = true; table.redraw(); draw(); return table.load(); }
  function show(more) { Object.assign(query, { show: "all", code: null }, more); return again(); }
  const made = new Map();
  function draw() {
    const count = (name) => (mapping()[name] || []).length;
    const compared = ctx.dataCompared;
    const wanted = [["all", "All", results.read], ["kept", "Kept", results.kept], ["dropped", "Dropped", results.read - results.kept],
      ...(query.code !== null ? [["reason", results.drops.find((d) => d.code === query.code)?.reason || "", results.drops.find((d) => d.code === query.code)?.count || 0]] : []),
      ...(count("keep") + count("drop") || query.show === "hand" ? [["hand", "By hand", count("keep") + count("drop")]] : []), ...(count("unsure") || query.show === "unsure" ? [["unsure", "Unsure", count("unsure")]] : []),
      ...(["keep", "drop"].includes(query.show) ? [[query.show, query.show === "keep" ? "To keep" : "To drop", count(query.show)]] : []),
      ...(ctx.dataMoved || query.show === "moved" ? [["moved", "Moved", ctx.dataMoved || 0]] : []), ...(compared ? ["added", "removed", "changed"].map((n) => [n, n[0].toUpperCase() + n.slice(1), compared[n]]) : [])];
    const now = query.code !== null ? "reason" : query.show;
    const elements = wanted.map(([name, label, n]) => {
      const text = `${label} ${figure(n)}`;
      const chip = made.get(name) || button("", () => { if (name !== "reason") show({ show: name }); }, { class: "wbp-button wbp-small wbp-data-chip" });
      made.set(name, chip);
      if (chip.textContent !== clean(text)) chip.textContent = clean(text);
      chip.setAttribute("aria-pressed", name === now ? "true" : "false");
      return chip;
    });
    if (elements.length !== chips.children.length || elements.some((e, n) => chips.children[n] !== e)) chips.replaceChildren(...elements);
  }
  ctx.dataShow = show;
  const element = h("div", { class: "wbp-block wbp-data-records" }, h("div", { class: "wbp-bar" }, chips, h("span", { class: "wbp-space" }), split, search),
    h("div", { class: "wbp-data-side" }, table.element, reader.element));
  table.element.addEventListener("keydown", (event) => { if (event.key !== "Enter") reader.hear(event); });
  let choices = "";
  return { element, show, draw, query, edited() {
    draw(); reader.pressed();
    const now = JSON.stringify(["keep", "drop", "unsure"].map((c) => mapping()[c] || []));
    if (now !== choices) { choices = now; table.redraw(); table.load(); }
  }, moved() { if (query.show === "moved") { table.redraw(); table.load(); } draw(); } };
}

VIEWS.data.results = (ctx, element, results) => {
  if (results.kept === undefined) return;
  ctx.dataCompared = null; ctx.dataMoved = 0;
  const moved = h("div", { class: "wbp-data-moved", role: "status", "aria-live": "polite" });
  const bounds = reviewBounds(ctx, results, (found, changed) => {
    const sum = found.goes + found.back;
    ctx.dataMoved = sum;
    const text = [found.goes ? `−${figure(found.goes)}` : "", found.back ? `+${figure(found.back)}` : ""].filter(Boolean).join(", ");
    fill(moved, changed || sum ? [h("span", {}, sum ? `moved: ${text} record${sum === 1 ? "" : "s"} by this step` : "moved: no record"), sum ? button("See them", () => records.show({ show: "moved" }), { class: "wbp-button wbp-small" }) : null] : h("span", { class: "wbp-muted" }, "drag a bound, or use the arrow keys, to see what would move"));
    records.moved();
  });
  const records = reviewRecords(ctx, results, bounds);
  const share = results.read ? results.kept / results.read : 0;
  const versions = results.versions || [];
  const named = (v) => `v${v.number} · ${figure(v.records)} records`;
  const version = h("select", { class: "wbp-input wbp-select", "aria-label": "Version", disabled: ctx.panel.readonly, onchange: () => ctx.tell("version", { digest: versions[version.selectedIndex].digest }) }, versions.map((v, n) => h("option", { selected: v.digest === results.digest, title: v.digest }, named(v) + (n ? "" : ", newest"))));
  const others = versions.filter((v) => v.digest !== results.digest);
  const difference = h("span", { class: "wbp-data-difference", role: "status" });
  const compare = h("select", { class: "wbp-input wbp-select", "aria-label": "Compare with another version", onchange: async () => {
    if (!compare.selectedIndex) { ctx.dataCompared = null; difference.textContent = ""; records.show({ show: "all" }); return; }
    difference.textContent = "comparing …";
    try {
      const found = (await ctx.ask("compare", { digest: others[compare.selectedIndex - 1].digest })).value;
      ctx.dataCompared = found;
      difference.textContent = `+${figure(found.added)} added, −${figure(found.removed)} removed, ${figure(found.changed)} changed`;
      records.show({ show: found.added ? "added" : found.removed ? "removed" : "changed" });
    } catch (error) { difference.textContent = clean(error.message); }
  } }, h("option", {}, "compare with …"), others.map((v) => h("option", {}, named(v))));
  const most = Math.max(1, ...results.drops.map((d) => d.count));
  const reasons = results.drops.map((d) => h("button", { type: "button", class: "wbp-data-reason", title: `${d.step}: ${dataShare(d.count, results.read)}`, onclick: () => records.show({ show: "dropped", code: d.code }) },
    h("span", { class: "wbp-data-why" }, said(d.reason), h("span", { class: "wbp-muted" }, clean(d.step))), h("span", { class: "wbp-number" }, figure(d.count)), h("span", { class: "wbp-data-rail" }, h("i", { style: `width:${(100 * d.count) / most}%` }))));
  const found = Object.entries(results.found || {});
  const splits = Object.entries(results.splits).map(([n, s]) => `${n} ${figure(s.records)}`).join(" · ");
  const weight = Object.values(results.splits).reduce((sum, s) => sum + s.bytes, 0);
  const drawings = results.histograms.map((x) => reviewHistogram(ctx, x, bounds));
  bounds.drawings.push(...drawings.map((d) => d.draw));
  const noScores = results.modality !== "text" ? "Images have no measures." : results.steps.includes("quality") ? "This version was made before measures were kept: run it again to move bounds here." : "The quality step is off or not there: put it among the steps to see measures and move bounds.";
  const scores = h("div", { class: "wbp-block", role: "group", "aria-label": "Scores" }, h("div", { class: "wbp-bar" }, h("h3", {}, "Scores"), drawings.length ? h("span", { class: "wbp-data-legend wbp-muted" }, h("i", { class: "wbp-data-iskept" }), "kept", h("i", { class: "wbp-data-isdropped" }), "dropped") : null), drawings.length ? [h("div", { class: "wbp-data-histograms" }, drawings.map((d) => d.element)), moved] : h("p", { class: "wbp-muted" }, noScores));
  element.append(h("div", { class: "wbp-data-head" }, h("div", { class: "wbp-data-sum" }, h("span", {}, figure(results.read)), h("span", { "aria-label": "of which" }, " → "), h("b", {}, figure(results.kept)), h("span", {}, " kept")),
    h("div", { class: "wbp-data-bar", role: "img", "aria-label": `${Math.round(1000 * share) / 10} % kept` }, h("i", { style: `width:${100 * share}%` })), h("span", { class: "wbp-muted" }, `${Math.round(1000 * share) / 10} %`), h("span", { class: "wbp-bar" }, version, others.length ? compare : null), difference),
  h("p", { class: "wbp-muted wbp-data-splits" }, `${splits}${weight ? ` · ${dataBytes(weight)} of text` : ""}`),
  h("div", { class: "wbp-columns wbp-data-columns" }, h("div", { class: "wbp-block", role: "group", "aria-label": "Dropped by reason" }, h("h3", {}, "Dropped by reason"), reasons.length ? h("div", { class: "wbp-data-reasons" }, reasons) : h("p", { class: "wbp-muted" }, "Nothing was dropped."), found.length ? h("p", { class: "wbp-muted" }, `redacted: ${found.map(([k, n]) => `${figure(n)} ${k}`).join(", ")}`) : null), scores),
  records.element, h("details", { class: "wbp-more" }, h("summary", {}, "Data card"), reviewCard(results.card || "")));
  const edited = () => { records.edited(); bounds.draw(); };
  let quality = "";
  const listen = () => {
    edited();
    const now = JSON.stringify([bounds.now(), ctx.get("edit").mapping.keep, ctx.get("edit").mapping.drop]);
    if (results.histograms.length && now !== quality) { quality = now; bounds.ask(); }
  };
  ctx.dataListen = listen;
  if (!ctx.dataListens) { ctx.dataListens = true; ctx.on("edit", () => ctx.dataListen()); }
  records.draw();
  listen();
};
