// The playground: ask, watch the answer come, see which record taught it, say whether it is right.
import { h, fill, button, said, clean, copied, figure, clock, fresh, colourOf } from "./element.js";
import { makeReader } from "./reader.js";

const PLAY_STATES = { waiting: "waiting …", answering: "answering …", done: "", stopped: "stopped", failed: "no answer" };
const PLAY_SETTINGS = [["temperature", "Temperature", 0.8, 0, 2, 0.1], ["top_p", "Top p", 1, 0.05, 1, 0.05], ["max_tokens", "At most, tokens", 64, 1, null, 1], ["seed", "Seed", null, 0, null, 1]];

export function serveMs(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  return seconds < 1 ? `${Math.round(1000 * seconds)} ms` : `${Number(seconds.toPrecision(3))} s`;
}

// The same version has the same colour in its row, in the curves and at its answers.
export function serveColour(ctx, reference) {
  ctx.serveColours = ctx.serveColours || new Map();
  if (!ctx.serveColours.has(reference)) ctx.serveColours.set(reference, colourOf(reference, [...ctx.serveColours.values()].slice(-5)));
  return ctx.serveColours.get(reference);
}

export function serveDot(ctx, reference) {
  return h("i", { class: "wbp-serve-dot", style: `--share-colour:${serveColour(ctx, reference)}`, "aria-hidden": "true" });
}

function playLabel(ctx, reference) {
  const found = (ctx.get("endpoint").versions || []).find((v) => v.reference === reference);
  return found ? found.label : reference || "";
}

