// One patient: counts as pasted, a slider through their days, and what comes next.

import * as state from "./state.js";
import { COLOURS, DASHES, GREY, INK, area, dayAxis, drawing, el, linear, log, path, pngOf, svgText, text, valueAxis } from "./svg.js";
import { node, roomy, tableOf } from "./pictures.js";
import { field, sharing, tell } from "./fields.js";
import { save } from "./files.js";

const EXAMPLE = "DAY,ANC,PLT\n1,1.9,96\n4,1.1,74\n8,0.6,45\n11,0.3,24\n15,0.2,19\n";
const MOST = 20_000;
const KEEP = "pkpd-patient";
const byId = (id) => document.getElementById(id);
const asked = { schedule: null, text: "", until: null, patient: "" };
let ask = null;
let turn = 0;
let underWay = false;
let again = false;
let labels = "";
let answer = null;

export function beginPatient(asking) {
  ask = asking;
  Object.assign(asked, kept());
  byId("patient-fold").addEventListener("toggle", refreshPatient);
  byId("patient-example").addEventListener("click", () => {
    if (!asked.text.trim() || asked.text === EXAMPLE) begin(EXAMPLE);
    else said("Counts are there already: clear them to see the example.");
  });
  byId("get-patient-csv").addEventListener("click", () => { if (answer) save("forecast.csv", answer.csv, "text/csv"); });
  byId("get-patient-python").addEventListener("click", () => { if (answer) save("one_patient.py", answer.python, "text/x-python"); });
  byId("patient-file").addEventListener("change", async (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    if (!file) return;
    if (file.size > MOST) { said(`${file.name}: it has ${Math.round(file.size / 1000).toLocaleString("en")} kB; allowed: tables up to ${MOST / 1000} kB.`); return; }
    begin(await file.text());
  });
}

/** Counts of a reload of this tab; they are in no address and no other tab. */
function kept() {
  try {
    return JSON.parse(sessionStorage.getItem(KEEP) ?? "{}");
  } catch {
    return {};
  }
}

function begin(words) {
  Object.assign(asked, { text: words, until: null, patient: "" });
  controls();
  want();
}

/** The schedules have changed: ask anew, if anyone looks. */
export function refreshPatient() {
  if (!byId("patient-fold").open || !ask) return;
  const now = JSON.stringify(state.cohorts().map((c) => [c.id, c.label]));
  if (now !== labels) { labels = now; controls(); }
  want();
}

function controls() {
  const home = byId("patient-controls");
  const rows = state.cohorts();
  if (!rows.some((c) => c.id === asked.schedule)) asked.schedule = rows[0].id;
  sharing("patient", () => {
    const schedule = field("Schedule that the patient gets", {
      paths: [["patient", "schedule"]], value: asked.schedule, options: rows.map((c) => [c.id, c.label ?? c.id]),
      set: (v) => { asked.schedule = v; want(); },
    });
    const counts = field("Counts: day of the protocol, neutrophils (ANC) and platelets (PLT) in 10⁹/L; below a limit as <0.1", {
      paths: [["patient", "text"]], value: asked.text, area: true, attributes: { rows: 8, spellcheck: "false", maxlength: String(MOST), placeholder: EXAMPLE },
      set: (v) => { Object.assign(asked, { text: v, until: null, patient: "" }); want(); },
    });
    home.replaceChildren(schedule.made, counts.made);
  }, true);
}

/**
 * Ask for what is set; while an answer is under way only the newest wish is kept.
 * Where too few virtual patients are like this one, ask again for some that are made to be.
 */
async function want() {
  turn += 1;
  try { sessionStorage.setItem(KEEP, JSON.stringify(asked)); } catch { /* a browser that keeps nothing */ }
  if (!asked.text.trim()) { answer = null; clear(); return; }
  if (underWay) { again = true; return; }
  underWay = true;
  let careful = false;
  do {
    again = false;
    const mine = turn;
    if (!answer) said("Virtual patients are being simulated.");
    if (careful) said(`${answer.sentence} Virtual patients like this one are being made; this takes some twenty seconds on two cores.`);
    byId("patient-shown").setAttribute("aria-busy", "true");
    const found = await ask({ ...asked, schedule: state.cohorts().findIndex((c) => c.id === asked.schedule), until: asked.until ?? undefined, careful });
    if (!found) { said("The server did not answer; change something to ask again."); break; }
    if (mine === turn) show(found);
    careful = mine === turn && found.again && !careful;
  } while (again || careful);
  underWay = false;
  byId("patient-shown").setAttribute("aria-busy", "false");
}

