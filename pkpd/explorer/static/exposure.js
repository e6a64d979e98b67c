// Exposure: concentrations of each drug on its first day and in its first cycle, areas and peaks.

import { COLOURS, DASHES, GREY, area, drawing, el, linear, path, text, ticks, valueAxis } from "./svg.js";
import { figures, node, scheduleLegend, tableOf } from "./pictures.js";

const byId = (id) => document.getElementById(id);
const HEIGHT = 210;
let ask = null;
let turn = 0;

export function beginExposure(asking) {
  ask = asking;
  byId("exposure-fold").addEventListener("toggle", refreshExposure);
}

/** The schedules have changed: ask anew, if anyone looks. */
export async function refreshExposure() {
  if (!byId("exposure-fold").open || !ask) return;
  turn += 1;
  const mine = turn;
  const answer = await ask();
  if (!answer || mine !== turn) return;
  byId("exposure-shown").classList.toggle("old", Boolean(answer.errors));
  if (answer.errors) {
    const before = byId("exposure-shown").hasChildNodes() ? "The pictures are those before the last change. " : "";
    byId("exposure-said").textContent = before + answer.errors.map((error) => error.text).join(" ");
    return;
  }
  byId("exposure-said").textContent = answer.sentence;
  const panels = answer.drugs.flatMap((drug) => [
    [picture(answer, drug, "first"), `${drug.name} first day`],
    [picture(answer, drug, "cycle"), `${drug.name} first cycle`],
  ]);
  const parts = panels.length ? [scheduleLegend(answer), figures("exposure", "Exposure", panels)] : [];
  for (const [table, name] of [[answer.table, "Exposures"], [answer.ratios, "Ratios in the same patients"]]) {
    if (table.rows.length) parts.push(node("details", {}, node("summary", {}, `${name} as a table`), tableOf(table, name)));
  }
  if (answer.sources.length) {
    const items = answer.sources.map((words) => node("li", {}, words));
    parts.push(node("details", {}, node("summary", {}, "Where published figures come from"), node("ul", {}, ...items)));
  }
  const home = byId("exposure-shown");
  const open = [...home.querySelectorAll("details")].map((one) => one.open);
  home.replaceChildren(...parts);
  home.querySelectorAll("details").forEach((one, n) => { one.open = open[n] ?? false; });
}

function picture(answer, drug, part) {
  const width = 440, first = part === "first";
  const given = drug.schedules.map((s, i) => [s, i]).filter(([s]) => s);
  const peaks = given.map(([s, i]) => `${answer.schedules[i].label}: peak of the median ${short(Math.max(...s[part].bands[1]))}`);
  const title = `${drug.name}, ${first ? "the day after the first dose" : "the first cycle"}`;
  const svg = drawing(width, HEIGHT, `Concentration of ${title}`, `Median and 90 % of patients, ${answer.unit}. ${peaks.join("; ")}`);
  svg.append(text(8, 16, title, { "font-weight": 600, "font-size": 13 }));
  const box = { left: 52, right: width - 12, top: 42, bottom: HEIGHT - 38 };
  svg.append(text(box.left, box.top - 7, `plasma, ${answer.unit}; median and 90 % of patients`, { fill: GREY }));
  const last = Math.max(...given.map(([s]) => s[part].hours.at(-1)));
  const most = Math.max(...given.flatMap(([s]) => s[part].bands[2])) || 1;
  const x = linear(0, last, box.left, box.right);
  const y = linear(0, most, box.bottom, box.top);
  valueAxis(svg, box, y, marks(most));
  svg.append(el("line", { x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom, stroke: GREY }));
  const unit = first ? 1 : 24;
  for (const t of ticks(0, last / unit)) svg.append(text(x(t * unit), box.bottom + 15, String(t), { "text-anchor": "middle" }));
  svg.append(text(box.left, box.bottom + 31, `${first ? "hours" : "days"} since the first dose`, { fill: GREY }));
  for (const [s, i] of given) {
    const xs = s[part].hours.map(x);
    const [low, middle, high] = s[part].bands.map((row) => row.map(y));
    svg.append(el("path", { d: area(xs, low, high), fill: COLOURS[i], opacity: 0.15 }));
    svg.append(el("path", { d: path(xs, middle), fill: "none", stroke: COLOURS[i], "stroke-width": 1.8, "stroke-dasharray": DASHES[i] }));
  }
  return svg;
}

/** Round values from 0 to the highest. */
function marks(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  const step = [0.2, 0.5, 1, 2].map((s) => s * power).find((s) => most / s <= 5) ?? 2 * power;
  return Array.from({ length: Math.floor(most / step) + 1 }, (_, n) => Number((n * step).toPrecision(3)));
}

const short = (v) => String(Number(v.toPrecision(3)));
