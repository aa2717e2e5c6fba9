// A training at work: what bounds it and what a step is spent on, what it takes, what it can be told, where its ranks stand.
import { h, fill, button, said, clean, figure, clock, shade, fresh } from "./element.js";

const TRAIN_PARTS = { data: "#E69F00", forward: "#0072B2", backward: "#56B4E9", "other ranks": "#D55E00", core: "#CC79A7", optimizer: "#009E73", other: "#8a8f96" };

export function trainTable(caption, heads, rows) {
  return h("div", { class: "wbp-scroll wbp-train-scroll", tabindex: "0", role: "region", "aria-label": caption }, h("table", { class: "wbp-table" }, h("caption", { class: "wbp-unseen" }, caption),
    h("thead", {}, h("tr", {}, heads.map((t) => (Array.isArray(t) ? h("th", { scope: "col", class: "wbp-number" }, t[0]) : h("th", { scope: "col" }, t))))), h("tbody", {}, rows)));
}

function trainBar(parts, rank) {
  const words = parts.map((p) => `${p.name} ${p.text}`).join(", ");
  return h("div", { class: "wbp-train-bar", role: "img", title: words, "aria-label": `A step of rank ${rank}: ${words}` }, parts.map((p) => h("i", { style: `flex-grow:${p.share};background:${shade(TRAIN_PARTS[p.name] || TRAIN_PARTS.other)}` })));
}

// What it was estimated to take beside what it has taken.
export function trainCosts(rows) {
  if (!rows || !rows.length) return null;
  return h("div", { class: "wbp-train-costs" }, trainTable("What it takes", ["What", ["Estimated"], ["So far"]], rows.map(([name, before, now]) => h("tr", {}, h("th", { scope: "row" }, name), h("td", { class: "wbp-number" }, clean(before)), h("td", { class: "wbp-number" }, clean(now))))));
}

// The verdict in words with what to do, its figures per rank, and the costs beside it.
export function trainVerdict(ctx) {
  const words = h("p", { class: "wbp-train-verdict", role: "status" });
  const remedy = h("p", { class: "wbp-train-do wbp-muted" });
  const ranks = h("div", {});
  const costs = h("div", {});
  const left = h("section", { class: "wbp-block" }, h("h3", {}, "What bounds it"), words, remedy, ranks);
  const right = h("section", { class: "wbp-block" }, h("h3", {}, "What it takes"), costs);
  const element = h("div", { class: "wbp-train-faring" }, left, right);
  let before = "";
  return { element, show() {
    const { verdict, costs: rows } = ctx.get("train");
    const text = JSON.stringify([verdict, rows]);
    if (text === before) return;
    before = text;
    left.hidden = !verdict; right.hidden = !rows || !rows.length; element.hidden = left.hidden && right.hidden;
    fill(costs, trainCosts(rows));
    if (!verdict) return;
    if (words.textContent !== verdict.words) words.textContent = clean(verdict.words);
    remedy.textContent = clean(verdict.do);
    const names = [...new Set(verdict.ranks.flatMap((r) => r.parts.map((p) => p.name)))];
    fill(ranks, trainTable("A step by rank", ["Rank", ["A step"], "Spent on", ["CPU"], ["Memory"]], verdict.ranks.map((r) => h("tr", {}, h("th", { scope: "row" }, figure(r.rank)), h("td", { class: "wbp-number" }, clean(r.step)), h("td", { class: "wbp-train-barcell" }, trainBar(r.parts, r.rank)), h("td", { class: "wbp-number" }, clean(r.cpu)), h("td", { class: "wbp-number" }, clean(r.memory))))),
      h("div", { class: "wbp-train-parts wbp-muted" }, names.map((n) => h("span", {}, h("i", { style: `background:${shade(TRAIN_PARTS[n] || TRAIN_PARTS.other)}`, "aria-hidden": "true" }), n))));
  } };
}

