// The pictures of an answer, each with its sentence and its table.

import { COLOURS, DASHES, GREY, INK, area, dayAxis, drawing, el, linear, log, path, pngOf, svgText, text, valueAxis, wrapped } from "./svg.js";
import { save } from "./files.js";

const HATCH = { neutrophils: [0.01, 0.1, 0.5, 1, 2, 5, 10, 50], platelets: [1, 10, 25, 50, 100, 400] };

const CURVES = {
  counts: (content) => [content.schedules.map((s, i) => [counts(content, s, i), s.label]), countsLegend(content)],
  recovery: (content) => [Object.keys(content.schedules[0].recovered).map((c) => [recovery(content, c), `${c} × 10⁹/L`]), scheduleLegend(content)],
  split: (content) => [content.schedules.map((s) => [split(content, s), s.label]), splitLegend(content)],
};

export function draw(content) {
  const wide = roomy(); // asked before anything changes, so that the page is laid out once
  const kept = new Map(); // which tables were open
  for (const details of document.querySelectorAll("#pictures section details")) kept.set(details.id, details.open);
  const drawn = { dlt: [content.schedules.some((s) => s.dlt) ? [[dlt(content, wide), ""]] : [], dltLegend(content)] };
  drawn.differences = [content.differences.length ? [[differences(content, wide), ""]] : [], null];
  for (const [name, curves] of Object.entries(CURVES)) drawn[name] = curves(content);
  for (const [name, [panels, legend]] of Object.entries(drawn)) section(name, content.sections[name], panels, legend, kept);
}

/** Draw the curves alone; what stands beside them is of what was shown before. */
export function drawCurves(content) {
  for (const [name, curves] of Object.entries(CURVES)) {
    const home = document.getElementById(name);
    const [panels, legend] = curves(content);
    const made = [legend, figures(name, home.querySelector("h2").textContent, panels)];
    home.querySelectorAll(".legend, .panels").forEach((old) => old.remove());
    (home.querySelector(".said") ?? home.querySelector("h2")).after(...made);
  }
}

function section(name, said, panels, legend, kept) {
  const home = document.getElementById(name);
  const heading = home.querySelector("h2");
  const sentence = node("p", { class: "said" }, said.sentence);
  const boxes = figures(name, heading.textContent, panels);
  const id = `table-${name}`;
  const details = node("details", { id }, node("summary", {}, "The same as a table"), tableOf(said.table, heading.textContent));
  details.open = kept.get(id) ?? false;
  home.replaceChildren(heading, sentence, ...(legend ? [legend] : []), boxes, ...(said.table.rows.length ? [details] : []));
}

/** Pictures side by side, each with its files. */
export function figures(name, title, panels) {
  const boxes = node("div", { class: "panels" });
  for (const [svg, label] of panels) {
    const figure = node("figure", {}, svg);
    const file = `${name}${label ? `_${label.replace(/[^A-Za-z0-9]+/g, "-")}` : ""}`;
    const tools = node("p", { class: "tools row" });
    for (const kind of ["SVG", "PNG"]) {
      const button = node("button", { type: "button", class: "small", "aria-label": `${kind} of ${title}${label ? `, ${label}` : ""}` }, kind);
      button.addEventListener("click", async () => {
        if (kind === "SVG") save(`${file}.svg`, svgText(svg), "image/svg+xml");
        else save(`${file}.png`, await pngOf(svg), "image/png");
      });
      tools.append(button);
    }
    figure.append(tools);
    boxes.append(figure);
  }
  return boxes;
}

