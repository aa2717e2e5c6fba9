// The form of a spec, made from its description: a new field in a spec appears here without a line of code.
import { h, fill, button, clean, fresh, VIEWS } from "./element.js";
import { EDITORS, editorOf } from "./fields.js";

const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

function within(value, path) {
  return path.reduce((place, key) => (place === null || place === undefined ? undefined : place[key]), value);
}

// One field with its label, unit, error, help, and the way back to its default.
export function makeRow(ctx, field, path) {
  const id = fresh("field");
  const at = { id, labelledBy: `${id}-label`, describedBy: `${id}-help ${id}-error`,
    put: (value) => ctx.tell("put", { path, value }), reset: () => ctx.tell("reset", { path }) };
  if (field.kind === "part" && !field.editor) return makePart(ctx, field, path);
  const inner = { ...field, editor: field.editor || (field.kind === "list" ? (field.of.kind === "choice" ? "ticks" : "list") : undefined) };
  const editor = editorOf(ctx, inner, path, at);
  const single = /text|number|switch|choice/.test(field.kind) || field.refers || field.kind === "any";
  const label = single ? h("label", { for: id, id: at.labelledBy, class: "wbp-label" }, clean(field.label)) : h("span", { id: at.labelledBy, class: "wbp-label" }, clean(field.label));
  const help = h("span", { id: `${id}-help`, class: "wbp-help", role: "note" }, helpOf(field));
  const error = h("div", { id: `${id}-error`, class: "wbp-error" });
  const back = button("↺", () => { at.reset(); editor.focus(); }, { class: "wbp-back", title: "Back to the default", "aria-label": `Back to the default of ${field.label}` });
  const element = h("div", { class: `wbp-row wbp-row-${inner.editor || field.kind}`, "data-path": path.join(".") },
    h("div", { class: "wbp-name" }, label, field.required ? h("span", { class: "wbp-required", title: "required" }, "required") : null, help),
    h("div", { class: "wbp-value" }, h("div", { class: "wbp-control" }, editor.element, field.unit ? h("span", { class: "wbp-unit" }, field.unit) : null, back), error));
  return { element, focus: editor.focus, show(edit) {
    const value = within(edit.mapping, path);
    const given = value !== undefined;
    editor.show(given ? value : field.default, given, edit);
    const changed = given && !field.required && !same(value, field.default);
    element.classList.toggle("wbp-changed", changed);
    back.style.visibility = changed ? "visible" : "hidden";
    const key = path.join(".");
    const nested = inner.editor === "list" || editor.nested;
    const found = edit.problems.filter((p) => p.path === key || (!nested && p.path.startsWith(`${key}.`)));
    const wrong = found.length > 0 && edit.begun;
    element.classList.toggle("wbp-wrong", wrong);
    const text = wrong ? found.map((p) => p.message).join("; ") : "";
    if (error.textContent !== text) error.textContent = clean(text);
    const control = element.querySelector(`#${id}`);
    if (control) control.setAttribute("aria-invalid", wrong ? "true" : "false");
  } };
}

function helpOf(field) {
  const limits = [];
  if (field.above !== undefined) limits.push(`above ${field.above}`);
  if (field.min !== undefined) limits.push(`from ${field.min}`);
  if (field.max !== undefined) limits.push(`up to ${field.max}`);
  if (field.below !== undefined) limits.push(`below ${field.below}`);
  const usual = field.default !== null && field.default !== undefined && typeof field.default !== "object" ? `usually ${field.default}` : "";
  return clean([field.help, limits.join(", "), usual].filter(Boolean).join(" · "));
}

// A group of fields.
function makePart(ctx, field, path) {
  const title = fresh("part");
  const rows = field.fields.map((f) => makeRow(ctx, f, [...path, f.name]));
  const body = h("div", { class: "wbp-partbody" }, rows.map((r) => r.element));
  const use = field.optional ? h("input", { type: "checkbox", class: "wbp-check", "aria-label": `Set ${field.label}`, onchange: () => (use.checked ? ctx.tell("put", { path, value: {} }) : ctx.tell("reset", { path })) }) : null;
  const error = h("div", { class: "wbp-error" });
  const element = h("fieldset", { class: "wbp-part", "data-path": path.join(".") },
    h("legend", { id: title }, use, clean(field.label), field.help || field.about ? h("span", { class: "wbp-muted" }, clean(field.help || field.about)) : null), error, body);
  return { element, focus: () => element.querySelector("input,select,button")?.focus(), show(edit) {
    const value = within(edit.mapping, path);
    if (use) { use.checked = value !== undefined && value !== null; body.hidden = !use.checked; }
    rows.forEach((r) => r.show(edit));
    const own = edit.begun ? edit.problems.filter((p) => p.path === path.join(".")) : [];
    error.textContent = own.map((p) => clean(p.message)).join("; ");
  } };
}

