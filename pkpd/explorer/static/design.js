// Dose finding: the schedules as doses of a phase I trial, its next dose, and what to expect of it.

import * as state from "./state.js";
import { drawing, el, linear, text, COLOURS, GREY, INK } from "./svg.js";
import { node, roomy, tableOf } from "./pictures.js";
import { asNumber, field, sharing, tell } from "./fields.js";
import { save } from "./files.js";

const byId = (id) => document.getElementById(id);
const asked = { name: "3+3", target: 0.25, most_patients: 30 };
const seen = {}; // by schedule, of which some may be removed
let current = ""; // schedule of the last cohort
let choices = null;
let ask = null;
let toml = "";
let turn = 0;
let labels = "";

export function beginDesign(offered, asking) {
  choices = offered;
  ask = asking;
  byId("design-fold").addEventListener("toggle", refresh);
  byId("get-design").addEventListener("click", () => { if (toml) save("design.toml", toml, "application/toml"); });
}

/** The schedules have changed, or what was seen: ask anew, if anyone looks. */
export async function refresh() {
  if (!byId("design-fold").open || !choices) return;
  const rows = state.cohorts();
  const now = JSON.stringify(rows.map((c) => [c.id, c.label]));
  if (now !== labels) { labels = now; controls(); }
  turn += 1;
  const mine = turn;
  const answer = await ask({ ...asked, current: rows.findIndex((c) => c.id === current) + 1, seen: rows.map((c) => seen[c.id]) });
  if (!answer || mine !== turn) return;
  const rest = sharing("design", () => tell(answer.errors ?? []));
  toml = answer.toml ?? "";
  byId("design-expected").classList.toggle("old", Boolean(answer.errors));
  if (answer.errors) {
    byId("design-next").textContent = rest.join(" ");
    return;
  }
  byId("design-heading").textContent = answer.heading;
  byId("design-next").textContent = answer.sentence;
  const parts = [node("p", { class: "said" }, answer.expected)];
  if (answer.doses.length) parts.push(node("figure", {}, picture(answer)), tableOf(answer.table, "Dose finding under the posterior"));
  byId("design-expected").replaceChildren(...parts);
}

function controls() {
  const home = byId("design-controls");
  const set = (key) => (v) => { asked[key] = key === "name" ? v : asNumber(v); if (key === "name") controls(); refresh(); };
  sharing("design", () => {
    const fields = [
      field("Design", { paths: [["design", "name"]], value: asked.name, options: choices.designs.map((d) => [d.name, d.name]), set: set("name") }),
    ];
    if (choices.designs.find((d) => d.name === asked.name)?.target) {
      fields.push(
        field("Target risk", { paths: [["design", "target"]], value: asked.target, set: set("target"), attributes: { inputmode: "decimal" } }),
        field("Patients at most", { paths: [["design", "most_patients"]], value: asked.most_patients, set: set("most_patients"), attributes: { inputmode: "numeric" } }),
      );
    }
    const rows = state.cohorts();
    if (!rows.some((c) => c.id === current)) current = "";
    fields.push(field("Last cohort was on", { paths: [["design", "current"]], value: current, options: [["", "the highest that was given"], ...rows.map((c) => [c.id, c.label ?? c.id])], set: (v) => { current = v; refresh(); } }));
    rows.forEach((cohort, i) => {
      const mine = (seen[cohort.id] ??= { treated: 0, dlts: 0 });
      for (const [key, words] of [["treated", "patients judged"], ["dlts", "with a DLT"]]) {
        fields.push(field(`${cohort.label ?? cohort.id}: ${words}`, {
          paths: [["design", "seen", i, key], ["design", "seen", i]], value: mine[key] || "", attributes: { inputmode: "numeric", placeholder: "0" },
          set: (v) => { mine[key] = asNumber(v) ?? 0; refresh(); },
        }));
      }
    });
    home.replaceChildren(...fields.map((f) => f.made));
  }, true);
}

function picture(answer) {
  const rows = answer.doses;
  const width = roomy();
  const high = 40;
  const height = 20 + (rows.length + 1) * high + 36;
  const told = rows.map((r) => `${r.label}: selected in ${share(r.selected)}, risk ${share(r.risk)}`).join("; ");
  const svg = drawing(width, height, "Doses that the design selects", `${told}; none in ${share(answer.none)}`);
  const box = { left: 16, right: width - 20, bottom: 16 + (rows.length + 1) * high };
  const x = linear(0, 1, box.left, box.right);
  for (const v of [0, 0.25, 0.5, 0.75, 1]) {
    svg.append(el("line", { x1: x(v), x2: x(v), y1: 6, y2: box.bottom, stroke: "#e3e3e3" }));
    svg.append(text(x(v), box.bottom + 15, share(v), { "text-anchor": v === 1 ? "end" : "middle" }));
  }
  [...rows, { label: "no dose", selected: answer.none }].forEach((row, i) => {
    const y = 10 + i * high;
    svg.append(el("rect", { x: box.left, y: y + 12, width: x(row.selected) - box.left, height: 12, fill: COLOURS[i] ?? GREY, opacity: 0.75 }));
    svg.append(text(box.left, y + 8, `${row.label}: ${share(row.selected)}`, { "paint-order": "stroke", stroke: "#fff", "stroke-width": 3 }));
    if (row.risk === undefined) return;
    if (row.lower !== null) svg.append(el("line", { x1: x(row.lower), x2: x(row.upper), y1: y + 30, y2: y + 30, stroke: INK, "stroke-width": 1.5 }));
    svg.append(el("circle", { cx: x(row.risk), cy: y + 30, r: 4, fill: INK }));
  });
  svg.append(text(box.left, box.bottom + 31, "bar: selected; dot and line: risk, 90 % interval", { fill: GREY }));
  return svg;
}

const share = (v) => `${Math.round(100 * v)} %`;
