// Home: two ways to begin; later what needs somebody, what works, the latest work with its next step, and a search over the rest.
import { h, fill, button, clean, said, context, span, shade, SERIES, fresh, copyButton } from "./element.js";

const HOME_KINDS = { dataset: ["data", "Datasets"], model: ["train", "Models"], assessment: ["assess", "Assessments"], endpoint: ["serve", "Endpoints"], run: ["train", "Runs"], pipeline: ["pipeline", "Pipelines"] };
const HOME_LINKS = { dataset: "Dataset", model: "Model", assessment: "Assessment", endpoint: "Endpoint" };
const HOME_YET = { dataset: "The text a model learns from", model: "What learns from it", assessment: "Whether it may be used", endpoint: "Where it answers" };
const HOME_SIGNS = { done: "✓", pass: "✓", up: "●", fail: "✕", down: "○", failed: "✕", stopped: "■", running: "●", queued: "◌", stopping: "◐", missing: "", lost: "?" };
const HOME_LEVELS = { error: "✕", warning: "▲", info: "i" };
const HOME_WAY = [["data", "your text, cleaned"], ["train", "a model of your own"], ["assess", "measured, judged"], ["serve", "an address that answers"], ["monitor", "told when it fails"], ["pipeline", "all of it, again"]];
const HOME_PAGE = 8;

