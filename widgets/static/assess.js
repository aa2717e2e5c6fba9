// Ethics and quality: the scorecard, what stands behind its numbers, waivers, the card, comparison with earlier assessments.
import { h, fill, button, said, clean, copied, copyButton, fresh, VIEWS } from "./element.js";
import { makeReader } from "./reader.js";

const ASSESS_STATES = { waiting: ["○", "waiting"], running: ["●", "measuring"], done: ["✓", "measured"], failed: ["✕", "failed"], stopped: ["■", "stopped"] };
const ASSESS_THEMES = { quality: "Quality", privacy: "Privacy", bias: "Bias", misuse: "Misuse", "": "Measured beside" };
const ASSESS_SIGNS = { pass: "green", waived: "amber", fail: "red", missing: "grey", "too few": "amber", none: "grey" };

const ASSESS_TICK = "\u0060";

function assessSvg(tag, props, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(props)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// An interval as a small line: its ends, its value, and the bound with the side that is too much.
function assessLine(row) {
  const line = row.line;
  if (!line) return h("span", { class: "wbp-muted" }, "nothing measured");
  const at = (share) => 4 + 152 * share;
  const bounds = line.bounds.length ? line.bounds : [];
  const tight = bounds.length ? (line.above ? Math.min(...bounds) : Math.max(...bounds)) : null;
  const parts = [assessSvg("line", { x1: 4, x2: 156, y1: 10, y2: 10, class: "wbp-assess-axis" })];
  if (tight !== null) parts.push(assessSvg("rect", { x: line.above ? at(tight) : 4, y: 3, width: Math.max(0, line.above ? 156 - at(tight) : at(tight) - 4), height: 14, class: "wbp-assess-beyond" }));
  parts.push(assessSvg("line", { x1: at(line.low), x2: Math.max(at(line.high), at(line.low) + 2), y1: 10, y2: 10, class: "wbp-assess-span" }));
  for (const end of [line.low, line.high]) parts.push(assessSvg("line", { x1: at(end), x2: at(end), y1: 6, y2: 14, class: "wbp-assess-end" }));
  for (const bound of bounds) parts.push(assessSvg("line", { x1: at(bound), x2: at(bound), y1: 1, y2: 19, class: "wbp-assess-bound" }));
  parts.push(assessSvg("circle", { cx: at(line.value), cy: 10, r: 4, class: "wbp-assess-value" }));
  const words = `${row.value}, 95 % interval ${row.span}${row.bound ? `, bound ${row.bound}: ${row.word}` : ""}`;
  return assessSvg("svg", { viewBox: "0 0 160 20", width: 160, height: 20, role: "img", "aria-label": clean(words), class: "wbp-assess-line" }, ...parts);
}

function assessSave(text, name, type) {
  const link = h("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function assessState(sign, word, colour) {
  return h("span", { class: `wbp-assess-state wbp-assess-${colour}` }, h("span", { "aria-hidden": "true" }, sign), ` ${clean(word)}`);
}

// What a Markdown line of the card says: marks taken off, text only.
function assessInline(text) {
  const plain = text.replace(/&amp;/g, "\u0001").replace(/&lt;/g, "<").replace(/&gt;/g, ">").replace(/&#(\d+);/g, (_, n) => String.fromCodePoint(Number(n))).replace(/\u0001/g, "&");
  const parts = [];
  let rest = "";
  const flush = () => { if (rest) parts.push(said(rest)); rest = ""; };
  for (let n = 0; n < plain.length; n += 1) {
    if (plain[n] === "\\" && n + 1 < plain.length && "\\\u0060*[]|~$!#_".includes(plain[n + 1])) { rest += plain[n + 1]; n += 1; continue; }
    const end = plain[n] === ASSESS_TICK ? plain.indexOf(ASSESS_TICK, n + 1) : -1;
    if (end > n) { flush(); parts.push(h("code", {}, clean(plain.slice(n + 1, end)))); n = end; continue; }
    rest += plain[n];
  }
  flush();
  return parts;
}

export function assessMarkdown(text) {
  const element = h("div", { class: "wbp-assess-card" });
  let count = 0;
  for (const block of text.split(/\n{2,}/)) {
    const lines = block.split("\n").filter((l) => l.trim());
    if (!lines.length) continue;
    const head = /^(#{1,4}) (.*)$/.exec(lines[0]);
    if (head) element.append(h("div", { role: "heading", "aria-level": String(head[1].length + 2), class: `wbp-assess-h${head[1].length}` }, assessInline(head[2])));
    else if (lines[0].startsWith("|")) {
      const cells = (line) => line.replace(/^\| ?/, "").replace(/ ?\|$/, "").split(/(?<!\\) \| /);
      const [first, , ...rows] = lines;
      const bare = cells(first).every((c) => !c.trim());
      element.append(h("div", { class: "wbp-scroll", tabindex: "0", role: "region", "aria-label": `Table ${count += 1} of the card` }, h("table", { class: "wbp-table" },
        bare ? null : h("thead", {}, h("tr", {}, cells(first).map((c) => h("th", { scope: "col" }, c.trim() ? assessInline(c) : h("span", { class: "wbp-unseen" }, "value"))))),
        h("tbody", {}, rows.map((row) => h("tr", {}, cells(row).map((c) => h("td", {}, assessInline(c)))))))));
    } else if (lines.every((l) => l.startsWith("- "))) element.append(h("ul", {}, lines.map((l) => h("li", {}, assessInline(l.slice(2))))));
    else element.append(h("p", {}, assessInline(lines.join(" "))));
  }
  return element;
}

// Something that unfolds below: at most one of a group stands open.
function assessFold(place, memory, name, trigger, draw) {
  const toggle = async () => {
    const open = memory.open !== name;
    place.querySelectorAll("[data-fold]").forEach((b) => b.setAttribute("aria-expanded", "false"));
    memory.open = open ? name : null;
    if (!open) { memory.body?.remove(); memory.body = null; return; }
    trigger.setAttribute("aria-expanded", "true");
    memory.body?.remove();
    memory.body = h("div", { class: "wbp-assess-fold", role: "region", "aria-label": trigger.textContent });
    const after = trigger.closest("[data-after]");
    after.after(memory.body);
    await draw(memory.body);
  };
  trigger.dataset.fold = name;
  trigger.setAttribute("aria-expanded", "false");
  trigger.addEventListener("click", toggle);
  if (memory.open === name) memory.again = () => { memory.open = null; toggle(); };
}

async function assessExamples(ctx, row, body) {
  let whole = false;
  const reader = makeReader({ label: "example",
    fetch: async (index) => (await ctx.ask("behind", { metric: row.metric, index, whole })).value,
    actions: /bits_per_byte|memorised/.test(row.metric) ? [{ key: "w", label: "Whole record", act: () => { whole = !whole; reader.again(); } }] : [] });
  body.append(reader.element);
  await reader.show(0);
  reader.element.querySelector(".wbp-text").focus({ preventScroll: true });
}

function assessWhy(ctx, row, made, body) {
  const doors = made.doors.map((d) => h("li", {}, assessState(d.open ? "✓" : "✕", d.open ? "open" : "shut", d.open ? "green" : "red"), ` ${clean(d.door)} `, h("span", { class: "wbp-muted" }, `(${clean(d.why)})`)));
  body.append(h("dl", { class: "wbp-dl" }, h("dt", {}, "what decided"), h("dd", {}, said(row.explained.decided)), h("dt", {}, "what would change it"), h("dd", {}, said(row.explained.change)),
    row.variant ? [h("dt", {}, "measured as"), h("dd", {}, said(row.variant))] : null, row.beside ? [h("dt", {}, "beside it"), h("dd", {}, said(row.beside))] : null,
    h("dt", {}, "what the verdict opens"), h("dd", {}, h("ul", { class: "wbp-assess-doors" }, doors))));
}

function assessRow(ctx, row, made, place, memory) {
  const examples = button(row.examples ? `Examples (${row.examples})` : "Examples", null, { class: "wbp-button wbp-small", disabled: !row.examples, title: row.examples ? "" : "None were kept" });
  const why = row.explained ? button("Why", null, { class: "wbp-button wbp-small", "aria-label": `Why: ${row.label}` }) : null;
  examples.setAttribute("aria-label", `Examples behind ${row.label}`);
  const element = h("div", { class: "wbp-assess-row", "data-after": "" },
    h("div", { class: "wbp-assess-name" }, said(row.label)),
    h("div", { class: "wbp-assess-number" }, row.value ? [h("b", {}, clean(row.value)), ` ${clean(row.unit)}`, h("div", { class: "wbp-muted wbp-assess-small" }, `[${clean(row.span)}]`)] : h("span", { class: "wbp-muted" }, "–")),
    h("div", { class: `wbp-assess-graph wbp-assess-${ASSESS_SIGNS[row.status]}` }, assessLine(row)),
    h("div", { class: "wbp-assess-limit" }, row.bound ? [h("span", { class: "wbp-unseen" }, "bound "), clean(row.bound)] : "", row.sample ? h("div", { class: "wbp-muted wbp-assess-small" }, `sample ${clean(row.sample)}`) : null),
    h("div", {}, assessState(row.sign, row.word, ASSESS_SIGNS[row.status])),
    h("div", { class: "wbp-assess-acts" }, why, examples));
  const missing = row.status === "missing" || row.status === "waived" || row.status === "too few" ? h("div", { class: "wbp-assess-note wbp-muted" }, said(row.why)) : null;
  assessFold(place, memory, `examples ${row.metric}`, examples, (body) => assessExamples(ctx, row, body));
  if (why) assessFold(place, memory, `why ${row.metric}`, why, (body) => assessWhy(ctx, row, made, body));
  return h("li", { class: "wbp-assess-item", "data-metric": row.metric }, element, missing);
}

function assessForm(ctx, made, body) {
  const metric = h("select", { class: "wbp-input wbp-select", id: fresh("waive") }, made.waivable.map((w) => h("option", { value: w.metric }, clean(w.label))));
  const reason = h("textarea", { class: "wbp-input wbp-assess-reason", id: fresh("waive"), rows: "2", placeholder: "why it may be reached all the same; stays in the audit log" });
  const who = h("input", { class: "wbp-input", id: fresh("waive"), type: "text", placeholder: "name or team", autocomplete: "name" });
  const day = (days) => new Date(Date.now() + 86400000 * days).toISOString().slice(0, 10);
  const until = h("input", { class: "wbp-input", id: fresh("waive"), type: "date", value: day(30), min: day(0), max: day(366) });
  const error = h("div", { class: "wbp-error", role: "alert" });
  const send = button("Grant the waiver", async () => {
    send.disabled = true;
    error.textContent = "";
    try {
      await ctx.ask("waive", { metric: metric.value, reason: reason.value, who: who.value, until: until.value });
      ctx.assess.open = null;
    } catch (refused) { error.textContent = clean(refused.message); }
    check();
  }, { class: "wbp-button wbp-primary" });
  const check = () => { send.disabled = ctx.panel.readonly || reason.value.trim().length < 10 || !until.value; };
  [reason, until].forEach((field) => field.addEventListener("input", check));
  check();
  const line = (name, field, help) => h("div", { class: "wbp-assess-field" }, h("label", { for: field.id }, name), field, help ? h("span", { class: "wbp-muted wbp-assess-small" }, help) : null);
  body.append(h("div", { class: "wbp-assess-form" }, line("Rule", metric), line("Reason", reason, "10 characters or more"), line("Asked by", who), line("Counts until", until, "a year at most"), error,
    h("div", { class: "wbp-bar" }, send, h("span", { class: "wbp-muted wbp-assess-small" }, "It opens every door for this model version, is written into the audit log, and can be withdrawn."))));
  reason.focus({ preventScroll: true });
}

function assessWaivers(ctx, made, place, memory) {
  const ask = button("Request a waiver", null, { class: "wbp-button wbp-small", disabled: !made.waivable.length || ctx.panel.readonly, title: made.waivable.length ? "" : "No rule that was measured is broken" });
  const head = h("div", { class: "wbp-bar wbp-assess-head", "data-after": "" }, h("h3", {}, "Waivers"), h("span", { class: "wbp-muted" }, made.waivers.length ? "" : "none"), h("span", { class: "wbp-space" }), ask);
  assessFold(place, memory, "waive", ask, (body) => assessForm(ctx, made, body));
  const rows = made.waivers.map((w) => {
    let sure = false;
    const end = w.counts ? button("Withdraw", async (event) => {
      const pressed = event.currentTarget;
      if (!sure) { sure = true; pressed.textContent = "Withdraw: the rule blocks again"; return; }
      pressed.disabled = true;
      await ctx.tell("withdraw", { waiver: w.id });
    }, { class: "wbp-button wbp-small", disabled: ctx.panel.readonly }) : null;
    const state = w.withdrawn ? ["■", `withdrawn ${w.withdrawn.when} by ${w.withdrawn.by}`, "grey"] : w.counts ? ["◇", `counts until ${w.until}`, "amber"] : ["○", `ended on ${w.until}`, "grey"];
    return h("li", { class: "wbp-assess-waiver" }, h("div", { class: "wbp-bar" }, assessState(...state), h("b", {}, said(w.label)), h("span", { class: "wbp-muted", title: w.at }, "asked by ", said(w.who), `, granted ${clean(w.when)}`), h("span", { class: "wbp-space" }), end),
      h("div", {}, said(w.reason)), h("div", { class: "wbp-muted wbp-assess-small" }, `audit log ${w.id.slice(0, 12)}`));
  });
  return h("section", { class: "wbp-assess-section" }, head, rows.length ? h("ul", { class: "wbp-assess-list" }, rows) : null);
}

async function assessCard(ctx, body) {
  const { value } = await ctx.ask("card");
  body.append(h("div", { class: "wbp-bar" }, h("h3", {}, "Model card"), h("span", { class: "wbp-space" }), copyButton(value.text), button("Download", () => assessSave(value.text, value.name, "text/markdown"), { class: "wbp-button wbp-small" })),
    h("div", { class: "wbp-assess-page", tabindex: "0", role: "region", "aria-label": "Model card" }, assessMarkdown(value.text)));
}

function assessEvidence(ctx, made, body) {
  const digest = (text) => h("button", { type: "button", class: "wbp-assess-digest", title: `${text || ""}: press to copy`, onclick: (e) => copied(text, e.currentTarget) }, clean(String(text || "–").slice(0, 12)));
  const head = ["measure", "value", "95 % interval", "sample", "measured", "model", "data", "policy", "how"];
  body.append(h("div", { class: "wbp-bar" }, h("h3", {}, "Evidence"), h("span", { class: "wbp-muted" }, "what each number is bound to; for any other model, data or policy it counts as missing"), h("span", { class: "wbp-space" }),
    button("Export as JSON", async () => { const { value } = await ctx.ask("export"); assessSave(value.text, value.name, "application/json"); }, { class: "wbp-button wbp-small" })),
    h("div", { class: "wbp-scroll", tabindex: "0", role: "region", "aria-label": "Table of the evidence" }, h("table", { class: "wbp-table wbp-assess-evidence" }, h("thead", {}, h("tr", {}, head.map((t) => h("th", { scope: "col" }, t)))),
      h("tbody", {}, made.evidence.map((e) => h("tr", {}, h("th", { scope: "row" }, said(e.label)), h("td", {}, said(e.value)), h("td", {}, said(e.span)), h("td", { class: "wbp-number" }, said(e.sample)), h("td", {}, said(e.at)),
        h("td", {}, digest(e.model)), h("td", {}, digest(e.dataset)), h("td", {}, digest(e.policy)), h("td", {}, said(e.variant))))))),
    h("p", { class: "wbp-muted wbp-assess-small" }, "assessment ", digest(made.digests.assessment), " run ", said(made.digests.run || "–")));
}

async function assessCompare(ctx, made, body) {
  const table = h("div", { role: "status" });
  const pick = h("select", { class: "wbp-input wbp-select", "aria-label": "Compare with" }, made.earlier.map((e) => h("option", { value: e.digest }, clean(e.label))));
  async function show() {
    const { value } = await ctx.ask("compare", { digest: pick.value });
    const arrow = { up: "↑ up, beyond the intervals", down: "↓ down, beyond the intervals" };
    fill(table, h("div", { class: "wbp-scroll", tabindex: "0", role: "region", "aria-label": "Comparison" }, h("table", { class: "wbp-table" }, h("thead", {}, h("tr", {}, ["measure", "before", "now", "moved", "verdict"].map((t) => h("th", { scope: "col" }, t)))),
      h("tbody", {}, value.map((r) => h("tr", {}, h("th", { scope: "row" }, said(r.label)), [r.before, r.now].map((s) => h("td", {}, s ? [said(s.text), h("div", { class: "wbp-muted wbp-assess-small" }, `[${clean(s.span)}]`)] : "–")),
        h("td", {}, arrow[r.moved] || clean(r.moved)), h("td", {}, r.stood === r.stands ? clean(r.stands) : `${clean(r.stood)} → ${clean(r.stands)}`)))))));
  }
  pick.addEventListener("change", show);
  body.append(h("div", { class: "wbp-bar" }, h("h3", {}, "Compare with"), pick), table);
  await show();
}

VIEWS.assess = {
  spec(ctx, element) {
    const rules = h("div", {});
    element.append(h("section", { class: "wbp-assess-section" }, h("h3", {}, "What it must meet"), rules));
    let timer = 0;
    let before = "";
    async function show() {
      const now = JSON.stringify([ctx.get("edit").yaml]);
      if (now === before) return;
      before = now;
      try {
        const { value } = await ctx.ask("rules");
        const lacking = value.rows.filter((r) => !r.measured);
        fill(rules, h("p", { class: "wbp-muted" }, `Policy `, said(value.name), ` (`, said(value.source), `, ${clean(value.digest)}): evidence counts for ${value.days} days; the end of the 95 % interval must keep the bound.`),
          h("div", { class: "wbp-scroll", tabindex: "0", role: "region", "aria-label": "Rules" }, h("table", { class: "wbp-table" }, h("thead", {}, h("tr", {}, ["theme", "measure", "bound", "sample", "measured here"].map((t) => h("th", { scope: "col" }, t)))),
            h("tbody", {}, value.rows.map((r) => h("tr", {}, h("td", {}, clean(r.theme)), h("td", {}, said(r.label)), h("td", {}, clean(r.bounds)), h("td", { class: "wbp-number" }, `${r.min_sample} or more`),
              h("td", {}, r.measured ? assessState("✓", "yes", "green") : assessState("▲", "no probe: counts as missing", "amber"))))))),
          lacking.length ? h("p", { class: "wbp-assess-amber" }, `▲ ${lacking.length} of ${value.rows.length} rules will find no evidence from this run.`) : null);
      } catch (error) { fill(rules, h("p", { class: "wbp-error" }, clean(error.message))); }
    }
    ctx.on("edit", () => { clearTimeout(timer); timer = setTimeout(show, 300); });
    ctx.leave(() => clearTimeout(timer));
    show();
  },
  live(ctx, element) {
    const list = h("ul", { class: "wbp-assess-probes" });
    element.append(list);
    const lines = new Map();
    function show() {
      const probes = ctx.get("probes") || [];
      const names = probes.map((p) => p.name).join();
      if (list.dataset.names !== names) { list.dataset.names = names; lines.clear(); list.replaceChildren(); }
      for (const probe of probes) {
        if (!lines.has(probe.name)) {
          const line = { state: h("span", {}), bar: h("progress", { max: "1", class: "wbp-progress", "aria-label": probe.label }), words: h("span", { class: "wbp-assess-number" }) };
          list.append(h("li", {}, h("span", { class: "wbp-assess-name" }, said(probe.label)), line.bar, line.state, line.words));
          lines.set(probe.name, line);
        }
        const line = lines.get(probe.name);
        const [sign, word] = ASSESS_STATES[probe.state] || ["·", probe.state];
        line.bar.value = probe.share || 0;
        fill(line.state, assessState(sign, word, { done: "green", failed: "red", running: "blue" }[probe.state] || "grey"));
        line.words.textContent = clean(probe.found || (probe.state === "running" ? `${Math.floor(100 * (probe.share || 0))} %` : ""));
      }
    }
    ctx.on("probes", show);
    show();
    return { curves: false, samples: false };
  },
  results(ctx, element, made) {
    if (!made.themes) return;
    const memory = ctx.assess || (ctx.assess = {});
    memory.body = null; memory.again = null;
    const colour = made.passed ? (/waiver/.test(made.title) ? "amber" : "green") : "red";
    const tools = [["Card", "card", (b) => assessCard(ctx, b)], ["Evidence", "evidence", (b) => assessEvidence(ctx, made, b)], ["Compare", "compare", (b) => assessCompare(ctx, made, b)]].map(([name, key, draw]) => {
      const made_ = button(name, null, { class: "wbp-button wbp-small", disabled: key === "compare" && !made.earlier.length, title: key === "compare" && !made.earlier.length ? "There is no other assessment yet" : "" });
      assessFold(element, memory, key, made_, draw);
      return made_;
    });
    const doors = h("ul", { class: "wbp-assess-doors", "aria-label": "What the verdict opens" }, made.doors.map((d) => h("li", { title: clean(d.why) }, assessState(d.open ? "✓" : "✕", d.open ? "open" : "shut", d.open ? "green" : "red"), ` ${clean(d.door)}`)));
    element.append(h("div", { class: "wbp-assess-verdict", "data-after": "" },
      h("div", { class: `wbp-assess-title wbp-assess-${colour}` }, h("span", { "aria-hidden": "true" }, made.passed ? "✓" : "✕"), ` ${clean(made.title)}`, h("span", { class: "wbp-muted wbp-assess-held" }, clean(made.held))),
      h("p", { class: "wbp-muted" }, said(made.model), " on ", said(made.data), made.taught ? ", which taught it" : ", which did not teach it", h("span", { title: made.measured_at }, ` · measured ${clean(made.measured)}`), ` · counts until ${clean(made.until)}`),
      made.standing ? h("p", { class: "wbp-assess-amber" }, "▲ What others may reach is decided by the workspace's policy and all its evidence: the model ", said(made.standing), ".") : null,
      doors, h("div", { class: "wbp-bar" }, tools)));
    for (const theme of made.themes) {
      const table = h("ul", { "aria-label": ASSESS_THEMES[theme.theme] || theme.theme, class: "wbp-assess-list" }, theme.rows.map((row) => assessRow(ctx, row, made, element, memory)));
      element.append(h("section", { class: "wbp-assess-section" }, h("h3", { class: "wbp-assess-theme" }, ASSESS_THEMES[theme.theme] || theme.theme),
        theme.rows.length ? table : h("p", { class: "wbp-muted wbp-assess-nothing" }, "No rule and no probe looks at it: nothing is known.")));
    }
    element.append(assessWaivers(ctx, made, element, memory));
    const again = memory.again;
    memory.again = null;
    if (again && element.isConnected) again();
    else memory.open = null;
  },
};