// What a run at work can be told, and what came of it.
export function trainControls(ctx) {
  const pause = button("Pause", () => tell(ctx.get("train").told?.paused ? "on" : "pause"), { class: "wbp-button wbp-small wbp-train-pause" });
  const rate = h("input", { type: "text", inputmode: "decimal", class: "wbp-input wbp-train-rate", id: fresh("rate"), autocomplete: "off" });
  const set = button("Set", () => { tell("set", { learning_rate: rate.value.trim() }, () => { rate.value = ""; }); }, { class: "wbp-button wbp-small", "aria-label": "Set the learning rate" });
  const stacks = button("Stacks", () => tell("stacks"), { class: "wbp-button wbp-small", title: "Where each rank stands now" });
  const profile = button("Profile ten steps", () => tell("profile"), { class: "wbp-button wbp-small" });
  const note = h("span", { class: "wbp-muted", role: "status" });
  const bar = h("div", { class: "wbp-bar wbp-train-controls", role: "group", "aria-label": "Tell the run" }, pause, h("label", { for: rate.id, class: "wbp-muted" }, "Learning rate now"), rate, set, stacks, profile, note);
  const shown = h("div", {});
  const element = h("div", {}, bar, shown);
  let before = "";
  async function tell(word, values = {}, then = () => {}) {
    note.textContent = "told; the ranks answer within a step …";
    try { await ctx.ask("tell", { word, ...values }); then(); } catch (error) { note.textContent = ""; ctx.say(String(error.message || error)); }
  }
  function trace(t) {
    return h("details", { class: "wbp-more" }, h("summary", {}, said(t.thread), " ", h("span", { class: "wbp-muted" }, said(t.at))), h("pre", { class: "wbp-pre", tabindex: "0" }, clean(t.stack)));
  }
  return { element, show() {
    const [status, now] = [ctx.get("status"), ctx.get("train").told || {}];
    bar.hidden = !status.active || Boolean(ctx.get("train").sweep);
    pause.textContent = now.paused ? "Go on" : "Pause";
    for (const one of [pause, set, stacks, profile, rate]) one.disabled = ctx.panel.readonly || status.state !== "running";
    profile.disabled ||= Boolean(now.profiling);
    rate.placeholder = now.rate === undefined || now.rate === null ? "" : String(Number(Number(now.rate).toPrecision(6)));
    rate.title = `the largest of the schedule${now.changed ? `, ${now.changed}` : ""}; recorded in the run`;
    const text = JSON.stringify([now.shown, now.stacks?.length, now.profile, now.profiling, now.paused, now.rate]);
    if (text === before) return;
    before = text;
    note.textContent = now.paused ? "waits until told to go on" : now.profiling ? "profiling …" : now.changed ? `${now.rate} ${now.changed}` : "";
    const open = Boolean(shown.querySelector("details.wbp-train-stacks[open]"));
    fill(shown, now.stacks ? h("details", { class: "wbp-more wbp-train-stacks", open }, h("summary", {}, "Stacks ", h("span", { class: "wbp-muted" }, `at ${clock(now.shown)}`)), now.stacks.map((r) => h("div", { class: "wbp-train-stack" }, h("div", {}, h("b", {}, `rank ${figure(r.rank)}`), ` at step ${figure(r.step)}`, r.doing ? [", ", said(r.doing)] : null), r.threads.map(trace)))) : null,
      now.profile ? h("details", { class: "wbp-more wbp-train-profile" }, h("summary", {}, "Profile ", h("span", { class: "wbp-muted" }, `of ${figure(now.profile.steps)} steps from step ${figure(now.profile.step)}`)), h("p", {}, "The trace lies in ", h("code", {}, clean(`runs/${status.run}/${now.profile.file}`)), " of the workspace; Perfetto and chrome://tracing open it."),
        trainTable("Longest operations", ["Operation", ["Time"], ["Calls"]], now.profile.longest.map(([name, time, count]) => h("tr", {}, h("th", { scope: "row" }, said(name)), h("td", { class: "wbp-number" }, clean(time)), h("td", { class: "wbp-number" }, figure(count)))))) : null);
  } };
}

