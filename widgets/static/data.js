// The data panel's Spec: sources by button, file browser, drop or upload, what a file seems to be; steps with their drops; a preview.
import { h, fill, button, said, clean, figure, fresh, VIEWS } from "./element.js";
import { EDITORS } from "./fields.js";
import { makeReader } from "./reader.js";

const DATA_PIECE = 1 << 20;

export function dataBytes(count) {
  if (count < 1000) return `${count} bytes`;
  const units = ["kB", "MB", "GB", "TB"];
  let [value, at] = [count / 1000, 0];
  while (value >= 999.5 && at < 3) { value /= 1000; at += 1; }
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[at]}`;
}

export function dataShare(part, whole) {
  return whole ? `${figure(part)} of ${figure(whole)} (${Math.round((1000 * part) / whole) / 10} %)` : figure(part);
}

// Files that come through the page: one after the other, each in pieces, told how far it is.
function dataArrivals(ctx) {
  const status = h("span", { class: "wbp-muted", role: "status" });
  const cancel = button("Cancel", () => { stopped = true; }, { class: "wbp-button wbp-small", hidden: true });
  const element = h("div", { class: "wbp-bar wbp-data-arrivals", hidden: true }, status, cancel);
  let [stopped, busy] = [false, false];
  async function take(files) {
    if (busy || ctx.panel.readonly || !files.length) return;
    [stopped, busy] = [false, true];
    element.hidden = cancel.hidden = false;
    const [paths, wrong] = [[], []];
    for (const file of files) {
      if (stopped) break;
      try {
        const mark = (await ctx.ask("arrive", { name: file.name, size: file.size })).value;
        let at = 0;
        while (at < file.size && !stopped) {
          status.textContent = clean(`${file.name}: ${dataBytes(at)} of ${dataBytes(file.size)}`);
          const piece = await file.slice(at, at + DATA_PIECE).arrayBuffer();
          at = (await ctx.ask("piece", { mark, offset: at }, [piece])).value;
        }
        if (stopped) await ctx.ask("forget", { mark });
        else paths.push((await ctx.ask("arrived", { mark })).value);
      } catch (error) {
        wrong.push(String(error.message || error));
      }
    }
    busy = false; cancel.hidden = true;
    const done = paths.length ? `${paths.join(", ")} ${paths.length === 1 ? "is" : "are"} in the workspace and a source now` : stopped ? "Cancelled; nothing was kept" : "";
    status.replaceChildren(...(done ? [said(done)] : []), ...wrong.map((w) => h("span", { class: "wbp-error" }, clean(w))));
    if (paths.length) await ctx.tell("add", { paths });
  }
  return { element, take };
}

// A browser of the workspace's and the person's own files.
function dataBrowser(ctx) {
  const where = h("span", { class: "wbp-data-where", role: "status" });
  const list = h("ul", { class: "wbp-data-files", role: "listbox", "aria-multiselectable": "true", tabindex: "0", "aria-label": "Files" });
  const places = h("span", { class: "wbp-bar" });
  const up = button("↑ Up", () => go(parent), { class: "wbp-button wbp-small", title: "The directory above (Backspace)" });
  const add = button("Add", () => finish([...picked]), { class: "wbp-button wbp-small wbp-primary", disabled: true });
  const whole = button("Add this whole directory", () => finish([path]), { class: "wbp-button wbp-small" });
  const note = h("span", { class: "wbp-muted" }, "Enter opens a directory or adds a file; Space marks several");
  const error = h("div", { class: "wbp-error" });
  const element = h("div", { class: "wbp-data-browser", role: "group", "aria-label": "File browser", hidden: true }, h("div", { class: "wbp-bar" }, places, up, where, h("span", { class: "wbp-space" }),
    button("Close", () => shut(), { class: "wbp-button wbp-small" })), list, error, h("div", { class: "wbp-bar" }, add, whole, note));
  const picked = new Set();
  let [path, parent, entries, at, opener] = [".", null, [], 0, null];
  function shut() { element.hidden = true; opener?.focus(); opener?.setAttribute("aria-expanded", "false"); }
  async function finish(paths) { if (paths.length) { shut(); await ctx.tell("add", { paths }); } }
  function point(to) {
    at = Math.max(0, Math.min(entries.length - 1, to));
    [...list.children].forEach((item, n) => item.classList.toggle("wbp-data-at", n === at));
    const item = list.children[at];
    if (!item || !entries.length) { list.removeAttribute("aria-activedescendant"); return; }
    list.setAttribute("aria-activedescendant", item.id);
    item.scrollIntoView({ block: "nearest" });
  }
  function mark(n) {
    const entry = entries[n];
    if (!entry || entry.folder || !entry.format) return;
    if (picked.has(entry.path)) picked.delete(entry.path); else picked.add(entry.path);
    list.children[n].setAttribute("aria-selected", picked.has(entry.path) ? "true" : "false");
    counted();
  }
  function counted() {
    add.disabled = !picked.size;
    add.textContent = picked.size ? `Add ${picked.size} file${picked.size > 1 ? "s" : ""}` : "Add";
  }
  function enter(n) {
    const entry = entries[n];
    if (!entry) return;
    if (entry.folder) go(entry.path);
    else if (entry.format) finish([...new Set([...picked, entry.path])]);
  }
  async function go(to) {
    if (to === null) return;
    error.textContent = "";
    try {
      const found = (await ctx.ask("listing", { path: to })).value;
      const from = path;
      [path, parent, entries] = [found.path, found.parent, found.entries];
      where.replaceChildren(said(path === "." ? "the workspace" : path));
      up.disabled = parent === null;
      fill(places, found.places.map((p) => button(p.name === "home" ? "Home" : "Workspace", () => go(p.path), { class: "wbp-button wbp-small" })));
      const mine = fresh("file");
      fill(list, entries.length ? entries.map((e, n) => h("li", { role: "option", id: `${mine}-${n}`, class: e.folder || e.format ? "" : "wbp-data-unknown", "aria-disabled": e.folder || e.format ? "false" : "true",
        "aria-selected": picked.has(e.path) ? "true" : "false", onclick: () => { point(n); if (e.folder) enter(n); else mark(n); }, ondblclick: () => enter(n) },
      h("span", { class: "wbp-data-kind", "aria-hidden": "true" }, e.folder ? "▸" : "·"), said(e.name + (e.folder ? "/" : ""), "wbp-data-name"), h("span", { class: "wbp-muted" }, e.folder ? "directory" : e.format || "no format is known"),
      h("span", { class: "wbp-muted wbp-number" }, e.folder ? "" : dataBytes(e.bytes)))) : h("li", { role: "option", "aria-disabled": "true", "aria-selected": "false", class: "wbp-muted" }, "nothing here"));
      if (found.more) list.append(h("li", { role: "option", "aria-disabled": "true", "aria-selected": "false", class: "wbp-muted" }, `and ${figure(found.more)} more`));
      point(Math.max(0, entries.findIndex((e) => e.path === from)));
      list.scrollTop = at ? list.scrollTop : 0;
    } catch (failed) {
      error.textContent = clean(failed.message);
    }
  }
  list.addEventListener("keydown", (event) => {
    const keys = { ArrowDown: () => point(at + 1), ArrowUp: () => point(at - 1), Home: () => point(0), End: () => point(entries.length - 1), Enter: () => enter(at), " ": () => mark(at),
      Backspace: () => go(parent), Escape: shut };
    const letter = event.key.length === 1 && event.key !== " " && !event.ctrlKey && !event.metaKey ? entries.findIndex((e, n) => n > at && e.name.toLowerCase().startsWith(event.key.toLowerCase())) : -1;
    if (letter >= 0) point(letter);
    else if (keys[event.key]) keys[event.key]();
    else return;
    event.preventDefault(); event.stopPropagation();
  });
  return { element, async open(from) {
    if (!element.hidden) return shut();
    opener = from; from.setAttribute("aria-expanded", "true");
    picked.clear(); counted();
    element.hidden = false;
    await go(path);
    list.focus();
    return undefined;
  } };
}

// The ways to add a source; the same in the empty panel and under the list of sources.
function dataWays(ctx) {
  const arrivals = dataArrivals(ctx);
  const browser = dataBrowser(ctx);
  const file = h("input", { type: "file", multiple: true, class: "wbp-unseen", tabindex: "-1", "aria-label": "Files to upload", onchange: () => { arrivals.take([...file.files]); file.value = ""; } });
  const small = { class: "wbp-button wbp-small", disabled: ctx.panel.readonly };
  const browse = button("Browse files…", (event) => browser.open(event.currentTarget), { ...small, "aria-expanded": "false" });
  const ways = [browse, button("Upload…", () => file.click(), small)];
  const built = [button("Python docs", () => ctx.tell("add", { kind: "python-docs" }), { ...small, title: "Docstrings of the standard library: text that is there offline" }),
    button("Questions", () => ctx.tell("add", { kind: "questions" }), { ...small, title: "2,000 questions on the standard library with their answers, as chats" }),
    button("Digits", () => ctx.tell("add", { kind: "digits" }), { ...small, title: "1,797 handwritten digits, as images" }),
    button("Moving digits", () => ctx.tell("add", { kind: "moving-digits" }), { ...small, title: "1,000 short clips of digits that move" }),
    button("Tunes", () => ctx.tell("add", { kind: "tunes" }), { ...small, title: "1,000 tunes made by rule, as ABC" })];
  return { arrivals, browser, file, ways, built };
}

// A file may be dropped anywhere on the panel.
function dataDrops(ctx, take) {
  let depth = 0;
  const holds = (event) => [...(event.dataTransfer?.types || [])].includes("Files") && !ctx.panel.readonly;
  const show = (on) => ctx.root.classList.toggle("wbp-data-over", on);
  const on = (name, heard) => ctx.root.addEventListener(name, (event) => { if (holds(event)) { event.preventDefault(); event.stopPropagation(); heard(event); } }, true);
  on("dragenter", () => { depth += 1; show(true); });
  on("dragover", (event) => { event.dataTransfer.dropEffect = "copy"; });
  on("dragleave", () => { depth = Math.max(0, depth - 1); show(depth > 0); });
  on("drop", (event) => { depth = 0; show(false); take([...event.dataTransfer.files]); });
}

// What the files of a source seem to be, under its line.
function dataGuess(ctx, index) {
  const line = h("div", { class: "wbp-bar wbp-data-seems" });
  const first = h("ol", { class: "wbp-data-first" });
  const records = h("details", { class: "wbp-data-firsts" }, h("summary", {}, "First records"), first);
  const element = h("div", { class: "wbp-data-guess", hidden: true }, line, records);
  let [before, timer, mark] = ["", 0, 0];
  const put = (field, value) => ctx.tell(value === null ? "reset" : "put", { path: ["sources", index, field], ...(value === null ? {} : { value }) });
  async function look(now) {
    mark += 1;
    const mine = mark;
    let found;
    try { found = (await ctx.ask("guess", { index })).value; } catch (error) { found = { files: [], problem: error.message }; }
    if (mine !== mark) return;
    const one = found.files[0];
    element.hidden = !one && !found.problem;
    records.hidden = !one || !one.first.length;
    if (!one) { fill(line, h("span", { class: "wbp-error" }, clean(found.problem || ""))); return; }
    const several = new Set(found.files.map((f) => f.format)).size > 1;
    const column = one.columns.length ? h("label", {}, "text in ", h("select", { class: "wbp-input wbp-select wbp-data-column", "aria-label": "Column that holds the text", onchange: (event) => put("text", event.target.selectedIndex ? one.columns[event.target.selectedIndex - 1] : null) },
      h("option", { selected: !now.text }, now.text ? "by itself" : `${["chat", "preference"].includes(one.form) ? `${one.form}s` : clean(one.text || "none")} (guessed)`), one.columns.map((c) => h("option", { selected: now.text === c }, clean(c))))) : null;
    fill(line, h("span", {}, `${found.count > 1 ? `${figure(found.count)} files · ` : ""}${several ? "several formats" : one.format}${["chat", "preference"].includes(one.form) ? ` · ${one.form}s` : ""}${one.encoding ? ` · ${one.encoding}` : ""} · ${found.exact ? "" : "about "}${figure(found.records)} record${found.records === 1 ? "" : "s"} · ${dataBytes(found.bytes)}`), column,
      found.files.filter((f) => f.problem).slice(0, 3).map((f) => h("span", { class: "wbp-data-odd" }, h("span", { "aria-hidden": "true" }, "▲ "), said(found.count > 1 ? `${f.name}: ${f.problem}` : f.problem),
        f.offer ? [" ", button(`Read as ${f.offer.value}`, () => put(f.offer.field, f.offer.value), { class: "wbp-button wbp-small" })] : null)));
    fill(first, one.first.map((r) => h("li", {}, h("span", { class: "wbp-muted" }, said(r.locator)), h("span", {}, said(r.text)), r.problem ? h("span", { class: "wbp-error" }, clean(r.problem)) : null)));
  }
  return { element, show(now) {
    const text = JSON.stringify(now);
    if (text === before) return;
    before = text;
    clearTimeout(timer);
    if ((now.paths || []).some(Boolean)) timer = setTimeout(() => look(now), 150);
    else element.hidden = true;
  } };
}

EDITORS["data-sources"] = (ctx, field, path, at) => {
  const ways = dataWays(ctx);
  const glob = button("Path or pattern…", () => ctx.tell("insert", { path, index: (ctx.get("edit").mapping.sources || []).length, value: { kind: "files", paths: [""] } }).then(() => list.element.querySelector(".wbp-item:last-child .wbp-itemhead")?.click()),
    { class: "wbp-button wbp-small", disabled: ctx.panel.readonly });
  const add = h("div", { class: "wbp-data-add" }, h("div", { class: "wbp-bar" }, h("span", { class: "wbp-muted" }, "Add"), ways.ways, glob, h("span", { class: "wbp-muted" }, "or built in"), ways.built, ways.file),
    h("p", { class: "wbp-muted wbp-data-hint" }, "or drop files anywhere on this panel: text, Markdown, JSONL, CSV, Parquet, ABC or MIDI, up to 512 MB each"), ways.arrivals.element, ways.browser.element);
  const list = EDITORS.list(ctx, field, path, at, { add, below: (n, kind) => (kind === "files" ? dataGuess(ctx, n) : null) });
  dataDrops(ctx, ways.arrivals.take);
  return { ...list, focus: () => add.querySelector("button").focus() };
};

// What each step dropped in the run that is shown, or in the preview, beside it.
const dataTold = new WeakMap();

EDITORS["data-steps"] = (ctx, field, path, at) => {
  const shown = [];
  function counts() {
    const told = dataTold.get(ctx);
    if (told) return { by: Object.fromEntries(told.steps.map((s) => [s.step, { dropped: Object.values(s.reasons).reduce((a, b) => a + b, 0), found: Object.values(s.found).reduce((a, b) => a + b, 0) }])), of: told.read };
    const by = {};
    const results = ctx.get("results");
    if (results.drops) {
      for (const name of results.steps) by[name] = { dropped: 0, found: name === "pii" ? Object.values(results.found).reduce((a, b) => a + b, 0) : 0 };
      for (const d of results.drops) if (by[d.step]) by[d.step].dropped += d.count;
    } else {
      for (const m of ctx.get("live").marks || []) if (m.name === "dropped") by[m.by] = { dropped: Object.values(m.reasons).reduce((a, b) => a + b, 0), found: Object.values(m.found).reduce((a, b) => a + b, 0) };
    }
    return { by, of: "" };
  }
  function draw() {
    const { by, of } = counts();
    for (const s of shown) {
      const found = s.on ? by[s.step] : null;
      s.element.textContent = !s.on ? "off" : !found ? "" : [`${found.dropped ? "−" : ""}${figure(found.dropped)}${of ? ` of ${figure(of)}` : ""}`, found.found ? `${figure(found.found)} redacted` : ""].filter(Boolean).join(" · ");
      s.element.title = of ? "Records dropped in the preview" : "Records dropped in the run that is shown";
    }
  }
  const list = EDITORS.list(ctx, field, path, at, { beside: (n) => {
    const mine = { element: h("span", { class: "wbp-data-drop", title: "Records dropped in the run that is shown" }), step: "", on: true };
    shown[n] = mine;
    return { element: mine.element, show(now) { mine.step = now.step; mine.on = now.on !== false; draw(); } };
  } });
  ctx.on("results", () => { dataTold.delete(ctx); draw(); });
  ctx.on("live", draw);
  ctx.dataSteps = draw;
  return list;
};

// Ids that a person chose in the reader: how many, and the way to them.
EDITORS["data-chosen"] = (ctx, field, path, at) => {
  const text = h("span", { class: "wbp-data-chosen" });
  const see = button("See them", () => { ctx.tab("results", true); ctx.dataShow?.({ show: field.name }); }, { class: "wbp-button wbp-small" });
  const clear = button("Forget all", () => at.reset(), { class: "wbp-button wbp-small", disabled: ctx.panel.readonly });
  return { element: h("div", { class: "wbp-bar", role: "group", "aria-labelledby": at.labelledBy }, text, see, clear), focus: () => see.focus(), show(value) {
    const count = (value || []).length;
    text.textContent = count ? `${figure(count)} record${count > 1 ? "s" : ""}` : "none; records are chosen in the reader under Results";
    see.hidden = clear.hidden = !count;
  } };
};

function dataPreview(ctx, element) {
  const status = h("span", { class: "wbp-muted", role: "status" });
  const show = button("Preview the first 200 records", look, { class: "wbp-button", disabled: true });
  const hide = button("Close the preview", () => { dataTold.delete(ctx); ctx.dataSteps?.(); body.replaceChildren(); hide.hidden = true; status.textContent = ""; show.focus(); }, { class: "wbp-button wbp-small", hidden: true });
  const body = h("div", {});
  element.append(h("div", { class: "wbp-data-preview" }, h("div", { class: "wbp-bar" }, show, hide, status), body));
  async function look() {
    show.disabled = true; status.textContent = "reading the first records …";
    try {
      const found = (await ctx.ask("preview")).value;
      dataTold.set(ctx, found);
      ctx.dataSteps?.();
      status.textContent = `${figure(found.read)} read → ${figure(found.kept)} kept. Nothing was written; in the whole, steps that compare records find more.`;
      const asked = { show: "all" };
      const reader = makeReader({ label: "record", fetch: async (index) => (await ctx.ask("previewed", { ...asked, index })).value });
      const pick = (name, more) => button(name, (event) => { Object.assign(asked, { show: "all", reason: "", by: "" }, more); [...bar.children].forEach((b) => b.setAttribute("aria-pressed", b === event.currentTarget ? "true" : "false")); reader.show(0, true); }, { class: "wbp-button wbp-small wbp-data-chip", "aria-pressed": more.show === "all" ? "true" : "false" });
      const bar = h("div", { class: "wbp-bar" }, pick(`All ${figure(found.read)}`, { show: "all" }), pick(`Kept ${figure(found.kept)}`, { show: "kept" }),
        found.steps.flatMap((s) => Object.entries(s.reasons).map(([reason, count]) => pick(`${reason} ${figure(count)}`, { show: "dropped", reason, by: s.step }))));
      fill(body, bar, reader.element);
      hide.hidden = false;
      await reader.show(0);
    } catch (error) {
      status.textContent = clean(error.message);
    }
    show.disabled = !ctx.get("edit").valid;
  }
  const check = () => { show.disabled = !ctx.get("edit").valid; };
  ctx.on("edit", check);
  check();
}

VIEWS.data = {
  spec: dataPreview,
  empty(ctx, element) {
    const ways = dataWays(ctx);
    element.append(h("div", { class: "wbp-data-zone" }, h("b", {}, "Drop your files here"), h("span", { class: "wbp-muted" }, "text, Markdown, JSONL, CSV, Parquet, ABC or MIDI"), h("div", { class: "wbp-bar" }, ways.ways, ways.file)), ways.arrivals.element, ways.browser.element);
  },
  live(ctx, element) {
    const rows = h("tbody", {});
    const table = h("div", { class: "wbp-data-livesteps", hidden: true }, h("table", { class: "wbp-table" }, h("caption", { class: "wbp-unseen" }, "What each step did"), h("thead", {}, h("tr", {}, ["step", "dropped", "why"].map((t, n) => h("th", { scope: "col", class: n === 1 ? "wbp-number" : null }, t)))), rows));
    element.append(table);
    const show = () => {
      const marks = (ctx.get("live").marks || []).filter((m) => m.name === "dropped");
      table.hidden = !marks.length;
      fill(rows, marks.map((m) => {
        const why = [...Object.entries(m.reasons).map(([r, n]) => `${figure(n)} ${r}`), ...Object.entries(m.found).map(([k, n]) => `${figure(n)} ${k} redacted`)];
        const sum = Object.values(m.reasons).reduce((a, b) => a + b, 0);
        return h("tr", {}, h("th", { scope: "row" }, clean(m.by)), h("td", { class: "wbp-number" }, sum ? `−${figure(sum)}` : "0"), h("td", {}, said(why.join(", ") || "nothing")));
      }));
    };
    ctx.on("live", show);
    show();
    return {};
  },
};
