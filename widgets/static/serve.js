// The serve panel: how the endpoint stands, its traffic by slider, how each version does, and below it the playground.
import { h, fill, button, said, clean, span, figure, copied, fresh, VIEWS } from "./element.js";
import { makeChart, makeChartGroup } from "./chart.js";
import { EDITORS } from "./fields.js";
import { makePlayground, makeClientCode, serveMs, serveColour, serveDot } from "./playground.js";

const SERVE_CHARTS = [["requests", "Requests a second", ""], ["p95", "p95 to answer", "s"], ["tokens", "Tokens a second", ""]];
const SERVE_SIGNS = { up: ["●", "answering"], starting: ["◌", "starting"], lost: ["?", "not answering"], down: ["■", "stopped"] };

// Asks for numbers about once a second, and only while somebody can see them.
function serveWatch(ctx, element) {
  const listeners = [];
  let [seen, gone, numbers] = [false, false, {}];
  const sight = new IntersectionObserver((entries) => { seen = entries[entries.length - 1].isIntersecting; if (seen) look(); });
  let [timer, asking] = [0, false];
  async function look() {
    clearTimeout(timer);
    if (gone || asking || !seen || document.visibilityState === "hidden") return;
    asking = true;
    try { numbers = (await ctx.ask("status")).value || {}; listeners.forEach((tell) => tell(numbers)); } catch { numbers = {}; }
    asking = false;
    clearTimeout(timer);
    timer = setTimeout(look, 1000);
  }
  sight.observe(element);
  document.addEventListener("visibilitychange", look);
  ctx.leave(() => { gone = true; clearTimeout(timer); sight.disconnect(); document.removeEventListener("visibilitychange", look); });
  return { hear: (tell) => listeners.push(tell), numbers: () => numbers, look };
}

function serveVerdict(version) {
  const v = version.verdict;
  const kind = v.passed ? "good" : v.assessed ? "bad" : "open";
  return h("span", { class: `wbp-serve-verdict wbp-serve-${kind}`, title: v.why.join("; ") || v.words }, h("span", { "aria-hidden": "true" }, v.passed ? "✓ " : "▲ "), clean(v.words));
}

// Where it answers, who may ask, since when; and what must not be forgotten about it.
function serveStrip(ctx, more = null) {
  const element = h("section", { class: "wbp-serve-strip", "aria-label": "Endpoint" });
  const uptime = h("span", {});
  let shown = "";
  const readonly = ctx.panel.readonly;
  function tick() {
    const found = ctx.get("endpoint");
    uptime.textContent = found.started && found.state === "up" ? `up ${span(Date.now() / 1000 - found.started)}` : "";
  }
  function show() {
    const found = ctx.get("endpoint");
    const now = JSON.stringify([found, ctx.get("status").active]);
    if (now === shown) return;
    shown = now;
    element.hidden = !found.state;
    if (!found.state) return;
    element.dataset.state = found.state;
    const [sign, word] = SERVE_SIGNS[found.state];
    const address = h("code", { class: "wbp-serve-address" }, clean(found.address));
    const first = h("div", { class: "wbp-serve-line" },
      h("span", { class: "wbp-serve-state" }, h("span", { "aria-hidden": "true" }, `${sign} `), word),
      found.state === "down" ? null : address,
      found.state === "up" ? button("Copy", (e) => copied(found.address, e.currentTarget), { class: "wbp-button wbp-small", "aria-label": "Copy the address" }) : null,
      found.since ? h("span", { class: "wbp-muted" }, `since ${clean(found.since)}`) : null,
      h("span", { class: "wbp-space" }),
      (found.state === "lost" || found.state === "down") && !readonly ? button("Start again", () => ctx.tell("start"), { class: "wbp-button", disabled: ctx.get("status").active }) : null, more);
    const facts = h("div", { class: "wbp-serve-facts wbp-muted" },
      found.state === "up" || found.state === "starting" ? h("span", {}, said(found.words)) : null, uptime,
      h("span", {}, "token in ", h("code", { title: clean(found.token_file) }, said(found.token_file.split("/").slice(-4).join("/")))),
      readonly ? null : button("Copy token", async (event) => {
        const pressed = event.currentTarget;
        try { copied((await ctx.ask("token")).value, pressed); } catch (error) { ctx.say(error.message); }
      }, { class: "wbp-button wbp-small" }),
      h("span", {}, found.public ? "others can reach it" : "reached from this machine only"), found.note ? h("span", {}, said(found.note)) : null);
    const open = found.versions.filter((v) => !v.verdict.passed);
    const verdicts = h("div", { class: "wbp-serve-facts" }, found.versions.map((v) => h("span", {}, found.versions.length > 1 ? [said(v.label), " "] : null, serveVerdict(v))),
      open.length && !found.public ? h("span", { class: "wbp-muted" }, "warned on this machine; a public address stays shut until every rule holds") : null);
    const why = open.length ? h("details", { class: "wbp-serve-why" }, h("summary", {}, "What blocks a public address"), open.map((v) => h("div", {},
      h("p", { class: "wbp-muted" }, said(v.label), `: ${v.verdict.why.length} of ${v.verdict.rules} rules do not hold`), h("ul", {}, v.verdict.why.slice(0, 12).map((w) => h("li", {}, said(w)))),
      button(v.verdict.assessed ? "See the assessment" : "Assess this model", () => ctx.tell("open", { kind: "model", name: v.asked }), { class: "wbp-button wbp-small" })))) : null;
    fill(element, first, facts, verdicts, why);
    tick();
  }
  const timer = setInterval(tick, 1000);
  ctx.leave(() => clearInterval(timer));
  ctx.on("endpoint", show); ctx.on("status", show);
  show();
  return element;
}

