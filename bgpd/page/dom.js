// Makes elements and texts. All values become text nodes or attributes: nothing from the host is ever read as HTML.

const SVG = "http://www.w3.org/2000/svg";

/** A text from the host without what steers how others are read: names and reasons come from neighbors. */
export function printable(text) {
  return text.replace(/[^\n\P{C}]|[\p{Zl}\p{Zp}]/gu, "\ufffd");
}

function made(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : name === "aria-label" ? printable(value) : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== "")
    .map((child) => (child instanceof Node ? child : printable(String(child)))));
  return element;
}

export function el(name, attributes = {}, ...children) {
  return made(document.createElement(name), attributes, children);
}

export function svg(name, attributes = {}, ...children) {
  return made(document.createElementNS(SVG, name), attributes, children);
}

/** Puts new content in place of the old, and the focus back on what has the same data-key. */
export function fill(parent, ...children) {
  const key = parent.contains(document.activeElement) ? document.activeElement.dataset.key : undefined;
  const places = new Map([...parent.querySelectorAll("[data-scroll]")].map((one) => [one.dataset.scroll, one.scrollLeft]));
  parent.replaceChildren(...children.flat().filter(Boolean));
  for (const one of parent.querySelectorAll("[data-scroll]")) one.scrollLeft = places.get(one.dataset.scroll) ?? 0;
  if (key !== undefined) parent.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
}

const SHAPES = { ok: "●", warning: "▲", critical: "■", unknown: "○" };

/** Health by shape, color and word: a circle, a triangle, a square, a ring. */
export function health(level, text) {
  return el("span", { class: `health ${level}` }, el("span", { class: "shape", "aria-hidden": "true" }, SHAPES[level]), ` ${text}`);
}

export function shapeOf(level) {
  return SHAPES[level];
}

/** A table in a frame that scrolls on its own; `columns` are [title, cell of a row, class]. */
export function table(caption, columns, rows, { key = "", empty = "none" } = {}) {
  const head = el("tr", {}, columns.map(([title, , kind]) => el("th", { scope: "col", class: kind }, title)));
  const cells = (row) => columns.map(([, cell, kind], index) =>
    el(index ? "td" : "th", { scope: index ? undefined : "row", class: kind }, cell(row)));
  const body = rows.length
    ? rows.map((row) => el("tr", {}, cells(row)))
    : [el("tr", {}, el("td", { colspan: columns.length, class: "quiet" }, empty))];
  return el("div", { class: "frame", tabindex: "0", role: "group", "aria-label": caption, "data-key": `frame ${key || caption}`, "data-scroll": caption },
    el("table", {}, el("caption", { class: "hidden" }, caption), el("thead", {}, head), el("tbody", {}, body)));
}

export function number(value) {
  return Number(value ?? 0).toLocaleString("en");
}

let ahead = 0;

/** The time of the host, in seconds: a browser's clock may be wrong. */
export function hostTime() {
  return Date.now() / 1000 + ahead;
}

export function setHostTime(seconds) {
  ahead = seconds - Date.now() / 1000;
}

export function age(since, now = hostTime()) {
  if (!since) return "";
  const seconds = Math.max(0, Math.round(now - since));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

const pad = (value) => String(value).padStart(2, "0");

export function clock(at) {
  const date = new Date(at * 1000);
  return `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
}

export function day(at) {
  const date = new Date(at * 1000);
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
}

/** The time of day, the date, and how far from UTC the browser's clock is, for whoever reads it elsewhere. */
export function stampZone(at) {
  const minutes = -new Date(at * 1000).getTimezoneOffset();
  const sign = minutes < 0 ? "-" : "+";
  return `${stamp(at)} ${sign}${pad(Math.floor(Math.abs(minutes) / 60))}:${pad(Math.abs(minutes) % 60)}`;
}

export function stamp(at) {
  return `${day(at)} ${clock(at)}`;
}
