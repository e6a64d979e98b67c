// Drawing with SVG: axes, bands, lines, marks.

const NS = "http://www.w3.org/2000/svg";

// Okabe and Ito (2008), and a dash for each, so that colour is never alone
export const COLOURS = ["#0072B2", "#D55E00", "#007A5E", "#8E4585"];
export const DASHES = ["", "7 3", "2 2.5", "9 3 2 3"];
export const INK = "#1c1c1c";
export const GREY = "#595959";

export function el(name, attributes = {}, ...children) {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) if (value !== undefined) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export function text(x, y, words, attributes = {}) {
  return el("text", { x, y, "font-size": 12, fill: INK, ...attributes }, words);
}

let number = 0;

/** A drawing with its title and its content in words, for those who cannot see it. */
export function drawing(width, height, title, words) {
  number += 1;
  const made = el("svg", {
    xmlns: NS, viewBox: `0 0 ${width} ${height}`, width, height, role: "img",
    "aria-labelledby": `t${number} d${number}`, "font-family": "system-ui, Segoe UI, DejaVu Sans, sans-serif",
  });
  made.append(el("title", { id: `t${number}` }, title), el("desc", { id: `d${number}` }, words));
  made.append(el("rect", { width, height, fill: "#fff" }));
  return made;
}

export const linear = (from, to, low, high) => (v) => low + ((v - from) / (to - from)) * (high - low);
export const log = (from, to, low, high) => {
  const inside = linear(Math.log(from), Math.log(to), low, high);
  return (v) => inside(Math.log(Math.max(v, from)));
};

export function path(xs, ys) {
  let out = "";
  let open = false;
  for (let i = 0; i < xs.length; i += 1) {
    if (ys[i] === null || Number.isNaN(ys[i])) { open = false; continue; }
    out += `${open ? "L" : "M"}${xs[i].toFixed(1)} ${ys[i].toFixed(1)}`;
    open = true;
  }
  return out;
}

export function area(xs, low, high) {
  const known = xs.map((_, i) => i).filter((i) => low[i] !== null && high[i] !== null);
  if (!known.length) return "";
  const up = known.map((i) => `${xs[i].toFixed(1)} ${high[i].toFixed(1)}`);
  const down = known.reverse().map((i) => `${xs[i].toFixed(1)} ${low[i].toFixed(1)}`);
  return `M${[...up, ...down].join("L")}Z`;
}

export function ticks(low, high, most = 6) {
  const step = [1, 2, 5, 7, 10, 14, 20, 28, 50, 56, 100].find((s) => (high - low) / s <= most) ?? 100;
  const out = [];
  for (let v = Math.ceil(low / step) * step; v <= high; v += step) out.push(v);
  return out;
}

/** Axis of days below a box. */
export function dayAxis(svg, box, x, days, label = "day") {
  svg.append(el("line", { x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom, stroke: INK }));
  for (const day of ticks(1, days)) {
    if (day < 1) continue;
    svg.append(el("line", { x1: x(day), x2: x(day), y1: box.bottom, y2: box.bottom + 4, stroke: INK }));
    svg.append(text(x(day), box.bottom + 16, String(day), { "text-anchor": "middle" }));
  }
  svg.append(text(box.left, box.bottom + 31, label, { fill: GREY }));
}

/** Axis of values at the left of a box. */
export function valueAxis(svg, box, y, values, show = String, grid = true) {
  svg.append(el("line", { x1: box.left, x2: box.left, y1: box.top, y2: box.bottom, stroke: INK }));
  for (const value of values) {
    const at = y(value);
    if (grid) svg.append(el("line", { x1: box.left, x2: box.right, y1: at, y2: at, stroke: "#e3e3e3" }));
    svg.append(text(box.left - 5, at + 4, show(value), { "text-anchor": "end" }));
  }
}

/** Text in lines of at most so many characters. */
export function wrapped(words, most) {
  const lines = [""];
  for (const word of String(words).split(/\s+/)) {
    const now = lines.at(-1);
    if (now && now.length + word.length + 1 > most) lines.push(word);
    else lines[lines.length - 1] = now ? `${now} ${word}` : word;
  }
  return lines.map((line) => (line.length > most + 6 ? `${line.slice(0, most + 3)}…` : line));
}

/** File of a drawing as it is on the page. */
export function svgText(svg) {
  const made = svg.cloneNode(true);
  return `<?xml version="1.0" encoding="UTF-8"?>\n${new XMLSerializer().serializeToString(made)}`;
}

export async function pngOf(svg, scale = 2) {
  const { width, height } = svg.viewBox.baseVal;
  const picture = new Image();
  const source = URL.createObjectURL(new Blob([svgText(svg)], { type: "image/svg+xml" }));
  try {
    await new Promise((done, failed) => {
      picture.onload = done;
      picture.onerror = failed;
      picture.src = source;
    });
    const canvas = document.createElement("canvas");
    canvas.width = width * scale;
    canvas.height = height * scale;
    canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
    return await new Promise((done) => canvas.toBlob(done, "image/png"));
  } finally {
    URL.revokeObjectURL(source);
  }
}
