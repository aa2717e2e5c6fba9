// A table of any size: the rows stay in Python, a page of them travels.
import { h, fill, button, said, figure, fresh } from "./element.js";

// columns: [{key, label, numeric, unit, draw, sorts}]; rows: ({start, count, sort, descending, filter}) => Promise<{rows, total, done}>;
// `done: false` says that a search goes on: it is asked again until it is over. `heard(found)` is called with each answer.
export function makeTable({ columns, rows, open = null, label = "records", count = 50, filters = true, heard = null, search: given = null }) {
  const asked = { start: 0, count, sort: null, descending: false, filter: "" };
  const body = h("tbody", {});
  const place = h("span", { class: "wbp-muted", role: "status" });
  const heads = columns.map((column) => {
    const sorter = column.sorts === false ? h("span", {}, column.label) : h("button", { type: "button", class: "wbp-sort", onclick: () => sortBy(column.key) }, column.label, column.unit ? ` (${column.unit})` : "");
    return h("th", { scope: "col", class: column.numeric ? "wbp-number" : null, "data-key": column.key }, sorter);
  });
  const back = button("Previous", () => turn(-1), { class: "wbp-button wbp-small", "aria-label": `Previous ${label}` });
  const on = button("Next", () => turn(1), { class: "wbp-button wbp-small", "aria-label": `Next ${label}` });
  const search = given || h("input", { type: "search", class: "wbp-input", placeholder: "Filter", "aria-label": `Filter ${label}`, id: fresh("filter") });
  let total = 0;
  let timer = 0;
  let again = 0;
  let mark = 0;
  let at = -1;
  let drawn = "";
  search.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(() => { asked.filter = search.value; asked.start = 0; load(); }, 120); });

  function sortBy(key) {
    asked.descending = asked.sort === key ? !asked.descending : false;
    asked.sort = key; asked.start = 0;
    for (const head of heads) head.setAttribute("aria-sort", head.dataset.key === key ? (asked.descending ? "descending" : "ascending") : "none");
    load();
  }
  function turn(by) {
    asked.start = Math.max(0, Math.min(Math.max(0, total - 1), asked.start + by * asked.count));
    return load();
  }
  function cell(column, row) {
    const value = row[column.key];
    const shown = column.draw ? column.draw(value, row) : typeof value === "number" ? figure(value) : said(value ?? "–");
    return h("td", { class: column.numeric ? "wbp-number" : null }, h("div", {}, shown));
  }
  function draw(found) {
    const text = JSON.stringify([asked.start, found.rows]);
    if (text === drawn) return;
    drawn = text;
    fill(body, found.rows.map((row, n) => {
      const line = h("tr", open ? { tabindex: n ? "-1" : "0", class: "wbp-open", "aria-selected": asked.start + n === at ? "true" : "false" } : {}, columns.map((column) => cell(column, row)));
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
  }
  async function load() {
    mark += 1;
    clearTimeout(again);
    const mine = mark;
    const found = await rows({ ...asked });
    if (mine !== mark) return found;
    total = found.total;
    draw(found);
    const last = Math.min(total, asked.start + found.rows.length);
    const going = found.done === false;
    place.textContent = total ? `${figure(asked.start + 1)}–${figure(last)} of ${figure(total)}${going ? " found so far, still searching …" : ` ${label}`}` : going ? "searching …" : `no ${label}${asked.filter ? " match" : ""}`;
    back.disabled = asked.start === 0; on.disabled = last >= total;
    if (going) again = setTimeout(load, 250);
    if (heard) heard(found);
    return found;
  }
  // The row that a reader beside the table shows; its page is turned to.
  async function point(index) {
    at = index;
    const first = Math.floor(index / asked.count) * asked.count;
    if (first !== asked.start && index < total) { asked.start = first; await load(); }
    [...body.children].forEach((line, n) => line.setAttribute("aria-selected", asked.start + n === at ? "true" : "false"));
    const line = body.children[at - asked.start];
    if (!line) return;
    const [top, head] = [line.offsetTop, scroller.querySelector("thead").offsetHeight];
    if (top - head < scroller.scrollTop) scroller.scrollTop = top - head;
    else if (top + line.offsetHeight > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = top + line.offsetHeight - scroller.clientHeight;
  }
  const scroller = h("div", { class: "wbp-scroll", tabindex: "0", role: "region", "aria-label": label }, h("table", { class: "wbp-table", role: open ? "grid" : null }, h("thead", {}, h("tr", {}, heads)), body));
  const element = h("div", { class: "wbp-tablebox" }, h("div", { class: "wbp-bar" }, filters && !given ? search : null, place, h("span", { class: "wbp-space" }), back, on), scroller);
  const ready = load();
  return { element, load, asked, ready, point, redraw: () => { drawn = ""; }, total: () => total };
}