// An answer with what is known of it; its words become links to the records that taught them.
function makeAnswer(ctx, exchange, at) {
  const readonly = ctx.panel.readonly;
  const called = `${exchange.number}${exchange.sides.length > 1 ? ` ${"ab"[at] || at}` : ""}`;
  const who = h("span", { class: "wbp-play-who" });
  const state = h("span", { class: "wbp-play-state" });
  const written = document.createTextNode("");
  const body = h("span", { class: "wbp-play-body" }, written);
  const prompt = exchange.chat ? null : h("span", { class: "wbp-play-prompt" }, clean(exchange.prompt));
  const text = h("div", { class: "wbp-play-text", dir: "auto", tabindex: "0", role: "region", "aria-label": `Answer ${called}` }, h("bdi", {}, prompt, body), h("span", { class: "wbp-play-caret", "aria-hidden": "true" }));
  const facts = h("span", { class: "wbp-play-facts wbp-muted" });
  const taught = h("div", { class: "wbp-play-taughtline" });
  const record = h("div", { class: "wbp-play-record" });
  const line = h("nav", { class: "wbp-play-lineage", "aria-label": `What made answer ${called}` });
  const right = button("✓ Right", () => marked("right"), { class: "wbp-button wbp-small wbp-play-right", "aria-pressed": "false" });
  const wrong = button("✕ Wrong", () => (side.mark && side.mark.mark === "wrong" ? ctx.tell("unmark", place) : fold()), { class: "wbp-button wbp-small wbp-play-wrong", "aria-pressed": "false" });
  const copy = button("Copy", (e) => copied(all, e.currentTarget), { class: "wbp-button wbp-small" });
  const tools = h("span", { class: "wbp-play-tools" }, copy, readonly ? null : [right, wrong]);
  const note = h("div", {});
  const element = h("article", { class: "wbp-play-answer" }, h("div", { class: "wbp-bar wbp-play-head" }, who, state), text, h("div", { class: "wbp-bar wbp-play-foot" }, facts, h("span", { class: "wbp-space" }), tools), note, taught, record, line);
  const place = { number: exchange.number, side: at };
  let side = exchange.sides[at];
  let all = "";
  let traced = false;

  function marked(mark, more = {}) {
    if (mark === "right" && side.mark && side.mark.mark === "right") return ctx.tell("unmark", place);
    fill(note);
    return ctx.tell("mark", { ...place, mark, ...more });
  }
  function fold() {
    if (note.firstChild && note.querySelector("textarea")) return fill(note, noted());
    const [why, better] = [fresh("why"), fresh("better")];
    const reason = h("textarea", { id: why, rows: "2", class: "wbp-play-note" });
    const words = h("textarea", { id: better, rows: "2", class: "wbp-play-note" });
    const close = () => { fill(note, noted()); wrong.focus(); };
    const form = h("div", { class: "wbp-play-form", onkeydown: (e) => { if (e.key === "Escape") { e.stopPropagation(); close(); } if (e.key === "Enter" && (e.ctrlKey || e.metaKey)) save(); } },
      h("label", { for: why }, "What is wrong with it"), reason, h("label", { for: better }, "What would have been right (may stay empty)"), words,
      h("div", { class: "wbp-bar" }, button("Mark as wrong", () => save(), { class: "wbp-button wbp-small wbp-primary" }), button("Cancel", close, { class: "wbp-button wbp-small" }), h("span", { class: "wbp-muted" }, "kept as feedback that a dataset can read")));
    const save = () => { marked("wrong", { note: reason.value, better: words.value }); wrong.focus(); };
    fill(note, form);
    reason.focus();
    return undefined;
  }
  function noted() {
    const m = side.mark;
    if (!m || m.mark !== "wrong" || !(m.note || m.better)) return null;
    return h("p", { class: "wbp-play-noted" }, m.note ? said(m.note) : null, m.better ? [h("span", { class: "wbp-muted" }, m.note ? " · right would be: " : "right would be: "), said(m.better)] : null);
  }
  async function open(id, index, records) {
    const reader = makeReader({ label: "record", actions: [{ label: "Close", act: () => { fill(record); text.querySelector(`[data-span="${index}"]`)?.focus(); } }], fetch: async (n) => ({ total: records.length, ...(await ctx.ask("record", { ...place, record: records[n].id })).value }) });
    fill(record, reader.element);
    try { await reader.show(records.findIndex((r) => r.id === id)); } catch (error) { fill(record, h("p", { class: "wbp-error" }, clean(error.message))); return; }
    const first = record.querySelector(".wbp-mark-taught");
    if (first) { const box = record.querySelector(".wbp-text"); box.scrollTop = Math.max(0, first.offsetTop - box.offsetTop - 60); box.focus({ preventScroll: true }); }
    record.scrollIntoView({ block: "nearest" });
  }
  async function trace() {
    traced = true;
    if (!side.id || !all) return;
    fill(taught, h("span", { class: "wbp-muted" }, "looking its words up in the training text …"));
    let found;
    try { found = (await ctx.ask("trace", place)).value; } catch (error) { fill(taught, h("span", { class: "wbp-muted" }, clean(error.message))); return; }
    fill(body, found.segments.map((s) => {
      if (!s.kind) return said(s.text);
      const one = found.spans[Number(s.label)];
      const go = () => open(one.records[0].id, s.label, one.records);
      return h("mark", { class: "wbp-play-taught", role: "button", tabindex: "0", "data-span": s.label, title: `stands ${figure(one.times)} time${one.times === 1 ? "" : "s"} in the training text: show the record`, onclick: go,
        onkeydown: (e) => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); e.stopPropagation(); go(); } } }, said(s.text));
    }));
    const longest = found.spans[0];
    fill(taught, longest ? [h("span", { class: "wbp-play-taughtsign", "aria-hidden": "true" }, "❡ "), h("span", {}, `${figure(longest.characters)} characters stand word for word in `),
      button(clean(longest.records[0].locator || longest.records[0].source), () => open(longest.records[0].id, "0", longest.records), { class: "wbp-play-go" }),
      h("span", { class: "wbp-muted" }, `${longest.times > 1 ? ` and ${figure(longest.times - 1)} more place${longest.times > 2 ? "s" : ""}` : ""}${found.spans.length > 1 ? ` · ${found.spans.length} stretches underlined` : ""}`)]
      : h("span", { class: "wbp-muted" }, found.missing.length ? `It can't be said what taught it: ${clean(found.missing[0])}` : "No stretch of 12 characters or more of it stands in the training text: these are the model's own words."));
    fill(line, found.lineage.flatMap((step, n) => [n ? h("span", { "aria-hidden": "true" }, "→") : null, h("span", { class: "wbp-play-step" }, h("span", { class: "wbp-muted" }, `${step.kind} `),
      step.kind === "endpoint" ? button(clean(step.label), () => ctx.tab("live", true), { class: "wbp-play-go" })
        : step.kind === "source" && longest ? button(clean(step.label), () => open(longest.records[0].id, "0", longest.records), { class: "wbp-play-go" })
          : step.open ? button(clean(step.label), () => ctx.tell("open", { kind: step.kind, name: step.open }), { class: "wbp-play-go" }) : said(step.label))]));
  }
  function show() {
    fill(who, side.served ? serveDot(ctx, side.served) : null, said(playLabel(ctx, side.served || side.model)));
    state.textContent = PLAY_STATES[side.state] ?? side.state;
    element.dataset.state = side.state;
    const ended = { length: "reached its length", stop: "came to its end", stopped: "stopped" }[side.finish] || "";
    facts.textContent = [side.first !== null ? `first token after ${serveMs(side.first)}` : "", side.rate ? `${figure(Math.round(side.rate))} tokens a second` : "", side.tokens ? `${figure(side.tokens)} token${side.tokens === 1 ? "" : "s"}` : "", ended].filter(Boolean).join(" · ");
    const over = side.state === "done" || side.state === "stopped";
    tools.hidden = !over || !side.id;
    const mark = side.mark ? side.mark.mark : "";
    right.setAttribute("aria-pressed", mark === "right" ? "true" : "false");
    wrong.setAttribute("aria-pressed", mark === "wrong" ? "true" : "false");
    if (!note.querySelector("textarea")) fill(note, noted());
    if (side.state === "failed") fill(taught, h("span", { class: "wbp-error" }, clean(side.error)));
    if (over && !traced) trace();
  }
  return { element, whole(now) { side = now; all = now.text || ""; written.data = clean(all); show(); },
    part(now) { side = { ...side, ...now }; all += now.fresh; if (now.fresh) written.appendData(clean(now.fresh)); show(); },
    mark(now) { side = { ...side, mark: now }; fill(note); show(); }, text: () => all };
}

