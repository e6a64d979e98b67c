// The page: asks the server for what the controls say, and draws the newest answer only.

import * as state from "./state.js";
import * as controls from "./controls.js";
import { draw, drawCurves, node } from "./pictures.js";
import { tell } from "./fields.js";
import { save } from "./files.js";
import { beginDesign, refresh } from "./design.js";
import { beginPatient, refreshPatient } from "./patient.js";
import { beginExposure, refreshExposure } from "./exposure.js";

const PAGE = crypto.randomUUID?.() ?? String(Math.random());
const AGAIN_MS = 1500;
const byId = (id) => document.getElementById(id);

let turn = 0;
let shown = 0; // turn of the picture that is shown
let sketched = 0; // turn of the curves that are shown, of some draws
let underWay = false;
let waiting = false;
let whole = null; // given up where the controls move on, as the server does then
let content = null;
let drawn = false; // whether there are pictures
let address = "";
const SLOW_MS = 700;
const UNDER_WAY = "The answer to what you set is under way; the pictures are those before.";
let slow = 0;
let notice = []; // what was wrong with an address or a file, until something is changed

// -- asking ---------------------------------------------------------------------------------------

class Stopped extends Error {}

async function ask(path, body, signal) {
  let response;
  try {
    response = await fetch(path, body === undefined ? {} : {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal,
    });
  } catch {
    throw new Stopped();
  }
  return response;
}

/**
 * Simulate what the controls say; while an answer is under way only the newest wish is kept. The
 * server may answer by curves of some draws: the whole is asked for when the controls rest.
 */
function changed() {
  state.settle();
  controls.named();
  notice = [];
  turn += 1;
  byId("pictures").setAttribute("aria-busy", "true");
  clearTimeout(slow);
  slow = setTimeout(() => {
    if (shown < turn && drawn) byId("state").textContent = UNDER_WAY;
  }, SLOW_MS);
  if (underWay) {
    waiting = true;
    whole?.abort();
    return;
  }
  simulate();
}

async function simulate() {
  underWay = true;
  do {
    waiting = false;
    const number = turn;
    try {
      const first = sketched < number;
      whole = first ? null : new AbortController();
      const asked = { ...state.settings(), data: state.doc.data, tab: PAGE, turn: number, sketch: first };
      const response = await ask("api/simulate", asked, whole?.signal);
      running(true);
      if (response.status === 409) continue;
      const answer = await response.json();
      if (response.status === 202 || response.status === 503) { // it takes long, and goes on, or others wait
        say(answer.errors.map((error) => error.text));
        await pause(AGAIN_MS);
        waiting = true;
        continue;
      }
      if (answer.sketch) sketch(answer, number);
      else if (number >= shown) show(answer, number);
    } catch (error) {
      if (whole?.signal.aborted) continue;
      if (!(error instanceof Stopped)) { say([String(error)]); break; }
      running(false);
      await pause(AGAIN_MS);
      waiting = true;
    }
  } while (waiting || shown < turn);
  underWay = false;
}

const pause = (ms) => new Promise((done) => setTimeout(done, ms));

let runs = true;
function running(now) {
  if (now === runs) return;
  runs = now;
  byId("stopped").hidden = now;
  byId("pictures").classList.toggle("old", !now);
}

/** Ask for something more of these schedules, a busy server again; null where it does not answer. */
async function more(path, asked = {}) {
  try {
    for (const mine = turn; ;) {
      const response = await ask(path, { ...state.settings(), data: state.doc.data, ...asked });
      if (response.status !== 503 || mine !== turn) return await response.json();
      await pause(AGAIN_MS); // others wait, too
    }
  } catch {
    running(false);
    return null;
  }
}

const design = (asked) => more("api/design", { design: asked });
const patient = (asked) => more("api/patient", { patient: asked });
const exposure = () => more("api/exposure");