// Whole per cents that sum to 100 and differ least from what is wanted.
export function wholeShares(shares) {
  const total = shares.reduce((a, b) => a + b, 0) || 1;
  const exact = shares.map((s) => (100 * s) / total);
  const whole = exact.map(Math.floor);
  const order = exact.map((e, n) => [e - whole[n], n]).sort((a, b) => b[0] - a[0]);
  for (let left = 100 - whole.reduce((a, b) => a + b, 0), n = 0; left > 0 && order.length; left -= 1, n += 1) whole[order[n % order.length][1]] += 1;
  return whole;
}

// One share moved: the others keep their proportion.
export function movedShares(shares, at, to) {
  const rest = shares.reduce((sum, s, n) => (n === at ? sum : sum + s), 0);
  const others = wholeShares(shares.map((s, n) => (n === at ? 0 : rest ? s : 1))).map((s) => (s * (100 - to)) / 100);
  const whole = shares.length > 1 ? others.map(Math.floor) : [100];
  if (shares.length > 1) {
    whole[at] = to;
    const left = 100 - whole.reduce((a, b) => a + b, 0);
    const order = others.map((o, n) => [n === at ? -1 : o - Math.floor(o), n]).sort((a, b) => b[0] - a[0]);
    for (let n = 0; n < left; n += 1) whole[order[n % (order.length - 1)][1]] += 1;
  }
  return whole;
}

