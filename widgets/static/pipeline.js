// The pipeline: its graph live, a step opened, what a run would do and why, earlier runs, the report.
import { h, fill, button, said, clean, copyButton, figure, VIEWS } from "./element.js";
import { EDITORS } from "./fields.js";
import { makePipelineGraph } from "./pipelinegraph.js";

function pipelineState(sign, word, state) {
  return h("span", { class: "wbp-pipeline-pill", "data-state": state }, h("span", { "aria-hidden": "true" }, sign), ` ${clean(word)}`);
}

function pipelineCell(cell) {
  const name = cell.putin ? "parameters put in" : cell.code ? `cell ${cell.code}` : "text";
  const lines = cell.source.split("\n");
  const first = lines.find((l) => l.trim()) || "";
  const body = h("pre", { class: "wbp-pre", tabindex: "0" }, clean(cell.source), cell.said ? h("span", { class: "wbp-pipeline-said" }, `\n\n${clean(cell.said)}`) : null);
  const now = cell.state === "running";
  return h("li", { class: "wbp-pipeline-cell", "data-state": cell.state }, h("details", { open: now },
    h("summary", {}, h("span", { class: "wbp-pipeline-cellname" }, h("span", { "aria-hidden": "true" }, cell.kind === "code" ? `${cell.sign} ` : ""), name, cell.kind === "code" ? h("span", { class: "wbp-unseen" }, ` ${cell.state}`) : null), h("code", { class: "wbp-pipeline-first" }, said(first.slice(0, 120))), h("span", { class: "wbp-muted wbp-pipeline-took" }, clean(cell.took))), body));
}

// What is told of one step: why it stands so, its run, its error, its notebook cell by cell.
function makePipelineStep(ctx) {
  const element = h("section", { class: "wbp-pipeline-step", "aria-label": "Step" });
  let before = "";
  let mark = 0;
  async function show(node) {
    if (!node) { before = ""; return void fill(element); }
    mark += 1;
    const mine = mark;
    let step;
    try { step = (await ctx.ask("step", { node })).value; } catch (error) { return void fill(element, h("p", { class: "wbp-error" }, clean(error.message))); }
    const now = JSON.stringify(step);
    if (mine !== mark || now === before) return undefined;
    const same = before && JSON.parse(before).node === node && element.contains(document.activeElement);
    const open = same ? [...element.querySelectorAll("details")].map((d) => d.open) : null;
    const [active, low] = [document.activeElement, element.querySelector(".wbp-pipeline-cells")?.scrollTop];
    const key = same ? active.dataset?.act : null;
    before = now;
    const of = step.of.run ? button(`Open ${step.of.word} ${step.of.name}`, () => ctx.tell("open", { run: step.of.run }), { class: "wbp-button wbp-small", "data-act": "open" }) : null;
    fill(element, h("div", { class: "wbp-bar" }, h("h3", {}, said(step.title || step.node)), pipelineState(step.sign, step.stateword, step.state), h("span", { class: "wbp-muted" }, clean(step.words)), h("span", { class: "wbp-space" }), of),
      step.error ? h("div", { class: "wbp-pipeline-error" }, h("p", { class: "wbp-pipeline-what" }, said(step.error.what)), step.error.source ? h("pre", { class: "wbp-pre", tabindex: "0", "aria-label": "The failing cell" }, clean(step.error.source)) : null,
        step.error.traceback ? h("details", { class: "wbp-more" }, h("summary", {}, "Traceback"), h("pre", { class: "wbp-pre", tabindex: "0", "aria-label": "Traceback" }, clean(step.error.traceback))) : null) : null,
      h("dl", { class: "wbp-dl" }, [["why", step.state === "failed" ? "" : step.why], ["notebook", step.notebook], ["executed", step.file && step.file !== step.notebook ? step.file : ""], ["spec", step.spec], ["its run", step.of.run ? `${step.of.sign} ${step.of.run}: ${step.of.state}${step.of.text ? `, ${step.of.text}` : ""}` : ""]].filter(([, v]) => v).flatMap(([k, v]) => [h("dt", {}, k), h("dd", {}, h("span", { class: k === "spec" ? "wbp-pipeline-spec" : null }, said(v)), k === "executed" ? [" ", copyButton(v)] : null)])),
      step.cells.length ? h("ol", { class: "wbp-pipeline-cells", tabindex: "0", "aria-label": "Cells of the notebook" }, step.cells.map(pipelineCell)) : h("p", { class: "wbp-muted" }, "The notebook is not there."));
    if (open) {
      [...element.querySelectorAll("details")].forEach((d, n) => { if (n < open.length && open[n]) d.open = true; });
      if (key) element.querySelector(`[data-act="${key}"]`)?.focus();
      const list = element.querySelector(".wbp-pipeline-cells");
      if (list && low) list.scrollTop = low;
    }
    return undefined;
  }
  return { element, show };
}

