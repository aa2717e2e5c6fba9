// A panel: title line, four tabs, and one line for what needs the person now.
import { h, fill, button, clean, said, context, figure, fresh, VIEWS } from "./element.js";
import { makeForm } from "./form.js";
import { makeCode } from "./code.js";
import { makeLive } from "./live.js";
import { makeResults } from "./results.js";

const TABS = [["spec", "Spec"], ["live", "Live"], ["results", "Results"], ["code", "Code"]];
const STATE_WORDS = { empty: "nothing yet", editing: "ready to run", invalid: "not complete", starting: "starting", queued: "queued", running: "running", stopping: "stopping",
  stopped: "stopped", failed: "failed", done: "done", lost: "lost sight of" };

function makeTabs(ctx, panes) {
  const ids = Object.fromEntries(TABS.map(([name]) => [name, fresh(`tab-${name}`)]));
  const tabs = Object.fromEntries(TABS.map(([name, label]) => [name, h("button", { type: "button", role: "tab", class: "wbp-tab", id: ids[name], "aria-controls": `${ids[name]}-pane`, onclick: () => pick(name) }, label, h("span", { class: "wbp-dot", "aria-hidden": "true" }))]));
  const bodies = Object.fromEntries(TABS.map(([name]) => [name, h("div", { role: "tabpanel", class: "wbp-pane", id: `${ids[name]}-pane`, "aria-labelledby": ids[name] }, panes[name])]));
  const list = h("div", { role: "tablist", class: "wbp-tabs", "aria-label": "Views" }, Object.values(tabs));
  let now = null;
  function pick(name, focus) {
    now = name;
    for (const [other] of TABS) {
      tabs[other].setAttribute("aria-selected", other === name ? "true" : "false");
      tabs[other].tabIndex = other === name ? 0 : -1;
      bodies[other].hidden = other !== name;
    }
    tabs[name].classList.remove("wbp-fresh");
    if (focus) tabs[name].focus();
    if (name === "code") ctx.opened?.();
  }
  list.addEventListener("keydown", (event) => {
    const names = TABS.map(([name]) => name);
    const to = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const at = event.key === "Home" ? 0 : event.key === "End" ? names.length - 1 : to ? (names.indexOf(now) + to + names.length) % names.length : -1;
    if (at < 0) return;
    event.preventDefault();
    pick(names[at], true);
  });
  return { list, bodies: Object.values(bodies), pick, now: () => now, mark: (name) => { if (now !== name) tabs[name].classList.add("wbp-fresh"); } };
}

function makeTitle(ctx) {
  const name = h("span", { class: "wbp-titlename" });
  const sign = h("span", { class: "wbp-sign", "aria-hidden": "true" });
  const word = h("span", { class: "wbp-stateword", role: "status", "aria-live": "polite" });
  const words = h("span", { class: "wbp-statewords" });
  const edited = h("span", { class: "wbp-edited", title: "The spec was changed since this run" }, "edited since");
  const element = h("div", { class: "wbp-title" }, h("span", { class: "wbp-word" }, clean(ctx.panel.title)), name, h("span", { class: "wbp-space" }), edited, h("span", { class: "wbp-state" }, sign, word, words));
  return { element, show(status) {
    name.replaceChildren(...(status.name ? [said(status.name)] : []));
    sign.textContent = status.sign;
    const text = clean(status.said || STATE_WORDS[status.state] || status.state);
    if (word.textContent !== text) word.textContent = text;
    words.textContent = status.words ? clean(status.words) : "";
    edited.hidden = !(status.run && status.edited);
  } };
}

function makeButtons(ctx, tabs) {
  const start = (again) => { tabs.pick("live"); ctx.tell("run", { again }); };
  const verb = clean(ctx.panel.verb);
  const run = button(verb, () => start(ctx.get("status").state === "done" && !ctx.get("status").edited), { class: "wbp-button wbp-primary wbp-run" });
  // Beside a run that can go on, to run again means from the beginning.
  const over = button(`${verb} again`, () => start(true), { class: "wbp-button wbp-over", title: "From the beginning" });
  const resume = button("Resume", () => { tabs.pick("live"); ctx.tell("resume"); }, { class: "wbp-button wbp-primary wbp-resume" });
  const stop = button("Stop", () => ctx.tell("stop", ctx.get("status").state === "stopping" ? { now: true } : {}), { class: "wbp-button wbp-stop" });
  const undo = button("↶", () => ctx.tell("undo"), { class: "wbp-button wbp-icon", title: "Undo", "aria-label": "Undo" });
  const redo = button("↷", () => ctx.tell("redo"), { class: "wbp-button wbp-icon", title: "Redo", "aria-label": "Redo" });
  const plan = h("span", { class: "wbp-plan wbp-muted" });
  const estimate = button("What will it take", async (event) => {
    const pressed = event.currentTarget;
    pressed.disabled = true; plan.textContent = "trying one step …";
    await ctx.tell("estimate");
    pressed.disabled = false; show();
  }, { class: "wbp-button wbp-link" });
  const element = h("div", { class: "wbp-buttons" }, plan, estimate, undo, redo, stop, over, resume, run);
  function show() {
    const [status, edit, next] = [ctx.get("status"), ctx.get("edit"), ctx.get("plan")];
    const ended = status.run && !status.active;
    run.textContent = ended && !status.edited ? `${verb} again` : verb;
    const rest = !status.active && status.state !== "starting" ? status.rest : null;
    run.hidden = status.active || status.state === "starting" || Boolean(rest && !status.edited);
    resume.hidden = !rest; resume.disabled = ctx.panel.readonly;
    resume.title = rest ? clean(`Goes on ${rest.words || ""}`) : "";
    resume.classList.toggle("wbp-primary", !status.edited);
    over.hidden = !rest || status.edited; over.disabled = !edit.valid || ctx.panel.readonly;
    run.disabled = !edit.valid || ctx.panel.readonly;
    run.title = edit.valid ? "" : "The spec does not hold yet";
    // What stops at its next safe point may take long to get there: to wait no longer costs what its title says.
    const sooner = status.state === "stopping" && status.stake;
    stop.textContent = sooner ? "Stop now" : "Stop"; stop.title = sooner ? clean(`Ends it at once, without a checkpoint. Lost: ${status.stake}`) : "";
    stop.hidden = !status.active; stop.disabled = (status.state === "stopping" && !sooner) || ctx.panel.readonly;
    const editing = tabs.now() === "spec" || tabs.now() === "code";
    undo.hidden = redo.hidden = !editing;
    undo.disabled = !edit.undo || ctx.panel.readonly; redo.disabled = !edit.redo || ctx.panel.readonly;
    const fresh = !status.active && (!status.run || status.edited) && edit.valid;
    plan.textContent = fresh && !next.error ? clean(next.text || "") : "";
    estimate.hidden = !fresh || !editing || Boolean(next.text) || Boolean(next.error);
  }
  return { element, show };
}