// A list: of values, of groups, or of tagged groups such as sources and steps.
// `own` lets an editor that stands on this one add to each item: `beside(n, name)` in its line and `below(n, name)` under it give
// {element, show(value)}; `add` stands in place of the way to add an item. A switch called "on" is a box to tick in the item's line.
EDITORS.list = (ctx, field, path, at, own = {}) => {
  const items = h("ol", { class: "wbp-items" });
  const of = field.of;
  const kinds = of.kind === "union" ? of.variants : null;
  const add = own.add || (kinds
    ? h("select", { class: "wbp-input wbp-select wbp-add", "aria-label": `Add to ${field.label}`, onchange: (event) => {
      const variant = kinds[event.target.selectedIndex - 1];
      event.target.selectedIndex = 0;
      if (variant) insert(blank(variant, of.tag));
    } }, h("option", {}, `Add ${of.label}…`), kinds.map((v) => h("option", { title: v.help }, clean(v.label))))
    : button(`Add ${of.label}`, () => insert(of.kind === "part" ? blank(of) : of.kind === "number" ? 0 : of.choices ? of.choices[0] : ""), { class: "wbp-button wbp-small wbp-add" }));
  const element = h("div", { class: "wbp-list", role: "group", "aria-labelledby": at.labelledBy }, items, add);
  const opened = new Set();
  let shape = null;
  let rows = [];
  let length = 0;

  function insert(value) {
    opened.add(length);
    ctx.tell("insert", { path, index: length, value }).then(() => {
      const last = items.lastChild;
      if (last) (last.querySelector(".wbp-partbody input, .wbp-partbody select, .wbp-itemvalue input") || last.querySelector("button"))?.focus();
    });
  }
  function move(index, to) {
    if (to < 0 || to >= length) return;
    const [a, b] = [opened.has(index), opened.has(to)];
    if (a) opened.add(to); else opened.delete(to);
    if (b) opened.add(index); else opened.delete(index);
    ctx.tell("move", { path, index, to }).then(() => items.children[to]?.querySelector(`.wbp-${to > index ? "down" : "up"}`)?.focus());
  }
  function remove(index) {
    const kept = [...opened].filter((n) => n !== index).map((n) => (n > index ? n - 1 : n));
    opened.clear(); kept.forEach((n) => opened.add(n));
    ctx.tell("remove", { path, index });
  }
  function build(list) {
    rows = list.map((value, n) => {
      const variant = kinds ? kinds.find((v) => v.value === (value || {})[of.tag]) : null;
      const fields = variant ? variant.fields : of.kind === "part" ? of.fields : null;
      const name = variant ? clean(variant.label) : kinds ? clean(String((value || {})[of.tag])) : "";
      const tools = h("span", { class: "wbp-tools" },
        button("↑", () => move(n, n - 1), { class: "wbp-tool wbp-up", "aria-label": `Move ${name || of.label} ${n + 1} up`, disabled: n === 0 }),
        button("↓", () => move(n, n + 1), { class: "wbp-tool wbp-down", "aria-label": `Move ${name || of.label} ${n + 1} down`, disabled: n === list.length - 1 }),
        button("×", () => remove(n), { class: "wbp-tool", "aria-label": `Remove ${name || of.label} ${n + 1}` }));
      if (!fields) {
        const row = makeRow(ctx, { ...of, label: `${of.label} ${n + 1}`, required: true }, [...path, n]);
        row.element.classList.add("wbp-itemvalue");
        return { element: h("li", { class: "wbp-item wbp-plain" }, row.element, tools), show: row.show };
      }
      const able = fields.find((f) => f.name === "on" && f.kind === "switch");
      const told = fields.filter((f) => f !== able);
      const inner = told.map((f) => makeRow(ctx, f, [...path, n, f.name]));
      const box = able ? h("input", { type: "checkbox", class: "wbp-check wbp-on", title: "On or off", "aria-label": `${name || of.label} ${n + 1} is on`,
        onchange: () => (box.checked ? ctx.tell("reset", { path: [...path, n, "on"] }) : ctx.tell("put", { path: [...path, n, "on"], value: false })) }) : null;
      const [beside, below] = [own.beside?.(n, name), own.below?.(n, variant ? variant.value : null)];
      const summary = h("span", { class: "wbp-summary wbp-muted" });
      const mark = h("span", { class: "wbp-itemmark" });
      const body = h("div", { class: "wbp-partbody", id: fresh("item") }, inner.map((r) => r.element));
      const error = h("div", { class: "wbp-error" });
      const head = h("button", { type: "button", class: "wbp-itemhead", title: variant ? variant.help : "", disabled: !told.length, "aria-expanded": "false", "aria-controls": body.id, onclick: () => {
        if (opened.has(n)) opened.delete(n); else opened.add(n);
        toggle();
      } }, h("span", { class: "wbp-twist", "aria-hidden": "true" }, told.length ? "▸" : "·"), h("b", {}, name || `${clean(of.label)} ${n + 1}`), summary, mark);
      const line = h("li", { class: "wbp-item" }, h("div", { class: "wbp-itemline" }, box, head, beside?.element, tools), error, below?.element, body);
      function toggle() {
        const open = opened.has(n) && told.length > 0;
        body.hidden = !open; head.setAttribute("aria-expanded", open ? "true" : "false"); line.classList.toggle("wbp-unfolded", open);
      }
      toggle();
      return { element: line, open: () => { opened.add(n); toggle(); }, show(edit) {
        const now = within(edit.mapping, [...path, n]) ?? (within(edit.mapping, path) === undefined ? (field.default || [])[n] : undefined) ?? {};
        summary.textContent = clean(told.map((f) => word(f, now[f.name])).filter(Boolean).join(" · "));
        if (box) { box.checked = now.on !== false; line.classList.toggle("wbp-off", !box.checked); }
        beside?.show(now); below?.show(now);
        const key = [...path, n].join(".");
        const wrong = edit.begun ? edit.problems.filter((p) => p.path === key || p.path.startsWith(`${key}.`)) : [];
        mark.textContent = wrong.length ? "▲" : ""; line.classList.toggle("wbp-wrong", wrong.length > 0);
        error.textContent = wrong.filter((p) => p.path === key).map((p) => clean(p.message)).join("; ");
        inner.forEach((r) => r.show(within(edit.mapping, path) === undefined ? { ...edit, mapping: placed(path, field.default) } : edit));
      } };
    });
    fill(items, rows.map((r) => r.element));
  }
  return { element, nested: true, focus: () => (items.querySelector("button,input") || add).focus(), show(value, given, edit) {
    const list = Array.isArray(value) ? value : [];
    length = list.length;
    const now = list.map((v) => (kinds ? (v || {})[of.tag] : "")).join("|") + list.length;
    if (now !== shape) { shape = now; build(list); }
    rows.forEach((r) => r.show(given ? edit : { ...edit, mapping: placed(path, field.default) }));
  } };
};

