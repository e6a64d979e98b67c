"""What a fit was of, in words and numbers that its file keeps, and which models lie in which."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from pkpd.data.dataset import Dataset
from pkpd.fitting.maximum.predicted import of_functions, same_functions
from pkpd.fitting.maximum.scales import FreeParameters
from pkpd.fitting.model.individuals import covariates_read
from pkpd.fitting.model.priors import Estimate, Prior
from pkpd.fitting.model.specification import PopulationModel
from pkpd.predict.structure import carries_forward

_RECORDS = ("time", "evid", "cmt", "amt", "rate", "ii", "addl", "ss")
_SEEN = ("subject", "record", "line", "value", "censored", "lower")
_MEASURED = {"time": "TIME", "line": "line", "value": "DV", "censored": "CENS", "lower": "LIMIT"}
_COMPUTED = {"centring", "choose", "engine", "general_step_h", "max_step_h", "options", "start"}
_WRITTEN = {"line", "notes", "omegas", "prior", "record", "sigmas", "source", "thetas"}
_WRITTEN |= {"OdeSystem.name"}  # other names of that kind are drugs and compartments
_WRITTEN |= {"Program.text"}
_NO_MATTER = _COMPUTED | _WRITTEN | {"typical"}
"""Attributes that are no part of what a model is, or that are told elsewhere."""
_IS = "is"


def data_digest(dataset: Dataset) -> str:
    """Digest of subjects, events and measurements; covariates and names of files do not enter."""
    found = hashlib.sha256(repr([str(s) for s in dataset.subjects]).encode())
    for whole, names in ((dataset.events, _RECORDS), (dataset.observations, _SEEN)):
        for name in names:
            found.update(np.ascontiguousarray(getattr(whole, name), dtype=float).tobytes())
    return found.hexdigest()[:16]


def measured_digest(dataset: Dataset) -> str:
    """Digest of subjects and measurements: models of them may be compared, whatever the doses."""
    found = hashlib.sha256(repr([str(s) for s in dataset.subjects]).encode())
    for name in ("subject", *_MEASURED):
        values = getattr(dataset.observations, name)
        found.update(np.ascontiguousarray(values, dtype=float).tobytes())
    return found.hexdigest()[:16]


def _by_subject(dataset: Dataset) -> dict[str, str]:
    """Six digits for each subject, by column: what of the data is the same in another set."""
    events, seen = dataset.events, dataset.observations
    columns = {name.upper(): getattr(events, name) for name in _RECORDS} | dict(dataset.covariates)
    if dataset.occasion is not None:
        columns["occasion"] = dataset.occasion
    parts = {name: [v[b][events.valid[b]] for b in range(len(v))] for name, v in columns.items()}
    mine = [np.flatnonzero(seen.subject == b) for b in range(len(dataset.subjects))]
    for name, told in _MEASURED.items():
        values = getattr(seen, name)
        parts[f"{told} of observations"] = [values[rows] for rows in mine]
    # single precision: another machine may compute a covariate otherwise in its last digit
    return {
        name: "".join(hashlib.sha256(one.astype("<f4").tobytes()).hexdigest()[:6] for one in each)
        for name, each in parts.items()
    }


def _model_words(model: PopulationModel, priors: bool) -> dict[str, Any]:
    """Everything of a model but the values that estimates start from, by name."""
    parameters = {
        p.name: {
            **_plain(p, priors),
            "typical": _plain(p.typical, priors),
            "effects": {e.name(p.name): _plain(e, priors) for e in p.effects},
        }
        for p in model.parameters
    }
    residual = {
        line: {
            **_plain(error, priors),
            "coefficients": _plain(error.estimates(line), priors),
            "nu": None,  # among the coefficients, as are those of processes
            "processes": len(error.processes),
        }
        for line, error in model.residual.items()
    }
    return {
        "structure": _plain(model.structure, priors),
        "records": getattr(getattr(model.structure, "options", None), "carry", None),
        "individual parameters": list(model.structure.parameters),
        "lines": list(model.structure.lines),
        "parameter": parameters,
        "residual error": residual,
        "correlated": _plain(model.correlated, priors),
        "partial": _plain(model.partial, priors),
        "joint prior": _plain(model.joint, priors),
        **({"lkj": model.lkj} if priors else {}),
    }


def _plain(part: Any, priors: bool) -> Any:
    """Write out what something is, as JSON; of functions only that they are there."""
    if part is None or isinstance(part, str | bool | int | float):
        return part
    if isinstance(part, Estimate):
        if part.fixed:
            return f"held at {part.value:.9g}"
        return f"estimated with {part.prior!r}" if priors and part.prior else "estimated"
    if isinstance(part, Prior):
        return repr(part)
    if isinstance(part, Mapping):
        return {str(name): _plain(one, priors) for name, one in part.items()}
    if isinstance(part, tuple | list):
        return [_plain(one, priors) for one in part]
    if isinstance(part, np.ndarray | np.generic):
        return part.tolist()
    told = {_IS: type(part).__name__}
    if is_dataclass(part):
        names = (field.name for field in fields(part))
        own = [n for n in names if not _NO_MATTER & {n, f"{told[_IS]}.{n}"}]
        told |= {name: _plain(getattr(part, name), priors) for name in own}
    return told


def differences(
    theirs: Mapping[str, Any], mine: Mapping[str, Any], subjects: Sequence[str]
) -> list[str]:
    """Say in what a saved fit and the model and data at hand differ.

    Parameters
    ----------
    theirs, mine
        As of `description`. What a file of an earlier version lacks is not compared.
    subjects
        Labels of the subjects.

    Returns
    -------
    list of str
        Of the model, then of the data; empty if nothing does.
    """
    there, here = theirs.get("model"), mine["model"]
    if there is None:
        names = ("structure", "kinds", "held", "forms", "joint")
        there, here = ({name: of.get(name) for name in names} for of in (theirs, mine))
    out = [_told(*one) for one in _apart(there, here)]
    if "by_subject" not in theirs:
        return [*out, "the data"] if theirs.get("data") != mine["data"] else out
    apart: dict[int, list[str]] = {}
    for name, old in theirs["by_subject"].items():
        new = mine["by_subject"].get(name, old)
        if new != old:
            first = next(i for i in range(0, len(new), 6) if new[i : i + 6] != old[i : i + 6])
            apart.setdefault(first // 6, []).append(name)
    data = [f"{', '.join(apart[b])} of the data, first in subject {subjects[b]}" for b in apart]
    return [*out, *data]


def _apart(old: Any, new: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where two descriptions differ: path, and what stands there in each."""
    if isinstance(old, Mapping) and isinstance(new, Mapping) and old.get(_IS) == new.get(_IS):
        # a later version may know more of an object
        every = old.keys() & new.keys() if _IS in old else old.keys() | new.keys()
        for name in (name for name in (*new, *old) if name in every):
            every -= {name}
            yield from _apart(old.get(name), new.get(name), (*path, name))
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for number, (one, other) in enumerate(zip(old, new, strict=True), start=1):
            yield from _apart(one, other, (*path, str(number)))
    elif isinstance(old, float) and isinstance(new, float | int):
        if not math.isclose(old, new, rel_tol=1e-9):
            yield path, old, new
    elif old != new:
        yield path, old, new


