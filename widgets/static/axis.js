// Axes: where ticks stand and how they read.
import { figure } from "./element.js";

export function ticksOf(low, high, wanted) {
  if (!(high > low)) { const pad = Math.abs(low) * 0.1 || 1; high += pad; low -= low ? pad : 0; }
  const raw = (high - low) / Math.max(1, wanted);
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw * 0.999);
  const found = [];
  for (let n = Math.floor(low / step + 1e-9); n <= Math.ceil(high / step - 1e-9); n += 1) found.push(Number((n * step).toPrecision(12)));
  return found;
}

// Powers of ten, with 2 and 5 between them where there is room.
export function logTicks(low, high, wanted) {
  const [first, last] = [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
  const inner = last - first <= wanted / 2 ? [1, 2, 5] : [1];
  const skip = Math.max(1, Math.ceil((last - first) / Math.max(1, wanted)));
  const found = [];
  for (let n = first; n <= last; n += skip) for (const m of inner) found.push(m * 10 ** n);
  const [from, to] = [found.filter((t) => t <= low).pop() ?? found[0], found.find((t) => t >= high) ?? found[found.length - 1]];
  return found.filter((t) => t >= from * 0.999 && t <= to * 1.001);
}

const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800];

export function relative(seconds) {
  const whole = Math.round(seconds);
  if (whole < 1) return "now";
  for (const [by, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) {
    if (whole >= by && whole % by === 0) return `−${whole / by} ${unit}`;
    if (whole >= by * 2) return `−${Number((whole / by).toFixed(1))} ${unit}`;
  }
  return `−${whole} s`;
}

function two(number) {
  return String(number).padStart(2, "0");
}

// A time of day as it is read on an axis: no finer than its ticks.
export function clockText(at, step) {
  const d = new Date(at * 1000);
  if (step >= 86400) return `${d.getDate()} ${d.toLocaleString("en", { month: "short" })}`;
  return `${two(d.getHours())}:${two(d.getMinutes())}${step < 60 ? `:${two(d.getSeconds())}` : ""}`;
}

export function momentText(at) {
  const d = new Date(at * 1000);
  return `${d.getFullYear()}-${two(d.getMonth() + 1)}-${two(d.getDate())} ${clockText(at, 1)}`;
}

// Ticks of a time axis: [[at, text], …]. One that ends now tells how long ago, so that its words stand still while the curve moves.
export function timeTicks(low, high, wanted, ends) {
  const raw = (high - low) / Math.max(1, wanted);
  const step = STEPS.find((s) => s >= raw) || 604800 * Math.ceil(raw / 604800);
  const found = [];
  if (ends) {
    for (let back = 0; back <= high - low + 1e-6; back += step) found.push([high - back, relative(back)]);
    return found;
  }
  const zone = new Date(low * 1000).getTimezoneOffset() * 60;
  for (let at = Math.ceil((low - zone) / step) * step + zone; at <= high; at += step) found.push([at, clockText(at, step)]);
  return found;
}

// A number short enough for an axis.
export function short(value) {
  for (const [limit, unit, by] of [[1e12, "T", 1e12], [1e9, "G", 1e9], [1e6, "M", 1e6], [1e4, "k", 1e3]]) {
    if (Math.abs(value) >= limit) return `${Number((value / by).toPrecision(4))}${unit}`;
  }
  return figure(value);
}

// A value with its unit: bytes as kB to TB, shares of 1 as per cent.
export function measured(value, unit) {
  if (!Number.isFinite(value)) return figure(value);
  if (unit === "of 1") return `${Number((100 * value).toPrecision(3))} %`;
  if (unit && unit.startsWith("B")) {
    for (const [by, prefix] of [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]]) if (Math.abs(value) >= by) return `${Number((value / by).toPrecision(3))} ${prefix}${unit}`;
  }
  if (unit === "s" && Math.abs(value) < 1) return `${Number((1000 * value).toPrecision(3))} ms`;
  return unit ? `${figure(value)} ${unit}` : figure(value);
}

// Points whose values are averaged over a share of the width, around each; what is no number is left out, and stays a gap.
export function smoothed(points, share, x0, x1) {
  const half = (share * (x1 - x0)) / 2;
  const found = new Float64Array(points.length);
  let [first, after, sum, count] = [0, 0, 0, 0];
  for (let n = 0; n < points.length; n += 2) {
    while (after < points.length && points[after] <= points[n] + half) { if (Number.isFinite(points[after + 1])) { sum += points[after + 1]; count += 1; } after += 2; }
    while (points[first] < points[n] - half) { if (Number.isFinite(points[first + 1])) { sum -= points[first + 1]; count -= 1; } first += 2; }
    found[n] = points[n];
    found[n + 1] = Number.isFinite(points[n + 1]) && count ? sum / count : points[n + 1];
  }
  return found;
}