export function node(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export function tableOf(table, caption) {
  const head = node("tr", {}, ...table.heads.map((h) => node("th", { scope: "col" }, h)));
  const rows = table.rows.map((row) => node("tr", {}, ...row.map((cell) => node("td", {}, String(cell)))));
  const made = node("table", {}, node("caption", {}, caption), node("thead", {}, head), node("tbody", {}, ...rows));
  return node("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Table: ${caption}` }, made);
}

// -- counts ---------------------------------------------------------------------------------------

function counts(content, schedule, index) {
  const lines = Object.keys(schedule.counts);
  const drugs = Object.keys(schedule.dosed);
  const width = 440, high = 150, strip = 15;
  const head = wrapped(schedule.label, 52);
  const top = 10 + 16 * head.length;
  const height = top + lines.length * (high + 26) + drugs.length * strip + 44;
  const told = lines.map((line) => middleWords(schedule, line)).join("; ");
  const svg = drawing(width, height, `Counts over time: ${schedule.label}`, `Median and bands of 50 % and 90 % of the patients. ${told}`);
  head.forEach((words, i) => svg.append(text(8, 16 + 16 * i, words, { "font-weight": 600, "font-size": 13 })));
  const days = schedule.counts[lines[0]][0].map((_, i) => i + 1);
  const box = { left: 46, right: width - 12 };
  const x = linear(1, content.days, box.left, box.right);
  const xs = days.map(x);
  lines.forEach((line, n) => {
    box.top = top + n * (high + 26) + 18;
    box.bottom = box.top + high;
    const values = schedule.counts[line];
    const range = limits(content, line);
    const y = log(range[0], range[1], box.bottom, box.top);
    svg.append(text(box.left, box.top - 5, `${line}, 10⁹/L`, { fill: GREY }));
    valueAxis(svg, box, y, (HATCH[line] ?? [0.1, 1, 10, 100]).filter((v) => v >= range[0] && v <= range[1]));
    const at = values.map((row) => row.map((v) => (v === null ? null : y(v))));
    svg.append(el("path", { d: area(xs, at[0], at[4]), fill: COLOURS[index], opacity: 0.18 }));
    svg.append(el("path", { d: area(xs, at[1], at[3]), fill: COLOURS[index], opacity: 0.3 }));
    svg.append(el("path", { d: path(xs, at[2]), fill: "none", stroke: COLOURS[index], "stroke-width": 2 }));
    const limit = thresholds(content, schedule)[line];
    if (limit) svg.append(el("line", { x1: box.left, x2: box.right, y1: y(limit), y2: y(limit), stroke: INK, "stroke-dasharray": "5 4" }));
    ruleDay(svg, content, box, x, n === 0);
  });
  const bottom = box.bottom;
  drugs.forEach((drug, n) => {
    const y = bottom + 6 + n * strip;
    svg.append(el("rect", { x: box.left, y, width: box.right - box.left, height: strip - 4, fill: "#f1f1f1" }));
    schedule.dosed[drug].forEach((share, i) => {
      if (share > 0.004) svg.append(el("rect", { x: x(i + 1) - 0.5, y, width: Math.max(x(2) - x(1), 1), height: strip - 4, fill: "#444", opacity: 0.25 + 0.75 * share }));
    });
    svg.append(text(box.right - 2, y + 9, drug, { "font-size": 10.5, "text-anchor": "end", "paint-order": "stroke", stroke: "#f1f1f1", "stroke-width": 3 }));
  });
  dayAxis(svg, { ...box, bottom: bottom + 6 + drugs.length * strip }, x, content.days, "day of the protocol");
  return svg;
}

function middleWords(schedule, line) {
  const middle = schedule.counts[line][2].filter((v) => v !== null);
  const low = Math.min(...middle);
  return `${line}: the median starts at ${short(middle[0])}, is lowest at ${short(low)} on day ${middle.indexOf(low) + 1} and ends at ${short(middle.at(-1))}`;
}

/** Counts of a schedule's rule: its own, where it is another than that of the first schedule. */
const thresholds = (content, schedule) => schedule.at ?? content.rule.at;

function limits(content, line) {
  const all = content.schedules.flatMap((s) => [...s.counts[line][0], ...s.counts[line][4]]).filter((v) => v !== null && v > 0);
  const low = Math.max(Math.min(...all), line === "platelets" ? 1 : 0.005);
  const at = content.schedules.map((s) => thresholds(content, s)[line] ?? 1);
  return [Math.min(low, ...at.map((v) => v / 2)), Math.max(...all, ...at.map((v) => v * 2))];
}

function ruleDay(svg, content, box, x, labelled, lift = 9) {
  const day = content.rule.by_day;
  if (!day || day >= content.days) return;
  svg.append(el("line", { x1: x(day + 1), x2: x(day + 1), y1: box.top, y2: box.bottom, stroke: GREY, "stroke-dasharray": "2 3" }));
  if (labelled) svg.append(text(x(day + 1) - 3, box.top + lift, `end of day ${day}`, { "font-size": 10.5, fill: GREY, "text-anchor": "end", "paint-order": "stroke", stroke: "#fff", "stroke-width": 3 }));
}

// -- recovery -------------------------------------------------------------------------------------

function recovery(content, criterion) {
  const width = 440, height = 250;
  const judged = content.schedules.filter((s) => s.recovered[criterion][1].at(-1) !== null); // by this count
  const told = judged.map((s) => `${s.label}: ${percent(s.recovered[criterion][1].at(-1))} by day ${content.days}`).join("; ");
  const svg = drawing(width, height, `Share recovered to ${criterion}`, `Mean over draws and their 90 % interval. ${told}`);
  const box = { left: 46, right: width - 12, top: 30, bottom: height - 40 };
  svg.append(text(8, 16, `${criterion} × 10⁹/L`, { "font-weight": 600, "font-size": 13 }));
  const x = linear(1, content.days, box.left, box.right);
  const y = linear(0, 1, box.bottom, box.top);
  valueAxis(svg, box, y, [0, 0.25, 0.5, 0.75, 1], percent);
  content.schedules.forEach((schedule, i) => {
    const [low, mean, high] = schedule.recovered[criterion];
    const xs = mean.map((_, d) => x(d + 1));
    svg.append(el("path", { d: area(xs, low.map(place(y)), high.map(place(y))), fill: COLOURS[i], opacity: 0.12 }));
    svg.append(el("path", { d: path(xs, mean.map(place(y))), fill: "none", stroke: COLOURS[i], "stroke-width": 2, "stroke-dasharray": DASHES[i] }));
  });
  ruleDay(svg, content, box, x, true);
  dayAxis(svg, box, x, content.days, "day of the protocol");
  return svg;
}

// -- split ----------------------------------------------------------------------------------------

// Whole numbers that add to 100, those with the largest remainders rounded up, as the sentence has them.
function of100(shares) {
  const whole = shares.map((v) => Math.floor(100 * v));
  const left = shares.map((v, i) => [100 * v - whole[i], i]).sort((a, b) => b[0] - a[0]);
  const missing = 100 - whole.reduce((a, b) => a + b, 0);
  left.slice(0, Math.max(0, missing)).forEach(([, i]) => { whole[i] += 1; });
  return whole;
}

function split(content, schedule) {
  const head = wrapped(schedule.label, 52);
  const width = 440, top = 26 + 16 * head.length, height = top + 190 + 40;
  const ends = of100(schedule.split.map((shares) => shares.at(-1)));
  const last = content.states.map((s, i) => `${ends[i]} ${s}`).join(", ");
  const svg = drawing(width, height, `What has become of 100 patients: ${schedule.label}`, `Stacked areas by day. Of 100 patients on day ${content.days}: ${last}.`);
  head.forEach((words, i) => svg.append(text(8, 16 + 16 * i, words, { "font-weight": 600, "font-size": 13 })));
  const box = { left: 46, right: width - 40, top, bottom: top + 190 };
  const x = linear(1, content.days, box.left, box.right);
  const y = linear(0, 1, box.bottom, box.top);
  valueAxis(svg, box, y, [0, 0.25, 0.5, 0.75, 1], (v) => String(100 * v), false);
  const xs = schedule.split[0].map((_, d) => x(d + 1));
  let below = xs.map(() => 0);
  content.states.forEach((state, i) => {
    const above = below.map((v, d) => v + schedule.split[i][d]);
    svg.append(el("path", { d: area(xs, below.map(y), above.map(y)), fill: content.colours[state], stroke: "#fff", "stroke-width": 0.5 }));
    const middle = (below.at(-1) + above.at(-1)) / 2;
    if (schedule.split[i].at(-1) >= 0.03) svg.append(text(box.right + 5, y(middle) + 4, `${ends[i]}`));
    below = above;
  });
  ruleDay(svg, content, box, x, true, -4);
  dayAxis(svg, box, x, content.days, "day of the protocol");
  return svg;
}

// -- risks ----------------------------------------------------------------------------------------

function dlt(content, width) {
  const rows = content.schedules;
  const left = 16, head = 46;
  const height = 20 + rows.length * head + 44;
  const told = rows.map((s) => `${s.label}: ${s.dlt && s.dlt.estimate !== null ? percent(s.dlt.estimate) : "not judged"}`).join("; ");
  const svg = drawing(width, height, "Risk by schedule", told);
  const box = { left, right: width - 20, top: 14, bottom: 20 + rows.length * head };
  const most = Math.max(0.1, ...rows.flatMap((s) => [s.dlt?.upper, s.dlt?.estimate, s.published?.upper, s.published?.value]).filter((v) => v != null));
  const x = linear(0, Math.min(1, most * 1.08), box.left, box.right);
  shareAxis(svg, box, x, Math.min(1, most * 1.08));
  rows.forEach((schedule, i) => {
    const y = box.top + 8 + i * head;
    svg.append(text(left, y + 6, fitted(schedule.label, width), { "font-weight": 600 }));
    if (schedule.dlt && schedule.dlt.estimate !== null) {
      interval(svg, x, y + 18, schedule.dlt, COLOURS[i]);
      svg.append(el("circle", { cx: x(schedule.dlt.estimate), cy: y + 18, r: 5, fill: COLOURS[i] }));
    } else {
      svg.append(text(left, y + 22, "too few patients can be judged", { fill: GREY }));
    }
    if (schedule.published && schedule.published.value !== null) {
      const at = x(schedule.published.value);
      interval(svg, x, y + 30, schedule.published, INK, "3 3");
      svg.append(el("path", { d: `M${at} ${y + 25}L${at + 5} ${y + 30}L${at} ${y + 35}L${at - 5} ${y + 30}Z`, fill: "#fff", stroke: INK, "stroke-width": 1.5 }));
    }
  });
  return svg;
}

/** Width of a drawing that has the whole column: what fits, so that its text stays readable. */
export const roomy = () => Math.max(320, Math.min(640, document.getElementById("pictures").clientWidth || 640));

const fitted = (words, width) => (words.length > width / 6.6 ? `${words.slice(0, Math.floor(width / 6.6))}…` : words);

function interval(svg, x, y, found, colour, dashes) {
  if (found.lower === null || found.upper === null) return;
  svg.append(el("line", { x1: x(found.lower), x2: x(found.upper), y1: y, y2: y, stroke: colour, "stroke-width": 2, "stroke-dasharray": dashes }));
}

function shareAxis(svg, box, x, most) {
  const step = [0.02, 0.05, 0.1, 0.2, 0.25].find((s) => most / s <= 8) ?? 0.25;
  for (let v = 0; v <= most + 1e-9; v += step) {
    svg.append(el("line", { x1: x(v), x2: x(v), y1: box.top - 4, y2: box.bottom, stroke: "#e3e3e3" }));
    svg.append(text(x(v), box.bottom + 15, percent(v), { "text-anchor": "middle" }));
  }
  svg.append(el("line", { x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom, stroke: INK }));
}

function differences(content, width) {
  const rows = content.differences.map((r) => ({ ...r, lines: wrapped(`${r.what}: ${r.first} minus ${r.second}`, Math.floor(width / 7)) }));
  let height = 20;
  for (const row of rows) {
    row.top = height;
    height += 14 * row.lines.length + 26;
  }
  const told = rows.map((r) => `${r.first} minus ${r.second}, ${r.what}: ${r.text}`).join("; ");
  const svg = drawing(width, height + 40, "Paired differences", told);
  const box = { left: 16, right: width - 20, top: 14, bottom: height };
  const ends = rows.flatMap((r) => [r.estimate, r.lower, r.upper]).filter((v) => v !== null).map(Math.abs);
  const most = Math.max(0.05, ...ends) * 1.1;
  const x = linear(-most, most, box.left, box.right);
  const step = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5].find((s) => most / s <= 4) ?? 0.5;
  for (let n = Math.ceil(-most / step); n * step <= most; n += 1) {
    const at = x(n * step);
    svg.append(el("line", { x1: at, x2: at, y1: box.top - 4, y2: box.bottom, stroke: n === 0 ? INK : "#e3e3e3" }));
    svg.append(text(at, box.bottom + 15, `${n > 0 ? "+" : ""}${Math.round(1000 * n * step) / 10}`, { "text-anchor": "middle" }));
  }
  svg.append(text(box.left, box.bottom + 31, "points of 100 patients; left of 0: fewer with the first", { fill: GREY }));
  for (const row of rows) {
    row.lines.forEach((words, i) => svg.append(text(box.left, row.top + 6 + 14 * i, words, { "paint-order": "stroke", stroke: "#fff", "stroke-width": 4 })));
    const y = row.top + 14 * row.lines.length + 4;
    interval(svg, x, y, row, COLOURS[0]);
    if (row.estimate !== null) svg.append(el("circle", { cx: x(row.estimate), cy: y, r: 5, fill: COLOURS[0] }));
  }
  return svg;
}

// -- legends --------------------------------------------------------------------------------------

function legend(items) {
  return node("ul", { class: "legend" }, ...items.map(([mark, words]) => {
    const svg = el("svg", { viewBox: "0 0 28 14", "aria-hidden": "true" }, ...mark);
    return node("li", {}, svg, words);
  }));
}

const stroke = (colour, dashes) => el("line", { x1: 0, x2: 28, y1: 7, y2: 7, stroke: colour, "stroke-width": 2.5, "stroke-dasharray": dashes });
const filled = (colour, opacity = 1) => el("rect", { width: 28, height: 14, fill: colour, opacity, stroke: "#999", "stroke-width": 0.5 });

function countsLegend(content) {
  const grey = "#666";
  const items = [[[stroke(grey)], "median patient"], [[filled(grey, 0.48)], "50 % of patients"], [[filled(grey, 0.18)], "90 %"]];
  if (content.schedules.some((s) => Object.keys(thresholds(content, s)).length)) items.push([[stroke(INK, "5 4")], "threshold of the rule"]);
  items.push([[filled("#444")], "doses, paler where fewer patients are dosed"]);
  return legend(items);
}

export function scheduleLegend(content) {
  return legend(content.schedules.map((s, i) => [[stroke(COLOURS[i], DASHES[i])], s.label]));
}

function splitLegend(content) {
  return legend(content.states.map((s) => [[filled(content.colours[s])], s]));
}

function dltLegend(content) {
  const dot = el("circle", { cx: 14, cy: 7, r: 5, fill: "#666" });
  const diamond = el("path", { d: "M14 1L20 7L14 13L8 7Z", fill: "#fff", stroke: INK, "stroke-width": 1.5 });
  const items = [[[stroke("#666"), dot], "predicted, with its 90 % interval"]];
  const kinds = [...new Set(content.schedules.map((s) => s.published?.interval))].filter(Boolean);
  if (content.schedules.some((s) => s.published)) items.push([[stroke(INK, "3 3"), diamond], `published${kinds.length ? `, with its interval (${kinds.join("; ")})` : ""}`]);
  return legend(items);
}

const place = (y) => (v) => (v === null ? null : y(v));
const percent = (v) => (v === null ? "-" : `${Math.round(100 * v)} %`);
const short = (v) => String(Number(v.toPrecision(2)));
