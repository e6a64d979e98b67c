// The state of the page: a schedule file as a table, and how it is simulated. It lives in the URL.

export const doc = { data: {}, patients: 48, draws: 21, seed: 1, ensemble: "learned" };
export let library = []; // schedules of the file that was opened, beyond those that are shown

const SETTINGS = ["patients", "draws", "seed", "ensemble"];

export const copy = (value) => JSON.parse(JSON.stringify(value));

export function settings() {
  return Object.fromEntries(SETTINGS.map((name) => [name, doc[name]]));
}

/** Show a schedule file: at most `most` of its schedules, the others can be added. */
export function take(data, most, first = most) {
  doc.data = copy(data);
  delete doc.data.question; // what a comparison answers beyond its figures
  const cohorts = Array.isArray(doc.data.cohort) ? doc.data.cohort : null;
  if (!cohorts || !cohorts.length) doc.data.cohort = [{ id: "A" }];
  library = doc.data.cohort.slice();
  read.clear();
  for (const cohort of library) read.set(cohort.id, { cohort: copy(cohort), ...said(cohort) });
  read.set(WHOLE, copy(doc.data.published ?? null));
  doc.data.cohort = doc.data.cohort.slice(0, Math.min(most, first));
}

/** Schedules of the file that are not shown: they come one by one when a schedule is added. */
export function hidden() {
  const ids = cohorts().map((c) => c.id);
  return library.filter((c) => !ids.includes(c.id));
}

/** Schedules that are shown, and those that can be added. */
export const every = () => [...new Set([...cohorts(), ...library])];

/** Settings and TOML from the address bar, or null if it has none. */
export function fromAddress() {
  const found = new URLSearchParams(location.hash.slice(1));
  if (!found.has("toml")) return null;
  for (const name of SETTINGS) {
    if (!found.has(name)) continue;
    const text = found.get(name);
    doc[name] = name === "ensemble" || text.trim() === "" || Number.isNaN(Number(text)) ? text : Number(text);
  }
  return found.get("toml");
}

export function toAddress(toml) {
  const found = new URLSearchParams({ ...settings(), toml });
  const wanted = `#${found}`;
  if (location.hash !== wanted) history.replaceState(null, "", wanted);
}

// -- schedules: cohorts of the file, each with its changes of shared doses and courses ------------

export const cohorts = () => doc.data.cohort;
export const courseNames = (cohort) => cohort.courses ?? Object.keys(doc.data.course ?? {});

/** A dose or course as one schedule has it. */
export function effective(cohort, kind, name) {
  return { ...(doc.data[kind]?.[name] ?? {}), ...(cohort.change?.[name] ?? {}) };
}

// -- what a file says of its schedules: true of them as they were read, and of no other -----------

const WHOLE = Symbol("the trial"); // what it published of all its cohorts together
const read = new Map(); // id -> cohort as it was read, what it was given then, and the rule
const OF_COHORT = ["published", "n", "level", "note"];
const CHANGED = " (changed)";

/** What patients of a schedule are given and who they are, and the rule, as texts to compare. */
function said(cohort) {
  const { data } = doc;
  const named = (kind, key) => (typeof key === "string" ? (data[kind]?.[key] ?? key) : key);
  const list = (value) => (Array.isArray(value) ? value : []); // the server tells what it should be
  const courses = list(courseNames(cohort)).map((name) => {
    const found = effective(cohort, "course", name);
    return {
      ...found, gate: named("gate", found.gate), between: named("gate", found.between),
      doses: list(found.doses).map((dose) => ({ drug: dose, ...effective(cohort, "dose", dose) })),
      modifications: list(found.modifications).map((key) => named("modification", key)),
    };
  });
  const { population, disease, condition, patients, growth_factor } = data;
  return {
    given: JSON.stringify(bare({ courses, own: cohort.patients, population, disease, condition, patients, growth_factor })),
    rule: JSON.stringify(bare([data.rule, data.rule_change, data.clocks, cohort.rule, cohort.clocks])),
  };
}

