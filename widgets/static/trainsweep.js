// A sweep: its trials as a table and as parallel coordinates.
import { h, fill, button, said, clean, figure, markup } from "./element.js";
import { makeTable } from "./table.js";

const TRAIN_SIGNS = { running: "●", complete: "✓", pruned: "◐", failed: "✕" };

export function trainSweep(ctx) {
  const drawn = h("div", { class: "wbp-train-coordinates wbp-scroll", tabindex: "0", role: "region", "aria-label": "Trials as parallel coordinates" });
  const place = h("div", {});
  const words = h("p", { class: "wbp-train-best" });
  const element = h("section", { class: "wbp-block wbp-train-sweep" }, h("h3", {}, "Trials"), words, drawn, place);
  let [table, paths, before, run] = [null, "", "", null];

  function make(sweep) {
    const columns = [{ key: "trial", label: "Trial", numeric: true }, { key: "state", label: "State", draw: (state, row) => h("span", { class: `wbp-train-${clean(state)}` }, `${TRAIN_SIGNS[state] || "○"} ${clean(state)}${row.best ? ", the best" : ""}`) },
      ...sweep.paths.map((p) => ({ key: p, label: clean(p.replaceAll("_", " ")), draw: (v) => (typeof v === "number" ? figure(v, 3) : said(v === null || v === undefined ? "–" : typeof v === "object" ? JSON.stringify(v) : v)) })),
      { key: "value", label: clean(sweep.measure.replaceAll("_", " ")), unit: clean(sweep.measured), numeric: true },
      { key: "run", label: "Run", sorts: false, draw: (id, row) => (id ? button("Open", () => ctx.tell("open", { run: id }), { class: "wbp-button wbp-link wbp-train-open", "aria-label": `Open the run of trial ${row.trial}` }) : "–") }];
    table = makeTable({ columns, label: "trials", rows: async (page) => (await ctx.ask("trials", page)).value });
    fill(place, table.element);
  }
  return { element, show() {
    const now = ctx.get("train");
    const sweep = now.sweep;
    element.hidden = !sweep || !sweep.rows.length;
    if (element.hidden) return;
    const text = JSON.stringify(sweep.rows);
    if (text === before && run === now.run) return;
    const kept = drawn.contains(document.activeElement) ? document.activeElement.getAttribute("data-trial") : null;
    fill(drawn, markup(sweep.svg));
    if (kept !== null) drawn.querySelector(`[data-trial="${CSS.escape(kept)}"]`)?.focus();
    const best = sweep.rows.find((r) => r.trial === sweep.best);
    words.textContent = best ? clean(`${ctx.get("status").active ? "Best so far" : "Best"}: trial ${best.trial} with ${figure(best.value)} ${sweep.measured}, ${Object.entries(best.values).map(([k, v]) => `${k.replaceAll("_", " ")} ${typeof v === "number" ? figure(v, 3) : v}`).join(", ")}`) : "No trial has come to its end yet.";
    if (table === null || paths !== sweep.paths.join("|") || run !== now.run) { paths = sweep.paths.join("|"); make(sweep); } else table.load();
    before = text; run = now.run;
  } };
}
