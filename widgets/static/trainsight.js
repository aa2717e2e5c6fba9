// What the model sees: the batch of a step, token by token.
import { h, fill, button, said, clean, figure, fresh } from "./element.js";
import { trainClips } from "./trainwork.js";

// Ranks of one tensor-parallel group read the same.
const trainReaders = (ranks) => `rank${ranks.length > 1 ? "s" : ""} ${ranks.join(", ")}`;

// The pictures of a step, rank by rank, each with its label.
function trainPictures(value) {
  const images = value.pictures.map((p) => h("img", { class: "wbp-train-seen", alt: clean(p.title), src: p.url }));
  const { frames, toggle } = value.clips ? trainClips(images, "first batch", "the clips of the first batch") : { frames: [], toggle: null };
  return [toggle ? h("li", {}, toggle) : null, Array.from({ length: value.ranks }, (_, rank) => {
    const mine = value.pictures.map((p, n) => n).filter((n) => value.pictures[n].rank === rank);
    return mine.length ? h("li", {}, h("div", { class: "wbp-muted wbp-train-head" }, `rank ${rank}`),
      h("div", { class: "wbp-train-pictures" }, mine.map((n) => h("figure", {}, images[n], frames[n] || null, h("figcaption", {}, said(value.pictures[n].title)))))) : null;
  })];
}

// What a batch of a module of one's own is made of, rank by rank.
function trainParts(value) {
  return value.batches.map((batch) => h("li", {}, h("div", { class: "wbp-muted wbp-train-head" }, trainReaders(batch.ranks)),
    h("ul", { class: "wbp-train-pieces" }, batch.parts.map((p) => {
      const size = p.shape ? p.shape.join(" × ") || "a number" : p.shown;
      const span = p.low === undefined ? "" : ` · ${figure(p.low)} to ${figure(p.high)}, mean ${figure(p.mean)}`;
      return h("li", {}, h("code", {}, clean(p.part)), " ", said(`${p.type} ${size}${span}`), p.odd ? h("strong", {}, ` ${figure(p.odd)} infinite or no number`) : null);
    }))));
}