/** The same without sources, keys in one order. */
function bare(value) {
  if (Array.isArray(value)) return value.map(bare);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.keys(value).filter((k) => !DESCRIBED.includes(k)).sort().map((k) => [k, bare(value[k])]));
}

/**
 * Take from schedules that were changed what was published of those that were read, and say in their
 * names that they were; give it back where they are again as they were.
 */
export function settle() {
  let whole = true;
  for (const cohort of cohorts()) {
    const was = read.get(cohort.id);
    if (!was) continue;
    const now = said(cohort);
    const same = now.given === was.given;
    whole = whole && same && now.rule === was.rule;
    for (const key of OF_COHORT) {
      let value = same ? was.cohort[key] : undefined;
      if (key === "published" && Array.isArray(value) && now.rule !== was.rule) value = value.filter((one) => !String(one.endpoint).startsWith("dlt"));
      if (value === undefined || value.length === 0) delete cohort[key];
      else cohort[key] = copy(value);
    }
    const name = was.cohort.label ?? was.cohort.id;
    const marked = String(name).endsWith(CHANGED) ? name : `${name}${CHANGED}`;
    if (!same && (cohort.label ?? cohort.id) === name) cohort.label = marked;
    if (same && cohort.label === marked) cohort.label = was.cohort.label;
  }
  const published = read.get(WHOLE);
  if (whole && published) doc.data.published = copy(published);
  else delete doc.data.published;
}

/** Set a key of a dose or course in one schedule; what was read before is now the user's own. */
export function change(cohort, kind, name, key, value) {
  if (value === undefined) return without(cohort, kind, name, key);
  cohort.change ??= {};
  const table = (cohort.change[name] ??= {});
  table[key] = value;
  if (doc.data[kind]?.[name]?.source !== undefined || table.source !== undefined) own(table, key);
  return name;
}

const DESCRIBED = ["source", "status", "note"];

/** Say that a key of a table was set here. */
function own(table, key) {
  const said = { source: "set in the explorer", status: "assumed" };
  for (const about of ["source", "status"]) {
    const before = table[about];
    const keys = Object.keys(table).filter((k) => !DESCRIBED.includes(k) && k !== "drug");
    const each = typeof before === "object" && before !== null ? before : {};
    const all = typeof before === "string" ? before : said[about];
    table[about] = Object.fromEntries(keys.map((k) => [k, k === key ? said[about] : (each[k] ?? all)]));
  }
}

/** Give one schedule a dose or course of its own that lacks a key. */
function without(cohort, kind, name, key) {
  if (doc.data[kind]?.[name]?.[key] === undefined) {
    const table = cohort.change?.[name];
    if (table) drop(table, key);
    return name;
  }
  const made = unused(`${name}_${slug(cohort.id)}`);
  const table = copy(effective(cohort, kind, name));
  drop(table, key);
  everyCourse();
  if (kind === "course") {
    cohort.courses = courseNames(cohort).map((c) => (c === name ? made : c));
  } else {
    table.drug ??= name;
    for (const course of courseNames(cohort)) {
      const doses = effective(cohort, "course", course).doses ?? [];
      if (doses.includes(name)) change(cohort, "course", course, "doses", doses.map((d) => (d === name ? made : d)));
    }
  }
  doc.data[kind][made] = table;
  if (cohort.change) delete cohort.change[name];
  return made;
}

function drop(table, key) {
  delete table[key];
  for (const about of ["source", "status"]) if (typeof table[about] === "object") delete table[about][key];
}

/** Write out which courses each schedule has, hidden ones too, before another is added to the file. */
function everyCourse() {
  for (const cohort of every()) cohort.courses = courseNames(cohort).slice();
}

export function addDrug(cohort, course, drug) {
  const name = unused(drug.name);
  const amount = drug.usual ? `${round(drug.usual.value)} ${drug.usual.unit}` : `1 ${drug.unit}`;
  const dose = { amount, days: "1-5", route: drug.routes[0] };
  if (dose.route === "iv") dose.duration = "1 h";
  if (name !== drug.name) dose.drug = drug.name;
  doc.data.dose[name] = dose;
  change(cohort, "course", course, "doses", [...(effective(cohort, "course", course).doses ?? []), name]);
}

