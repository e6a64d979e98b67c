"""Problems that data cannot answer, and ordinary ones: what a fit says of them.

Ill-posed problems are drawn at random (structure, design, defect) with the truth known. Each ends
as ``right`` (every interval that is told holds the truth), ``named`` (a sentence names the defect),
``poor`` (there is a sentence, which names something else) or ``wrong`` (without a word). Ordinary
studies tell how often 95 % intervals hold the truth, how often the judge cries for nothing, and
what it costs.

    python -m benchmarks.honest --problems 500 --ordinary 200 --jobs 2 --folder build/honest
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

import pkpd
from pkpd.errors import PkpdError, PkpdWarning
from pkpd.fitting.kept import KeptFits
from pkpd.models import (
    PopulationModel,
    compartments,
    covariate,
    derived,
    fixed,
    parameter,
    residual,
    simulate_data,
)

LEVEL = 0.999  # of intervals that are to hold the truth of one ill-posed problem
DOSE = 100.0
TRUTH = {"ka": 1.0, "CL": 4.0, "V": 30.0, "V1": 20.0, "Q": 3.0, "V2": 40.0}
SPREAD = {"ka": 0.4, "CL": 0.3, "V": 0.25, "V1": 0.25}
STRUCTURES = {
    "one": ({"n": 1}, ("CL", "V")),
    "oral": ({"n": 1, "absorption": "first_order"}, ("ka", "CL", "V")),
    "two": ({"n": 2}, ("CL", "V1", "Q", "V2")),
}


@dataclass
class Problem:
    """A data set, a model to fit to it, the truth, and words that would name what is wrong."""

    kind: str
    model: PopulationModel
    table: pd.DataFrame
    truth: dict[str, float]
    words: str = ""
    covariates: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)


# Studies ----------------------------------------------------------------------------------------


def design(times: Iterable[float], subjects: int, **columns: Any) -> pd.DataFrame:
    """Give one dose at 0 and samples, the same for all subjects."""
    times = [float(t) for t in times]
    one = pd.DataFrame(
        {
            "TIME": [0.0, *times],
            "AMT": [DOSE, *(0.0 for _ in times)],
            "EVID": [1, *(0 for _ in times)],
            "DV": [0.0, *(1.0 for _ in times)],
        }
    )
    table = pd.concat([one.assign(ID=i) for i in range(1, subjects + 1)], ignore_index=True)
    return table.assign(**{n: np.asarray(v)[table["ID"] - 1] for n, v in columns.items()})


def simulated(
    table: pd.DataFrame, truth: PopulationModel, seed: int, covariates: tuple[str, ...] = ()
) -> pd.DataFrame:
    """Fill in measurements of new patients under a model."""
    data = simulate_data(truth, pkpd.read_nonmem(table, covariates=list(covariates)), seed=seed)
    out = table.copy()
    out.loc[data.observations.row, "DV"] = np.maximum(data.observations.value, 1e-9)
    return out


def population(
    structure: str, error: Any, off: dict[str, float] | None = None, **more: Any
) -> PopulationModel:
    """Make a model of a structure, started at ``off`` times the truth; ``more`` by parameter."""
    how, names = STRUCTURES[structure]
    arguments = dict(how)
    made = [
        parameter(
            name,
            TRUTH[name] * (off or {}).get(name, 1.0),
            iiv=SPREAD.get(name),
            **more.get(name, {}),
        )
        for name in names
    ]
    return PopulationModel(compartments(arguments.pop("n"), **arguments), made, error)


def _sampled(rng: np.random.Generator, count: int) -> list[float]:
    """Spread times over a day, about evenly on a log scale."""
    grid = np.geomspace(0.3, 24.0, count)
    return np.unique(np.round(grid * np.exp(0.15 * rng.standard_normal(count)), 2)).tolist()


def _off(rng: np.random.Generator) -> dict[str, float]:
    """Draw starts within a factor of about two."""
    return {name: float(np.exp(0.3 * rng.standard_normal())) for name in TRUTH}


def _drawn(rng: np.random.Generator) -> tuple[int, int, list[float], Any]:
    n, seed = int(rng.choice([8, 12])), int(rng.integers(2**31))
    return n, seed, _sampled(rng, 5), residual.proportional(float(rng.choice([0.1, 0.2])))


# Defects ----------------------------------------------------------------------------------------


def few_samples(rng: np.random.Generator) -> Problem:
    """Two or three subjects with two samples, or three or four with one."""
    _, seed, times, error = _drawn(rng)
    n, k = ((3, 1), (2, 2), (4, 1), (3, 2))[int(rng.integers(4))]
    table = simulated(design(times[-k:], n), population("one", error), seed)
    words = (
        "fewer observations|two observations|run to zero|at zero|not told|only together|no standard"
    )
    truth = {"CL": TRUTH["CL"], "V": TRUTH["V"]}
    return Problem("few samples", population("one", error, _off(rng)), table, truth, words)


def large_model(rng: np.random.Generator) -> Problem:
    """Two compartments fitted to data of one."""
    n, seed, times, error = _drawn(rng)
    table = simulated(design(times, n), population("one", error), seed)
    made = population("two", error, _off(rng))
    return Problem("large model", made, table, {"CL": TRUTH["CL"]}, r"\bQ\b|\bV2\b|Hessian")


def copies(rng: np.random.Generator) -> Problem:
    """Each subject stands in the table four times."""
    n, seed, times, error = _drawn(rng)
    table = simulated(design(times, n), population("one", error), seed)
    table = pd.concat([table.assign(ID=table["ID"] + n * k) for k in range(4)])
    truth = {"CL": TRUTH["CL"], "V": TRUTH["V"]}
    return Problem("copies", population("one", error, _off(rng)), table, truth, "under two IDs")


def unidentified(rng: np.random.Generator) -> Problem:
    """Clearance is a product of two parameters."""
    n, seed, times, error = _drawn(rng)
    table = simulated(design(times, n), population("one", error), seed)
    parts = [
        *(parameter("A", 2.0 * float(np.exp(0.3 * rng.standard_normal())), iiv=0.3),),
        *(parameter("B", 2.0), derived("CL", lambda A, B: A * B), parameter("V", 30.0, iiv=0.25)),
    ]
    made = PopulationModel(compartments(1), parts, error)
    return Problem("unidentified", made, table, {"V": TRUTH["V"]}, r"\bA\b.*\bB\b|\bB\b.*\bA\b")


def wrong_unit(rng: np.random.Generator) -> Problem:
    """Values, amounts or times in another unit than the start of the model."""
    n, seed, times, error = _drawn(rng)
    table = simulated(design(times, n), population("one", error), seed)
    which = str(rng.choice(["DV", "AMT", "TIME"]))
    table[which] = table[which] * (60.0 if which == "TIME" else 1000.0)
    truth = {"CL": TRUTH["CL"], "V": TRUTH["V"]}
    words = "minutes" if which == "TIME" else "units"
    return Problem(f"unit of {which}", population("one", error, _off(rng)), table, truth, words)


def outlier(rng: np.random.Generator) -> Problem:
    """One value a hundred or a thousand times too large or too small."""
    n, seed, times, error = _drawn(rng)
    table = simulated(design(times, n), population("one", error), seed)
    row = int(rng.choice(np.flatnonzero(table["EVID"] == 0)))
    table.loc[row, "DV"] *= float(rng.choice([1e3, 1e2, 1e-2]))
    words = rf"row {row}\b|[Ss]ubject {table['ID'][row]}\b"
    truth = {"CL": TRUTH["CL"], "V": TRUTH["V"]}
    return Problem("outlier", population("one", error, _off(rng)), table, truth, words)


def no_absorption(rng: np.random.Generator) -> Problem:
    """Begin samples when absorption is over."""
    n, seed, _, error = _drawn(rng)
    truth = population("oral", error, ka={"fixed": True})
    table = simulated(design([8.0, 12.0, 16.0, 24.0], n), truth, seed)
    made = population("oral", error, _off(rng) | {"ka": 2.0})
    return Problem("no absorption data", made, table, {"CL": TRUTH["CL"]}, r"\bka\b|omega_ka")


def constant_covariate(rng: np.random.Generator) -> Problem:
    """Everybody has one weight."""
    n, seed, times, error = _drawn(rng)
    table = simulated(design(times, n, WT=np.full(n, 80.0)), population("one", error), seed)
    made = population("one", error, _off(rng), CL={"effects": covariate.power("WT", 80.0)})
    truth = {"CL": TRUTH["CL"], "V": TRUTH["V"]}
    return Problem("constant covariate", made, table, truth, "WT", ("WT",))


def collinear(rng: np.random.Generator) -> Problem:
    """Weight and a surface that is made of it act on clearance."""
    n, seed, times, error = _drawn(rng)
    weight = 70.0 * np.exp(0.25 * rng.standard_normal(n))
    known = {"WT": weight, "BSA": 1.8 * (weight / 70.0) ** 0.6}
    effect = covariate.power("WT", 70.0, fixed(0.75))
    truth = population("one", error, CL={"effects": effect})
    table = simulated(design(times, n, **known), truth, seed, ("WT", "BSA"))
    both = [covariate.power("WT", 70.0), covariate.power("BSA", 1.8)]
    made = population("one", error, _off(rng), CL={"effects": both})
    words = "WT.*BSA|BSA.*WT"
    return Problem("collinear", made, table, {"V": TRUTH["V"]}, words, ("WT", "BSA"))


def flip_flop(rng: np.random.Generator) -> Problem:
    """Absorption is slower than elimination, and the start is on the other side."""
    n, seed, _, error = _drawn(rng)
    how = compartments(1, absorption="first_order")
    slow = [parameter("ka", 0.15, iiv=0.3), parameter("CL", 20.0, iiv=0.3), parameter("V", 20.0)]
    table = simulated(design([0.5, 1, 2, 4, 8, 16], n), PopulationModel(how, slow, error), seed)
    start = [parameter("ka", 1.0, iiv=0.3), parameter("CL", 20.0, iiv=0.3), parameter("V", 130.0)]
    made = PopulationModel(how, start, error)
    return Problem("flip-flop", made, table, {"ka": 0.15, "CL": 20.0}, "exchanged|flip-flop")


def no_spread(rng: np.random.Generator) -> Problem:
    """Nobody differs in volume."""
    n, seed, times, error = _drawn(rng)
    made = population("one", error)
    truth = made.with_values({"omega_V": 1e-6})
    table = simulated(design(times, n), truth, seed)
    known = {"CL": TRUTH["CL"], "V": TRUTH["V"], "omega_V": 0.0}
    return Problem("no spread", population("one", error, _off(rng)), table, known, "omega_V")


def before_dose(rng: np.random.Generator) -> Problem:
    """Measure a value above zero an hour before the dose, under a proportional error."""
    n, seed, times, error = _drawn(rng)
    table = simulated(design(times, n), population("one", error), seed)
    early = pd.DataFrame({"ID": [1, 2], "TIME": -1.0, "AMT": 0.0, "EVID": 0, "DV": 0.01})
    table = pd.concat([early, table]).sort_values(["ID", "TIME"], kind="stable", ignore_index=True)
    words = "before the first dose"
    return Problem("before the dose", population("one", error, _off(rng)), table, {}, words)


def two_bodies(rng: np.random.Generator) -> Problem:
    """Two patients of other weight share an ID, their records mixed by time."""
    n, seed, times, error = _drawn(rng)
    weight = 70.0 * np.exp(0.25 * rng.standard_normal(n))
    weight[:2] = 12.0, 80.0
    effect = covariate.power("WT", 70.0, fixed(0.75))
    truth = population("one", error, CL={"effects": effect})
    table = simulated(design(times, n, WT=weight), truth, seed, ("WT",))
    table.loc[table["ID"] == 2, "TIME"] += 0.05
    table["ID"] = table["ID"].replace(2, 1)
    table = table.sort_values(["ID", "TIME"], kind="stable", ignore_index=True)
    made = population("one", error, _off(rng), CL={"effects": effect})
    known = {"CL": TRUTH["CL"], "V": TRUTH["V"]}
    return Problem("two bodies", made, table, known, "two patients|[Ss]ubject 1 ", ("WT",))


def one_occasion(rng: np.random.Generator) -> Problem:
    """Spread between occasions is asked for, and there is one."""
    n, seed, times, error = _drawn(rng)
    table = simulated(design(times, n), population("one", error), seed).assign(OCC=1)
    made = population("one", error, _off(rng), CL={"iov": 0.2})
    truth = {"CL": TRUTH["CL"], "V": TRUTH["V"]}
    return Problem("one occasion", made, table, truth, "occasion")


KINDS: tuple[Callable[[np.random.Generator], Problem], ...] = (
    *(few_samples, large_model, copies, unidentified, wrong_unit, outlier, no_absorption),
    *(constant_covariate, collinear, flip_flop, no_spread, before_dose, two_bodies, one_occasion),
)


def problem(index: int) -> Problem:
    """Draw an ill-posed problem; kinds come in turn."""
    return KINDS[index % len(KINDS)](np.random.default_rng([35, index]))


def ordinary(index: int) -> Problem:
    """Draw a study that nothing is wrong with."""
    rng = np.random.default_rng([36, index])
    structure = str(rng.choice(list(STRUCTURES)))
    seed, sigma = int(rng.integers(2**31)), float(rng.choice([0.1, 0.15, 0.2]))
    error = residual.proportional(sigma)
    truth = population(structure, error)
    times = _sampled(rng, 6 if structure == "one" else 8)
    table = simulated(design(times, 40), truth, seed)
    known = {n: TRUTH[n] for n in STRUCTURES[structure][1]} | {"sigma_concentration": sigma}
    known |= {f"omega_{n}": SPREAD[n] for n in STRUCTURES[structure][1] if n in SPREAD}
    return Problem(structure, population(structure, error, _off(rng)), table, known)


# Verdicts ---------------------------------------------------------------------------------------


def answer(one: Problem, level: float = LEVEL, method: Any = "focei") -> dict[str, Any]:
    """Fit, and gather sentences, and whether each interval that is told holds the truth."""
    began, said, holds, fit = time.perf_counter(), list[str](), dict[str, bool](), None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", PkpdWarning)
        try:
            data = pkpd.read_nonmem(one.table, covariates=list(one.covariates))
            fit = pkpd.fit(one.model, data, method=method, progress=False, **one.options)
        except PkpdError as error:
            said.append(str(error))
    said += [str(w.message) for w in caught if issubclass(w.category, PkpdWarning)]
    if fit is not None:
        said += [str(f) for f in fit.findings if f.severity != "note"]
        for name, value in one.truth.items():
            low, high = interval(fit, name, level)
            if np.isfinite(low):
                holds[name] = bool(low <= value <= high)
    seconds = time.perf_counter() - began
    return {"kind": one.kind, "said": said, "holds": holds, "fitted": fit is not None,
            "seconds": seconds}  # fmt: skip


def interval(fit: Any, name: str, level: float) -> tuple[float, float]:
    """Interval of a parameter: of estimates, or of draws."""
    if not hasattr(fit, "idata"):
        row = fit.table(level).loc[name]
        return float(row.lower), float(row.upper)
    draws = fit.idata.posterior[name].values
    low, high = np.quantile(draws, ((1.0 - level) / 2.0, (1.0 + level) / 2.0))
    return float(low), float(high)


def verdict(one: Problem, found: dict[str, Any]) -> str:
    """Say how an ill-posed problem ended: right, named, poor or wrong."""
    if any(re.search(one.words, text) for text in found["said"]):
        return "named"
    if found["fitted"] and all(found["holds"].values()):
        return "right"
    return "poor" if found["said"] else "wrong"


def judged(index: int, method: Any = "focei") -> dict[str, Any]:
    """Answer an ill-posed problem."""
    one = problem(index)
    try:
        found = answer(one, method=method)
        return found | {"index": index, "failed": False, "verdict": verdict(one, found)}
    except Exception:  # a traceback is what is looked for
        return {"index": index, "failed": True, "kind": one.kind, "verdict": "wrong",
                "said": [traceback.format_exc()]}  # fmt: skip


def measured(index: int) -> dict[str, Any]:
    """Answer an ordinary study, and time the judge."""
    from pkpd.fitting import fit as fitting
    from pkpd.fitting.maximum import estimate, finished

    spent = [0.0]

    def timed(function: Any) -> Any:
        def call(*given: Any, **named: Any) -> Any:
            began = time.perf_counter()
            try:
                return function(*given, **named)
            finally:
                spent[0] += time.perf_counter() - began

        return call

    places = ((fitting, "_look"), (finished, "judge"), (finished, "chances"),
              (estimate, "rises_without"))  # fmt: skip
    kept = [getattr(room, name) for room, name in places]
    try:
        for (room, name), function in zip(places, kept, strict=True):
            setattr(room, name, timed(function))
        found = answer(ordinary(index), 0.95)
    finally:
        for (room, name), function in zip(places, kept, strict=True):
            setattr(room, name, function)
    return found | {"index": index, "failed": False, "judge": spent[0] / found["seconds"]}


def run(
    folder: str | None,
    name: str,
    count: int,
    jobs: int,
    one: Callable[[int], dict[str, Any]],
    method: str = "focei",
) -> list[dict[str, Any]]:
    """Do what is not in the folder yet, and keep each when it is done."""
    place = None if folder is None else f"{folder}/{name}" + f"_{method}" * (method != "focei")
    kept = KeptFits(place, name, {"version": 1, "method": method})
    missing = kept.missing(count)
    if jobs == 1:
        for index in missing:
            kept.keep(one(index))
    elif missing:
        # forked workers and the threads of JAX do not go together
        with multiprocessing.get_context("spawn").Pool(jobs, maxtasksperchild=50) as pool:
            for found in pool.imap_unordered(one, missing):
                kept.keep(found)
    return [kept.found[i] for i in range(count)]


def tell(problems: list[dict[str, Any]], studies: list[dict[str, Any]]) -> str:
    """Tell both in text."""
    lines = []
    if problems:
        words = ("right", "named", "poor", "wrong")
        lines.append(f"{'':22s}" + "".join(f"{w:>8s}" for w in words))
        for kind in dict.fromkeys(one["kind"] for one in problems):
            count = Counter(one["verdict"] for one in problems if one["kind"] == kind)
            lines.append(f"{kind:22s}" + "".join(f"{count[w]:8d}" for w in words))
        count = Counter(one["verdict"] for one in problems)
        lines.append(f"{'all':22s}" + "".join(f"{count[w]:8d}" for w in words))
    if studies:
        held = [one for study in studies for one in study["holds"].values()]
        cried = [study for study in studies if study["said"]]
        share = float(np.median([study["judge"] for study in studies]))
        lines.append(
            f"{len(studies)} ordinary studies: 95 % intervals hold the truth in "
            f"{np.mean(held):.1%} of {len(held)}; a sentence in {len(cried) / len(studies):.1%}; "
            f"the judge takes {share:.1%} of the time (median)"
        )
        told = Counter(text[:70] for study in cried for text in study["said"])
        lines += [f"  {times} x {text}..." for text, times in told.most_common(8)]
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--problems", type=int, default=500)
    parser.add_argument("--ordinary", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--folder", default="build/honest", help="where what is done is kept")
    parser.add_argument("--method", default="focei", help="of the problems: focei, map, nuts, ...")
    given = parser.parse_args()
    posed = partial(judged, method=given.method)
    problems = run(given.folder, "problems", given.problems, given.jobs, posed, given.method)
    studies = run(given.folder, "ordinary", given.ordinary, given.jobs, measured)
    print(tell(problems, studies))
    for one in problems:
        if one["verdict"] == "wrong":
            print(f"problem {one['index']} ({one['kind']}): {one['said'][:1]}")


if __name__ == "__main__":
    main()
