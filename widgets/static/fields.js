// Editors of single fields, by the kind of the field; a field may name a better one, kept in EDITORS.
import { h, fill, button, clean, figure, fresh } from "./element.js";

export const EDITORS = {};
// name -> (ctx, field, path, at) => {element, show(value, given), focus()}: `value` as it counts, `given` whether it was said.

// What an editor needs to tell Python: `at.put(value)`, `at.reset()`, and of the label `at.id`, `at.describedBy`.
export function editorOf(ctx, field, path, at) {
  const make = EDITORS[field.editor] || EDITORS[field.refers ? "name" : field.kind] || EDITORS.any;
  return make(ctx, field, path, at);
}

function input(at, props) {
  return h("input", { id: at.id, class: "wbp-input", type: "text", autocomplete: "off", spellcheck: "false", "aria-describedby": at.describedBy, ...props });
}

// An input that is being typed in keeps what is typed: what Python says of an older text must not overwrite it.
function shows(ctx, element, text) {
  const busy = document.activeElement === element && ctx.behind();
  if (!busy && element.value !== text) element.value = text;
}

export function parsed(text) {
  const plain = text.trim().replace(/(?<=\d)[ ,_](?=\d{3}(\D|$))/g, "");
  const value = Number(plain);
  return plain !== "" && Number.isFinite(value) ? value : text;
}

EDITORS.text = (ctx, field, path, at) => {
  const long = /text|prompt|summary|reason|answer/.test(field.name) && !field.pattern;
  const element = input(at, { placeholder: field.default === null || field.default === undefined ? (field.optional ? "none" : "") : String(field.default), class: `wbp-input${long ? " wbp-wide" : ""}` });
  element.addEventListener("input", () => (element.value === "" && (field.optional || !field.required) ? at.reset() : at.put(element.value)));
  return { element, show: (value, given) => shows(ctx, element, given && value !== null ? String(value) : ""), focus: () => element.focus() };
};

EDITORS.number = (ctx, field, path, at) => {
  const element = input(at, { inputmode: "decimal", class: "wbp-input wbp-numeric", placeholder: field.default === null || field.default === undefined ? (field.optional ? "auto" : "") : figure(field.default, 8) });
  element.addEventListener("input", () => (element.value.trim() === "" ? at.reset() : at.put(parsed(element.value))));
  element.addEventListener("keydown", (event) => {
    const by = event.key === "ArrowUp" ? 1 : event.key === "ArrowDown" ? -1 : 0;
    const now = parsed(element.value || element.placeholder);
    if (!by || typeof now !== "number") return;
    event.preventDefault();
    const step = field.integer ? Math.max(1, 10 ** (Math.floor(Math.log10(Math.abs(now) || 1)) - 1)) : 10 ** (Math.floor(Math.log10(Math.abs(now) || 1)) - 1);
    const next = Number((now + by * step).toPrecision(10));
    element.value = String(field.integer ? Math.round(next) : next);
    at.put(parsed(element.value));
  });
  return { element, show: (value, given) => {
    if (!given || parsed(element.value) !== value || element.value === "") shows(ctx, element, given && value !== null ? (typeof value === "number" && Math.abs(value) >= 1e4 ? figure(value, 12) : String(value)) : "");
  }, focus: () => element.focus() };
};

EDITORS.switch = (ctx, field, path, at) => {
  const element = h("input", { id: at.id, type: "checkbox", class: "wbp-check", "aria-describedby": at.describedBy, onchange: () => at.put(element.checked) });
  return { element, show: (value) => { element.checked = Boolean(value); }, focus: () => element.focus() };
};

EDITORS.choice = (ctx, field, path, at) => {
  const element = h("select", { id: at.id, class: "wbp-input wbp-select", "aria-describedby": at.describedBy, onchange: () => {
    const value = field.choices[element.selectedIndex - (field.optional ? 1 : 0)];
    if (value === undefined) at.reset(); else at.put(value);
  } }, field.optional ? h("option", {}, "none") : null, field.choices.map((c) => h("option", { value: String(c) }, clean(c))));
  return { element, show: (value, given) => {
    element.classList.toggle("wbp-quiet", !given);
    element.selectedIndex = field.choices.indexOf(value) + (field.optional ? 1 : 0);
  }, focus: () => element.focus() };
};