export function removeDrug(cohort, course, name) {
  const drugOf = (dose) => effective(cohort, "dose", dose).drug ?? dose;
  const { doses = [], modifications = [] } = effective(cohort, "course", course);
  const left = doses.filter((d) => d !== name);
  change(cohort, "course", course, "doses", left);
  const held = (key) => doc.data.modification?.[key]?.drug !== drugOf(name);
  if (!left.some((d) => drugOf(d) === drugOf(name)) && !modifications.every(held)) change(cohort, "course", course, "modifications", modifications.filter(held));
  tidy(cohort);
  forget("dose", [name]);
  forget("modification", modifications);
}

/** Take doses or holds that no course names any more from the file. */
export function forget(kind, names) {
  const tables = [...Object.values(doc.data.course ?? {}), ...every().flatMap((c) => Object.values(c.change ?? {}))];
  for (const name of names) if (!tables.some((t) => t[`${kind}s`]?.includes(name))) delete doc.data[kind]?.[name];
}

/** Forget changes of what a schedule has no more; a dose that another of its courses gives keeps its own. */
function tidy(cohort) {
  const names = courseNames(cohort);
  const given = new Set([...names, ...names.flatMap((c) => effective(cohort, "course", c).doses ?? [])]);
  for (const name of Object.keys(cohort.change ?? {})) if (!given.has(name)) delete cohort.change[name];
}

/** Hold of a course that no other schedule has: where another names it, a copy of its own. */
export function ownModification(cohort, key) {
  const having = (c) => courseNames(c).filter((n) => effective(c, "course", n).modifications?.includes(key));
  if (!every().some((c) => c.id !== cohort.id && having(c).length)) return key;
  let made = `${key}_${slug(cohort.id)}`;
  while (doc.data.modification[made]) made += "b";
  doc.data.modification[made] = copy(doc.data.modification[key]);
  for (const course of having(cohort)) change(cohort, "course", course, "modifications", effective(cohort, "course", course).modifications.map((m) => (m === key ? made : m)));
  return made;
}

export function addCourse(cohort) {
  everyCourse();
  const last = courseNames(cohort).at(-1);
  const made = unused("course");
  const from = last ? effective(cohort, "course", last) : {};
  doc.data.course[made] = { doses: (from.doses ?? []).slice(0, 1), cycle_days: from.cycle_days ?? 28 };
  cohort.courses = [...courseNames(cohort), made];
}

export function removeCourse(cohort, name) {
  everyCourse();
  const had = [doc.data.course?.[name] ?? {}, effective(cohort, "course", name)];
  cohort.courses = cohort.courses.filter((c) => c !== name);
  tidy(cohort);
  if (!every().some((c) => c.courses.includes(name))) delete doc.data.course?.[name];
  for (const kind of ["dose", "modification"]) forget(kind, had.flatMap((t) => t[`${kind}s`] ?? []));
}

export function addCohort(like) {
  const made = copy(like);
  const ids = cohorts().map((c) => c.id);
  if (ids.includes(made.id)) {
    for (const key of ["published", "n", "level", "note"]) delete made[key];
    let number = 2;
    const base = String(made.id);
    while (ids.includes(`${base} (${number})`)) number += 1;
    made.id = `${base} (${number})`;
    if (made.label) made.label = `${made.label} (${number})`;
  }
  cohorts().push(made);
}

export function removeCohort(index) {
  cohorts().splice(index, 1);
}

function unused(wanted) {
  const taken = new Set([...Object.keys(doc.data.dose ?? {}), ...Object.keys(doc.data.course ?? {}), "first_dose"]);
  if (!taken.has(wanted)) return wanted;
  let number = 2;
  while (taken.has(`${wanted}_${number}`)) number += 1;
  return `${wanted}_${number}`;
}

const slug = (text) => String(text).replace(/[^A-Za-z0-9_-]+/g, "_");
export const round = (value) => Number(Number(value).toPrecision(3));
