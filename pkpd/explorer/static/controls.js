// The controls: patients, rule and ensemble, and each schedule with its drugs.

import { COLOURS } from "./svg.js";
import { node } from "./pictures.js";
import { asNumber, button, field, forget, slider } from "./fields.js";
import * as state from "./state.js";

let choices = null;
let changed = () => {};

export function begin(offered, onChange) {
  choices = offered;
  changed = onChange;
}

/** Show the names of schedules, which a change of them changes. */
export function named() {
  state.cohorts().forEach((cohort, index) => {
    const made = document.getElementById(`part-schedule-${index}`);
    if (!made) return;
    const name = String(cohort.label ?? cohort.id);
    made.querySelector("summary").textContent = titled(index, name);
    const input = made.querySelector(".schedule > .field input");
    if (input !== document.activeElement) input.value = name;
  });
}

const titled = (index, name) => `Schedule ${index + 1}: ${name}`;

/** Build all controls anew, and keep the focus where it was. */
export function build() {
  const where = document.activeElement?.closest("#controls") ? trail(document.activeElement) : null;
  const open = new Set([...document.querySelectorAll("#controls details[open]")].map((d) => d.id));
  const before = new Set([...document.querySelectorAll("#controls details")].map((d) => d.id));
  forget();
  document.getElementById("trial").replaceChildren(trial());
  document.getElementById("schedules").replaceChildren(...state.cohorts().map(schedule));
  for (const details of document.querySelectorAll("#controls details")) if (open.has(details.id)) details.open = true;
  const add = document.getElementById("add");
  add.disabled = state.cohorts().length >= choices.most.schedules;
  document.getElementById("not-shown").textContent = notShown(add.disabled);
  if (!built) built = true;
  else for (const details of document.querySelectorAll("#controls details.part")) details.open = open.has(details.id) || !before.has(details.id);
  if (where) document.querySelectorAll(where.kind)[where.index]?.focus();
}

/** Say which schedules of the file are not on the page, and how they get there. */
function notShown(full) {
  const names = state.hidden().map((c) => c.label ?? c.id);
  if (!names.length) return "";
  const how = full ? `a page shows ${choices.most.schedules}: remove one to add another` : "Add a schedule brings the first of them";
  return `Also in the file: ${names.join("; ")} (${how}).`;
}

function trail(element) {
  const kind = `#controls ${element.tagName.toLowerCase()}`;
  return { kind, index: [...document.querySelectorAll(kind)].indexOf(element) };
}

const rebuilt = () => { build(); changed(); };
const put = (table, key, value) => { if (value === undefined || value === "") delete table[key]; else table[key] = value; };

// -- patients, rule, ensemble -----------------------------------------------------------------------

function trial() {
  const { doc } = state;
  const data = doc.data;
  const own = choices.populations.find((p) => p.name === data.population);
  const who = node("fieldset", {}, node("legend", { class: "hidden" }, "Patients"));
  who.append(field("Population", {
    paths: [["population"], ["disease"]], value: data.population ?? "", options: choices.populations.map((p) => [p.name, p.title]), wide: true,
    set: (v) => { data.population = v; delete data.disease; delete data.condition; delete data.patients; rebuilt(); },
  }).made);
  const moved = [
    ["age", "median_age_years", "Median age", "years", 18, 90, 1],
    ["weight", "median_weight_kg", "Median weight", "kg", 40, 130, 1],
    ["crcl", "median_creatinine_clearance_mL_min", "Median creatinine clearance", "mL/min", 15, 150, 1],
  ];
  for (const [name, key, label, unit, least, most, step] of moved) {
    const usual = own ? own.medians[name] : Math.round((least + most) / 2);
    who.append(slider(label, {
      paths: [["patients", key]], value: data.patients?.[key], usual, unit, whose: "the population's",
      least: Math.min(least, Math.floor(usual / 2)), most, step,
      set: (v) => {
        data.patients ??= {};
        put(data.patients, key, v);
        if (!Object.keys(data.patients).length) delete data.patients;
        changed();
      },
    }));
  }
  return group(part("patients", "Patients", who), part("rule", "Rule", rule(data)), part("model", "Model and simulation", ensemble(doc, data)));
}