function makeExchange(ctx, exchange, again) {
  const sides = exchange.sides.map((side, n) => makeAnswer(ctx, exchange, n));
  const how = Object.entries(exchange.options).filter(([k, v]) => k !== "max_tokens" && !(k === "top_p" && v === 1)).map(([k, v]) => `${k.replace("_", " ")} ${Array.isArray(v) ? v.map((x) => JSON.stringify(x)).join(" ") : v}`).join(" · ");
  const element = h("section", { class: "wbp-play-exchange", "aria-label": `Asked at ${clock(exchange.at)}` },
    h("div", { class: "wbp-bar wbp-play-asked" }, h("span", { class: "wbp-muted" }, clock(exchange.at)), h("span", { class: "wbp-muted wbp-play-how" }, clean(how)), h("span", { class: "wbp-space" }), button("Ask again", () => again(exchange), { class: "wbp-button wbp-small" })),
    exchange.chat ? h("div", { class: "wbp-play-said", dir: "auto" }, said(exchange.prompt)) : null, h("div", { class: `wbp-play-sides wbp-play-sides-${sides.length}` }, sides.map((s) => s.element)));
  let parts = -1;
  const one = { element, number: exchange.number, over: exchange.over, chat: exchange.chat,
    whole(now) { parts = now.parts; one.over = now.over; now.sides.forEach((s, n) => sides[n].whole(s)); },
    // False where a part was missed: then the whole is asked for.
    part(now) { if (now.part !== parts + 1) return now.part <= parts; parts = now.part; one.over = now.over; now.sides.forEach((s, n) => sides[n].part(s)); return true; },
    mark: (n, mark) => sides[n].mark(mark), matches: (words) => `${exchange.prompt} ${sides.map((s) => s.text()).join(" ")}`.toLowerCase().includes(words) };
  one.whole(exchange);
  return one;
}

