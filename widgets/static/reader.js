// A record at a time, with what matters in it highlighted; next and previous by j and k.
import { h, fill, button, said, clean, figure } from "./element.js";

// fetch: (index) => Promise<{total, title, segments: [{text, kind, label}], facts: {name: value}, note}>; actions: [{key, label, act(index, record)}].
export function makeReader({ fetch, actions = [], label = "record" }) {
  const title = h("span", { class: "wbp-readertitle" });
  const place = h("span", { class: "wbp-muted", role: "status" });
  const text = h("div", { class: "wbp-text", tabindex: "0", role: "region", "aria-label": label });
  const facts = h("div", { class: "wbp-facts wbp-muted" });
  let index = 0;
  let total = 0;
  let record = null;
  let mark = 0;

  async function show(to) {
    if (total && (to < 0 || to >= total)) return;
    mark += 1;
    const mine = mark;
    const found = await fetch(Math.max(0, to));
    if (mine !== mark) return;
    index = Math.max(0, to); record = found; total = found.total;
    title.replaceChildren(said(found.title || ""));
    place.textContent = total ? `${label} ${figure(index + 1)} of ${figure(total)}` : `no ${label}`;
    fill(text, (found.segments || []).map((s) => s.kind
      ? h("mark", { class: `wbp-mark wbp-mark-${s.kind}`, title: s.label || s.kind }, said(s.text), s.label ? h("span", { class: "wbp-marklabel" }, clean(s.label)) : null)
      : said(s.text)));
    fill(facts, Object.entries(found.facts || {}).map(([name, value]) => h("span", {}, `${name} `, h("b", {}, said(value)))), found.note ? said(found.note) : null);
    text.scrollTop = 0;
  }
  const keys = { j: () => show(index + 1), k: () => show(index - 1) };
  for (const action of actions) if (action.key) keys[action.key] = () => action.act(index, record);
  const element = h("section", { class: "wbp-reader", "aria-label": `${label}s` },
    h("div", { class: "wbp-bar" }, place, title, h("span", { class: "wbp-space" }),
      actions.map((a) => button(a.key ? `${a.label} (${a.key})` : a.label, () => a.act(index, record), { class: "wbp-button wbp-small" })),
      button("Previous (k)", keys.k, { class: "wbp-button wbp-small" }), button("Next (j)", keys.j, { class: "wbp-button wbp-small" })),
    text, facts);
  element.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /INPUT|TEXTAREA|SELECT/.test(event.target.tagName) || !keys[event.key]) return;
    event.preventDefault(); event.stopPropagation();
    keys[event.key]();
  });
  return { element, show, index: () => index, record: () => record, again: () => show(index) };
}
