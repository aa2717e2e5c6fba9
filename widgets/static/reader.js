// A record at a time, with what matters in it highlighted; next and previous by j and k.
import { h, fill, button, said, clean, figure } from "./element.js";

// fetch: (index) => Promise<{total, title, segments: [{text, kind, label}], facts: {name: value}, note, state, says, twin: {title, segments}, image: Blob, sound: Blob}>; all but total may be missing.
// actions: [{key, label, act(index, record), pressed(record)}]; shown(index, record) is called after each.
export function makeReader({ fetch, actions = [], label = "record", shown = null }) {
  const title = h("span", { class: "wbp-readertitle" });
  const place = h("span", { class: "wbp-muted", role: "status" });
  const text = h("div", { class: "wbp-text", tabindex: "0", role: "region", "aria-label": label });
  const twin = h("div", { class: "wbp-text", tabindex: "0", role: "region", "aria-label": `the other ${label}` });
  const twinTitle = h("div", { class: "wbp-muted wbp-twintitle" });
  const beside = h("div", { class: "wbp-twin", hidden: true }, twinTitle, twin);
  const says = h("div", { class: "wbp-says" });
  const facts = h("div", { class: "wbp-facts wbp-muted" });
  let index = 0;
  let total = 0;
  let record = null;
  let mark = 0;
  let picture = null;
  let sound = null;

  const draw = (segments) => (segments || []).map((s) => (s.kind
    ? h("mark", { class: `wbp-mark wbp-mark-${s.kind}`, title: s.label || s.kind }, said(s.text), s.label ? h("span", { class: "wbp-marklabel" }, clean(s.label)) : null)
    : said(s.text)));

  async function show(to, anew = false) {
    if (!anew && total && (to < 0 || to >= total)) return;
    mark += 1;
    const mine = mark;
    const found = await fetch(Math.max(0, to));
    if (mine !== mark) return;
    index = Math.max(0, to); record = found; total = found.total;
    title.replaceChildren(said(found.title || "")); title.title = clean(found.title || "");
    place.textContent = total ? `${label} ${figure(index + 1)} of ${figure(total)}` : `no ${label}`;
    if (picture) { URL.revokeObjectURL(picture); picture = null; }
    if (found.image) picture = URL.createObjectURL(found.image);
    if (sound) { URL.revokeObjectURL(sound); sound = null; }
    if (found.sound) sound = URL.createObjectURL(found.sound);
    fill(text, sound ? h("audio", { class: "wbp-sound", controls: true, src: sound, "aria-label": `sound of the ${label}` }) : null,
      picture ? h("img", { class: "wbp-picture", src: picture, alt: `image of the ${label}` }) : draw(found.segments));
    beside.hidden = !found.twin;
    if (found.twin) { twinTitle.replaceChildren(said(found.twin.title || "")); twinTitle.title = clean(found.twin.title || ""); fill(twin, draw(found.twin.segments)); twin.scrollTop = 0; }
    says.hidden = !found.says;
    fill(says, found.state ? h("b", { class: `wbp-${found.state}` }, found.state === "kept" ? "✓ " : found.state === "dropped" ? "✕ " : "") : null, found.says ? said(found.says) : null);
    fill(facts, Object.entries(found.facts || {}).map(([name, value]) => h("span", {}, `${name} `, h("b", {}, said(value)))), found.note ? said(found.note) : null);
    text.scrollTop = 0;
    pressed();
    if (shown) shown(index, record);
  }
  function pressed() {
    for (const { action, made } of buttons) {
      made.disabled = Boolean(action.needs !== false && !total);
      if (action.pressed) made.setAttribute("aria-pressed", record && total && action.pressed(record) ? "true" : "false");
    }
    back.disabled = index <= 0; on.disabled = index + 1 >= total;
  }
  const keys = { j: () => show(index + 1), k: () => show(index - 1) };
  for (const action of actions) if (action.key) keys[action.key] = () => { if (action.needs === false || total) action.act(index, record); };
  const buttons = actions.map((action) => ({ action, made: button(action.key ? `${action.label} (${action.key})` : action.label, () => action.act(index, record), { class: "wbp-button wbp-small wbp-choice" }) }));
  const back = button("Previous (k)", keys.k, { class: "wbp-button wbp-small" });
  const on = button("Next (j)", keys.j, { class: "wbp-button wbp-small" });
  const element = h("div", { class: "wbp-reader", role: "group", "aria-label": `${label} reader` },
    h("div", { class: "wbp-readerhead" }, place, title), // a line of its own: the buttons stay where they are from record to record
    h("div", { class: "wbp-bar" }, buttons.map((b) => b.made), buttons.length ? h("span", { class: "wbp-space" }) : null, back, on),
    says, h("div", { class: "wbp-texts" }, text, beside), facts);
  const hear = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /INPUT|TEXTAREA|SELECT/.test(event.target.tagName) || !keys[event.key]) return;
    event.preventDefault(); event.stopPropagation();
    keys[event.key]();
  };
  element.addEventListener("keydown", hear);
  return { element, show, hear, pressed, index: () => index, record: () => record, again: () => show(index, true) };
}
