// A table of any size: the rows stay in Python, a page of them travels.
import { h, fill, button, said, figure, fresh } from "./element.js";

// columns: [{key, label, numeric, unit, draw}]; rows: ({start, count, sort, descending, filter}) => Promise<{rows, total}>.
export function makeTable({ columns, rows, open = null, label = "records", count = 50, filters = true }) {
  const asked = { start: 0, count, sort: null, descending: false, filter: "" };
  const body = h("tbody", {});
  const place = h("span", { class: "wbp-muted", role: "status" });
  const heads = columns.map((column) => {
    const sorter = h("button", { type: "button", class: "wbp-sort", onclick: () => sortBy(column.key) }, column.label, column.unit ? ` (${column.unit})` : "");
    return h("th", { scope: "col", class: column.numeric ? "wbp-number" : null, "data-key": column.key }, sorter);
  });
  const back = button("Previous", () => turn(-1), { class: "wbp-button wbp-small" });
  const on = button("Next", () => turn(1), { class: "wbp-button wbp-small" });
  const search = h("input", { type: "search", class: "wbp-input", placeholder: "Filter", "aria-label": `Filter ${label}`, id: fresh("filter") });
  let total = 0;
  let timer = 0;
  let mark = 0;
  search.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(() => { asked.filter = search.value; asked.start = 0; load(); }, 120); });

  function sortBy(key) {
    asked.descending = asked.sort === key ? !asked.descending : false;
    asked.sort = key; asked.start = 0;
    for (const head of heads) head.setAttribute("aria-sort", head.dataset.key === key ? (asked.descending ? "descending" : "ascending") : "none");
    load();
  }
  function turn(by) {
    asked.start = Math.max(0, Math.min(Math.max(0, total - 1), asked.start + by * asked.count));
    load();
  }
  function cell(column, row) {
    const value = row[column.key];
    const shown = column.draw ? column.draw(value, row) : typeof value === "number" ? figure(value) : said(value ?? "–");
    return h("td", { class: column.numeric ? "wbp-number" : null }, h("div", {}, shown));
  }
  async function load() {
    mark += 1;
    const mine = mark;
    const found = await rows({ ...asked });
    if (mine !== mark) return;
    total = found.total;
    fill(body, found.rows.map((row, n) => {
      const line = h("tr", open ? { tabindex: n ? "-1" : "0", class: "wbp-open" } : {}, columns.map((column) => cell(column, row)));
      if (open) {
        line.addEventListener("click", () => open(row, asked.start + n));
        line.addEventListener("keydown", (event) => {
          if (event.key === "Enter") open(row, asked.start + n);
          const next = event.key === "ArrowDown" ? line.nextElementSibling : event.key === "ArrowUp" ? line.previousElementSibling : null;
          if (next) { event.preventDefault(); line.tabIndex = -1; next.tabIndex = 0; next.focus(); }
        });
      }
      return line;
    }));
    const last = Math.min(total, asked.start + found.rows.length);
    place.textContent = total ? `${figure(asked.start + 1)}–${figure(last)} of ${figure(total)} ${label}` : `no ${label}${asked.filter ? " match" : ""}`;
    back.disabled = asked.start === 0; on.disabled = last >= total;
  }
  const scroller = h("div", { class: "wbp-scroll", tabindex: "0", role: "region", "aria-label": label }, h("table", { class: "wbp-table" }, h("thead", {}, h("tr", {}, heads)), body));
  const element = h("div", { class: "wbp-tablebox" }, h("div", { class: "wbp-bar" }, filters ? search : null, place, h("span", { class: "wbp-space" }), back, on), scroller);
  const ready = load();
  return { element, load, asked, ready };
}