// file -> the change of the rule that it brought, and whether its rule is the protocol's
const unchanged = new WeakMap();

const changeOf = (data) => JSON.stringify(Object.entries(data.rule_change ?? {}).sort());

function rule(data) {
  const box = node("fieldset", {}, node("legend", { class: "hidden" }, "Rule"));
  const card = choices.rules.find((r) => r.name === data.rule);
  box.append(field("Count rule", {
    paths: [["rule"]], value: data.rule ?? "", options: choices.rules.map((r) => [r.name, r.name]), wide: true,
    set: (v) => {
      data.rule = v;
      data.rule_is_protocols = false;
      unchanged.delete(data);
      for (const key of ["rule_note", "rule_change", "clocks"]) delete data[key];
      for (const cohort of state.every()) { delete cohort.rule; delete cohort.clocks; }
      rebuilt();
    },
  }).made);
  if (card) box.append(node("p", { class: "label" }, card.text));
  const set = (key) => (v) => {
    if (!unchanged.has(data)) unchanged.set(data, { change: changeOf(data), protocols: data.rule_is_protocols });
    data.rule_change ??= {};
    put(data.rule_change, key, v);
    if (!Object.keys(data.rule_change).length) delete data.rule_change;
    const { change, protocols } = unchanged.get(data);
    put(data, "rule_is_protocols", changeOf(data) === change ? protocols : false);
    changed();
  };
  const at = (line) => (v) => {
    const before = data.rule_change?.recovered ?? { ...card.at };
    const now = { ...before };
    put(now, line, v ?? card.at[line]);
    set("recovered")(Object.keys(now).every((l) => now[l] === card.at[l]) ? undefined : now);
  };
  if (card) {
    box.append(slider("By day", { paths: [["rule_change", "by_day"]], value: data.rule_change?.by_day, usual: card.by_day, whose: "the rule's", least: 14, most: 90, step: 1, set: set("by_day") }));
    for (const line of card.kind === "not_recovered" ? Object.keys(card.at) : []) {
      box.append(slider(`${line[0].toUpperCase()}${line.slice(1)} recovered at`, {
        paths: [["rule_change", "recovered", line]], value: data.rule_change?.recovered?.[line], usual: card.at[line], whose: "the rule's", unit: "10⁹/L",
        least: line === "platelets" ? 5 : 0.1, most: line === "platelets" ? 150 : 2, step: line === "platelets" ? 5 : 0.1, set: at(line),
      }));
    }
  }
  return box;
}

const visits = new WeakMap(); // file -> its days and visits, before a control changed them

function ensemble(doc, data) {
  const box = node("fieldset", {}, node("legend", { class: "hidden" }, "Model and simulation"));
  const twice = node("p", { class: "label" });
  if (data.visit_days !== undefined && !visits.has(data)) visits.set(data, [data.horizon_days, data.visit_days]);
  const [most, own] = visits.get(data) ?? [];
  const told = () => { twice.textContent = own !== undefined && data.visit_days === undefined ? `Visits are twice a week: those of the file need ${most} days.` : ""; };
  const days = (v) => {
    put(data, "horizon_days", asNumber(v));
    put(data, "visit_days", data.horizon_days < most ? undefined : own); // without days, they stay
    told();
    changed();
  };
  told();
  box.append(field("Parameters", {
    paths: [["page", "ensemble"]], value: doc.ensemble, options: choices.ensembles.map((e) => [e.name, e.text]), wide: true, set: (v) => { doc.ensemble = v; changed(); },
  }).made);
  const rows = node("div", { class: "fields" });
  rows.append(
    field("Draws", { paths: [["page", "draws"]], value: doc.draws, set: (v) => { doc.draws = asNumber(v) ?? choices.usual.draws; changed(); }, attributes: { inputmode: "numeric" } }).made,
    field("Patients", { paths: [["page", "patients"]], value: doc.patients, set: (v) => { doc.patients = asNumber(v) ?? choices.usual.patients; changed(); }, attributes: { inputmode: "numeric" } }).made,
    field("Seed", { paths: [["page", "seed"]], value: doc.seed, set: (v) => { doc.seed = asNumber(v) ?? choices.usual.seed; changed(); }, attributes: { inputmode: "numeric" } }).made,
    field("Days simulated", { paths: [["horizon_days"]], value: data.horizon_days, set: days, attributes: { inputmode: "numeric" } }).made,
  );
  box.append(rows, twice, growthFactor(data));
  return box;
}