function serveTraffic(ctx, watch) {
  const rows = h("div", { class: "wbp-serve-rows" });
  const shift = button("Shift traffic", () => { const now = wanted; ctx.tell("shift", { weights: Object.fromEntries(versions().map((v, n) => [v.asked, now[n]])) }).then(() => { shifting = true; show(); }); }, { class: "wbp-button wbp-primary" });
  const cancel = button("Cancel", () => { wanted = null; values(); }, { class: "wbp-button" });
  const moving = h("span", { class: "wbp-muted", role: "status" });
  const bar = h("div", { class: "wbp-bar wbp-serve-shift" }, shift, cancel, moving);
  const element = h("section", { class: "wbp-block wbp-serve-traffic", "aria-label": "Traffic" }, h("h3", {}, "Traffic"), rows, bar);
  let [wanted, shifting] = [null, false];
  let parts = [];
  let shape = "";
  const versions = () => ctx.get("endpoint").versions || [];
  const current = () => wholeShares(versions().map((v) => v.share));
  const busy = () => Boolean(ctx.get("status").active) || ctx.panel.readonly || ctx.get("endpoint").state !== "up";
  function build() {
    parts = versions().map((version, at) => {
      const slider = h("input", { type: "range", min: "0", max: "100", step: "1", class: "wbp-serve-slider", "aria-label": `Traffic of ${clean(version.label)}`, style: `--share-colour:${serveColour(ctx, version.reference)}`,
        oninput: () => move(Number(slider.value)), onkeydown: (event) => {  // a notebook takes the arrows for itself before the slider sees them
          const now = Number(slider.value);
          const step = event.shiftKey ? 10 : 1;
          const to = { ArrowRight: now + step, ArrowUp: now + step, ArrowLeft: now - step, ArrowDown: now - step, PageUp: now + 10, PageDown: now - 10, Home: 0, End: 100 }[event.key];
          if (to === undefined) return;
          event.preventDefault(); event.stopPropagation();
          move(Math.max(0, Math.min(100, to)));
        } });
      const move = (to) => { wanted = movedShares(wanted || current(), at, to); values(); };
      const share = h("span", { class: "wbp-serve-share" });
      const numbers = h("div", { class: "wbp-serve-numbers" });
      const figures = Object.fromEntries([["rate", "requests/s"], ["p50", "p50, half within"], ["p95", "p95, 95 % within"], ["errors", "errors"], ["tokens", "tokens/s"], ["working", "at work"]].map(([name, label]) => {
        const value = h("b", {}, "–");
        numbers.append(h("span", { class: "wbp-serve-figure" }, value, h("span", { class: "wbp-muted" }, label)));
        return [name, value];
      }));
      const replicas = h("span", { class: "wbp-muted" });
      const leave = versions().length > 1 && !ctx.panel.readonly ? button("Remove", () => ctx.tell("leave", { model: version.asked }), { class: "wbp-button wbp-small", "aria-label": `Remove ${clean(version.label)}` }) : null;
      const row = h("div", { class: "wbp-serve-row" }, h("div", { class: "wbp-serve-name" }, serveDot(ctx, version.reference), h("b", {}, said(version.label)), replicas, h("span", { class: "wbp-space" }), leave),
        h("div", { class: "wbp-serve-set" }, slider, share), numbers);
      return { row, slider, share, figures, replicas, leave };
    });
    fill(rows, parts.map((p) => p.row));
  }
  function values() {
    const [now, next] = [current(), wanted || current()];
    const dirty = wanted !== null && next.some((s, n) => s !== now[n]);
    versions().forEach((version, n) => {
      const part = parts[n];
      part.slider.value = String(next[n]);
      part.slider.style.setProperty("--share", `${next[n]}%`);
      part.slider.setAttribute("aria-valuetext", `${next[n]} %`);
      part.slider.disabled = busy() || versions().length < 2;
      part.slider.hidden = false;
      part.share.textContent = next[n] === now[n] ? `${now[n]} %` : `${now[n]} → ${next[n]} %`;
      part.replicas.textContent = version.replicas ? `${version.ready} of ${version.replicas} replicas` : "no replica";
      if (part.leave) part.leave.disabled = busy();
    });
    shift.hidden = cancel.hidden = !dirty || shifting || Boolean(ctx.get("status").active);
    shift.disabled = busy();
    moving.textContent = ctx.get("status").active && ctx.get("endpoint").state === "up" ? "The change is being brought about; what answered before goes on answering." : "";
    bar.hidden = shift.hidden && !moving.textContent;
  }
  function show() {
    element.hidden = !versions().length || !["up", "starting"].includes(ctx.get("endpoint").state);
    const now = JSON.stringify(versions().map((v) => v.reference));
    if (now !== shape) { shape = now; wanted = null; build(); }
    if (shifting && !ctx.get("status").active) [wanted, shifting] = [null, false];
    values();
  }
  watch.hear((numbers) => {
    versions().forEach((version, n) => {
      const found = (numbers.versions || []).find((v) => v.reference === version.reference);
      const f = parts[n] && parts[n].figures;
      if (!f) return;
      f.rate.textContent = found ? figure(Number(found.requests_a_second.toPrecision(2))) : "–";
      f.p50.textContent = found ? serveMs(found.p50) : "–";
      f.p95.textContent = found ? serveMs(found.p95) : "–";
      f.errors.textContent = found && found.requests ? `${figure(found.errors)} of ${figure(found.requests)}` : "–";
      f.tokens.textContent = found ? figure(Math.round(found.tokens_a_second)) : "–";
      f.working.textContent = found ? figure(found.working) : "–";
    });
  });
  ctx.on("endpoint", show); ctx.on("status", show);
  show();
  return element;
}