function said(words) { byId("patient-said").textContent = words; }

function clear() {
  said("");
  byId("patient-day").replaceChildren();
  delete byId("patient-day").dataset.key;
  byId("patient-shown").replaceChildren();
}

function show(found) {
  const rest = sharing("patient", () => tell(found.errors ?? []));
  if (found.errors) {
    answer = null;
    clear();
    said(rest.join(" "));
    return;
  }
  answer = found;
  days(found);
  said(found.sentence);
  const figure = node("figure", {}, picture(found));
  const tools = node("p", { class: "tools row" });
  for (const kind of ["SVG", "PNG"]) {
    const button = node("button", { type: "button", class: "small", "aria-label": `${kind} of the forecast` }, kind);
    button.addEventListener("click", async () => {
      const svg = figure.querySelector("svg");
      if (kind === "SVG") save("forecast.svg", svgText(svg), "image/svg+xml");
      else save("forecast.png", await pngOf(svg), "image/png");
    });
    tools.append(button);
  }
  figure.append(tools);
  const facts = [...found.facts, found.how].map((t) => node("li", {}, t));
  const warnings = found.warnings.map((t) => node("p", { class: "wrong" }, t));
  byId("patient-shown").replaceChildren(...warnings, figure, tableOf(found.table, "Recovery of this patient"), node("ul", {}, ...facts));
  byId("patient-shown").dataset.until = String(found.until);
}

/** Slider through the days of the counts, and a choice where the table has several patients. */
function days(found) {
  const home = byId("patient-day");
  const key = JSON.stringify([found.days, found.patients, found.patient]);
  if (home.dataset.key === key) {
    const range = home.querySelector("input[type=range]");
    if (range) {
      range.value = Math.max(found.days.indexOf(found.until), 0);
      told(range, found);
    }
    return;
  }
  home.dataset.key = key;
  const parts = [];
  if (found.patients.length > 1) {
    const who = sharing("patient", () => field("Patient", {
      paths: [["patient", "patient"]], value: found.patient, options: found.patients.map((p) => [p, p]),
      set: (v) => { asked.patient = v; asked.until = null; want(); },
    }));
    parts.push(who.made);
  }
  if (found.days.length > 1) {
    const range = node("input", { type: "range", min: 0, max: found.days.length - 1, step: 1, id: "patient-until" });
    range.addEventListener("input", () => { asked.until = found.days[Number(range.value)]; told(range, { until: asked.until }); want(); });
    parts.push(node("div", { class: "field" }, node("label", { for: "patient-until" }, ""), range));
    range.value = Math.max(found.days.indexOf(found.until), 0);
    home.replaceChildren(...parts);
    told(range, found);
    return;
  }
  home.replaceChildren(...parts);
}

function told(range, found) {
  range.setAttribute("aria-valuetext", `counts until day ${found.until}`);
  range.previousSibling.textContent = `Counts known until day ${found.until}`;
}

// -- the picture ----------------------------------------------------------------------------------

const MARKS = { neutrophils: [0.01, 0.1, 0.5, 1, 2, 5, 10, 50], platelets: [1, 10, 25, 50, 100, 400] };