export function trainSight(ctx, of) {
  const words = h("p", { class: "wbp-train-count", role: "status" });
  const notes = h("div", { class: "wbp-muted wbp-train-notes" });
  const list = h("ol", { class: "wbp-train-sequences" });
  const number = h("input", { type: "number", class: "wbp-input wbp-train-step", min: "1", value: "1", id: fresh("step"), onchange: () => ask() });
  const key = h("span", { class: "wbp-train-key" }, h("span", {}, h("span", { class: "wbp-train-token wbp-train-on" }, "trained"), " the model learns to say it"), h("span", {}, h("span", { class: "wbp-train-token" }, "given"), " only read"),
    h("span", {}, h("span", { class: "wbp-train-end" }, "■"), " a record ends"), h("span", {}, h("span", { class: "wbp-train-cut" }, "✂"), " a record is cut"));
  const which = h("span", { class: "wbp-bar" }, h("label", { for: number.id, class: "wbp-muted" }, "Step"), number, button("Show", () => ask(), { class: "wbp-button wbp-small" }));
  const bar = h("div", { class: "wbp-bar" }, which, h("span", { class: "wbp-space" }), key);
  const element = h("div", { class: "wbp-train-sight" }, bar, words, notes, list);
  let asked = 0;
  let seen = "";

  function drawn(sequence) {
    const begins = new Map(sequence.records.map((r) => [r.first, r]));
    const last = new Map(sequence.records.map((r) => [r.last, r]));
    const parts = [];
    sequence.texts.forEach((text, n) => {
      const record = begins.get(n);
      const where = record ? `${record.source} · ${record.locator}` : "";
      if (record) parts.push(h("span", { class: "wbp-train-record", title: clean(where) }, record.begins === "cut" ? h("span", { class: "wbp-train-cut", role: "img", "aria-label": "cut: the record began before" }, "✂") : null, said(where, "wbp-train-where")));
      if (sequence.ends.includes(n)) parts.push(h("span", { class: "wbp-train-end", role: "img", "aria-label": "the record ends" }, "■"), n + 1 < sequence.texts.length ? h("br") : null);
      else parts.push(h("span", { class: `wbp-train-token${sequence.trained[n] ? " wbp-train-on" : ""}` }, clean(text).replaceAll("\n", "↵\n")));
      if (last.get(n)?.ends === "cut") parts.push(h("span", { class: "wbp-train-cut", role: "img", "aria-label": "cut: the record goes on" }, "✂"));
    });
    const whole = sequence.trained.reduce((sum, one) => sum + one, 0);
    return h("li", {}, h("div", { class: "wbp-muted wbp-train-head" }, `${trainReaders(sequence.ranks)} · ${figure(whole)} of ${figure(sequence.texts.length)} tokens trained`),
      h("div", { class: "wbp-train-tokens", tabindex: "0", role: "group", "aria-label": `Tokens of a sequence of ${trainReaders(sequence.ranks)}` }, h("bdi", {}, parts)));
  }
  async function ask() {
    asked += 1;
    const mine = asked;
    element.classList.remove("wbp-train-refused");
    words.textContent = list.firstChild ? words.textContent : "Working out the batch … text that was not tokenised yet takes a while.";
    try {
      const { value } = await ctx.ask("sight", { step: Math.max(1, Number(number.value) || 1), of });
      if (mine !== asked) return;
      number.value = String(value.step); number.max = String(value.steps);
      key.hidden = Boolean(value.pictures || value.batches); which.hidden = Boolean(value.batches);
      if (value.batches) {
        words.textContent = clean(`The first batch of ${value.module}${value.dataset ? ` on ${value.dataset}` : ""}, as each of ${figure(value.ranks)} rank${value.ranks === 1 ? "" : "s"} takes it. What its parts mean, only the module knows.`);
        notes.textContent = clean(value.notes.join("; ")); notes.hidden = !value.notes.length;
        const more = value.total - value.batches.length;
        fill(list, trainParts(value), more > 0 ? h("li", { class: "wbp-muted" }, `and ${figure(more)} more like these`) : null);
        return;
      }
      if (value.pictures) {
        const what = value.clips ? "clip" : "picture";
        words.textContent = `Step ${figure(value.step)} of ${figure(value.steps)}: ${figure(value.total)} ${what}s on ${figure(value.ranks)} rank${value.ranks === 1 ? "" : "s"}.`;
        notes.textContent = clean(value.notes.join("; ")); notes.hidden = !value.notes.length;
        const more = value.total - value.pictures.length;
        fill(list, trainPictures(value), more > 0 ? h("li", { class: "wbp-muted" }, `and ${figure(more)} more like these`) : null);
        return;
      }
      words.textContent = `${figure(value.trained)} of ${figure(value.tokens)} tokens trained; ${figure(value.cut)} of ${figure(value.records)} records cut. Step ${figure(value.step)} of ${figure(value.steps)}: ${figure(value.total)} sequences of ${figure(value.context + 1)} tokens on ${figure(value.ranks)} rank${value.ranks === 1 ? "" : "s"}.`;
      notes.textContent = clean(value.notes.join("; ")); notes.hidden = !value.notes.length;
      fill(list, value.sequences.map(drawn), value.total > value.sequences.length ? h("li", { class: "wbp-muted" }, `and ${figure(value.total - value.sequences.length)} more like these`) : null);
    } catch (error) {
      if (mine !== asked) return;
      element.classList.add("wbp-train-refused");
      words.textContent = clean(String(error.message || error)); notes.hidden = true; list.replaceChildren();
    }
  }
  return { element, ask, need(what) { if (what !== seen) { seen = what; ask(); } } };
}