// What can be done to it: a version more, replicas, back, the end.
function serveActions(ctx) {
  const element = h("section", { class: "wbp-serve-actions", "aria-label": "Change the endpoint" });
  if (ctx.panel.readonly) return element;
  let [model, replicas] = ["", null];
  const id = fresh("model");
  const list = EDITORS.name(ctx, { label: "model", refers: "model", required: true }, [], { id, put: (value) => { model = value; join.disabled = !value; }, reset: () => { model = ""; } });
  const share = h("input", { type: "number", min: "1", max: "99", value: "10", class: "wbp-input wbp-serve-small", "aria-label": "Share of the traffic it takes, in per cent" });
  const join = button("Add it", async () => { await ctx.tell("join", { model, share: Number(share.value) || 10 }); adding.open = false; }, { class: "wbp-button", disabled: true });
  const adding = h("details", { class: "wbp-serve-fold" }, h("summary", {}, "Add a version"), h("div", { class: "wbp-bar" }, h("label", { for: id }, "Model"), list.element, h("span", {}, "takes"), share, h("span", {}, "%"), join));
  const count = h("output", { class: "wbp-serve-count" });
  const less = button("−", () => step(-1), { class: "wbp-button wbp-small", "aria-label": "One replica less" });
  const moreButton = button("+", () => step(1), { class: "wbp-button wbp-small", "aria-label": "One replica more" });
  const apply = button("Apply", () => ctx.tell("scale", { replicas }).then(() => { replicas = null; show(); }), { class: "wbp-button wbp-small wbp-primary" });
  const back = button("Roll back", () => ctx.tell("back"), { class: "wbp-button" });
  const backTo = h("span", { class: "wbp-muted" });
  const end = button("Stop endpoint", () => { asked.hidden = false; end.hidden = true; keep.focus(); }, { class: "wbp-button wbp-serve-end" });
  const sure = button("Stop it", () => { asked.hidden = true; end.hidden = false; ctx.tell("end"); }, { class: "wbp-button wbp-stop" });
  const keep = button("Keep it", () => { asked.hidden = true; end.hidden = false; end.focus(); }, { class: "wbp-button" });
  const question = h("span", {});
  const asked = h("div", { class: "wbp-bar wbp-serve-asked", role: "alert", hidden: true }, question, sure, keep);
  const pending = h("p", { class: "wbp-serve-pending" });
  fill(element, h("div", { class: "wbp-bar" }, h("span", { class: "wbp-serve-group", role: "group", "aria-label": "Replicas of each version" }, h("span", { class: "wbp-muted" }, "Replicas of each version"), less, count, moreButton, apply), back, backTo, h("span", { class: "wbp-space" }), end), asked, adding, pending);
  function step(by) {
    replicas = Math.max(1, Math.min(64, (replicas ?? ctx.get("endpoint").wanted) + by));
    show();
  }
  function show() {
    const [found, status] = [ctx.get("endpoint"), ctx.get("status")];
    element.hidden = !found.state || found.state === "down" || found.state === "lost";
    if (element.hidden) return;
    const busy = Boolean(status.active);
    const now = replicas ?? found.wanted;
    count.textContent = now === found.wanted ? String(now) : `${found.wanted} → ${now}`;
    less.disabled = busy || now <= 1; moreButton.disabled = busy || now >= 64;
    apply.hidden = now === found.wanted; apply.disabled = busy;
    back.hidden = !found.back; back.disabled = busy; backTo.hidden = !found.back;
    backTo.textContent = found.back ? `to ${clean(found.back.words)}, ${clean(found.back.when)}` : "";
    end.disabled = busy;
    const total = found.versions.reduce((sum, v) => sum + v.replicas, 0);
    question.textContent = `This ends ${found.name} at ${found.address}: ${total} replica${total === 1 ? "" : "s"} stop and its clients get no answer. Answers and marks stay recorded.`;
    const edits = (status.pending || []);
    pending.hidden = !edits.length || busy;
    fill(pending, h("span", { class: "wbp-serve-warn", "aria-hidden": "true" }, "▲ "), "The spec has changes that are not deployed: ", edits.slice(0, 3).map((e, n) => [n ? ", " : "", h("b", {}, said(e.path)), " ", said(e.was), " → ", said(e.now)]), edits.length > 3 ? ` and ${edits.length - 3} more` : "", ". ",
      button("See them", () => ctx.tab("spec", true), { class: "wbp-button wbp-small" }));
  }
  ctx.on("endpoint", show); ctx.on("status", show);
  show();
  return element;
}