function picture(found) {
  const lines = Object.keys(found.lines);
  const width = roomy();
  const high = 140, gap = 28;
  const height = 12 + (lines.length + 1) * (high + gap) + 26;
  const last = (share) => share.find((v, i) => i + 1 >= found.until && v >= 0.5);
  const title = `${found.trusted ? "Forecast of" : "Counts alone of"} a patient with counts until day ${found.until}`;
  const bands = found.trusted ? "Median and bands of 50 % and 90 %. " : "";
  const words = Object.entries(found.recovered).map(([name, s]) => `${name}: ${last(s) === undefined ? "fewer than half recover" : `half by day ${s.findIndex((v) => v >= 0.5) + 1}`}`);
  const svg = drawing(width, height, title, `${bands}${found.sentence} ${words.join("; ")}`);
  const box = { left: 46, right: width - 12 };
  const x = linear(1, found.last, box.left, box.right);
  const xs = Array.from({ length: found.last }, (_, i) => x(i + 1));
  const today = (b) => svg.append(el("line", { x1: x(found.until + 1), x2: x(found.until + 1), y1: b.top, y2: b.bottom, stroke: GREY, "stroke-dasharray": "2 3" }));
  lines.forEach((line, n) => {
    const one = found.lines[line];
    box.top = 12 + n * (high + gap) + 16;
    box.bottom = box.top + high;
    const every = [...(one.bands[0] ?? []), ...(one.bands[4] ?? []), ...one.seen.map((s) => s.value)].filter((v) => v !== null && v > 0);
    const least = line === "platelets" ? 1 : 0.01;
    const range = [Math.max(Math.min(...every, (one.back ?? 1) / 2), least), Math.max(...every, (one.back ?? 1) * 2)];
    const y = log(range[0], range[1], box.bottom, box.top);
    svg.append(text(box.left, box.top - 5, `${line.replace("_", " ")}, ${one.unit}`, { fill: GREY }));
    valueAxis(svg, box, y, (MARKS[line] ?? [0.1, 1, 10, 100]).filter((v) => v >= range[0] && v <= range[1]));
    const at = one.bands.map((row) => row.map((v) => (v === null ? null : y(v))));
    const colour = COLOURS[n % COLOURS.length];
    if (at.length) {
      svg.append(el("path", { d: area(xs, at[0], at[4]), fill: colour, opacity: 0.18 }));
      svg.append(el("path", { d: area(xs, at[1], at[3]), fill: colour, opacity: 0.3 }));
      svg.append(el("path", { d: path(xs, at[2]), fill: "none", stroke: colour, "stroke-width": 2 }));
    }
    if (one.back) svg.append(el("line", { x1: box.left, x2: box.right, y1: y(one.back), y2: y(one.back), stroke: INK, "stroke-dasharray": "5 4" }));
    today(box);
    for (const s of one.seen) {
      // what was counted later is shown, hollow: the forecast does not know it
      const marks = { cx: x(s.day), cy: y(s.value), r: 4, stroke: INK, "stroke-width": 1.5, fill: s.known ? INK : "#fff" };
      svg.append(el("circle", marks));
      if (s.below) svg.append(el("path", { d: `M${x(s.day) - 4} ${y(s.value) + 7}h8l-4 6z`, fill: INK }));
    }
  });
  box.top = 12 + lines.length * (high + gap) + 16;
  box.bottom = box.top + high;
  const y = linear(0, 1, box.bottom, box.top);
  const names = Object.entries(found.recovered);
  svg.append(text(box.left, box.top - 5, "back by that day if no more is given, of 100", { fill: GREY }));
  valueAxis(svg, box, y, [0, 0.25, 0.5, 0.75, 1], (v) => String(Math.round(100 * v)));
  today(box);
  if (!names.length) svg.append(text((box.left + box.right) / 2, (box.top + box.bottom) / 2, found.why, { "text-anchor": "middle" }));
  names.forEach(([name, share], i) => {
    svg.append(el("path", { d: path(xs, share.map((v) => (v === null ? null : y(v)))), fill: "none", stroke: COLOURS[i % COLOURS.length], "stroke-width": 2, "stroke-dasharray": DASHES[i % DASHES.length] }));
    svg.append(el("line", { x1: box.left + 6, x2: box.left + 30, y1: box.top + 12 + 15 * i, y2: box.top + 12 + 15 * i, stroke: COLOURS[i % COLOURS.length], "stroke-width": 2, "stroke-dasharray": DASHES[i % DASHES.length] }));
    svg.append(text(box.left + 35, box.top + 16 + 15 * i, name.replace(">=", "≥"), { "paint-order": "stroke", stroke: "#fff", "stroke-width": 3 }));
  });
  dayAxis(svg, box, x, found.last, "day of the protocol");
  return svg;
}
