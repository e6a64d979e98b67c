// Native controls with a label, a place in the file, and room for what is wrong with them.

import { node } from "./pictures.js";

let number = 0;
let known = []; // every control with the places in the file that it is about
const others = new Map(); // controls of other parts of the page, which forget and tell by themselves

export function forget() {
  known = [];
}

/** Make or tell the controls of a part of the page that has its own; `anew` forgets those before. */
export function sharing(part, act, anew = false) {
  const before = known;
  known = anew ? [] : (others.get(part) ?? []);
  try {
    return act();
  } finally {
    others.set(part, known);
    known = before;
  }
}

/**
 * A control: input, select or range.
 * paths: places in the file that the control is about; set: called with what it says.
 */
export function field(label, { paths = [], value = "", options = null, set, hint = "", type = "text", wide = false, area = false, attributes = {} }) {
  number += 1;
  const id = `f${number}`;
  let input;
  if (options) {
    input = node("select", { id, ...attributes });
    for (const [key, words] of options) input.append(new Option(words, key, false, key === value));
    if (!options.some(([key]) => key === value)) input.prepend(new Option(String(value), value, true, true));
    input.addEventListener("change", () => set(input.value));
  } else {
    input = area ? node("textarea", { id, ...attributes }) : node("input", { id, type, ...attributes });
    input.value = value ?? "";
    input.addEventListener("input", () => set(input.value, input));
  }
  input.setAttribute("aria-describedby", `${id}e`);
  const wrong = node("output", { class: "wrong", id: `${id}e`, for: id });
  const made = node("div", { class: wide ? "field wide" : "field" }, node("label", { for: id }, label), input, wrong);
  if (hint) input.title = hint;
  if (paths.length) known.push({ paths, input, wrong });
  return { made, input };
}

/** A slider with a number beside it, both of one value. */
export function slider(label, { paths, value, least, most, step, unit, set, usual, whose }) {
  const own = value !== undefined && value !== null;
  const shown = own ? value : usual;
  const text = field(`${label}${unit ? `, ${unit}` : ""}`, {
    paths, value: own ? String(value) : "", set: (v) => { if (!Number.isNaN(Number(v)) && v.trim()) range.value = Number(v); said(v); set(asNumber(v)); },
    attributes: { inputmode: "decimal", placeholder: `${usual} (${whose})` }, wide: true,
  });
  const range = node("input", { type: "range", min: least, max: most, step, "aria-label": `${label}${unit ? `, ${unit}` : ""}, slider` });
  range.value = shown;
  const said = (v) => range.setAttribute("aria-valuetext", `${v || usual} ${unit ?? ""}`);
  said(own ? value : "");
  range.addEventListener("input", () => { text.input.value = range.value; said(range.value); set(Number(range.value)); });
  text.input.after(range);
  return text.made;
}

/** A number if it is one, nothing if it is empty, else the text, which the server refuses in words. */
export function asNumber(words) {
  const text = String(words).trim();
  if (!text) return undefined;
  return Number.isNaN(Number(text)) ? text : Number(text);
}

export function button(words, act, attributes = {}) {
  const made = node("button", { type: "button", class: "small", ...attributes }, words);
  made.addEventListener("click", act);
  return made;
}

/** Put each sentence beside its control; return those that have none. */
export function tell(errors) {
  for (const control of known) {
    control.wrong.textContent = "";
    control.input.removeAttribute("aria-invalid");
  }
  const rest = [];
  for (const error of errors) {
    let best = null;
    let length = 0;
    for (const control of known) {
      for (const path of control.paths) {
        // of two that share as much, the one that is about nothing more
        const shared = common(path, error.path ?? []) - path.length / 1000;
        if (shared > length) [best, length] = [control, shared];
      }
    }
    if (!best) { rest.push(error.text); continue; }
    best.wrong.textContent += `${best.wrong.textContent ? " " : ""}${error.text}`;
    best.input.setAttribute("aria-invalid", "true");
    for (let fold = best.input.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  }
  return rest;
}

/** How many steps two places share; none unless one lies inside the other. */
function common(path, place) {
  if (!place.length) return 0;
  const steps = place.flatMap((step) => (typeof step === "string" ? step.split(".") : [step])).map(String);
  const least = Math.min(path.length, steps.length);
  for (let i = 0; i < least; i += 1) if (String(path[i]) !== steps[i]) return 0;
  return least;
}