function serveCurves(ctx, watch) {
  const since = h("span", { class: "wbp-muted" });
  const box = h("div", { class: "wbp-charts" });
  const element = h("section", { class: "wbp-block", "aria-label": "The last minutes" }, h("div", { class: "wbp-bar" }, h("h3", {}, "The last minutes"), since), box);
  const points = new Map();
  const group = makeChartGroup();
  let ahead = 0;
  const charts = SERVE_CHARTS.map(([name, title, measure]) => {
    const chart = makeChart({ title, measure, height: 120, over: "time", range: 600, group, now: () => Date.now() / 1000 + ahead, ask: async (run) => points.get(`${name} ${run}`) || new Float64Array(0) });
    box.append(chart.element);
    return chart;
  });
  ctx.leave(() => charts.forEach((c) => c.close()));
  watch.hear((numbers) => {
    if (!numbers.history) return;
    const { at, versions } = numbers.history;
    ahead = numbers.at - Date.now() / 1000;
    since.textContent = `since ${span(Math.min(numbers.kept, numbers.at - numbers.since))}, ${figure(numbers.waiting)} waiting${numbers.refused ? `, ${figure(numbers.refused)} refused at the door` : ""}`;
    SERVE_CHARTS.forEach(([name], n) => {
      const chart = charts[n];
      for (const series of [...chart.series]) if (!versions[series.run]) chart.remove(series.run, series.name);
      for (const version of numbers.versions) {
        const all = versions[version.reference][name];
        let last = all.length;
        while (last && all[last - 1] === null) last -= 1;
        const values = all.slice(0, last);
        const drawn = new Float64Array(2 * values.length);
        values.forEach((value, k) => { drawn[2 * k] = at[k]; drawn[2 * k + 1] = value === null ? NaN : value; });
        points.set(`${name} ${version.reference}`, drawn);
        const known = chart.series.find((s) => s.run === version.reference);
        if (known) known.points = drawn;
        else chart.add(version.reference, name, clean(version.label)).colour = serveColour(ctx, version.reference);
      }
      chart.redraw();
    });
  });
  const show = () => { element.hidden = ctx.get("endpoint").state !== "up"; };
  ctx.on("endpoint", show);
  show();
  return element;
}

VIEWS.serve = {
  live(ctx, element) {
    const watch = serveWatch(ctx, ctx.root);
    const trying = button("Try it", () => { ctx.tab("results"); ctx.servePlay?.focus(); }, { class: "wbp-button wbp-primary wbp-serve-try" });
    const show = () => { trying.hidden = ctx.get("endpoint").state !== "up" || ctx.get("status").active; };
    ctx.on("endpoint", show); ctx.on("status", show); show();
    element.append(serveStrip(ctx, trying), serveTraffic(ctx, watch), serveActions(ctx), serveCurves(ctx, watch));
    return { curves: false, samples: false };
  },
  results(ctx, element) {
    ctx.servePlay = ctx.servePlay || makePlayground(ctx);
    ctx.serveCode = ctx.serveCode || makeClientCode(ctx);
    ctx.serveTop = ctx.serveTop || serveStrip(ctx);
    element.append(ctx.serveTop, ctx.servePlay.element, ctx.serveCode);
  },
};