function playSettings(ctx, changed) {
  const inputs = {};
  const rows = PLAY_SETTINGS.map(([name, label, usual, low, high, step]) => {
    const id = fresh(name);
    inputs[name] = h("input", { id, type: "number", min: String(low), max: high === null ? null : String(high), step: String(step), value: usual === null ? "" : String(usual), placeholder: usual === null ? "any" : String(usual), class: "wbp-input wbp-serve-small", oninput: changed });
    return h("div", { class: "wbp-play-setting" }, h("label", { for: id }, label), inputs[name]);
  });
  const id = fresh("stop");
  inputs.stop = h("input", { id, type: "text", class: "wbp-input", placeholder: "none", autocomplete: "off", oninput: changed });
  rows.push(h("div", { class: "wbp-play-setting" }, h("label", { for: id }, "Stop at"), inputs.stop));
  const summary = h("span", { class: "wbp-muted" });
  const element = h("details", { class: "wbp-play-settings" }, h("summary", {}, "Settings ", summary), h("div", { class: "wbp-play-settingrows" }, rows));
  const number = (name) => (inputs[name].value.trim() === "" || !Number.isFinite(Number(inputs[name].value)) ? null : Number(inputs[name].value));
  return { element, take() { return { temperature: number("temperature"), top_p: number("top_p"), max_tokens: number("max_tokens"), seed: number("seed"), stop: inputs.stop.value ? [inputs.stop.value.replaceAll("\\n", "\n")] : null }; },
    put(options) { for (const [name] of PLAY_SETTINGS) if (options[name] !== undefined && options[name] !== null) inputs[name].value = String(options[name]); inputs.stop.value = (options.stop || [""])[0].replaceAll("\n", "\\n"); },
    say() { const o = this.take(); summary.textContent = `temperature ${o.temperature ?? 1} · at most ${o.max_tokens ?? 64} tokens · seed ${o.seed ?? "any"}`; } };
}