// The end of each rank's own log.
export function trainRankLogs(ctx) {
  const pick = h("select", { class: "wbp-input wbp-select", "aria-label": "Rank", onchange: () => load(Number(pick.value)) });
  const where = h("span", { class: "wbp-muted" });
  const pre = h("pre", { class: "wbp-pre wbp-log", tabindex: "0", role: "log", "aria-live": "off", "aria-label": "Log of a rank" });
  const element = h("details", { class: "wbp-more wbp-train-ranklog" }, h("summary", {}, "Logs of the ranks"), h("div", { class: "wbp-bar" }, pick, button("Read again", () => load(Number(pick.value || 0)), { class: "wbp-button wbp-small" }), where), pre);
  async function load(rank) {
    try {
      const { value } = await ctx.ask("ranklog", { rank });
      if (value.rank === null && value.ranks.length) return void load(value.ranks[0]);
      fill(pick, value.ranks.map((r) => h("option", { value: String(r), selected: r === value.rank }, `rank ${r}`)));
      pre.textContent = value.text ? clean(value.text) : "Nothing was written.";
      where.textContent = value.path ? clean(`${value.path}${value.cut ? ", its end" : ""}`) : "";
      pre.scrollTop = pre.scrollHeight;
    } catch (error) { pre.textContent = clean(String(error.message || error)); }
    return undefined;
  }
  element.addEventListener("toggle", () => { if (element.open) load(Number(pick.value || 0)); });
  return { element, close() { element.open = false; pre.textContent = ""; pick.replaceChildren(); } };
}

const trainMedia = new Map();
const trainHeld = new Map();

// Clips play over and over: they can be held at their first frames, and begin there for who wants nothing to move.
// Returns a frame to stand beside each image, and the button for all of them.
export function trainClips(images, key, words) {
  const frames = images.map((image) => h("canvas", { class: image.className, role: "img", "aria-label": clean(`${image.alt}, its first frame`) }));
  const toggle = button("", () => { trainHeld.set(key, !held()); show(); }, { class: "wbp-button wbp-small wbp-train-hold" });
  const held = () => trainHeld.get(key) ?? window.matchMedia("(prefers-reduced-motion: reduce)").matches;
  function show() {
    const label = held() ? "Play" : "Pause";
    images.forEach((image, n) => { image.hidden = held(); frames[n].hidden = !held(); });
    toggle.textContent = label; toggle.setAttribute("aria-label", clean(`${label}: ${words}`));
  }
  images.forEach((image, n) => image.addEventListener("load", () => {
    [frames[n].width, frames[n].height] = [image.naturalWidth, image.naturalHeight];
    frames[n].getContext("2d").drawImage(image, 0, 0);
  }));
  show();
  return { frames, toggle };
}

function trainClip(shown, key, words) {
  const { frames, toggle } = trainClips([shown], key, words);
  return [shown, frames, toggle];
}

// A picture, a clip or a sound of a sample; read by the kernel when it is shown.
export function trainSample(ctx, sample, words) {
  const sound = String(sample.media).startsWith("audio/");
  const shown = sound ? h("audio", { controls: true, preload: "metadata", "aria-label": clean(words) }) : h("img", { alt: clean(words), class: "wbp-train-image" });
  const key = `${ctx.get("status").run} ${sample.file}`;
  const place = h("div", { class: "wbp-train-media" }, sample.media === "image/apng" ? trainClip(shown, key, words) : shown);
  (async () => {
    try {
      if (!trainMedia.has(key)) {
        if (trainMedia.size > 60) trainMedia.delete(trainMedia.keys().next().value);
        trainMedia.set(key, (await ctx.ask("sample", { file: sample.file })).value.url);
      }
      shown.src = trainMedia.get(key);
    } catch (error) { fill(place, h("span", { class: "wbp-muted" }, clean(String(error.message || error)))); }
  })();
  return place;
}