function homeShape(name, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

function homeIcon(ctx, word, size = 20) {
  const path = homeShape("path", { d: ctx.panel.icons[word] || ctx.panel.icons.home });
  return homeShape("svg", { viewBox: "0 0 24 24", width: size, height: size, class: "wbp-home-icon", "aria-hidden": "true" }, path);
}

export function homeAgo(at) {
  const passed = Math.max(0, Date.now() / 1000 - at);
  const said = (n, unit) => `${n} ${unit}${n === 1 ? "" : "s"} ago`;
  if (passed < 45) return "just now";
  if (passed < 5400) return said(Math.max(1, Math.round(passed / 60)), "minute");
  if (passed < 129600) return said(Math.round(passed / 3600), "hour");
  return said(Math.round(passed / 86400), "day");
}

function homeTime(at) {
  return at ? h("time", { class: "wbp-muted wbp-home-when", title: new Date(at * 1000).toLocaleString(), "data-at": String(at) }, homeAgo(at)) : null;
}

// The first view of an empty workspace.
function homeEmpty(ctx, open) {
  const card = (how, word, title, text, note) => h("button", { type: "button", class: `wbp-home-start wbp-home-${how}`, onclick: () => open("begin", { how }) },
    homeIcon(ctx, word, 32), h("span", { class: "wbp-home-starttitle" }, title), h("span", { class: "wbp-home-starttext" }, text), h("span", { class: "wbp-home-startnote" }, note));
  const way = h("ol", { class: "wbp-home-way", "aria-label": "The way from text to an answer" }, HOME_WAY.map(([word, yields]) => h("li", {}, homeIcon(ctx, word, 20), h("b", {}, word), h("span", { class: "wbp-muted" }, yields))));
  return h("section", { class: "wbp-home-empty" },
    h("p", { class: "wbp-home-lead" }, "From your text to a model that answers, and from each answer back to the text that taught it."),
    h("div", { class: "wbp-home-starts" },
      card("files", "data", "Start from my own files", "Text, Markdown, JSON lines, CSV or Parquet: drop them or choose them.", "Nothing leaves this machine"),
      card("example", "train", "Start from the working example", "Python's own documentation, which is on this machine already.", "A few minutes from here to an answer")),
    way);
}

function homeBar(share, label) {
  const known = share !== null && share !== undefined;
  return h("progress", { class: "wbp-progress", max: "1", "aria-label": label, ...(known ? { value: share } : {}) });
}

function homeRow(level, sign, ...cells) {
  return h("li", { class: `wbp-home-row wbp-home-${level}` }, h("span", { class: "wbp-home-sign", "aria-hidden": "true" }, sign), cells);
}

function homeNeeds(ctx, now, open) {
  const rows = now.needs.map((need) => homeRow(need.level, HOME_LEVELS[need.level],
    h("span", { class: "wbp-home-text" }, h("span", { class: "wbp-unseen" }, `${need.level}: `), said(need.text)), homeTime(need.at),
    button(need.label, () => open("open", need.open), { class: "wbp-button wbp-small" }),
    need.id.startsWith("alert/") ? button("Acknowledge", () => ctx.tell("acknowledge", { need: need.id }), { class: "wbp-button wbp-link", disabled: ctx.panel.readonly }) : null,
    need.dismissable ? button("Dismiss", () => ctx.tell("dismiss", { need: need.id }), { class: "wbp-button wbp-link", disabled: ctx.panel.readonly }) : null));
  return rows.length ? homeSection("What needs you", h("ul", { class: "wbp-home-rows" }, rows)) : null;
}

function homeEnded(ctx, now, open) {
  const rows = now.ended.map((run) => homeRow(run.state, run.sign, h("span", { class: "wbp-home-text" }, said(run.text)), homeTime(run.at),
    button("Open", () => open("open", { run: run.run }), { class: "wbp-button wbp-small" })));
  return rows.length ? homeSection("Since you were last here", h("ul", { class: "wbp-home-rows" }, rows), button("Seen", () => ctx.tell("seen"), { class: "wbp-button wbp-link" })) : null;
}

function homeSection(title, body, ...tools) {
  const id = fresh("home");
  return h("section", { class: "wbp-home-part", "aria-labelledby": id }, h("div", { class: "wbp-bar" }, h("h3", { id }, title), h("span", { class: "wbp-space" }), tools), body);
}

// What is running keeps its elements from update to update, so that nothing jumps and no press is lost.
function makeHomeRunning(ctx, open) {
  const list = h("ul", { class: "wbp-home-rows" });
  const also = h("p", { class: "wbp-home-also" });
  const element = homeSection("Running", h("div", {}, list, also));
  const rows = new Map();
  function row(run) {
    const sign = h("span", { class: "wbp-home-sign", "aria-hidden": "true" });
    const state = h("span", { class: "wbp-home-state", role: "status" });
    const words = h("span", { class: "wbp-home-progress" });
    const bar = h("span", { class: "wbp-home-bar" });
    const stop = button("Stop", () => ctx.tell("stop", { run: run.run }), { class: "wbp-button wbp-small wbp-home-stop", "aria-label": `Stop ${clean(run.word)} ${clean(run.name)}` });
    const again = button("Attach again", () => ctx.tell("recover", { run: run.run }), { class: "wbp-button wbp-small" });
    const item = h("li", { class: "wbp-home-row wbp-home-run" }, sign, h("span", { class: "wbp-home-text" }, h("span", { class: "wbp-muted" }, clean(run.word), " "), h("b", {}, said(run.name)), " ", state),
      bar, words, again, stop, button("Open", () => open("open", { run: run.run }), { class: "wbp-button wbp-small" }));
    return { item, show(now) {
      item.dataset.state = now.state;
      sign.textContent = now.sign;
      if (state.textContent !== now.state) state.textContent = now.state === "lost" ? "lost sight of" : now.state;
      bar.hidden = now.state === "lost" || now.state === "queued";
      const share = now.progress ? now.progress.share : null;
      if (!bar.firstChild) bar.append(homeBar(share, `Progress of ${clean(now.name)}`));
      else if (share === null || share === undefined) bar.firstChild.removeAttribute("value");
      else bar.firstChild.value = share;
      const text = clean(now.progress ? now.progress.text : now.words || `for ${span(Date.now() / 1000 - now.since)}`);
      if (words.textContent !== text) { words.textContent = text; words.title = text; }
      again.hidden = now.state !== "lost"; again.disabled = ctx.panel.readonly;
      stop.disabled = now.state === "stopping" || ctx.panel.readonly;
    } };
  }
  return { element, show(now) {
    for (const [id, one] of rows) if (!now.running.some((r) => r.run === id)) { one.item.remove(); rows.delete(id); }
    now.running.forEach((run, at) => {
      if (!rows.has(run.run)) rows.set(run.run, row(run));
      const one = rows.get(run.run);
      one.show(run);
      if (list.children[at] !== one.item) list.insertBefore(one.item, list.children[at] || null);
    });
    fill(also, now.services.length ? [now.running.length ? h("span", { class: "wbp-muted" }, "Also up") : null, now.services.map((s) => h("button", { type: "button", class: "wbp-home-inline",
      onclick: () => open("open", s.kind === "endpoint" ? { kind: "endpoint", id: s.name } : s.run ? { run: s.run } : { word: "monitor", spec: { name: s.name } }) },
    h("span", { class: "wbp-home-up", "aria-hidden": "true" }, "● "), h("span", { class: "wbp-muted" }, s.kind, " "), said(s.name)))] : []);
    also.hidden = !now.services.length;
    element.hidden = !now.running.length && !now.services.length;
  } };
}

function homePicture(picture) {
  if (!picture) return h("span", { class: "wbp-home-picture" });
  const [wide, high] = [120, 24];
  if (picture.line) {
    const [low, top] = [Math.min(...picture.line), Math.max(...picture.line)];
    const points = picture.line.map((v, at) => `${(at * (wide - 2) / (picture.line.length - 1) + 1).toFixed(1)},${(high - 2 - (high - 4) * (v - low) / (top - low || 1)).toFixed(1)}`);
    const line = homeShape("polyline", { points: points.join(" "), fill: "none", stroke: shade(SERIES[1]), "stroke-width": "1.5", "stroke-linejoin": "round" });
    return h("span", { class: "wbp-home-picture", title: picture.title }, homeShape("svg", { viewBox: `0 0 ${wide} ${high}`, preserveAspectRatio: "none", role: "img", "aria-label": picture.title }, line));
  }
  if (picture.dots) return h("span", { class: "wbp-home-picture wbp-home-dots" }, picture.dots.map((dot) => h("span", { class: `wbp-home-dot wbp-home-dot-${dot.status === "pass" ? "pass" : dot.status === "waived" ? "waived" : "fail"}`, role: "img", title: dot.title, "aria-label": dot.title })));
  if (picture.share) return h("span", { class: "wbp-home-picture wbp-home-kept", role: "img", title: picture.title, "aria-label": picture.title }, h("span", { style: `width:${(100 * picture.share).toFixed(1)}%` }));
  return h("span", { class: "wbp-home-picture" });
}

function homeCard(ctx, link, picture, open, next) {
  const title = h("span", { class: "wbp-home-kind" }, homeIcon(ctx, link.word, 16), HOME_LINKS[link.kind]);
  if (link.state === "missing") return h("div", { class: `wbp-home-card wbp-home-missing${next ? " wbp-home-now" : ""}` }, title, h("span", { class: "wbp-home-yet" }, HOME_YET[link.kind]), h("span", { class: "wbp-home-foot" }, h("span", { class: "wbp-muted" }, "not yet")));
  const target = link.kind === "endpoint" && link.there ? { kind: "endpoint", id: link.name } : link.run ? { run: link.run } : { kind: link.kind, id: `${link.name}@${link.digest}` };
  return h("button", { type: "button", class: `wbp-home-card${next ? " wbp-home-now" : ""}`, "data-state": link.state, onclick: () => open("open", target), "aria-label": `Open ${link.kind} ${clean(link.name)} ${link.version}: ${link.words}` },
    title, h("span", { class: "wbp-home-name" }, said(link.name), link.version ? h("span", { class: "wbp-home-version" }, link.version) : null),
    h("span", { class: "wbp-home-figure" }, clean(link.figure || "")), homePicture(picture),
    h("span", { class: "wbp-home-foot" }, h("span", { class: "wbp-home-state" }, h("span", { "aria-hidden": "true" }, HOME_SIGNS[link.state] || "", " "), clean(link.words)), homeTime(link.at)));
}

function homeChain(ctx, now, open) {
  const { links, next, runs, pictures } = now.chain;
  const at = next ? links.findIndex((l) => l.word === next.word) : -1;
  const cards = h("ol", { class: "wbp-home-chain" }, links.map((link, n) => h("li", {}, homeCard(ctx, link, pictures[link.kind], open, n === at))));
  const step = next ? h("div", { class: "wbp-home-next" }, h("span", { class: "wbp-muted" }, "Next"), h("span", { class: "wbp-home-why" }, said(next.why)), h("span", { class: "wbp-space" }),
    button(next.label, () => open("open", next.run ? { run: next.run } : { word: next.word, spec: next.spec }), { class: "wbp-button wbp-primary wbp-home-step" })) : null;
  return homeSection("Your latest work", h("div", {}, cards, step), runs.length > 1 && !ctx.panel.readonly ? homeSave(ctx) : null);
}

// The runs of the chain as files that a batch can run.
function homeSave(ctx) {
  const id = fresh("save");
  const folder = h("input", { class: "wbp-input", id, value: "pipeline", spellcheck: "false" });
  const answer = h("div", { class: "wbp-home-saved", role: "status" });
  const write = button("Write", async () => {
    try {
      const { value } = await ctx.ask("save", { folder: folder.value });
      fill(answer, h("span", {}, "Written. Run it anywhere: "), h("code", {}, clean(value.command)), copyButton(value.command));
    } catch (error) { fill(answer, h("span", { class: "wbp-error" }, clean(error.message))); }
  }, { class: "wbp-button wbp-small" });
  folder.addEventListener("keydown", (event) => { if (event.key === "Enter") write.click(); });
  const box = h("details", { class: "wbp-home-save" }, h("summary", { class: "wbp-button wbp-small" }, "Save as a pipeline"),
    h("div", { class: "wbp-home-savebox" }, h("p", {}, "Writes these steps as notebooks and a pipeline.yaml. It runs them in order, and only what changed."),
      h("div", { class: "wbp-bar" }, h("label", { for: id }, "Folder"), folder, write), answer));
  box.addEventListener("keydown", (event) => { if (event.key === "Escape" && box.open) { box.open = false; box.firstChild.focus(); } });
  return box;
}

function makeHomeSearch(ctx, open) {
  const list = h("ul", { class: "wbp-home-found" });
  const count = h("span", { class: "wbp-muted wbp-home-count", role: "status" });
  const input = h("input", { class: "wbp-input wbp-home-search", type: "search", placeholder: "Name, id or state", "aria-label": "Search everything", spellcheck: "false" });
  let kind = "";
  let start = 0;
  let asked = 0;
  const chips = [["", "All"], ...Object.entries(HOME_KINDS).map(([k, [, label]]) => [k, label])].map(([k, label]) => button(label, () => { kind = k; start = 0; find(); }, { class: "wbp-button wbp-small wbp-home-chip", "data-kind": k }));
  const earlier = button("Back", () => { start = Math.max(0, start - HOME_PAGE); find(); }, { class: "wbp-button wbp-small" });
  const later = button("More", () => { start += HOME_PAGE; find(); }, { class: "wbp-button wbp-small" });
  const element = homeSection("Everything", h("div", {}, h("div", { class: "wbp-home-filter" }, input, h("div", { class: "wbp-home-chips", role: "group", "aria-label": "Kind" }, chips)), list, h("div", { class: "wbp-bar wbp-home-pages" }, count, h("span", { class: "wbp-space" }), earlier, later)));
  function item(row) {
    const id = row.kind === "run" || row.kind === "pipeline" ? row.id : row.id.includes("@") ? row.id.split("@")[1].slice(0, 12) : row.id;
    return h("li", {}, h("button", { type: "button", class: "wbp-home-item", "data-state": row.state, onclick: () => open("open", { kind: row.kind, id: row.id }) },
      homeIcon(ctx, row.word, 16), h("span", { class: "wbp-home-itemname" }, said(row.name)), h("span", { class: "wbp-muted" }, row.kind === "run" ? `${row.word} run` : row.kind),
      h("span", { class: "wbp-home-state" }, HOME_SIGNS[row.state] ? h("span", { "aria-hidden": "true" }, HOME_SIGNS[row.state], " ") : null, clean(row.state)), h("span", { class: "wbp-muted wbp-home-id" }, said(id)), homeTime(row.at)));
  }
  async function find() {
    asked += 1;
    const mine = asked;
    for (const chip of chips) chip.setAttribute("aria-pressed", chip.dataset.kind === kind ? "true" : "false");
    let value;
    try { ({ value } = await ctx.ask("find", { text: input.value, kind, start, count: HOME_PAGE })); } catch (error) { ctx.say(error.message); return; }
    if (mine !== asked) return;
    const focused = list.contains(document.activeElement) ? [...list.querySelectorAll("button")].indexOf(document.activeElement) : -1;
    fill(list, value.rows.map(item));
    if (focused >= 0) list.querySelectorAll("button")[Math.min(focused, value.rows.length - 1)]?.focus();
    count.textContent = value.total ? `${(start + 1).toLocaleString("en-US")} to ${Math.min(start + HOME_PAGE, value.total).toLocaleString("en-US")} of ${value.total.toLocaleString("en-US")}` : input.value || kind ? "Nothing matches" : "Nothing yet";
    earlier.disabled = start === 0; later.disabled = start + HOME_PAGE >= value.total;
    earlier.hidden = later.hidden = value.total <= HOME_PAGE;
  }
  let soon;
  input.addEventListener("input", () => { clearTimeout(soon); soon = setTimeout(() => { start = 0; find(); }, 120); });
  element.addEventListener("keydown", (event) => {
    const stops = [input, ...list.querySelectorAll("button")];
    const at = stops.indexOf(document.activeElement);
    const to = at + ({ ArrowDown: 1, ArrowUp: -1 }[event.key] || 0);
    if (at < 0 || to === at || to < 0 || to >= stops.length) return;
    event.preventDefault();
    stops[to].focus();
  });
  return { element, find };
}

// Panels opened from Home stand below it; those that stay keep their view, so that nothing of them is lost.
function makeHomeOpened(ctx) {
  const element = h("div", { class: "wbp-home-opened" });
  const views = new Map();
  let wanted = null;
  let busy = Promise.resolve();
  async function place() {
    const manager = ctx.model.widget_manager;
    const ids = (ctx.get("opened") || []).map((r) => String(r).replace("IPY_MODEL_", ""));
    if (!manager) return;
    for (const [id, box] of views) if (!ids.includes(id)) { box.remove(); views.delete(id); }
    for (const id of ids) {
      if (views.has(id)) continue;
      const child = await manager.get_model(id);
      const drawn = await manager.create_view(child);
      const close = button("Close", () => { ctx.tell("close", { model: id }); ctx.root.querySelector(".wbp-home-search")?.focus({ preventScroll: true }); }, { class: "wbp-button wbp-link wbp-home-close", "aria-label": `Close the ${child.get("about")?.title || ""} panel` });
      const box = h("div", { class: "wbp-home-box" }, close, drawn.el);
      views.set(id, box);
    }
    ids.map((id) => views.get(id)).forEach((box, at) => { if (box && element.children[at] !== box) element.insertBefore(box, element.children[at] || null); });
    if (wanted && views.has(wanted)) {
      const box = views.get(wanted);
      wanted = null;
      box.scrollIntoView({ block: "start", behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
      box.querySelector("[role=tab][aria-selected=true]")?.focus({ preventScroll: true });
    }
  }
  const next = () => { busy = busy.then(place, place); return busy; };
  ctx.on("opened", next);
  next();
  return { element, reveal: (id) => { wanted = id; next(); } };
}

function renderHome({ model, el }) {
  const root = h("div", { class: "wbp wbp-home", "data-lm-suppress-shortcuts": "true", role: "region", "aria-label": "Workbench home" });
  const ctx = context(model, root);
  const hide = h("style", {}, `.wbp-still-${ctx.panel.id} { display: none }`);
  document.head.append(hide);
  ctx.leave(() => hide.remove());
  const failure = h("div", { class: "wbp-said", role: "alert", hidden: true });
  ctx.say = (text) => { failure.textContent = clean(text); failure.hidden = false; clearTimeout(ctx.saying); ctx.saying = setTimeout(() => { failure.hidden = true; }, 8000); };
  const opened = makeHomeOpened(ctx);
  const open = async (name, known) => {
    root.classList.add("wbp-home-busy");
    try { opened.reveal((await ctx.ask(name, known)).value.model); } catch (error) { ctx.say(String(error.message || error)); }
    root.classList.remove("wbp-home-busy");
  };
  const sign = h("span", { "aria-hidden": "true" });
  const word = h("span", { role: "status", "aria-live": "polite" });
  const standing = h("span", { class: "wbp-home-standing" }, sign, word);
  const head = h("div", { class: "wbp-home-head" }, h("span", { class: "wbp-home-mark" }, homeIcon(ctx, "home", 20)), h("h2", {}, "Workbench"), h("span", { class: "wbp-muted wbp-home-place", title: clean(ctx.panel.root) }, said(ctx.panel.workspace)), h("span", { class: "wbp-space" }), standing);
  const empty = homeEmpty(ctx, open);
  const [needs, ended, chain] = [h("div", {}), h("div", {}), h("div", {})];
  const running = makeHomeRunning(ctx, open);
  const search = makeHomeSearch(ctx, open);
  const work = h("div", { class: "wbp-home-work" }, needs, ended, running.element, chain, search.element);
  fill(root, head, empty, work, failure);
  el.classList.add("wbp-output");
  el.append(root, opened.element);
  const before = {};
  const changed = (name, value) => { const text = JSON.stringify(value); const is = before[name] !== text; before[name] = text; return is; };
  const keep = (place, made) => {  // what has the focus keeps it where it is drawn again
    const focused = place.contains(document.activeElement) ? document.activeElement.textContent : null;
    fill(place, made);
    if (focused !== null) [...place.querySelectorAll("button")].find((b) => b.textContent === focused)?.focus({ preventScroll: true });
  };
  function show() {
    const now = ctx.get("now");
    empty.hidden = !now.empty; work.hidden = now.empty;
    root.dataset.empty = now.empty ? "yes" : "no";
    const gravest = now.needs.length ? now.needs[0].level : "well";
    root.dataset.level = gravest;
    const text = now.empty ? "" : now.needs.length ? `${now.needs.length} ${now.needs.length === 1 ? "thing needs" : "things need"} you` : now.running.length ? `${now.running.length} running` : "All is well";
    if (word.textContent !== text) word.textContent = text;
    sign.textContent = now.empty ? "" : now.needs.length ? HOME_LEVELS[gravest] : now.running.length ? "●" : "✓";
    if (changed("needs", now.needs)) keep(needs, homeNeeds(ctx, now, open));
    if (changed("ended", now.ended)) keep(ended, homeEnded(ctx, now, open));
    running.show(now);
    if (changed("chain", now.chain)) keep(chain, now.chain.links.every((l) => l.state === "missing") ? null : homeChain(ctx, now, open));
    if (changed("all", [now.chain.links, now.running.map((r) => [r.run, r.state]), now.ended, now.services])) search.find();
  }
  const look = () => { if (document.visibilityState === "visible") ctx.ask("look").catch(() => {}); };
  const tick = () => root.querySelectorAll("time[data-at]").forEach((t) => { const text = homeAgo(Number(t.dataset.at)); if (t.textContent !== text) t.textContent = text; });
  const timers = [setInterval(look, 10000), setInterval(tick, 5000)];
  document.addEventListener("visibilitychange", look);
  ctx.leave(() => { timers.forEach(clearInterval); document.removeEventListener("visibilitychange", look); });
  ctx.on("now", show);
  look();
  show();
  return () => ctx.close();
}

export default { render: renderHome };
