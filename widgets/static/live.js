// The Live tab: progress, curves, samples and log of a run, and when it last gave a sign of life.
import { h, fill, said, clean, span, clock, floats, VIEWS } from "./element.js";
import { makeChart, pointsOf } from "./chart.js";

const CURVE_UNITS = { loss: "nats a token", bits_per_byte: "bits a byte", tokens_per_second: "tokens a second" };

export function makeLive(ctx) {
  const bar = h("progress", { class: "wbp-progress", max: "1", "aria-label": "Progress" });
  const words = h("span", { class: "wbp-progresswords" });
  const sign = h("span", { class: "wbp-muted" });
  const top = h("div", { class: "wbp-progressline" }, bar, words, h("span", { class: "wbp-space" }), sign);
  const charts = h("div", { class: "wbp-charts" });
  const own = h("div", { class: "wbp-own" });
  const samples = h("ol", { class: "wbp-samples" });
  const samplesBox = h("section", { class: "wbp-block" }, h("h3", {}, "Samples"), samples);
  const log = h("pre", { class: "wbp-pre wbp-log", tabindex: "0", role: "log", "aria-live": "off", "aria-label": "Log" });
  const logCount = h("span", { class: "wbp-muted" });
  const logBox = h("details", { class: "wbp-more" }, h("summary", {}, "Log ", logCount), log);
  const nothing = h("p", { class: "wbp-muted wbp-nothing" }, "Nothing has run yet. What a run does is shown here as it happens.");
  const element = h("div", {}, nothing, top, own, charts, samplesBox, logBox);
  const drawn = new Map();
  const points = pointsOf(ctx);
  let run = null;
  const view = VIEWS[ctx.panel.word]?.live ? VIEWS[ctx.panel.word].live(ctx, own) || {} : {};
  let heard = performance.now();
  const restarts = () => (ctx.get("live").marks || []).filter((m) => m.name === "restart" || m.name === "resumed")
    .map((m) => ({ at: m.at, step: m.step, kind: "restart", text: m.name === "restart" ? `restart${m.why ? `: ${m.why}` : ""}` : "went on" }));

  function status() {
    const now = ctx.get("status");
    if (now.run !== run) {
      run = now.run;
      drawn.forEach((c) => c.close()); drawn.clear(); charts.replaceChildren();
      live();
    }
    nothing.hidden = Boolean(run); top.hidden = !run;
    const progress = now.progress;
    if (progress && progress.share !== null && progress.share !== undefined) bar.value = progress.share;
    else if (now.active) bar.removeAttribute("value");
    else bar.value = now.state === "done" ? 1 : 0;
    bar.hidden = !now.active && now.state !== "done" && !progress;
    words.textContent = clean(progress ? progress.text : now.words || "");
    heard = performance.now() - 1000 * (now.silence || 0);
    tick();
  }
  function tick() {
    const now = ctx.get("status");
    sign.textContent = !run ? "" : now.active ? `last sign of life ${span((performance.now() - heard) / 1000)} ago` : now.ended ? `ended at ${clock(now.ended)}` : "";
  }
  function live() {
    const now = ctx.get("live");
    const shown = view.curves === false ? [] : now.curves || [];
    const first = ctx.panel.curves.filter((n) => shown.includes(n));
    for (const name of [...first, ...shown.filter((n) => !first.includes(n))]) {
      if (!run || drawn.has(name)) continue;
      const chart = makeChart({ title: name.replaceAll("_", " "), ask: points, measure: CURVE_UNITS[name] || "", marks: restarts });
      drawn.set(name, chart);
      charts.append(chart.element);
      chart.add(run, name);
    }
    const list = [...(now.samples || [])].reverse();
    samplesBox.hidden = !list.length || view.samples === false;
    fill(samples, list.slice(0, 6).map((s) => h("li", {}, h("span", { class: "wbp-muted wbp-at" }, s.step === null || s.step === undefined ? clock(s.at) : `step ${s.step.toLocaleString("en-US")}`),
      h("div", { class: "wbp-sample" }, s.prompt ? h("b", {}, said(s.prompt)) : null, said(s.text || "")))));
    const lines = now.log || [];
    logBox.hidden = !lines.length || view.log === false;
    logCount.textContent = `${lines.length} line${lines.length === 1 ? "" : "s"}`;
    const low = log.scrollHeight - log.scrollTop - log.clientHeight < 24;
    log.textContent = lines.map((l) => `${clock(l.at)}  ${l.level === "info" ? "" : `${l.level}: `}${clean(l.text)}`).join("\n");
    if (low) log.scrollTop = log.scrollHeight;
  }
  ctx.on("status", status);
  ctx.on("live", live);
  ctx.on("msg:custom", (content, buffers) => {
    if (content && content.read === run) drawn.get(content.name)?.reload(run, content.name);
    if (!content || content.points !== run) return;
    content.names.forEach((name, n) => drawn.get(name)?.append(run, name, floats(buffers[n])));
  });
  const timer = setInterval(tick, 1000);
  ctx.leave(() => { clearInterval(timer); drawn.forEach((c) => c.close()); });
  status(); live();
  return { element, charts: drawn };
}