function makeAttention(ctx, tabs) {
  const element = h("div", { class: "wbp-attention", role: "status", "aria-live": "polite" });
  let before = "";
  const act = (action) => {
    if (action.path) { tabs.pick("spec"); ctx.reach(action.path); }
    if (action.tab) tabs.pick(action.tab, true);
    if (action.ask) ctx.tell(action.ask, action.with || {});
  };
  return { element, show() {
    const now = ctx.get("attention");
    const text = JSON.stringify(now);
    if (text === before) return;
    before = text;
    element.className = `wbp-attention wbp-level-${now.level || "none"}`;
    const sign = { error: "✕", warning: "▲", info: "i" }[now.level];
    fill(element, now.text ? [h("span", { class: "wbp-attentionsign", "aria-hidden": "true" }, sign || ""), h("span", { class: "wbp-attentiontext" }, said(now.text)),
      [now.action, now.other].filter(Boolean).map((a) => button(a.label, () => act(a), { class: "wbp-button wbp-small" }))] : []);
  } };
}

function makeEmpty(ctx) {
  const start = button(ctx.panel.example ? "Begin with the working example" : "Begin", () => {
    if (ctx.panel.example) ctx.tell("example");
    element.classList.add("wbp-begun");
    show();
  }, { class: "wbp-button wbp-primary" });
  const own = h("div", {});
  VIEWS[ctx.panel.word]?.empty?.(ctx, own);
  const element = h("div", { class: "wbp-empty" }, h("p", {}, clean(ctx.panel.about)), own, h("div", { class: "wbp-bar" }, start, h("span", { class: "wbp-muted" }, "or fill in the form below")));
  function show() { element.hidden = ctx.get("status").state !== "empty" || element.classList.contains("wbp-begun"); }
  return { element, show };
}

function render({ model, el }) {
  const root = h("div", { class: "wbp", "data-lm-suppress-shortcuts": "true", "data-word": model.get("about").word });
  const ctx = context(model, root);
  const hide = h("style", {}, `.wbp-still-${ctx.panel.id} { display: none }`);
  document.head.append(hide);
  ctx.leave(() => hide.remove());
  const [live, results, code, empty] = [makeLive(ctx), makeResults(ctx), makeCode(ctx), makeEmpty(ctx)];
  ctx.live = live;
  const tabs = makeTabs(ctx, { spec: [empty.element, makeForm(ctx)], live: live.element, results: results.element, code: code.element });
  ctx.opened = code.opened;
  ctx.tab = tabs.pick;
  const [title, buttons, attention] = [makeTitle(ctx), makeButtons(ctx, tabs), makeAttention(ctx, tabs)];
  const failure = h("div", { class: "wbp-said", role: "alert", hidden: true });
  ctx.say = (text) => { failure.textContent = clean(text); failure.hidden = false; clearTimeout(ctx.saying); ctx.saying = setTimeout(() => { failure.hidden = true; }, 8000); };
  root.setAttribute("role", "region");
  root.setAttribute("aria-label", `${ctx.panel.title} panel`);
  fill(root, title.element, h("div", { class: "wbp-headline" }, tabs.list, buttons.element), h("div", { class: "wbp-body" }, tabs.bodies), failure, attention.element);
  el.classList.add("wbp-output");
  el.append(root, results.below);
  let before = null;
  let activeBefore = Boolean(ctx.get("status").active);
  function show() {
    const status = ctx.get("status");
    root.dataset.state = status.state;
    root.setAttribute("aria-label", clean(`${ctx.panel.title} panel${status.name ? `, ${status.name}` : ""}`));
    title.show(status); buttons.show(); attention.show(); empty.show();
    if (before !== null && before !== status.state && status.state === "done") tabs.mark("results");
    // A run that begins from elsewhere is shown, unless somebody is at the form.
    if (before !== null && !activeBefore && status.active && tabs.now() === "spec" && !root.contains(document.activeElement)) tabs.pick("live");
    activeBefore = status.active;
    before = status.state;
  }
  const first = { running: "live", queued: "live", stopping: "live", lost: "live", done: "results", failed: "results" }[ctx.get("status").state] || "spec";
  tabs.pick(first);
  root.addEventListener("click", () => buttons.show());
  for (const trait of ["status", "edit", "plan", "attention"]) ctx.on(trait, show);
  root.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.key.toLowerCase() !== "z" || /YAML/.test(event.target.getAttribute("aria-label") || "")) return;
    event.preventDefault();
    ctx.tell(event.shiftKey ? "redo" : "undo");
  });
  show();
  return () => ctx.close();
}

export default { render };