function growthFactor(data) {
  const box = node("details", { id: "growth-factor" }, node("summary", {}, "Growth factor by need"));
  const rows = node("div", { class: "fields" });
  const set = (key) => (v) => {
    data.growth_factor ??= { drug: choices.growth_factors[0], below: 0.5 };
    put(data.growth_factor, key, v);
    changed();
  };
  const options = [["", "none"], ...choices.growth_factors.map((g) => [g, g])];
  rows.append(
    field("Drug", { paths: [["growth_factor", "drug"], ["growth_factor"]], value: data.growth_factor?.drug ?? "", options, set: (v) => { if (v) set("drug")(v); else { delete data.growth_factor; changed(); } rebuilt(); } }).made,
  );
  if (data.growth_factor) {
    rows.append(
      field("Neutrophils below, 10⁹/L", { paths: [["growth_factor", "below"]], value: data.growth_factor.below ?? "", set: (v) => set("below")(asNumber(v)) }).made,
      field("From day", { paths: [["growth_factor", "from_day"]], value: data.growth_factor.from_day ?? "", set: (v) => set("from_day")(asNumber(v)) }).made,
    );
  }
  box.append(rows);
  return box;
}

// -- schedules ----------------------------------------------------------------------------------------

function schedule(cohort, index) {
  const box = node("fieldset", { class: "schedule" }, node("legend", { class: "hidden" }, `Schedule ${index + 1}`));
  box.style.setProperty("--colour", COLOURS[index]);
  box.append(field("Name", { paths: [["cohort", index, "label"], ["cohort", index, "id"]], value: cohort.label ?? cohort.id, wide: true, set: (v) => { cohort.label = v || undefined; changed(); } }).made);
  const names = state.courseNames(cohort);
  for (const name of names) box.append(course(cohort, index, name, names.length > 1));
  const tools = node("p", { class: "row" });
  tools.append(button("Add a course", () => { state.addCourse(cohort); rebuilt(); }, { "aria-label": `Add a course to schedule ${index + 1}` }));
  if (state.cohorts().length > 1) tools.append(button("Remove this schedule", () => { state.removeCohort(index); rebuilt(); }, { "aria-label": `Remove schedule ${index + 1}` }));
  box.append(tools);
  const made = part(`schedule-${index}`, titled(index, cohort.label ?? cohort.id), box);
  made.style.setProperty("--colour", COLOURS[index]);
  made.classList.add("of-schedule");
  return made;
}

function course(cohort, index, name, several) {
  const found = state.effective(cohort, "course", name);
  const box = node("fieldset", {}, node("legend", {}, `Course ${name}`));
  const paths = (key) => [["cohort", index, "change", name, key], ["course", name, key]];
  const set = (key, read = asNumber) => (v) => { if (state.change(cohort, "course", name, key, read(v)) !== name) build(); changed(); };
  for (const dose of found.doses ?? []) box.append(drug(cohort, index, name, dose, (found.doses ?? []).length));
  const add = field("Add a drug", {
    paths: [["cohort", index, "change", name, "doses"], ["course", name, "doses"], ["course", name], ["cohort", index, "courses"]],
    value: "", options: [["", "choose"], ...choices.drugs.map((d) => [d.name, d.name])], wide: true,
    set: (v) => { if (v) { state.addDrug(cohort, name, choices.drugs.find((d) => d.name === v)); rebuilt(); } },
  });
  const rows = node("div", { class: "fields" });
  for (const [key, label] of [["start_day", "Starts on day"], ["cycle_days", "Cycle, days"], ["cycles", "Cycles"]]) {
    rows.append(field(label, { paths: paths(key), value: found[key] ?? "", set: set(key), attributes: { inputmode: "numeric", placeholder: key === "cycles" ? "1" : key === "start_day" ? "in turn" : "" } }).made);
  }
  box.append(add.made, rows, gate(cohort, index, name, found, "gate", "Counts needed before the course"), gate(cohort, index, name, found, "between", "Counts needed before each further cycle"), reductions(cohort, index, name, found));
  if (several) box.append(button("Remove this course", () => { state.removeCourse(cohort, name); rebuilt(); }, { "aria-label": `Remove course ${name} of schedule ${index + 1}` }));
  return box;
}

