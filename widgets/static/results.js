// The Results tab: what came out, or what failed, where and why; and the one thing to do next.
import { h, fill, button, said, clean, markup, VIEWS } from "./element.js";

export function makeResults(ctx) {
  const element = h("div", {});
  const below = h("div", { class: "wbp-opened" });
  const view = VIEWS[ctx.panel.word]?.results;
  let shown = "";

  const left = VIEWS[ctx.panel.word]?.left;

  function failed(status) {
    const f = status.failure || {};
    const next = f.hint || "Change the spec and run again, or run again as it is.";
    const what = f.hint ? String(f.what || "").replace(`. ${f.hint}`, "") : f.what;
    return h("section", { class: "wbp-failure" }, h("h3", {}, `${f.kind && f.kind !== "lost" ? clean(f.kind) : "The run failed"}`), h("p", { class: "wbp-what" }, said(what || "")),
      h("dl", { class: "wbp-dl" }, [["where", f.where], ["on", f.host], ["what next", next], ["what is kept", status.rest ? `Resume goes on ${status.rest.words || ""}` : null]].filter(([, v]) => v).flatMap(([k, v]) => [h("dt", {}, k), h("dd", {}, said(v))])),
      f.traceback ? h("details", { class: "wbp-more" }, h("summary", {}, "Traceback"), h("pre", { class: "wbp-pre", tabindex: "0" }, clean(f.traceback))) : null);
  }
  function show() {
    const [status, results] = [ctx.get("status"), ctx.get("results")];
    const now = JSON.stringify([status.state, status.run, status.failure, status.rest, results]);
    if (now === shown) return;
    shown = now;
    const unfinished = h("div", {});
    if (left && !status.active && results.run === status.run && (status.state === "failed" || status.state === "stopped")) left(ctx, unfinished, results);
    if (status.state === "failed") return void fill(element, failed(status), unfinished);
    if (status.state === "stopped") {
      const words = status.rest ? `Stopped before its end; Resume goes on ${status.rest.words || ""}.` : "The run was stopped before it came to an end.";
      return void fill(element, h("p", { class: `wbp-muted${unfinished.firstChild ? "" : " wbp-nothing"}` }, clean(words)), unfinished);
    }
    if (status.active || !results.run || results.run !== status.run) {
      const words = status.active ? "Still at work: what comes out is shown here when it is done." : status.run ? "Reading what came out …" : "Nothing has come out yet.";
      return void fill(element, h("p", { class: "wbp-muted wbp-nothing" }, words));
    }
    const next = results.next ? h("div", { class: "wbp-next" }, h("span", { class: "wbp-muted" }, "Next"), button(results.next.label, () => ctx.tell("next"), { class: "wbp-button wbp-primary" })) : null;
    const body = h("div", {});
    fill(element, next, results.error ? h("p", { class: "wbp-error" }, clean(results.error)) : null, body);
    if (view) view(ctx, body, results);
    else if (results.html) body.append(markup(results.html));
    return undefined;
  }
  // Panels opened by the next step stand below this one, each a view of a model of its own.
  async function open() {
    below.replaceChildren();
    for (const reference of ctx.get("opened") || []) {
      const id = String(reference).replace("IPY_MODEL_", "");
      const manager = ctx.model.widget_manager;
      if (!manager) continue;
      const child = await manager.get_model(id);
      const drawn = await manager.create_view(child);
      below.append(h("div", {}, drawn.el));
      drawn.el.scrollIntoView({ block: "nearest" });
    }
  }
  ctx.on("results", show);
  ctx.on("status", show);
  ctx.on("opened", open);
  show();
  if ((ctx.get("opened") || []).length) open();
  return { element, below };
}