export function makePlayground(ctx) {
  const shown = new Map();
  const list = h("div", { class: "wbp-play-list" });
  const chips = h("div", { class: "wbp-play-chips" });
  const hello = h("p", { class: "wbp-play-hello" });
  const nothing = h("div", { class: "wbp-play-nothing" }, hello, chips);
  const stage = h("div", { class: "wbp-play-stage" }, nothing, list);
  const search = h("input", { type: "search", class: "wbp-input", placeholder: "Find in this session", "aria-label": "Find in this session", oninput: () => sift() });
  const found = h("span", { class: "wbp-muted", role: "status" });
  const id = fresh("prompt");
  const box = h("textarea", { id, class: "wbp-play-box", rows: "2", spellcheck: "false", "aria-describedby": `${id}-keys` });
  const send = button("Ask", () => ask(), { class: "wbp-button wbp-primary wbp-play-send" });
  const hush = button("Stop", () => ctx.tell("hush"), { class: "wbp-button wbp-stop wbp-play-hush" });
  const settings = playSettings(ctx, () => settings.say());
  const first = h("select", { class: "wbp-input wbp-select", "aria-label": "Who answers" });
  const second = h("select", { class: "wbp-input wbp-select", "aria-label": "Who answers beside it" });
  const beside = button("Compare two", () => { comparing = !comparing; show(); }, { class: "wbp-button wbp-small", "aria-pressed": "false" });
  const modes = [["prompt", "Continue a text"], ["chat", "Chat"]].map(([name, label]) => button(label, () => { mode = name; chat = 0; show(); box.focus(); }, { class: "wbp-play-mode", "data-mode": name }));
  const anew = button("New chat", () => { chat = 0; show(); box.focus(); }, { class: "wbp-button wbp-small" });
  const label = h("label", { for: id, class: "wbp-unseen" }, "Prompt");
  const told = h("div", { class: "wbp-unseen", role: "status", "aria-live": "polite" });
  const composer = h("div", { class: "wbp-play-composer" }, label, box, h("div", { class: "wbp-bar" }, settings.element, h("span", { class: "wbp-space" }), h("span", { id: `${id}-keys`, class: "wbp-muted wbp-play-keys" }, "Ctrl+Enter asks, Escape stops"), hush, send));
  const marks = playMarks(ctx);
  const element = h("section", { class: "wbp-play", "aria-label": "Playground" },
    h("div", { class: "wbp-bar wbp-play-top" }, h("h3", {}, "Playground"), h("span", { class: "wbp-play-modes", role: "group", "aria-label": "How to ask" }, modes), first, beside, second, anew, h("span", { class: "wbp-space" }), search, found), stage, composer, told, marks);
  let mode = null;
  let chat = 0;
  let comparing = null;
  let options = "";

  const running = () => [...shown.values()].some((e) => !e.over);
  const low = () => stage.scrollHeight - stage.scrollTop - stage.clientHeight < 80;
  const down = () => { stage.scrollTop = stage.scrollHeight; };

  async function ask() {
    const prompt = box.value;
    if (!prompt.trim() || ctx.get("endpoint").state !== "up") return;
    const models = comparing ? [first.value, second.value] : [first.value];
    const asked = { prompt, models, chat: mode === "chat" ? chat : null, ...settings.take() };
    send.disabled = true;
    try {
      const { value } = await ctx.ask("question", asked);
      if (mode === "chat") { chat = chat || value; box.value = ""; grow(); }
    } catch (error) { ctx.say(error.message); }
    show();
  }
  function again(exchange) {
    box.value = exchange.prompt;
    settings.put(exchange.options); settings.say();
    mode = exchange.chat ? "chat" : "prompt";
    chat = 0;
    show(); grow(); box.focus();
  }
  function put(exchange) {
    if (shown.has(exchange.number)) return shown.get(exchange.number).whole(exchange);
    const one = makeExchange(ctx, exchange, again);
    shown.set(exchange.number, one);
    list.append(one.element);
    sift();
    down();
    return show();
  }
  function sift() {
    const words = search.value.trim().toLowerCase();
    let count = 0;
    for (const one of shown.values()) { const fits = !words || one.matches(words); one.element.hidden = !fits; count += fits ? 1 : 0; }
    found.textContent = words ? `${count} of ${shown.size}` : "";
  }
  function grow() { box.style.height = "auto"; box.style.height = `${Math.min(200, Math.max(56, box.scrollHeight + 2))}px`; }
  function show() {
    const endpoint = ctx.get("endpoint");
    if (mode === null) mode = endpoint.chat ? "chat" : "prompt";
    const versions = endpoint.versions || [];
    const now = JSON.stringify(versions.map((v) => [v.reference, v.share]));
    if (now !== options) {
      options = now;
      const kept = [first.value, second.value];
      const choices = () => versions.map((v) => h("option", { value: v.reference }, clean(v.label)));
      fill(first, versions.length > 1 ? h("option", { value: endpoint.name || "" }, "as the traffic goes") : null, choices());
      fill(second, choices());
      if (kept[0] && [...first.options].some((o) => o.value === kept[0])) first.value = kept[0];
      second.value = versions.some((v) => v.reference === kept[1]) ? kept[1] : versions.length ? versions[versions.length - 1].reference : "";
      if (versions.length < 2) comparing = false;
    }
    if (comparing && first.value === endpoint.name && versions.length > 1) first.value = versions[0].reference;
    if (comparing && first.value === second.value) second.value = (versions.find((v) => v.reference !== first.value) || versions[0]).reference;
    beside.hidden = versions.length < 2; second.hidden = !comparing; first.hidden = versions.length < 2;
    beside.setAttribute("aria-pressed", comparing ? "true" : "false");
    modes.forEach((m) => m.setAttribute("aria-pressed", m.dataset.mode === mode ? "true" : "false"));
    anew.hidden = mode !== "chat" || !chat;
    box.placeholder = mode === "chat" ? "Say something" : "Begin a text that the model goes on with";
    nothing.hidden = shown.size > 0;
    search.hidden = shown.size < 3;
    hello.textContent = mode === "chat" ? `Talk with ${clean(endpoint.name || "it")}.` : `Begin, and ${clean(endpoint.name || "the model")} goes on. Its words lead back to the records that taught them.`;
    fill(chips, (endpoint.suggestions || []).map((s) => button(clean(s), () => { box.value = s; grow(); ask(); }, { class: "wbp-play-chip", disabled: endpoint.state !== "up" })));
    hush.hidden = !running();
    send.disabled = endpoint.state !== "up" || (mode === "chat" && running());
    send.title = endpoint.state === "up" ? "" : "The endpoint does not answer";
  }
  ctx.on("msg:custom", async (content) => {
    if (!content) return;
    if (content.exchange) put(content.exchange);
    else if (content.talk) {
      const one = shown.get(content.talk);
      const follow = low();
      if (!one || !one.part(content)) put((await ctx.ask("exchange", { number: content.talk })).value);
      if (follow) down();
      if (content.over) { told.textContent = "The answer is there."; show(); sift(); }
    } else if (content.marked) { shown.get(content.marked)?.mark(content.side, content.mark); marks.again(); }
  });
  box.addEventListener("input", grow);
  element.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && event.target === box) { event.preventDefault(); event.stopPropagation(); ask(); }
    else if (event.key === "Escape" && running()) { event.preventDefault(); event.stopPropagation(); ctx.tell("hush"); }
  });
  ctx.on("endpoint", show);
  settings.say(); show();
  ctx.ask("talk").then(({ value }) => value.forEach(put), () => {});
  return { element, focus: () => box.focus() };
}

