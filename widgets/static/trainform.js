// The form of a training: which objective, the fields of that one, and what it has of its own.
import { h, fill, clean } from "./element.js";
import { EDITORS } from "./fields.js";
import { makeRow } from "./form.js";

// One of several kinds of part: which, and the fields of that one; fields of the same name are taken along.
EDITORS.union = (ctx, field, path, at) => {
  const usual = (field.default || {})[field.tag];
  let now = null;
  const select = h("select", { id: at.id, class: "wbp-input wbp-select", "aria-label": clean(field.label), onchange: () => {
    const variant = field.variants[select.selectedIndex - (field.optional ? 1 : 0)];
    if (!variant) return void at.reset();
    const kept = Object.fromEntries(Object.entries(now || {}).filter(([k]) => variant.fields.some((f) => f.name === k)));
    if (variant.value === usual && !Object.keys(kept).length) at.reset(); else at.put({ ...kept, [field.tag]: variant.value });
    return undefined;
  } }, field.optional ? h("option", {}, "none") : null, field.variants.map((v) => h("option", { value: String(v.value) }, clean(v.label))));
  const about = h("p", { class: "wbp-muted wbp-unionhelp" });
  const body = h("div", { class: "wbp-partbody" });
  const element = h("div", { class: "wbp-union" }, select, about, body);
  // Where nothing was said yet, the first word about a field says the kind too.
  const inner = { ...ctx, tell: async (name, known) => { if (!now) await ctx.tell("put", { path, value: { [field.tag]: shape } }); return ctx.tell(name, known); } };
  let shape = null;
  let rows = [];
  return { element, nested: true, focus: () => select.focus(), show(value, given, edit) {
    const kind = (value || {})[field.tag] ?? usual;
    const variant = field.variants.find((v) => v.value === kind);
    now = given ? value : null;
    select.selectedIndex = field.variants.indexOf(variant) + (field.optional ? 1 : 0);
    if (kind !== shape) {
      shape = kind;
      rows = variant ? variant.fields.map((f) => makeRow(inner, f, [...path, f.name])) : [];
      fill(body, rows.map((r) => r.element));
      about.textContent = variant ? clean(variant.help) : "";
    }
    rows.forEach((r) => r.show(edit));
  } };
};

// Only what matters to the objective is shown, and what it has of its own stands in grey where nothing was said.
export function trainOwn(ctx, element) {
  function owned() {
    const { values, idle, needs } = ctx.get("own");
    const form = element.closest(".wbp-form");
    if (!form || !values) return;
    const data = form.querySelector('[data-path="data"]');
    if (data) {
      if (!data.querySelector(".wbp-required")) data.querySelector(".wbp-label").after(h("span", { class: "wbp-required", title: "required" }, "required"));
      data.querySelector(".wbp-required").hidden = !needs;
      data.querySelector("input").placeholder = needs ? "name of a dataset" : "none";
    }
    for (const path of ["model", "tokens"]) {
      const row = form.querySelector(`[data-path="${path}"]`);
      if (row) row.hidden = idle.includes(path) && !row.matches(".wbp-changed, .wbp-wrong, :has(.wbp-changed, .wbp-wrong)");
    }
    for (const [path, value] of Object.entries(values)) {
      const control = form.querySelector(`[data-path="${path}"] :is(input, select)`);
      if (control?.tagName === "INPUT") control.placeholder = String(value);
      else if (control && control.options[0]) control.options[0].textContent = `${value} (the objective's own)`;
    }
  }
  ctx.on("own", owned); ctx.on("edit", owned);
  queueMicrotask(owned);
}
