// A chart of curves on a canvas: a few thousand points at most, since Python thins them to what the pixels show.
import { h, fill, figure, floats, colourOf, shade, fresh } from "./element.js";

const EDGE = { left: 52, right: 12, top: 8, bottom: 24 };

export function ticksOf(low, high, wanted) {
  if (!(high > low)) { const pad = Math.abs(low) * 0.1 || 1; low -= pad; high += pad; }
  const raw = (high - low) / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const found = [];
  for (let n = Math.floor(low / step + 1e-9); n <= Math.ceil(high / step - 1e-9); n += 1) found.push(Number((n * step).toPrecision(12)));
  return found;
}

function short(value) {
  for (const [limit, unit, by] of [[1e9, "G", 1e9], [1e6, "M", 1e6], [1e4, "k", 1e3]]) {
    if (Math.abs(value) >= limit) return `${Number((value / by).toPrecision(4))}${unit}`;
  }
  return figure(value);
}

// `series`: [{run, name, label}]; `ask` gives points: (run, name, low, high, columns) => Promise<Float64Array of pairs>.
export function makeChart({ title, unit = "step", ask, height = 160 }) {
  const canvas = h("canvas", { class: "wbp-canvas", tabindex: "0", role: "img", style: `height:${height}px` });
  const readout = h("span", { class: "wbp-readout", "aria-live": "off" });
  const legend = h("span", { class: "wbp-legend" });
  const caption = h("figcaption", { id: fresh("chart") }, h("b", {}, title), legend, readout);
  const hint = "drag to zoom, double click to see all; with the keyboard: arrows, plus, minus, 0";
  const figureElement = h("figure", { class: "wbp-chart", title: hint }, caption, canvas);
  const series = [];
  let marks = [];
  let view = null;
  let cursor = null;
  let drag = null;
  let pending = 0;

  function extent() {
    let [low, high] = [Infinity, -Infinity];
    for (const { points } of series) if (points.length) { low = Math.min(low, points[0]); high = Math.max(high, points[points.length - 2]); }
    return low <= high ? [low, high] : [0, 1];
  }

  function scale() {
    const [x0, x1] = view || extent();
    let [y0, y1] = [Infinity, -Infinity];
    for (const { points } of series) {
      for (let n = 0; n < points.length; n += 2) {
        if (points[n] < x0 || points[n] > x1 || !Number.isFinite(points[n + 1])) continue;
        y0 = Math.min(y0, points[n + 1]); y1 = Math.max(y1, points[n + 1]);
      }
    }
    if (!(y0 <= y1)) [y0, y1] = [0, 1];
    const box = { w: canvas.clientWidth, h: canvas.clientHeight };
    const ticks = ticksOf(y0, y1, Math.max(2, box.h / 44));
    y0 = Math.min(y0, ticks[0]); y1 = Math.max(y1, ticks[ticks.length - 1]);
    const wide = Math.max(1, box.w - EDGE.left - EDGE.right);
    const tall = Math.max(1, box.h - EDGE.top - EDGE.bottom);
    return { x0, x1, ticks, box, wide,
      px: (x) => EDGE.left + (x1 > x0 ? (x - x0) / (x1 - x0) : 0.5) * wide,
      py: (y) => EDGE.top + (1 - (y1 > y0 ? (y - y0) / (y1 - y0) : 0.5)) * tall,
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
    pen.font = `11px ${style.fontFamily}`;
    pen.fillStyle = style.color; pen.strokeStyle = style.color; pen.lineWidth = 1;
    pen.textAlign = "right"; pen.textBaseline = "middle";
    for (const y of at.ticks) {
      const place = Math.round(at.py(y)) + 0.5;
      pen.globalAlpha = 0.14; pen.beginPath(); pen.moveTo(EDGE.left, place); pen.lineTo(at.box.w - EDGE.right, place); pen.stroke();
      pen.globalAlpha = 0.72; pen.fillText(short(y), EDGE.left - 6, place);
    }
    pen.textBaseline = "alphabetic"; pen.textAlign = "center";
    for (const x of ticksOf(at.x0, at.x1, Math.max(2, at.box.w / 110))) {
      const place = at.px(x);
      if (place >= EDGE.left - 1 && place <= at.box.w - EDGE.right + 1 && place < at.box.w - 52) pen.fillText(short(x), place, at.box.h - 8);
    }
    pen.textAlign = "right"; pen.fillText(unit, at.box.w - EDGE.right, at.box.h - 8);
    pen.globalAlpha = 1;
    pen.save(); pen.beginPath(); pen.rect(EDGE.left - 2, 0, at.wide + 8, at.box.h - EDGE.bottom + 4); pen.clip();
    for (const { points, colour } of series) {
      pen.strokeStyle = shade(colour); pen.fillStyle = shade(colour); pen.lineWidth = 1.6; pen.lineJoin = "round"; pen.beginPath();
      let broken = true;
      for (let n = 0; n < points.length; n += 2) {
        if (!Number.isFinite(points[n + 1])) { broken = true; continue; }
        const [x, y] = [at.px(points[n]), at.py(points[n + 1])];
        if (broken) pen.moveTo(x, y); else pen.lineTo(x, y);
        broken = false;
      }
      pen.stroke();
      const last = points.length - 2;
      if (last >= 0 && Number.isFinite(points[last + 1])) { pen.beginPath(); pen.arc(at.px(points[last]), at.py(points[last + 1]), 2.6, 0, 7); pen.fill(); }
    }
    pen.font = `11px ${style.fontFamily}`; pen.textBaseline = "top";
    for (const mark of marks) {
      if (mark.at < at.x0 || mark.at > at.x1) continue;
      const place = Math.round(at.px(mark.at)) + 0.5;
      pen.strokeStyle = style.color; pen.fillStyle = style.color; pen.globalAlpha = 0.7; pen.lineWidth = 1; pen.setLineDash([3, 3]); pen.beginPath();
      pen.moveTo(place, EDGE.top); pen.lineTo(place, at.box.h - EDGE.bottom); pen.stroke(); pen.setLineDash([]);
      pen.textAlign = place > at.box.w / 2 ? "right" : "left";
      pen.fillText(mark.label, place + (place > at.box.w / 2 ? -4 : 4), EDGE.top, Math.max(40, at.box.w / 2 - 8)); pen.globalAlpha = 1;
    }
    if (cursor !== null) {
      pen.strokeStyle = style.color; pen.globalAlpha = 0.5; pen.lineWidth = 1; pen.beginPath();
      pen.moveTo(at.px(cursor), EDGE.top); pen.lineTo(at.px(cursor), at.box.h - EDGE.bottom); pen.stroke(); pen.globalAlpha = 1;
    }
    if (drag && drag.to !== null) {
      pen.fillStyle = style.color; pen.globalAlpha = 0.12;
      pen.fillRect(Math.min(drag.from, drag.to), EDGE.top, Math.abs(drag.to - drag.from), at.box.h - EDGE.top - EDGE.bottom); pen.globalAlpha = 1;
    }
    pen.restore();
    say();
  }

  function say() {
    const words = [];
    for (const one of series) {
      if (!one.points.length) continue;
      const n = cursor === null ? one.points.length / 2 - 1 : nearest(one.points, cursor);
      words.push(`${series.length > 1 ? `${one.label} ` : ""}${figure(one.points[2 * n + 1])} at ${unit} ${figure(one.points[2 * n])}`);
    }
    readout.textContent = words.join(" · ") || "no points yet";
    canvas.setAttribute("aria-label", [`${title} over ${unit}: ${readout.textContent}`, ...marks.map((m) => `${m.label} at ${unit} ${figure(m.at)}`)].join("; "));
  }

  function redraw() {
    if (!pending) pending = requestAnimationFrame(draw);
  }

  async function load(one) {
    const [low, high] = view || [null, null];
    one.asked = (one.asked || 0) + 1;
    const mark = one.asked;
    const points = await ask(one.run, one.name, low, high, Math.max(200, Math.round(canvas.clientWidth || 600)));
    if (mark !== one.asked) return;
    one.points = points; one.stale = false;
    redraw();
  }

  function zoom(low, high) {
    const [first, last] = extent();
    view = high - low > 0 && (low > first || high < last) ? [low, high] : null;
    redraw();
    return Promise.all(series.map(load));
  }

  function seek(steps) {
    const points = series[0] && series[0].points;
    if (!points || !points.length) return;
    const now = cursor === null ? points.length / 2 - 1 : nearest(points, cursor);
    cursor = points[2 * Math.max(0, Math.min(points.length / 2 - 1, now + steps))];
    readout.setAttribute("aria-live", "polite");
    redraw();
  }

  canvas.addEventListener("pointerdown", (event) => { drag = { from: event.offsetX, to: null }; canvas.setPointerCapture(event.pointerId); });
  canvas.addEventListener("pointermove", (event) => {
    const at = scale();
    cursor = Math.max(at.x0, Math.min(at.x1, at.back(event.offsetX)));
    if (drag && Math.abs(event.offsetX - drag.from) > 4) drag.to = event.offsetX;
    redraw();
  });
  canvas.addEventListener("pointerup", () => {
    const done = drag;
    drag = null;
    if (done && done.to !== null) { const at = scale(); const ends = [at.back(done.from), at.back(done.to)].sort((a, b) => a - b); zoom(...ends); }
  });
  canvas.addEventListener("pointerleave", () => { cursor = null; redraw(); });
  canvas.addEventListener("dblclick", () => { view = null; zoom(-Infinity, Infinity); });
  canvas.addEventListener("keydown", (event) => {
    const [low, high] = view || extent();
    const middle = cursor === null ? (low + high) / 2 : cursor;
    const keys = { ArrowLeft: () => seek(event.shiftKey ? -20 : -1), ArrowRight: () => seek(event.shiftKey ? 20 : 1),
      "+": () => zoom(middle - (high - low) / 4, middle + (high - low) / 4), "=": () => zoom(middle - (high - low) / 4, middle + (high - low) / 4),
      "-": () => zoom(middle - (high - low), middle + (high - low)), 0: () => zoom(-Infinity, Infinity),
      Escape: () => { cursor = null; redraw(); } };
    if (!keys[event.key] || event.ctrlKey || event.metaKey) return;
    event.preventDefault(); event.stopPropagation();
    keys[event.key]();
  });

  function showLegend() {
    fill(legend, series.length > 1 ? series.map((s) => h("span", {}, h("i", { style: `background:${shade(s.colour)}` }), h("bdi", {}, s.label))) : []);
  }

  const sized = new ResizeObserver(redraw);
  sized.observe(canvas);
  const themed = new MutationObserver(redraw);
  themed.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-name", "data-jp-theme-light", "class"] });

  return {
    element: figureElement, series, redraw, zoom,
    view: () => view,
    // What happened on the way, as dashed lines: [{at, label}].
    mark(list) { marks = list; redraw(); },
    // Show a curve; its whole history is asked for at once.
    add(run, name, label = name) {
      let one = series.find((s) => s.run === run && s.name === name);
      if (one) return one;
      one = { run, name, label, points: new Float64Array(0), colour: colourOf(run, series.map((s) => s.colour)) };
      series.push(one);
      showLegend();
      one.ready = load(one);
      return one;
    },
    remove(run, name) {
      const at = series.findIndex((s) => s.run === run && s.name === name);
      if (at >= 0) series.splice(at, 1);
      showLegend();
      redraw();
    },
    // Points as they come; where too many have gathered, Python thins them again.
    append(run, name, fresh) {
      const one = series.find((s) => s.run === run && s.name === name);
      if (!one || !fresh.length) return;
      if (view && fresh[0] > view[1]) return;
      let kept = one.points.length;
      while (kept > 0 && one.points[kept - 2] >= fresh[0]) kept -= 2;
      const points = new Float64Array(kept + fresh.length);
      points.set(one.points.subarray(0, kept)); points.set(fresh, kept);
      one.points = points;
      if (points.length > 16_000 && !one.stale) { one.stale = true; load(one); }
      redraw();
    },
    // All of a long curve was read: what was shown of it was a sample.
    reload(run, name) {
      const one = series.find((s) => s.run === run && s.name === name);
      if (one) load(one);
    },
    close() { sized.disconnect(); themed.disconnect(); },
  };
}

// Asks the panel's Python for points.
export function pointsOf(ctx) {
  return async (run, name, low, high, columns) => {
    const found = await ctx.ask("points", { run, name, low: Number.isFinite(low) ? low : null, high: Number.isFinite(high) ? high : null, columns });
    return found.buffers.length ? floats(found.buffers[0]) : new Float64Array(0);
  };
}