def _told(path: Sequence[str], old: Any, new: Any) -> str:
    """Name a difference of models in a few words."""
    what, words = " ".join(path), list[str]()
    for value, other, where in ((old, new, "file"), (new, old, "model")):
        if value is None and isinstance(other, Mapping):
            return f"{what}, which the {where} lacks"
        value = value.get(_IS) if isinstance(value, Mapping) else value
        text = "none" if value is None else f"{value:g}" if type(value) is float else str(value)
        words.append(f"{text if len(text) < 60 else f'{text[:57]}...'} in the {where}")
    return f"{what}: {', '.join(words)}"


def description(free: FreeParameters, *, priors: bool = False) -> dict[str, Any]:
    """Describe model and data, as JSON.

    Parameters
    ----------
    free
        The estimated parameters, with model and data.
    priors
        Whether priors are part of what the fit is of.

    Returns
    -------
    dict
        ``source``, ``data`` (a digest), ``subjects``, ``observations``; ``structure``, and whether
        parameters of a record hold ``forward``; ``kinds`` of the estimated parameters and values of
        the ``held`` ones, by name, without residual errors of lines that the data do not measure;
        ``forms``, what else defines the parameters; ``start`` of the estimated ones; ``model``, all
        of it but starts and the insides of functions; ``functions``, what those compute
        (`pkpd.fitting.maximum.predicted.of_functions`); ``by_subject``, a digest for each subject
        of each column; ``reads``, the columns of covariates and occasions that the model reads. The
        only coefficient of a residual error is named as in a combined one
        (``sigma_<line>_proportional``).
    """
    likelihood = free.likelihood
    model, dataset = likelihood.model, likelihood.dataset
    single = {
        f"sigma_{line}": f"sigma_{line}_{error.form}"
        for line, error in model.residual.items()
        if error.form in ("additive", "proportional")
    }
    forms = {p.name: [p.scale, *(p.bounds if p.scale == "logit" else ())] for p in model.parameters}
    for p in model.parameters:
        for e in p.effects:
            forms[e.name(p.name)] = [e.covariate, e.kind, float(e.centre)]
    joint = {} if model.joint is None else {"joint": repr(model.joint)}
    return joint | {
        "source": dataset.events.source,
        "data": data_digest(dataset),
        "subjects": likelihood.n_subjects,
        "observations": len(dataset.observations),
        "structure": [type(model.structure).__name__, *model.structure.parameters],
        "forward": carries_forward(model.structure),
        "kinds": {
            single.get(n, n): k
            for n, k in zip(free.names, free.kinds, strict=True)
            if n in free.counted
        },
        "held": {
            single.get(n, n): float(v) for n, v in free.held.items() if n not in free.unmeasured
        },
        "forms": forms,
        "start": {name: free.begun[name] for name in free.names},
        "model": _model_words(model, priors),
        "functions": of_functions(likelihood),
        "by_subject": _by_subject(dataset),
        "reads": [*covariates_read(model), *(["occasion"] if model.occasional else [])],
    }


