// Building blocks of the page. Text from data only ever becomes text nodes: nothing here parses HTML but `markup`.

export const VIEWS = {};
// word -> {live, results, spec}: functions (ctx, element) that draw what a panel shows beyond the base.

export const SERIES = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"];
// Okabe and Ito, "Color universal design" (2008), without black and yellow: readable on white and on black.

const ON_DARK = { "#0072B2": "#4aa8e6", "#D55E00": "#f0803c", "#009E73": "#2fc296", "#CC79A7": "#dc94bc", "#E69F00": "#e69f00", "#56B4E9": "#8accf2" };

export function isDark() {
  return document.body.dataset.jpThemeLight === "false" || document.body.classList.contains("theme-dark");
}

// A colour of the series as it is drawn: lighter on a dark page, of the same hue.
export function shade(colour) {
  return isDark() ? ON_DARK[colour] || colour : colour;
}

export function h(tag, props, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props || {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name in element && (name === "value" || name === "checked" || name === "disabled" || name === "selected" || name === "hidden")) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

export function fill(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return element;
}

// HTML drawn by the engine, in which everything from outside is escaped already.
export function markup(html) {
  const element = h("div", { class: "wbp-markup" });
  element.innerHTML = html;
  return element;
}

// Text from data as it may be shown: no control characters, no terminal colours.
export function clean(text) {
  return String(text).replace(/\u001b\[[0-9;?]*[A-Za-z]/g, "").replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/g, "\ufffd");
}

// Text from data in an element of its own, whose direction can't touch what stands beside it.
export function said(text, name) {
  return h("bdi", { class: name }, clean(text));
}

export function button(label, onclick, props) {
  return h("button", { type: "button", class: "wbp-button", onclick, ...props }, label);
}

let counted = 0;
export function fresh(prefix) {
  counted += 1;
  return `wbp-${prefix}-${counted}-${Math.random().toString(36).slice(2, 7)}`;
}

export function figure(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "not a number" : value > 0 ? "∞" : "−∞";
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return value.toLocaleString("en-US");
  const size = Math.abs(value);
  if (size >= 1e4) return Math.round(value).toLocaleString("en-US");
  if (size < 1e-4) return value.toExponential(2).replace("e-0", "e-").replace("e-", " × 10^−").replace("e+", " × 10^");
  return String(Number(value.toPrecision(digits)));
}

export function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
}

export function clock(at) {
  return new Date(at * 1000).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

export async function copied(text, pressed) {
  let done = true;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = h("textarea", { class: "wbp-unseen", value: text });
    document.body.append(area);
    area.select();
    done = document.execCommand("copy");
    area.remove();
  }
  const label = pressed.textContent;
  pressed.textContent = done ? "Copied" : "Not copied";
  setTimeout(() => { pressed.textContent = label; }, 1200);
}

export function copyButton(text) {
  return button("Copy", (event) => copied(typeof text === "function" ? text() : text, event.currentTarget), { class: "wbp-button wbp-small" });
}

// The same run has the same colour wherever it is drawn.
export function colourOf(id, taken = []) {
  let sum = 0;
  for (const letter of String(id)) sum = (sum * 31 + letter.charCodeAt(0)) >>> 0;
  for (let step = 0; step < SERIES.length; step += 1) {
    const colour = SERIES[(sum + step) % SERIES.length];
    if (!taken.includes(colour)) return colour;
  }
  return SERIES[sum % SERIES.length];
}

const EDITS = new Set(["put", "say", "reset", "insert", "remove", "move", "yaml", "undo", "redo"]);

// What a view knows of its panel. `ask` sends a question to Python and promises its answer.
export function context(model, root) {
  const waiting = new Map();
  const leaving = [];
  const mine = fresh("ask");
  let number = 0;
  const ctx = {
    model, root, mine, sent: 0, panel: model.get("about"),
    get: (trait) => model.get(trait),
    on(trait, listener) {
      const name = trait.startsWith("msg:") ? trait : `change:${trait}`;
      model.on(name, listener);
      leaving.push(() => model.off(name, listener));
    },
    // True while Python has not yet answered for the newest of this view's edits.
    behind: () => ((model.get("edit").seen || {})[mine] || 0) < ctx.sent,
    leave: (last) => leaving.push(last),
    ask(name, known = {}, buffers = undefined) {
      number += 1;
      const edit = EDITS.has(name) ? number : 0;
      if (edit) ctx.sent = edit;
      const id = `${mine}-${number}`;
      return new Promise((answered, refused) => {
        waiting.set(id, { answered, refused });
        model.send({ ask: name, id, view: mine, edit, with: known }, undefined, buffers);
      });
    },
    tell: (name, known) => ctx.ask(name, known).catch((error) => ctx.say(String(error.message || error))),
    say: () => {},
    close: () => leaving.splice(0).forEach((last) => last()),
  };
  const hear = (content, buffers) => {
    const asked = content && waiting.get(content.reply);
    if (!asked) return;
    waiting.delete(content.reply);
    if (content.error) asked.refused(new Error(content.error));
    else asked.answered(buffers && buffers.length ? { value: content.value, buffers } : { value: content.value, buffers: [] });
  };
  model.on("msg:custom", hear);
  leaving.push(() => model.off("msg:custom", hear));
  return ctx;
}

export function floats(buffer) {
  const bytes = buffer instanceof ArrayBuffer ? buffer : buffer.buffer.slice(buffer.byteOffset, buffer.byteOffset + buffer.byteLength);
  return new Float64Array(bytes);
}