// A searchable list of what exists: datasets, models.
EDITORS.name = (ctx, field, path, at) => {
  const list = h("ul", { class: "wbp-options", role: "listbox", id: fresh("options"), hidden: true, "aria-label": `${field.label}: what exists` });
  const element = input(at, { role: "combobox", "aria-expanded": "false", "aria-controls": list.id, "aria-autocomplete": "list",
    placeholder: field.optional ? "none" : `name of a ${field.refers || "version"}` });
  let found = [];
  let active = -1;
  let mark = 0;
  const shut = () => { list.hidden = true; element.setAttribute("aria-expanded", "false"); element.removeAttribute("aria-activedescendant"); active = -1; };
  const take = (option) => { element.value = option.value; at.put(option.value); shut(); };
  const point = (to) => {
    active = to;
    [...list.children].forEach((item, n) => item.setAttribute("aria-selected", n === active ? "true" : "false"));
    if (list.children[active]) { element.setAttribute("aria-activedescendant", list.children[active].id); list.children[active].scrollIntoView({ block: "nearest" }); }
  };
  async function look(text) {
    mark += 1;
    const mine = mark;
    const { value } = await ctx.ask("names", { kind: field.refers || "dataset", text });
    if (mine !== mark || document.activeElement !== element) return;
    found = value;
    fill(list, found.length ? found.map((o, n) => h("li", { role: "option", id: `${list.id}-${n}`, "aria-selected": "false", onpointerdown: (e) => { e.preventDefault(); take(o); } },
      h("bdi", {}, clean(o.value)), h("span", { class: "wbp-muted" }, clean(o.note))))
      : h("li", { role: "option", "aria-disabled": "true", "aria-selected": "false", class: "wbp-muted" }, `no ${field.refers || "name"} here${text ? " matches" : " yet"}`));
    list.hidden = false; element.setAttribute("aria-expanded", "true"); active = -1;
  }
  element.addEventListener("input", () => { if (element.value === "" && !field.required) at.reset(); else at.put(element.value); look(element.value); });
  element.addEventListener("focus", () => look(""));
  element.addEventListener("blur", shut);
  element.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (list.hidden) look(element.value);
      else point(Math.max(0, Math.min(found.length - 1, active + (event.key === "ArrowDown" ? 1 : -1))));
    } else if (event.key === "Enter" && active >= 0 && found[active]) { event.preventDefault(); take(found[active]); }
    else if (event.key === "Escape") { event.stopPropagation(); shut(); }
  });
  return { element: h("div", { class: "wbp-combo" }, element, list), show: (value, given) => shows(ctx, element, given && value !== null ? String(value) : ""), focus: () => element.focus() };
};

// Anything else is written as YAML.
EDITORS.any = (ctx, field, path, at) => {
  const element = input(at, { class: "wbp-input wbp-wide wbp-code", placeholder: field.default === null || field.default === undefined ? "none" : JSON.stringify(field.default) });
  element.addEventListener("input", () => (element.value.trim() === "" ? at.reset() : ctx.tell("say", { path, text: element.value })));
  return { element, show: (value, given) => shows(ctx, element, !given || value === null ? "" : typeof value === "string" ? value : JSON.stringify(value)), focus: () => element.focus() };
};

// Names and values, both text.
EDITORS.map = (ctx, field, path, at) => {
  const rows = h("div", { class: "wbp-rows" });
  const element = h("div", { role: "group", "aria-labelledby": at.labelledBy }, rows, button("Add", () => { add("", ""); rows.lastChild.querySelector("input").focus(); }, { class: "wbp-button wbp-small" }));
  const send = () => at.put(Object.fromEntries([...rows.children].map((r) => [...r.querySelectorAll("input")].map((i) => i.value)).filter(([k]) => k !== "")));
  function add(name, value) {
    const row = h("div", { class: "wbp-line" }, input({}, { value: name, "aria-label": "name", oninput: send }), h("span", {}, "="), input({}, { value, "aria-label": "value", oninput: send }),
      button("Remove", () => { row.remove(); send(); }, { class: "wbp-button wbp-small", "aria-label": `Remove ${name}` }));
    rows.append(row);
  }
  return { element, show: (value) => {
    const pairs = Object.entries(value || {});
    if (rows.contains(document.activeElement)) return;
    rows.replaceChildren();
    pairs.forEach(([k, v]) => add(k, String(v)));
  }, focus: () => element.querySelector("input,button").focus() };
};

// A list of choices is a row of boxes to tick.
EDITORS.ticks = (ctx, field, path, at) => {
  const boxes = field.of.choices.map((choice) => {
    const box = h("input", { type: "checkbox", class: "wbp-check", onchange: () => at.put(field.of.choices.filter((c, n) => boxes[n].checked)) });
    return box;
  });
  const element = h("div", { class: "wbp-ticks", role: "group", "aria-labelledby": at.labelledBy }, boxes.map((box, n) => h("label", {}, box, clean(field.of.choices[n]))));
  return { element, show: (value) => boxes.forEach((box, n) => { box.checked = (value || []).includes(field.of.choices[n]); }), focus: () => boxes[0].focus() };
};