// What was said of answers: kept by the engine in a file that a dataset can read.
function playMarks(ctx) {
  const body = h("div", {});
  const element = h("details", { class: "wbp-more wbp-play-marks", ontoggle: () => element.again() }, h("summary", {}, "Marked answers"), body);
  element.again = async () => {
    if (!element.open) return;
    const { value } = await ctx.ask("marks");
    fill(body, value.rows.length ? [h("div", { class: "wbp-scroll", tabindex: "0", role: "region", "aria-label": "Marked answers" }, h("table", { class: "wbp-table" }, h("thead", {}, h("tr", {}, ["", "asked", "answered", "note", "when"].map((t) => h("th", { scope: "col" }, t || h("span", { class: "wbp-unseen" }, "mark"))))),
      h("tbody", {}, value.rows.map((r) => h("tr", {}, h("td", { class: `wbp-play-${r.mark}` }, `${r.mark === "right" ? "✓" : "✕"} ${r.mark === "right" ? "right" : "wrong"}`), [r.prompt, r.answer, r.note].map((t) => h("td", {}, h("div", {}, said(t)))), h("td", {}, clock(r.at))))))),
      h("p", { class: "wbp-muted" }, "A dataset can read them: ", h("code", {}, `workbench data ${clean(value.path)}`))] : h("p", { class: "wbp-muted" }, "None yet: say of an answer that it is right or wrong."));
  };
  return element;
}

const PLAY_CODE = [["curl", "curl"], ["python", "Python with openai"], ["urllib", "Python alone"], ["javascript", "JavaScript"]];

export function makeClientCode(ctx) {
  const code = h("pre", { class: "wbp-pre", tabindex: "0", "aria-label": "Code" });
  let [kind, programs] = ["curl", {}];
  const kinds = PLAY_CODE.map(([name, label]) => button(label, () => { kind = name; show(); }, { class: "wbp-play-mode", "data-kind": name }));
  const show = () => { code.textContent = programs[kind] || ""; kinds.forEach((k) => k.setAttribute("aria-pressed", k.dataset.kind === kind ? "true" : "false")); };
  const load = async () => { if (element.open) { programs = (await ctx.ask("code", { prompt: (ctx.get("endpoint").suggestions || [])[0] || "Return the" })).value; show(); } };
  const element = h("details", { class: "wbp-more wbp-play-code", ontoggle: load }, h("summary", {}, "Ask it from your own code"),
    h("div", { class: "wbp-bar" }, h("span", { class: "wbp-play-modes", role: "group", "aria-label": "Language" }, kinds), h("span", { class: "wbp-space" }), button("Copy", (e) => copied(code.textContent, e.currentTarget), { class: "wbp-button wbp-small" })), code, h("p", { class: "wbp-muted" }, "The token is read from its file; it stands in no code."));
  ctx.on("endpoint", load);
  show();
  return element;
}
