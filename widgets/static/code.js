// The Code tab: the spec as YAML that can be edited, as Python, as a command line, and how it differs from the last run.
import { h, fill, clean, copyButton, button, said } from "./element.js";

export function makeCode(ctx) {
  const area = h("textarea", { class: "wbp-yaml wbp-code", spellcheck: "false", "aria-label": "Spec as YAML", autocomplete: "off", wrap: "off" });
  const error = h("div", { class: "wbp-error", role: "alert" });
  const python = h("pre", { class: "wbp-pre", tabindex: "0", "aria-label": "Python" });
  const command = h("pre", { class: "wbp-pre", tabindex: "0", "aria-label": "Command line" });
  const table = h("div", { class: "wbp-differences" });
  let timer = 0;
  area.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(() => ctx.tell("yaml", { text: area.value }), 25); });
  area.addEventListener("keydown", (event) => {
    if (event.key !== "Tab" || event.shiftKey || event.ctrlKey) return;
    if (area.selectionStart === area.value.length || area.dataset.leave) return;
    event.preventDefault();
    area.setRangeText("  ", area.selectionStart, area.selectionEnd, "end");
    area.dispatchEvent(new Event("input"));
  });
  area.addEventListener("keyup", (event) => { area.dataset.leave = event.key === "Escape" ? "1" : ""; });

  function show() {
    const edit = ctx.get("edit");
    const busy = document.activeElement === area && ctx.behind();
    if (!busy && area.value !== edit.yaml) area.value = edit.yaml;
    area.rows = Math.max(8, Math.min(32, area.value.split("\n").length + 1));
    const wrong = edit.begun || edit.problems.some((p) => !p.path) ? edit.problems : [];
    error.textContent = clean(wrong.map((p) => (p.path ? `${p.path}: ${p.message}` : p.message)).join("\n"));
    area.setAttribute("aria-invalid", wrong.length ? "true" : "false");
    python.textContent = edit.python || "The spec does not hold yet.";
    command.textContent = edit.command || "The spec does not hold yet.";
  }
  async function differ() {
    const { value } = await ctx.ask("differences");
    if (!value.run) fill(table, h("p", { class: "wbp-muted" }, "There was no run yet."));
    else if (!value.rows.length) fill(table, h("p", { class: "wbp-muted" }, "None: the last run had this very spec."));
    else fill(table, h("table", { class: "wbp-table" }, h("caption", { class: "wbp-unseen" }, "Differences"), h("thead", {}, h("tr", {}, ["field", `last run (${value.when})`, "now"].map((t) => h("th", { scope: "col" }, t)))),
      h("tbody", {}, value.rows.map((r) => h("tr", {}, h("th", { scope: "row" }, said(r.path)), h("td", {}, said(r.was)), h("td", {}, said(r.now)))))));
  }
  const save = ctx.panel.file ? button(`Save to ${ctx.panel.file}`, async () => {
    saved.textContent = "";
    if (await ctx.tell("save")) saved.textContent = `saved ${new Date().toLocaleTimeString()}`;
  }, { class: "wbp-button wbp-small", title: "Writes the YAML to the file that the spec came from" }) : null;
  const saved = h("span", { class: "wbp-muted", role: "status" });
  ctx.on("edit", show);
  show();
  const block = (name, content, ...tools) => h("section", { class: "wbp-block" }, h("div", { class: "wbp-bar" }, h("h3", {}, name), h("span", { class: "wbp-space" }), tools), content);
  const element = h("div", { class: "wbp-columns" },
    h("section", { class: "wbp-block" }, h("div", { class: "wbp-bar" }, h("h3", {}, "YAML"), h("span", { class: "wbp-space" }), saved, save, copyButton(() => area.value)), area, error),
    h("div", {}, block("Python", python, copyButton(() => python.textContent)), block("Command line", command, copyButton(() => command.textContent)),
      block("Differences to the last run", table, button("Compare", differ, { class: "wbp-button wbp-small" }))));
  return { element, opened: differ };
}