const AMOUNT = /^\s*([0-9.]+(?:e[+-]?[0-9]+)?)\s*(.*)$/i; // a number, its unit

function drug(cohort, index, courseName, name, number) {
  const found = state.effective(cohort, "dose", name);
  const own = found.drug ?? name;
  const card = choices.drugs.find((d) => d.name === own);
  const box = node("fieldset", {}, node("legend", {}, own));
  const paths = (key) => [["cohort", index, "change", name, key], ["dose", name, key]];
  const set = (key) => (v) => { if (state.change(cohort, "dose", name, key, v === "" && key === "duration" ? undefined : v) !== name) build(); changed(); };
  const of = AMOUNT.exec(found.amount ?? "");
  const amount = field("Dose", { paths: [...paths("amount"), ["cohort", index, "change", name], ["dose", name]], value: found.amount ?? "", set: (v) => { const now = AMOUNT.exec(v); if (now) range.value = now[1]; set("amount")(v); }, wide: true });
  const most = of ? 3 * Math.max(Number(of[1]), card?.usual?.value ?? 0) : 100;
  const step = 10 ** Math.floor(Math.log10(most / 30));
  const range = node("input", { type: "range", min: step, max: Math.ceil(most / step) * step, step, "aria-label": `Dose of ${own} in schedule ${index + 1}, slider` });
  range.value = of ? of[1] : step;
  range.addEventListener("input", () => {
    const unit = AMOUNT.exec(amount.input.value)?.[2] || card?.unit || "mg";
    amount.input.value = `${state.round(range.value)} ${unit}`;
    range.setAttribute("aria-valuetext", amount.input.value);
    set("amount")(amount.input.value);
  });
  range.setAttribute("aria-valuetext", found.amount ?? "");
  amount.input.after(range);
  const rows = node("div", { class: "fields" }, amount.made);
  rows.append(
    field("Days", { paths: paths("days"), value: Array.isArray(found.days) ? found.days.join(", ") : (found.days ?? ""), set: set("days"), hint: 'such as "1-5" or "1, 8, 15"' }).made,
    field("Route", { paths: paths("route"), value: found.route ?? "", options: (card?.routes ?? [found.route]).map((r) => [r, r]), set: set("route") }).made,
    field("Infusion", { paths: paths("duration"), value: found.duration ?? "", set: set("duration"), attributes: { placeholder: "at once" } }).made,
  );
  box.append(rows);
  if (number > 1) box.append(button(`Remove ${own}`, () => { state.removeDrug(cohort, courseName, name); rebuilt(); }, { "aria-label": `Remove ${own} from schedule ${index + 1}` }));
  return box;
}

function gate(cohort, index, name, found, key, label) {
  const named = typeof found[key] === "string" ? state.doc.data.gate?.[found[key]] : found[key];
  const now = named ? { ...named } : {};
  const box = node("details", { id: `${key}-${index}-${name}` }, node("summary", {}, `${label}: ${gateWords(now)}`));
  const rows = node("div", { class: "fields" });
  const paths = (inner) => [["cohort", index, "change", name, key, inner], ["course", name, key, inner], ...(typeof found[key] === "string" ? [["gate", found[key], inner]] : [])];
  const set = (inner) => (v) => {
    for (const about of ["source", "status"]) delete now[about];
    put(now, inner, inner === "if_not_met" ? v : asNumber(v));
    const empty = now.neutrophils === undefined && now.platelets === undefined;
    if (state.change(cohort, "course", name, key, empty ? undefined : { ...now }) !== name) build();
    box.querySelector("summary").textContent = `${label}: ${gateWords(now)}`;
    changed();
  };
  rows.append(
    field("Neutrophils, 10⁹/L", { paths: paths("neutrophils"), value: now.neutrophils ?? "", set: set("neutrophils"), attributes: { inputmode: "decimal", placeholder: "none" } }).made,
    field("Platelets, 10⁹/L", { paths: paths("platelets"), value: now.platelets ?? "", set: set("platelets"), attributes: { inputmode: "decimal", placeholder: "none" } }).made,
    field("Waits at most, days", { paths: paths("max_wait_days"), value: now.max_wait_days ?? "", set: set("max_wait_days"), attributes: { inputmode: "numeric", placeholder: "28" } }).made,
    field("If not met", { paths: paths("if_not_met"), value: now.if_not_met ?? "start", options: [["start", "start anyway"], ["stop", "stop treatment"]], set: set("if_not_met") }).made,
  );
  box.append(rows);
  return box;
}