async function watch() {
  for (;;) {
    await pause(2 * AGAIN_MS);
    if (document.hidden || underWay) continue;
    try {
      await ask("api/alive");
      running(true);
    } catch {
      running(false);
    }
  }
}

/** Put the state into the address, not more than some times a second: browsers end what does. */
const APART_MS = 350;
let due = 0;
let last = -APART_MS;
function addressed() {
  const marks = document.documentElement.dataset;
  delete marks.address;
  clearTimeout(due);
  const put = () => {
    last = performance.now();
    state.toAddress(address);
    marks.address = "whole";
  };
  const wait = last + APART_MS - performance.now();
  if (wait > 0) due = setTimeout(put, wait);
  else put();
}

// -- showing --------------------------------------------------------------------------------------

function say(sentences) {
  const home = byId("problems");
  home.hidden = !sentences.length;
  home.replaceChildren(...sentences.map((text) => node("p", {}, text)));
}

/** Tell in a corner, where nothing moves and no screen reader is interrupted, what is shown for now. */
function told(text) {
  byId("sketched").textContent = text;
  byId("sketched").hidden = !text;
}

/** Draw curves of some draws; sentences, tables and risks of all of them are under way. */
function sketch(answer, number) {
  sketched = number;
  if (number === turn) clearTimeout(slow);
  byId("pictures").classList.remove("old");
  byId("pictures").classList.add("sketch");
  drawn = true;
  drawCurves(answer);
  told(answer.sketch);
  if (!content || byId("state").textContent === UNDER_WAY) summed(answer.sketch, number);
  document.documentElement.dataset.sketched = String(number);
}

function show(answer, number) {
  shown = number;
  byId("pictures").classList.remove("sketch");
  told("");
  byId("pictures").setAttribute("aria-busy", String(number < turn));
  address = answer.toml ?? "";
  if (address) addressed();
  if (answer.errors) {
    content = null;
    const rest = tell(answer.errors);
    say([...notice, ...rest]);
    const own = sketched === number; // the curves of some draws came, the whole failed
    byId("pictures").classList.toggle("sketch", own);
    byId("pictures").classList.toggle("old", !own);
    let what = drawn ? "The pictures are those before the last change, which cannot be simulated" : "These schedules cannot be simulated";
    if (own) what = "Only the curves are of what is set, under some draws; the rest cannot be simulated";
    summed(`${what}: see what is ${rest.length < answer.errors.length ? "marked" : "told"}.`, number);
    return;
  }
  say([...notice, ...tell([])]);
  byId("pictures").classList.remove("old");
  content = answer;
  drawn = true;
  draw(answer);
  words(answer);
  summed(`${answer.size}.`, number);
  document.documentElement.dataset.shown = String(number);
  refresh();
  refreshPatient();
  refreshExposure();
}

/** Say what the pictures are; that a newer answer is under way stays, where it is said. */
function summed(text, number) {
  const home = byId("state");
  if (number === turn || home.textContent !== UNDER_WAY) home.textContent = text;
}

function words(answer) {
  byId("title").textContent = answer.title;
  document.title = `${answer.title} - pkpd explorer`;
  byId("answer").textContent = answer.answer;
  byId("size").textContent = `${answer.size}. With few draws intervals are rough: take more in the controls.`;
  byId("simulated").textContent = `Simulated: ${answer.simulated}.`;
  byId("command").textContent = answer.command;
  byId("python").textContent = answer.python;
  const limits = [...answer.limits, ...answer.assumptions.filter((a) => !answer.limits.includes(a))];
  byId("assumptions").querySelector("ul").replaceChildren(...limits.map((text) => node("li", {}, text)));
  const inputs = answer.schedules.map((s) => {
    const list = answer.assumed[s.id] ?? [];
    const items = list.length ? list.map((text) => node("li", {}, text)) : [node("li", {}, "none is marked as assumed")];
    return node("div", {}, node("h3", {}, s.label), node("ul", {}, ...items));
  });
  byId("assumed").querySelector("div").replaceChildren(...inputs);
  const most = Math.max(...Object.values(answer.assumed).map((a) => a.length));
  byId("assumed").querySelector("summary").textContent = `Assumed inputs (${most})`;
  byId("schedule-words").querySelector("div").replaceChildren(
    ...answer.schedules.flatMap((s) => [node("h3", {}, s.label), node("pre", { tabindex: "0" }, s.words)]),
  );
}

