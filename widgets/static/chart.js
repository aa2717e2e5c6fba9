// A chart of curves on a canvas: a few thousand points at most, since Python thins them to what the pixels show.
import { h, fill, button, figure, floats, clean, colourOf, shade, fresh } from "./element.js";
import { ticksOf, logTicks, timeTicks, relative, momentText, short, measured, smoothed } from "./axis.js";

const EDGE = { left: 56, right: 12, top: 18, bottom: 24 };
const SMOOTHING = [0, 0.02, 0.05, 0.1];
const MARK_SIGNS = { deploy: "▲", spec: "◆", restart: "↻", alert: "!" };
const TABLE_ROWS = 40;

// Charts whose time axes are one: `zoom` and the cursor of one are those of all.
export function makeChartGroup() {
  return { charts: new Set(), view: null, cursor: null };
}

// `ask` gives points: (run, name, low, high, columns, over) => Promise<Float64Array of pairs>, with `odd` ({nan, inf}) where some are no numbers.
// `over`: "step" or "time" (seconds since the epoch); `range`: seconds that a time axis shows up to `now()`; `measure`: unit of the values;
// `marks()`: [{at, step, kind, text}]; `changed({log, smooth})`: told when a person sets one.
export function makeChart({ title, unit = "step", ask, height = 160, over = "step", measure = "", marks = () => [], group = null, range = null,
  now = () => Date.now() / 1000, log = false, smooth = 0, changed = () => {} }) {
  const timed = over === "time";
  const canvas = h("canvas", { class: "wbp-canvas", tabindex: "0", role: "img", style: `height:${height}px` });
  const readout = h("span", { class: "wbp-readout", "aria-live": "off" });
  const legend = h("span", { class: "wbp-legend", hidden: true });
  const tip = h("div", { class: "wbp-tip", hidden: true, "aria-hidden": "true" });
  const logButton = button("log", () => { log = !log; changed({ log, smooth }); state(); }, { class: "wbp-charttool", title: "Logarithmic scale" });
  const smoothButton = button("smooth", () => { smooth = SMOOTHING[(SMOOTHING.findIndex((s) => s >= smooth) + 1) % SMOOTHING.length] || 0; changed({ log, smooth }); state(); },
    { class: "wbp-charttool wbp-smooth", title: "Average over a share of the width; what was measured stays behind, faint" });
  const allButton = button("all", () => zoom(-Infinity, Infinity), { class: "wbp-charttool", title: "See all (0)" });
  const tableButton = button("table", () => { table.hidden = !table.hidden; tableButton.setAttribute("aria-expanded", String(!table.hidden)); tabulate(true); }, { class: "wbp-charttool", title: "The values as a table", "aria-expanded": "false" });
  const tools = h("span", { class: "wbp-charttools", role: "group", "aria-label": `View of ${title}` }, allButton, logButton, smoothButton, tableButton);
  const caption = h("figcaption", { id: fresh("chart") }, h("b", {}, clean(title)), measure && measure !== "of 1" && !measure.startsWith("B") ? h("span", { class: "wbp-muted" }, measure) : null, h("span", { class: "wbp-space" }), tools);
  const table = h("div", { class: "wbp-charttable", hidden: true, tabindex: "0", role: "region", "aria-label": `Values of ${title}` });
  const hint = "Drag to zoom, double click to see all. With the keyboard: arrows move along the curve, plus and minus zoom, Page Up and Page Down move the window, 0 shows all.";
  const plot = h("div", { class: "wbp-plot", title: hint }, canvas, tip);
  const figureElement = h("figure", { class: "wbp-chart" }, caption, legend, plot, h("div", { class: "wbp-readline" }, readout), table);
  const series = [];
  let [own, cursor, drag, pending, tabulated, later] = [null, null, null, 0, 0, 0];
  const me = {};

  const viewed = () => (group ? group.view : own);
  const at0 = () => (group ? group.cursor : cursor);
  function point(x) {
    if (group) { group.cursor = x; group.charts.forEach((c) => c.redraw()); } else { cursor = x; redraw(); }
  }
  const shown = () => series.filter((s) => !s.hidden);

  function extent() {
    if (timed && range) return [now() - range, now()];
    let [low, high] = [Infinity, -Infinity];
    for (const { points } of series) if (points.length) { low = Math.min(low, points[0]); high = Math.max(high, points[points.length - 2]); }
    return low <= high ? [low, high] : [0, 1];
  }

  function scale() {
    const [x0, x1] = viewed() || extent();
    let [y0, y1, below] = [Infinity, -Infinity, 0];
    for (const { points } of shown()) {
      for (let n = 0; n < points.length; n += 2) {
        if (points[n] < x0 || points[n] > x1 || !Number.isFinite(points[n + 1])) continue;
        if (log && points[n + 1] <= 0) { below += 1; continue; }
        y0 = Math.min(y0, points[n + 1]); y1 = Math.max(y1, points[n + 1]);
      }
    }
    if (!(y0 <= y1)) [y0, y1] = log ? [1, 10] : [0, 1];
    const box = { w: canvas.clientWidth, h: canvas.clientHeight };
    const wanted = Math.max(2, box.h / 44);
    if (!log && (measure === "of 1" || measure === "B")) y0 = Math.min(0, y0); // of room and shares the whole counts: a small change is shown small
    const ticks = log ? logTicks(y0, y1 > y0 ? y1 : y0 * 1.1, wanted) : ticksOf(y0, y1, wanted);
    y0 = Math.min(y0, ticks[0]); y1 = Math.max(y1, ticks[ticks.length - 1]);
    const wide = Math.max(1, box.w - EDGE.left - EDGE.right);
    const tall = Math.max(1, box.h - EDGE.top - EDGE.bottom);
    const place = log ? (y) => Math.log(y / y0) / Math.log(y1 / y0) : (y) => (y1 > y0 ? (y - y0) / (y1 - y0) : 0.5);
    return { x0, x1, ticks, box, wide, below,
      px: (x) => EDGE.left + (x1 > x0 ? (x - x0) / (x1 - x0) : 0.5) * wide,
      py: (y) => EDGE.top + (1 - place(y)) * tall,
      back: (p) => x0 + ((p - EDGE.left) / wide) * (x1 - x0) };
  }

  function nearest(points, x) {
    let [low, high] = [0, points.length / 2 - 1];
    while (low < high) { const middle = (low + high) >> 1; if (points[2 * middle] < x) low = middle + 1; else high = middle; }
    return low > 0 && x - points[2 * low - 2] < points[2 * low] - x ? low - 1 : low;
  }

  function draw() {
    pending = 0;
    if (!canvas.isConnected || !canvas.clientWidth) return;
    const ratio = window.devicePixelRatio || 1;
    const at = scale();
    if (canvas.width !== Math.round(at.box.w * ratio) || canvas.height !== Math.round(at.box.h * ratio)) {
      canvas.width = Math.round(at.box.w * ratio); canvas.height = Math.round(at.box.h * ratio);
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, at.box.w, at.box.h);
    const style = getComputedStyle(canvas);
    const floor = at.box.h - EDGE.bottom;
    pen.font = `11px ${style.fontFamily}`;
    pen.fillStyle = style.color; pen.strokeStyle = style.color; pen.lineWidth = 1;
    pen.textAlign = "right"; pen.textBaseline = "middle";
    for (const y of at.ticks) {
      const place = Math.round(at.py(y)) + 0.5;
      pen.globalAlpha = 0.14; pen.beginPath(); pen.moveTo(EDGE.left, place); pen.lineTo(at.box.w - EDGE.right, place); pen.stroke();
      pen.globalAlpha = 0.76; pen.fillText(measure === "of 1" || measure.startsWith("B") ? measured(y, measure.startsWith("B") ? "B" : measure) : short(y), EDGE.left - 6, place);
    }
    pen.textBaseline = "alphabetic"; pen.textAlign = "center";
    const live = timed && !viewed() && Boolean(range);
    const along = timed ? timeTicks(at.x0, at.x1, Math.max(2, at.box.w / 120), live) : (at.x1 > at.x0 ? ticksOf(at.x0, at.x1, Math.max(2, at.box.w / 110)) : [at.x0]).map((x) => [x, short(x)]);
    for (const [x, text] of along) {
      const place = at.px(x);
      const half = pen.measureText(text).width / 2;
      if (place < EDGE.left - 1 || place > at.box.w - EDGE.right + 1 || (!timed && place > at.box.w - 52)) continue;
      pen.fillText(text, Math.min(place, at.box.w - half - 2), at.box.h - 8);
    }
    if (!timed) { pen.textAlign = "right"; pen.fillText(unit, at.box.w - EDGE.right, at.box.h - 8); }
    pen.globalAlpha = 1;
    drawMarks(pen, at, style, floor);
    pen.save(); pen.beginPath(); pen.rect(EDGE.left - 2, 0, at.wide + 8, floor + 4); pen.clip();
    for (const one of shown()) drawCurve(pen, at, one, floor);
    const x = at0();
    if (x !== null && x >= at.x0 && x <= at.x1) {
      pen.strokeStyle = style.color; pen.globalAlpha = 0.5; pen.lineWidth = 1; pen.beginPath();
      pen.moveTo(at.px(x), EDGE.top); pen.lineTo(at.px(x), floor); pen.stroke(); pen.globalAlpha = 1;
    }
    if (drag && drag.to !== null) {
      pen.fillStyle = style.color; pen.globalAlpha = 0.12;
      pen.fillRect(Math.min(drag.from, drag.to), EDGE.top, Math.abs(drag.to - drag.from), floor - EDGE.top); pen.globalAlpha = 1;
    }
    pen.restore();
    say(at);
    tabulate(false);
  }

  function drawCurve(pen, at, one, floor) {
    const colour = shade(one.colour);
    const line = (points, width, alpha) => {
      pen.strokeStyle = colour; pen.lineWidth = width; pen.globalAlpha = alpha; pen.lineJoin = "round"; pen.beginPath();
      let broken = true;
      let alone = -1;
      for (let n = 0; n < points.length; n += 2) {
        const value = points[n + 1];
        if (!Number.isFinite(value) || (log && value <= 0)) { if (alone >= 0) dot(alone); alone = -1; broken = true; continue; }
        const [x, y] = [at.px(points[n]), at.py(value)];
        if (broken) { pen.moveTo(x, y); alone = n; } else { pen.lineTo(x, y); alone = -1; }
        broken = false;
      }
      if (alone >= 0) dot(alone);
      pen.stroke(); pen.globalAlpha = 1;
      // A point between two gaps has no line: it is a dot.
      function dot(n) { pen.moveTo(at.px(points[n]) + 1.5, at.py(points[n + 1])); pen.arc(at.px(points[n]), at.py(points[n + 1]), 1.5, 0, 7); }
    };
    if (smooth && one.points.length > 8) {
      line(one.points, 1, 0.28);
      line(smoothed(one.points, smooth, at.x0, at.x1), 1.8, 1);
    } else line(one.points, 1.6, 1);
    pen.fillStyle = colour;
    const last = one.points.length - 2;
    if (last >= 0 && Number.isFinite(one.points[last + 1]) && (!log || one.points[last + 1] > 0)) { pen.beginPath(); pen.arc(at.px(one.points[last]), at.py(one.points[last + 1]), 2.6, 0, 7); pen.fill(); }
    if (timed) return;
    pen.textAlign = "center"; // where a value is no number, its sign stands at the edge
    for (let n = 0, before = -9; n < one.points.length; n += 2) {
      if (Number.isFinite(one.points[n + 1]) || at.px(one.points[n]) - before < 8) continue;
      before = at.px(one.points[n]);
      pen.fillText(Number.isNaN(one.points[n + 1]) ? "×" : "∞", before, one.points[n + 1] === Infinity ? EDGE.top + 6 : floor - 2);
    }
  }

  function placed(at) {
    return marks().map((m) => ({ ...m, x: timed ? m.at : m.step })).filter((m) => m.x !== null && m.x !== undefined && m.x >= at.x0 && m.x <= at.x1);
  }
  function drawMarks(pen, at, style, floor) {
    const lines = placed(at);
    pen.textAlign = "left"; pen.textBaseline = "alphabetic"; pen.strokeStyle = style.color; pen.fillStyle = style.color;
    lines.forEach((m, n) => {
      const place = Math.round(at.px(m.x)) + 0.5;
      const next = n + 1 < lines.length ? at.px(lines[n + 1].x) : at.box.w - EDGE.right;
      pen.globalAlpha = 0.55; pen.setLineDash([3, 3]); pen.beginPath(); pen.moveTo(place, 4); pen.lineTo(place, floor); pen.stroke(); pen.setLineDash([]);
      const letters = Math.floor((next - place - 16) / 6);
      const text = `${MARK_SIGNS[m.kind] || "│"}${letters >= 8 ? ` ${m.text.length > letters ? `${m.text.slice(0, letters - 1)}…` : m.text}` : ""}`;
      pen.globalAlpha = 0.85; if (next - place > 12) pen.fillText(clean(text), place + 3, 12);
    });
    pen.globalAlpha = 1;
  }

  const where = (x) => (timed ? momentText(x) : `${unit} ${figure(x)}`);
  function say(at) {
    const words = [];
    const lines = [];
    const x = at0();
    for (const one of shown()) {
      if (!one.points.length) continue;
      let n = x === null ? one.points.length / 2 - 1 : nearest(one.points, x);
      if (timed && Number.isNaN(one.points[2 * n + 1]) && n > 0) n -= 1;
      const value = one.points[2 * n + 1];
      const plain = `${measured(value, measure)} ${timed ? "" : "at "}${timed ? (x === null ? "" : `at ${momentText(one.points[2 * n])}`) : where(one.points[2 * n])}`.trim();
      words.push(`${shown().length > 1 ? `${one.label} ` : ""}${plain}`);
      const far = x !== null && timed && Math.abs(one.points[2 * n] - x) > (at.x1 - at.x0) / 20;
      lines.push(h("div", {}, h("i", { style: `background:${shade(one.colour)}` }), h("bdi", {}, clean(one.label)), h("b", {}, far ? "no data" : measured(value, measure))));
    }
    const odd = shown().reduce((sum, s) => ({ nan: sum.nan + (s.points.odd?.nan || 0), inf: sum.inf + (s.points.odd?.inf || 0) }), { nan: 0, inf: 0 });
    if (odd.nan) words.push(`${figure(odd.nan)} not a number`);
    if (odd.inf) words.push(`${figure(odd.inf)} infinite`);
    if (at.below) words.push(`${figure(at.below)} not above 0: not shown`);
    const inside = shown().some((s) => s.points.length);
    readout.textContent = words.join(" · ") || (shown().length < series.length && !shown().length ? "all switched off" : inside ? "" : timed && range ? `no data in the last ${relative(range).slice(1)}` : "no points yet");
    canvas.setAttribute("aria-label", `${title} over ${timed ? "time" : unit}: ${readout.textContent}`);
    const near = x === null ? [] : placed(at).filter((m) => Math.abs(at.px(m.x) - at.px(x)) < 8);
    tip.hidden = x === null || !lines.length || (lines.length < 2 && !near.length && !timed) || x < at.x0 || x > at.x1 || (group && group.owner !== me && !near.length && lines.length < 2);
    if (tip.hidden) return;
    fill(tip, h("div", { class: "wbp-tiphead" }, timed ? `${momentText(x)} · ${relative(now() - x).replace("−", "")}${now() - x < 1 ? "" : " ago"}` : where(x)), lines, near.map((m) => h("div", { class: "wbp-tipmark" }, MARK_SIGNS[m.kind] || "│", " ", h("bdi", {}, clean(m.text)))));
    const left = at.px(x);
    tip.style.cssText = left < at.box.w / 2 ? `left:${Math.round(left + 10)}px` : `right:${Math.round(at.box.w - left + 10)}px`;
  }

  function tabulate(at_once) {
    if (table.hidden) return;
    if (!at_once && performance.now() - tabulated < 1000) { // what came too soon is in the next
      clearTimeout(later);
      later = setTimeout(() => tabulate(true), 1000);
      return;
    }
    tabulated = performance.now();
    const { x0, x1 } = scale();
    const longest = shown().reduce((best, s) => (s.points.length > best.length ? s.points : best), []);
    const rows = [];
    for (let n = 0; n < longest.length; n += 2) if (longest[n] >= x0 && longest[n] <= x1 && (!timed || !Number.isNaN(longest[n + 1]))) rows.push(longest[n]);
    const some = rows.length > TABLE_ROWS ? Array.from({ length: TABLE_ROWS }, (_, n) => rows[Math.round((n * (rows.length - 1)) / (TABLE_ROWS - 1))]) : rows;
    fill(table, h("table", {}, h("caption", {}, `${clean(title)}: ${some.length} of ${figure(rows.length)} points shown`), h("thead", {}, h("tr", {}, h("th", { scope: "col" }, timed ? "time" : unit), shown().map((s) => h("th", { scope: "col" }, clean(s.label))))),
      h("tbody", {}, some.map((x) => h("tr", {}, h("th", { scope: "row" }, timed ? momentText(x) : figure(x)), shown().map((s) => h("td", {}, s.points.length ? measured(s.points[2 * nearest(s.points, x) + 1], measure) : "–")))))));
  }

  function redraw() {
    if (!pending) pending = requestAnimationFrame(draw);
  }
  function state() {
    logButton.setAttribute("aria-pressed", String(log));
    smoothButton.setAttribute("aria-pressed", String(Boolean(smooth)));
    smoothButton.textContent = smooth ? `smooth ${Math.round(100 * smooth)} %` : "smooth";
    allButton.disabled = !viewed();
    redraw();
  }

  async function load(one) {
    const view = viewed();
    const [low, high] = view || (timed && range ? [now() - range, null] : [null, null]);
    one.asked = (one.asked || 0) + 1;
    const mark = one.asked;
    const points = await ask(one.run, one.name, low, high, Math.max(200, Math.round(canvas.clientWidth || 600)), over);
    if (mark !== one.asked) return;
    one.points = points; one.stale = false;
    redraw();
  }

  function zoom(low, high) {
    const [first, last] = extent();
    const view = high - low > 0 && (low > first || high < last) ? [low, high] : null;
    if (group) group.view = view; else own = view;
    const all = group ? [...group.charts] : [me];
    return Promise.all(all.map((c) => c.refresh()));
  }

  function seek(steps) {
    const points = shown()[0]?.points;
    if (!points || !points.length) return;
    const view = viewed();
    const now0 = at0() === null ? points.length / 2 - 1 : nearest(points, at0());
    let to = Math.max(0, Math.min(points.length / 2 - 1, now0 + steps));
    if (view) while (to > 0 && points[2 * to] > view[1]) to -= 1;
    readout.setAttribute("aria-live", "polite");
    point(points[2 * to]);
  }

  canvas.addEventListener("pointerdown", (event) => { if (event.button === 0) { drag = { from: event.offsetX, to: null }; canvas.setPointerCapture(event.pointerId); } });
  canvas.addEventListener("pointermove", (event) => {
    const at = scale();
    if (group) group.owner = me;
    if (drag && Math.abs(event.offsetX - drag.from) > 4) drag.to = event.offsetX;
    point(Math.max(at.x0, Math.min(at.x1, at.back(event.offsetX))));
  });
  canvas.addEventListener("pointerup", () => {
    const done = drag;
    drag = null;
    if (done && done.to !== null) { const at = scale(); zoom(...[at.back(done.from), at.back(done.to)].map((x) => Math.max(at.x0, Math.min(at.x1, x))).sort((a, b) => a - b)); }
  });
  canvas.addEventListener("pointercancel", () => { drag = null; redraw(); });
  canvas.addEventListener("pointerleave", () => point(null));
  canvas.addEventListener("blur", () => { if (!plot.matches(":hover")) point(null); });
  canvas.addEventListener("dblclick", () => zoom(-Infinity, Infinity));
  canvas.addEventListener("keydown", (event) => {
    const [low, high] = viewed() || extent();
    const wide = high - low;
    const middle = at0() === null ? (low + high) / 2 : at0();
    const move = (by) => () => { if (viewed()) zoom(low + by * wide, high + by * wide); };
    const keys = { ArrowLeft: () => seek(event.shiftKey ? -20 : -1), ArrowRight: () => seek(event.shiftKey ? 20 : 1), Home: () => seek(-1e9), End: () => seek(1e9),
      "+": () => zoom(middle - wide / 4, middle + wide / 4), "=": () => zoom(middle - wide / 4, middle + wide / 4), "-": () => zoom(middle - wide, middle + wide),
      PageUp: move(-0.5), PageDown: move(0.5), 0: () => zoom(-Infinity, Infinity), Escape: () => point(null) };
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault(); event.stopPropagation();
    if (group) group.owner = me;
    keys[event.key]();
  });

  const sized = new ResizeObserver(redraw);
  sized.observe(canvas);
  const themed = new MutationObserver(() => { legends(); redraw(); });
  themed.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-name", "data-jp-theme-light", "class"] });

  function legends() {
    legend.hidden = series.length < 2;
    fill(legend, series.length < 2 ? [] : series.map((s) => h("button", { type: "button", class: "wbp-legendentry", "aria-pressed": String(!s.hidden), title: s.hidden ? "Show it" : "Hide it", onclick: (event) => {
      s.hidden = !s.hidden;
      event.currentTarget.setAttribute("aria-pressed", String(!s.hidden));
      redraw();
    } }, h("i", { style: `background:${shade(s.colour)}` }), h("bdi", {}, clean(s.label)))));
  }

  Object.assign(me, {
    element: figureElement, caption, tools, series, redraw, zoom,
    view: viewed,
    refresh() { state(); return Promise.all(series.map(load)); },
    // How much time is shown, up to now.
    span(seconds) { range = seconds; if (group) group.view = null; else own = null; return me.refresh(); },
    // Show a curve; its whole history is asked for at once. `as` says whose colour it has, where that is another's than `run`.
    add(run, name, label = name, as = run) {
      let one = series.find((s) => s.run === run && s.name === name);
      if (one) return one;
      one = { run, name, label, points: new Float64Array(0), hidden: false, colour: colourOf(as, series.map((s) => s.colour)) };
      series.push(one);
      legends();
      one.ready = load(one);
      return one;
    },
    remove(run, name) {
      const at = series.findIndex((s) => s.run === run && s.name === name);
      if (at >= 0) series.splice(at, 1);
      legends();
      redraw();
    },
    // Points as they come; where too many have gathered, Python thins them again.
    append(run, name, came) {
      const one = series.find((s) => s.run === run && s.name === name);
      if (!one || !came.length) return;
      if (viewed() && came[0] > viewed()[1]) return;
      let kept = one.points.length;
      while (kept > 0 && one.points[kept - 2] >= came[0]) kept -= 2;
      let begin = 0;
      if (timed && range && !viewed()) while (begin < kept - 2 && one.points[begin + 2] < now() - range) begin += 2;
      const points = new Float64Array(kept - begin + came.length);
      points.set(one.points.subarray(begin, kept)); points.set(came, kept - begin);
      points.odd = one.points.odd;
      if (!timed) for (let n = 1; n < came.length; n += 2) if (!Number.isFinite(came[n])) { points.odd = { nan: 0, inf: 0, ...points.odd }; points.odd[Number.isNaN(came[n]) ? "nan" : "inf"] += 1; }
      one.points = points;
      if (points.length > 16_000 && !one.stale) { one.stale = true; load(one); }
      redraw();
    },
    // All of a long curve was read: what was shown of it was a sample.
    reload(run, name) {
      const one = series.find((s) => s.run === run && s.name === name);
      if (one) load(one);
    },
    close() { sized.disconnect(); themed.disconnect(); clearTimeout(later); if (group) group.charts.delete(me); },
  });
  if (group) group.charts.add(me);
  state();
  return me;
}

// Asks the panel's Python for points.
export function pointsOf(ctx) {
  return async (run, name, low, high, columns, over = "step") => {
    const found = await ctx.ask("points", { run, name, low: Number.isFinite(low) ? low : null, high: Number.isFinite(high) ? high : null, columns, over });
    const points = found.buffers.length ? floats(found.buffers[0]) : new Float64Array(0);
    if (found.value?.nan || found.value?.inf) points.odd = { nan: found.value.nan, inf: found.value.inf };
    return points;
  };
}