const gateWords = (gate) => ["neutrophils", "platelets"].filter((l) => gate[l] !== undefined).map((l) => `${l} ≥ ${gate[l]}`).join(", ") || "none";

function reductions(cohort, index, name, found) {
  const { doc } = state;
  const used = found.modifications ?? [];
  const box = node("details", { id: `reductions-${index}-${name}` }, node("summary", {}, `Holds and reductions: ${used.length ? used.join(", ") : "none"}`));
  for (const key of used) {
    const table = doc.data.modification?.[key];
    if (!table) continue;
    const inside = node("fieldset", {}, node("legend", {}, `${key}: ${table.drug}`));
    const rows = node("div", { class: "fields" });
    const edit = (act) => {
      const own = state.ownModification(cohort, key);
      act(doc.data.modification[own]);
      if (own !== key) build();
      changed();
    };
    const set = (inner, line) => (v) => edit((now) => {
      for (const about of ["source", "status"]) delete now[about];
      now[inner] ??= {};
      put(now[inner], line, asNumber(v));
      if (inner === "resume_at" && !Object.keys(now[inner]).length) delete now[inner];
    });
    for (const line of ["neutrophils", "platelets"]) {
      rows.append(
        field(`Held below, ${line}`, { paths: [["modification", key, "hold_below", line], ["modification", key, "hold_below"]], value: table.hold_below?.[line] ?? "", set: set("hold_below", line) }).made,
        field(`Resumed at, ${line}`, { paths: [["modification", key, "resume_at", line], ["modification", key, "resume_at"]], value: table.resume_at?.[line] ?? "", set: set("resume_at", line) }).made,
      );
    }
    rows.append(field("Lower doses on resuming", {
      paths: [["modification", key, "levels"]], value: (table.levels ?? []).join(", "), wide: true, attributes: { placeholder: 'such as "10 mg, 5 mg"' },
      set: (v) => edit((now) => { const levels = v.split(",").map((t) => t.trim()).filter(Boolean); if (levels.length) now.levels = levels; else delete now.levels; }),
    }).made);
    inside.append(rows, button("Remove", () => { state.change(cohort, "course", name, "modifications", used.filter((u) => u !== key)); state.forget("modification", [key]); rebuilt(); }, { "aria-label": `Remove the reduction ${key}` }));
    box.append(inside);
  }
  const drugs = [...new Set((found.doses ?? []).map((d) => state.effective(cohort, "dose", d).drug ?? d))];
  const add = field("Hold and reduce", {
    paths: [["cohort", index, "change", name, "modifications"], ["course", name, "modifications"]], value: "", options: [["", "choose a drug"], ...drugs.map((d) => [d, d])],
    set: (v) => {
      if (!v) return;
      doc.data.modification ??= {};
      let key = `${v}_${index + 1}`;
      while (doc.data.modification[key]) key += "b";
      doc.data.modification[key] = { drug: v, hold_below: { neutrophils: 0.5 }, resume_at: { neutrophils: 1 } };
      state.change(cohort, "course", name, "modifications", [...used, key]);
      rebuilt();
    },
  });
  box.append(add.made);
  return box;
}

let built = false;

/** A part of the controls that can be folded; on a narrow screen it begins folded. */
function part(id, words, content) {
  const made = node("details", { id: `part-${id}`, class: "part" }, node("summary", {}, words), content);
  made.open = !built && window.innerWidth > 860;
  return made;
}

function group(...children) {
  const made = document.createDocumentFragment();
  made.append(...children);
  return made;
}