// -- files and address ----------------------------------------------------------------------------

const stem = () => (content?.title ?? "explored").toLowerCase().replace(/[^a-z0-9]+/g, "-").slice(0, 40).replace(/^-|-$/g, "") || "explored";
const done = (text) => { byId("files-said").textContent = text; };

/** What files and links are of, once the answer to what is set is there: its file or its Python. */
function answered(wanted) {
  const found = shown >= turn ? wanted() : null;
  if (!found) done(shown < turn ? "The answer to what you set is under way; ask again when it is there." : "What is set cannot be simulated, and is not saved: see what is marked.");
  return found;
}

byId("get-toml").addEventListener("click", () => { if (!answered(() => address)) return; save("explored.toml", address, "application/toml"); done("explored.toml is saved."); });
byId("get-python").addEventListener("click", () => { const python = answered(() => content?.python); if (python) { save(`${stem()}.py`, python, "text/x-python"); done("The Python is saved."); } });
byId("get-csv").addEventListener("click", async () => {
  try {
    const response = await ask("api/csv", { ...state.settings(), data: state.doc.data });
    if (response.ok) save(`${stem()}.csv`, await response.text(), "text/csv");
    else say((await response.json()).errors.map((e) => e.text));
  } catch {
    running(false);
  }
});
byId("copy-link").addEventListener("click", async () => {
  if (!answered(() => address)) return;
  state.toAddress(address);
  try {
    await navigator.clipboard.writeText(location.href);
    done("The link is copied; it opens where this server runs.");
  } catch {
    done("The address bar holds the link.");
  }
});
byId("open").addEventListener("change", async (event) => {
  const [file] = event.target.files;
  event.target.value = "";
  if (!file) return;
  if (file.size > 200_000) { say([`${file.name}: it has ${Math.round(file.size / 1000).toLocaleString("en")} kB; allowed: schedule files up to 200 kB.`]); return; }
  await take(await file.text());
});
byId("add").addEventListener("click", () => {
  state.addCohort(state.hidden()[0] ?? state.cohorts().at(-1));
  controls.build();
  changed();
});
byId("controls").addEventListener("submit", (event) => event.preventDefault());

/** Show a schedule file that is given as text. */
async function take(toml) {
  try {
    const answer = await (await ask("api/open", { toml })).json();
    if (answer.errors) {
      notice = answer.errors.map((e) => e.text);
      say(notice);
      return false;
    }
    state.take(answer.data, most);
    controls.build();
    changed();
    return true;
  } catch {
    running(false);
    return false;
  }
}

let most = 4;

window.addEventListener("hashchange", async () => {
  const toml = state.fromAddress();
  if (toml !== null) await take(toml);
});

async function begin() {
  byId("state").textContent = "Loading the model; the first picture takes a few seconds.";
  for (;;) {
    try {
      const start = await (await ask("api/start")).json();
      if (start.errors) { say(start.errors.map((e) => e.text)); return; }
      running(true);
      most = start.choices.most.schedules;
      Object.assign(state.doc, start.choices.usual);
      controls.begin(start.choices, changed);
      beginDesign(start.choices, design);
      beginPatient(patient);
      beginExposure(exposure);
      const toml = state.fromAddress();
      if (toml === null || !(await take(toml))) {
        const told = notice;
        state.take(start.data, most, start.first);
        controls.build();
        changed();
        notice = told;
      }
      break;
    } catch (error) {
      if (!(error instanceof Stopped)) { say([String(error)]); return; }
      running(false);
      await pause(AGAIN_MS);
    }
  }
  watch();
}

begin();
