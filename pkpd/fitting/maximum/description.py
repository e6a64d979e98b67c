"""What a fit was of, in words and numbers that its file keeps, and which models lie in which."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from pkpd.data.dataset import Dataset
from pkpd.fitting.maximum.scales import FreeParameters

_RECORDS = ("time", "evid", "cmt", "amt", "rate", "ii", "addl", "ss")
_SEEN = ("subject", "record", "line", "value", "censored", "lower")


def data_digest(dataset: Dataset) -> str:
    """Digest of subjects, events and measurements; covariates and names of files do not enter."""
    found = hashlib.sha256(repr([str(s) for s in dataset.subjects]).encode())
    for whole, names in ((dataset.events, _RECORDS), (dataset.observations, _SEEN)):
        for name in names:
            found.update(np.ascontiguousarray(getattr(whole, name), dtype=float).tobytes())
    return found.hexdigest()[:16]


def description(free: FreeParameters) -> dict[str, Any]:
    """Describe model and data, as JSON.

    Parameters
    ----------
    free
        The estimated parameters, with model and data.

    Returns
    -------
    dict
        ``source``, ``data`` (a digest), ``subjects``, ``observations``; ``structure``; ``kinds`` of
        the estimated parameters and values of the ``held`` ones, by name; ``forms``, what else
        defines the parameters. The only coefficient of a residual error is named as in a combined
        one (``sigma_<line>_proportional``).
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
        "kinds": {single.get(n, n): k for n, k in zip(free.names, free.kinds, strict=True)},
        "held": {single.get(n, n): float(v) for n, v in free.held.items()},
        "forms": forms,
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
        ``None`` where names, held values and forms do not tell that ``small`` is ``large`` with
        parameters held, or left out at zero.
    """
    few, many = small["kinds"], large["kinds"]
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
    return {name: kind for name, kind in many.items() if name not in few}


def at_edge(small: Mapping[str, Any], extra: Mapping[str, str]) -> list[str]:
    """Which of the extra parameters the smaller model puts at the edge of what they can be: zero.

    Standard deviations between subjects or occasions, and coefficients of residual errors.
    """
    return [
        name
        for name, kind in extra.items()
        if kind in ("deviation", "residual") and name not in small["held"]
    ]