def extra_parameters(small: Mapping[str, Any], large: Mapping[str, Any]) -> dict[str, str] | None:
    """Parameters, and their kinds, that a model estimates beyond one that lies in it.

    Parameters
    ----------
    small, large
        As of `description`.

    Returns
    -------
    dict
        ``None`` where names, held values, forms and what functions compute do not tell that
        ``small`` is ``large`` with parameters held, or left out at zero. A typical value is never
        left out: what has none takes the parameter from elsewhere.
    """
    few, many = small["kinds"], large["kinds"]
    if not _of_one_kind(small, large):
        return None
    if small.get("joint") != large.get("joint") or small["structure"] != large["structure"]:
        return None
    if not few.keys() < many.keys():
        return None
    if any(small["held"].get(name) != value for name, value in large["held"].items()):
        return None
    if not small["held"].keys() <= many.keys() | large["held"].keys():
        return None
    forms = large["forms"]
    if any(forms.get(name, form) != form for name, form in small["forms"].items()):
        return None
    extra = {name: kind for name, kind in many.items() if name not in few}
    if any(kind == "typical" and name not in small["held"] for name, kind in extra.items()):
        return None
    return extra if _of_one_source(small, large) else None


def other_covariates(small: Mapping[str, Any], large: Mapping[str, Any]) -> list[str]:
    """Columns that a model reads and that have other values in the data of the larger one.

    Parameters
    ----------
    small, large
        As of `description`. An older file does not tell what its model reads: all columns count.
    """
    mine, theirs = (of.get("by_subject", {}) for of in (small, large))
    read = [name for name in small.get("reads", mine) if name in mine and name in theirs]
    return [name for name in read if mine[name] != theirs[name]]


def _of_one_source(small: Mapping[str, Any], large: Mapping[str, Any]) -> bool:
    """Whether parameters of both come from the same columns and functions, as all else does."""
    few, many = (of.get("model") or {} for of in (small, large))
    mine, theirs = (of.get("parameter", {}) for of in (few, many))
    for name in mine.keys() & theirs.keys():
        for word in ("column", "function", "reads"):
            if mine[name].get(word) != theirs[name].get(word):
                return False
    if "functions" in small and "functions" in large:
        return same_functions(small["functions"], large["functions"])
    return not (_has_functions(few) or _has_functions(many))  # an older file: they may be others


def _has_functions(words: Any) -> bool:
    """Whether a description names functions, other than those of linear systems."""
    if isinstance(words, list):
        return any(map(_has_functions, words))
    if not isinstance(words, Mapping):
        return False
    left_out = "system" if words.get(_IS) == "LinearStructure" else ""
    inside = (one for name, one in words.items() if name != left_out)
    return words == {_IS: "function"} or any(map(_has_functions, inside))


def _of_one_kind(small: Mapping[str, Any], large: Mapping[str, Any]) -> bool:
    """Whether structures, and sums of residual errors, are alike: names do not tell all of them."""
    if small.get("forward", False) != large.get("forward", False):
        return False
    few, many = small.get("model"), large.get("model")
    if not few or not many:  # an older file
        return True
    errors = few["residual error"], many["residual error"]
    for line in errors[0].keys() & errors[1].keys():
        if {of[line]["form"] for of in errors} == {"combined", "combined_linear"}:
            return False
    return next(_apart(few["structure"], many["structure"]), None) is None


def at_edge(small: Mapping[str, Any], extra: Mapping[str, str]) -> list[str]:
    """Which of the extra parameters the smaller model puts at the edge of what they can be.

    Standard deviations between subjects or occasions and coefficients of residual errors, left out
    or held at zero; degrees of freedom that are left out are infinite.
    """
    return [
        name
        for name, kind in extra.items()
        if kind in ("deviation", "residual") and small["held"].get(name, 0.0) == 0.0
    ]