function pipelineSave(text, name) {
  const link = h("a", { href: URL.createObjectURL(new Blob([text], { type: "text/html" })), download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

// The report in a frame of its own, in which no script runs and nothing is asked of the network.
function makePipelineReport(ctx) {
  const place = h("div", { class: "wbp-pipeline-report" });
  const element = h("section", { class: "wbp-block" }, place);
  async function show() {
    const { value } = await ctx.ask("report");
    const path = value.path ? h("span", { class: "wbp-muted" }, said(value.path), value.bytes ? `, ${figure(Math.round(value.bytes / 1000))} kB` : "") : null;
    fill(place, h("div", { class: "wbp-bar" }, h("h3", {}, "Report"), path, value.path ? copyButton(value.path) : null, h("span", { class: "wbp-space" }), value.html ? button("Download", () => pipelineSave(value.html, value.name), { class: "wbp-button wbp-small" }) : null),
      value.html ? h("iframe", { class: "wbp-pipeline-frame", sandbox: "", srcdoc: value.html, title: "Report of the pipeline", loading: "lazy", referrerpolicy: "no-referrer" }) : h("p", { class: "wbp-muted" }, clean(value.words)));
  }
  return { element, show };
}

async function pipelineHistory(ctx, place) {
  const { value } = await ctx.ask("history");
  fill(place, value.length ? h("ul", { class: "wbp-pipeline-runs" }, value.map((r) => h("li", {}, pipelineState(r.sign, r.state, r.state), h("span", { title: clean(r.at) }, clean(r.when)), h("span", { class: "wbp-muted" }, r.took ? `took ${clean(r.took)}` : ""), h("span", { class: "wbp-muted wbp-pipeline-about" }, said(r.steps || r.what)),
    r.shown ? h("span", { class: "wbp-muted" }, "shown above") : button("Show", () => ctx.tell("show", { run: r.run }), { class: "wbp-button wbp-small", "aria-label": `Show run ${r.run}`, disabled: ctx.panel.readonly })))) : h("p", { class: "wbp-muted" }, "It has not run yet."));
}

// Steps that must be done first, as boxes to tick.
EDITORS.pipelineneeds = (ctx, field, path, at) => {
  const element = h("div", { class: "wbp-ticks", role: "group", "aria-labelledby": at.labelledBy });
  let names = "";
  let chosen = [];
  return { element, focus: () => element.querySelector("input")?.focus(), show(value) {
    const steps = ctx.get("edit").mapping.steps || [];
    const others = steps.map((s, n) => (n === path[1] ? null : s && s.name)).filter(Boolean);
    chosen = Array.isArray(value) ? value : [];
    const all = [...others, ...chosen.filter((c) => !others.includes(c))];
    if (names !== JSON.stringify(all)) {
      names = JSON.stringify(all);
      fill(element, all.length ? all.map((name) => h("label", {}, h("input", { type: "checkbox", class: "wbp-check", value: name, onchange: (event) => {
        const next = event.target.checked ? [...chosen, name] : chosen.filter((c) => c !== name);
        if (next.length) at.put(next); else at.reset();
      } }), said(name), others.includes(name) ? "" : " (no such step)")) : h("span", { class: "wbp-muted" }, "no other step yet"));
    }
    element.querySelectorAll("input").forEach((box) => { box.checked = chosen.includes(box.value); });
  } };
};

VIEWS.pipeline = {
  spec(ctx, element) {
    const why = h("ul", { class: "wbp-pipeline-why" });
    const graph = makePipelineGraph({ label: "What a run would do", pick: (node) => { why.querySelector(`[data-why="${CSS.escape(node)}"]`)?.scrollIntoView({ block: "nearest" }); } });
    const words = h("span", { class: "wbp-muted", role: "status" });
    const box = h("div", { hidden: true }, graph.element, why);
    const ask = button("Explain", explain, { class: "wbp-button wbp-small" });
    element.append(h("section", { class: "wbp-pipeline-section" }, h("div", { class: "wbp-bar" }, h("h3", {}, "What a run would do"), words, h("span", { class: "wbp-space" }), ask), box));
    let asked = "";
    async function explain() {
      ask.disabled = true;
      words.textContent = "looking at what each step reads …";
      try {
        const { value } = await ctx.ask("explain");
        asked = ctx.get("edit").yaml;
        const found = value.filter((n) => n.state === "cached").length;
        words.textContent = `${found} of ${value.length} steps found, not repeated`;
        box.hidden = false;
        graph.show(value, null);
        fill(why, value.map((n) => h("li", { "data-why": n.node }, pipelineState(n.sign, n.stateword, n.state), h("b", {}, said(n.node)), said(n.why))));
        ask.textContent = "Explain again";
      } catch (error) { words.textContent = ""; box.hidden = true; ctx.say(error.message); }
      ask.disabled = !ctx.get("edit").valid;
    }
    ctx.on("edit", () => {
      ask.disabled = !ctx.get("edit").valid;
      if (asked && ctx.get("edit").yaml !== asked) { words.textContent = "the spec was changed since"; box.hidden = true; asked = ""; }
    });
    ask.disabled = !ctx.get("edit").valid;
    ctx.leave(() => graph.close());
  },
  live(ctx, element) {
    let chosen = null;
    let run = null;
    const step = makePipelineStep(ctx);
    const history = h("div", {});
    const graph = makePipelineGraph({ label: "Steps", pick: (node) => { chosen = node; show(); } });
    const tool = button("Report", () => ctx.tab("results", true), { class: "wbp-button wbp-small" });
    const found = h("span", { class: "wbp-muted" });
    const past = h("details", { class: "wbp-more" }, h("summary", {}, "Runs of this pipeline"), history);
    past.addEventListener("toggle", () => past.open && pipelineHistory(ctx, history));
    element.append(h("div", { class: "wbp-bar wbp-pipeline-tools" }, found, h("span", { class: "wbp-space" }), tool), graph.element, step.element, past);
    let asking = 0;
    let asked = [null, 0];
    function show() {
      const [status, nodes] = [ctx.get("status"), ctx.get("graph") || []];
      if (status.run !== run) { run = status.run; chosen = null; if (past.open) pipelineHistory(ctx, history); }
      const first = nodes.find((n) => n.state === "failed") || nodes.find((n) => n.state === "running") || nodes.find((n) => n.state === "stopped");
      const selected = chosen && nodes.some((n) => n.node === chosen) ? chosen : first ? first.node : null;
      graph.show(nodes, selected);
      const cached = nodes.filter((n) => n.state === "cached").map((n) => n.node);
      fill(found, cached.length ? ["◆ found, not repeated: ", said(cached.join(", "))] : "");
      tool.hidden = Boolean(status.active) || !status.run;
      clearTimeout(asking);
      // While it works a step is looked at once a second; another one at once.
      const wait = selected === asked[0] && status.active ? Math.max(60, 1000 - (performance.now() - asked[1])) : 60;
      asking = setTimeout(() => { asked = [selected, performance.now()]; step.show(selected); }, wait);
    }
    ctx.on("graph", show);
    ctx.on("status", show);
    ctx.leave(() => { clearTimeout(asking); graph.close(); });
    show();
    return { curves: false, samples: false };
  },
  results(ctx, element, made) {
    if (!made.steps) return;
    const report = makePipelineReport(ctx);
    element.append(h("p", { class: "wbp-pipeline-sum" }, `${made.steps.length - made.found} of ${made.steps.length} steps done, ${made.found} found and not repeated`),
      h("div", { class: "wbp-scroll", tabindex: "0", role: "region", "aria-label": "Steps" }, h("table", { class: "wbp-table wbp-pipeline-table" }, h("thead", {}, h("tr", {}, ["step", "state", "took", "made", "why"].map((t) => h("th", { scope: "col" }, t)))),
        h("tbody", {}, made.steps.map((s) => h("tr", {}, h("th", { scope: "row" }, said(s.node)), h("td", {}, pipelineState(s.sign, s.word, s.state)), h("td", {}, clean(s.took)),
          h("td", {}, s.products.map((p) => h("div", {}, said(p))), s.run ? button("Open", () => ctx.tell("open", { run: s.run }), { class: "wbp-button wbp-small", "aria-label": `Open the run of ${s.node}` }) : "–"), h("td", {}, said(s.why))))))), report.element);
    report.show();
  },
  left(ctx, element) {
    const report = makePipelineReport(ctx);
    element.append(report.element);
    report.show();
  },
};