function placed(path, value) {
  return [...path].reverse().reduce((inner, key) => (typeof key === "number" ? Object.assign([], { [key]: inner }) : { [key]: inner }), value);
}

function blank(variant, tag) {
  const made = tag ? { [tag]: variant.value } : {};
  for (const field of variant.fields) if (field.required) made[field.name] = field.kind === "list" ? [] : field.kind === "part" ? {} : "";
  return made;
}

function word(field, value) {
  if (value === undefined || same(value, field.default)) return "";
  if (Array.isArray(value)) return value.every((v) => typeof v !== "object") ? value.join(", ") : `${value.length} ${field.label}`;
  if (typeof value === "object") return "";
  return field.required ? String(value) : `${field.label} ${value}${field.unit ? ` ${field.unit}` : ""}`;
}

export function makeForm(ctx) {
  const form = ctx.get("form");
  const rows = form.fields.map((f) => ({ field: f, row: makeRow(ctx, f, [f.name]) }));
  const [open, more] = [rows.filter((r) => r.field.main), rows.filter((r) => !r.field.main)];
  const count = h("span", { class: "wbp-muted" });
  const fold = more.length ? h("details", { class: "wbp-more" }, h("summary", {}, "More ", count), more.map((r) => r.row.element)) : null;
  const own = h("div", { class: "wbp-own" });
  const element = h("form", { class: "wbp-form", novalidate: true, onsubmit: (event) => event.preventDefault() }, open.map((r) => r.row.element), fold, own);
  if (VIEWS[ctx.panel.word]?.spec) VIEWS[ctx.panel.word].spec(ctx, own);
  const show = () => {
    const edit = ctx.get("edit");
    rows.forEach((r) => r.row.show(edit));
    const changed = more.filter((r) => r.row.element.matches(".wbp-changed, :has(.wbp-changed)")).length;
    count.textContent = changed ? `${more.length} fields, ${changed} changed` : `${more.length} fields`;
    if (fold && more.some((r) => r.row.element.matches(".wbp-wrong, :has(.wbp-wrong)"))) fold.open = true;
  };
  ctx.on("edit", show);
  show();
  // Bring a field into sight, however deep it lies, and put the cursor into it.
  ctx.reach = (path) => {
    const keys = String(path).split(".");
    for (let length = keys.length; length > 0; length -= 1) {
      const found = element.querySelector(`[data-path="${CSS.escape(keys.slice(0, length).join(".")).replace(/\\\./g, ".").replace(/\\3(\d) /g, "$1")}"]`);
      if (!found) continue;
      for (let up = found; up && up !== element; up = up.parentElement) {
        if (up.tagName === "DETAILS") up.open = true;
        if (up.classList.contains("wbp-item") && !up.classList.contains("wbp-unfolded")) up.querySelector(".wbp-itemhead")?.click();
      }
      found.scrollIntoView({ block: "center" });
      found.querySelector("input,select,textarea,button")?.focus();
      return true;
    }
    return false;
  };
  return element;
}
