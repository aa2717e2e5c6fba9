// A graph of steps, left to right by their needs; on a narrow page it goes downwards.
import { h, fill, said, clean } from "./element.js";

const PIPELINE_SVG = "http://www.w3.org/2000/svg";

function pipelineSvg(tag, props) {
  const element = document.createElementNS(PIPELINE_SVG, tag);
  for (const [name, value] of Object.entries(props)) element.setAttribute(name, value);
  return element;
}

// pick: (node) => void. show(nodes, selected) draws; a node whose text alone changed is changed in place.
export function makePipelineGraph({ label, pick }) {
  const edges = pipelineSvg("svg", { class: "wbp-pipeline-edges", "aria-hidden": "true" });
  const columns = h("div", { class: "wbp-pipeline-columns", role: "group", "aria-label": label });
  const element = h("div", { class: "wbp-pipeline-graph" }, edges, columns);
  let shape = "";
  let parts = new Map();
  let now = [];

  function build() {
    parts = new Map();
    const most = Math.max(0, ...now.map((n) => n.column));
    const made = Array.from({ length: most + 1 }, () => h("div", { class: "wbp-pipeline-column" }));
    for (const node of now) {
      const part = { sign: h("span", { class: "wbp-pipeline-sign", "aria-hidden": "true" }), state: h("span", { class: "wbp-pipeline-state" }), words: h("span", { class: "wbp-pipeline-words" }), bar: h("span", { class: "wbp-pipeline-bar", "aria-hidden": "true" }, h("span", {})) };
      part.element = h("button", { type: "button", class: "wbp-pipeline-node", "data-node": node.node, onclick: () => pick(node.node) },
        h("span", { class: "wbp-pipeline-name" }, part.sign, said(node.node)), part.state, part.words, part.bar);
      made[node.column].append(part.element);
      parts.set(node.node, part);
    }
    fill(columns, made);
    const far = now.flatMap((n) => n.needs.filter((m) => parts.has(m) && now.find((o) => o.node === m).column < n.column - 1)).length;
    element.style.setProperty("--wbp-pipeline-above", `${16 + 4 * Math.ceil((5 * far) / 4)}px`);
    const at = new Map(now.map((n, i) => [n.node, i]));
    columns.onkeydown = (event) => {
      const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const from = at.get(event.target.closest("[data-node]")?.dataset.node);
      if (!by || from === undefined) return;
      event.preventDefault();
      const next = now[Math.max(0, Math.min(now.length - 1, from + by))];
      parts.get(next.node).element.focus();
    };
  }
  function draw() {
    const box = element.getBoundingClientRect();
    if (!box.width) return;
    edges.setAttribute("viewBox", `0 0 ${box.width} ${box.height}`);
    edges.setAttribute("width", box.width); edges.setAttribute("height", box.height);
    edges.replaceChildren();
    const place = (name) => { const r = parts.get(name).element.getBoundingClientRect(); return { left: r.left - box.left, right: r.right - box.left, top: r.top - box.top, bottom: r.bottom - box.top, x: (r.left + r.right) / 2 - box.left, y: (r.top + r.bottom) / 2 - box.top }; };
    let lifted = 0;
    const columnOf = new Map(now.map((n) => [n.node, n.column]));
    for (const node of now) {
      for (const need of node.needs) {
        if (!parts.has(need)) continue;
        const [a, b] = [place(need), place(node.node)];
        const across = b.left >= a.right;
        // An edge over a column between goes above what stands there.
        const far = across && columnOf.get(need) < node.column - 1;
        const between = now.filter((n) => n.column > columnOf.get(need) && n.column < node.column).map((n) => place(n.node).top);
        if (far) lifted += 1;
        const lift = far ? Math.min(a.top, b.top, ...between) - 6 - 5 * lifted : 0;
        const middle = (a.right + b.left) / 2;
        const path = far ? `M${a.x},${a.top} C${a.x},${lift} ${a.x + 16},${lift} ${a.x + 24},${lift} L${b.x - 24},${lift} C${b.x - 16},${lift} ${b.x},${lift} ${b.x},${b.top - 5}`
          : across ? `M${a.right},${a.y} C${middle},${a.y} ${middle},${b.y} ${b.left - 5},${b.y}`
          : b.top >= a.bottom && columnOf.get(need) < node.column - 1 ? `M${a.left},${a.y} H${Math.min(a.left, b.left) - 7} V${b.y} H${b.left - 4}`
          : b.top >= a.bottom ? `M${a.x},${a.bottom} C${a.x},${(a.bottom + b.top) / 2} ${b.x},${(a.bottom + b.top) / 2} ${b.x},${b.top - 5}` : "";
        if (!path) continue;
        const done = ["done", "cached"].includes(now.find((n) => n.node === need).state);
        edges.append(pipelineSvg("path", { d: path, class: `wbp-pipeline-edge${done ? " wbp-pipeline-met" : ""}` }));
        const side = (across && !far) || (!across && columnOf.get(need) < node.column - 1);
        const [x, y] = side ? [b.left, b.y] : [b.x, b.top];
        edges.append(pipelineSvg("path", { d: side ? `M${x},${y} l-7,-4 v8 z` : `M${x},${y} l-4,-7 h8 z`, class: `wbp-pipeline-head${done ? " wbp-pipeline-met" : ""}` }));
      }
    }
  }
  const watcher = new ResizeObserver(draw);
  watcher.observe(element);
  function show(nodes, selected) {
    now = [...nodes].sort((a, b) => a.column - b.column);
    const fresh = JSON.stringify(now.map((n) => [n.node, n.column, n.needs]));
    const built = fresh !== shape;
    if (built) { shape = fresh; build(); }
    const edged = now.map((n) => n.state).join();
    for (const node of now) {
      const part = parts.get(node.node);
      part.element.dataset.state = node.state;
      part.element.setAttribute("aria-pressed", node.node === selected ? "true" : "false");
      part.sign.textContent = node.sign;
      if (part.state.textContent !== node.stateword) part.state.textContent = node.stateword;
      part.words.textContent = clean(node.words || "");
      part.bar.firstChild.style.width = node.share === null || node.share === undefined ? "0" : `${100 * node.share}%`;
      part.element.title = clean(node.why || "");
    }
    if (built || edges.dataset.states !== edged) { edges.dataset.states = edged; draw(); }
  }
  return { element, show, close: () => watcher.disconnect(), focus: (node) => parts.get(node)?.element.focus() };
}
