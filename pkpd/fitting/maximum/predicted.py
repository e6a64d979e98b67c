"""What a model predicts at two points, kept with a fit: functions differ in numbers only.

A description (`pkpd.fitting.maximum.description`) says that a model has functions, and not what
they compute. Two models that predict the same and find the measurements as likely are the same for
the data at hand.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from types import FunctionType
from typing import Any
from zlib import crc32

import jax
import numpy as np

from pkpd.fitting.maximum.scales import FreeParameters
from pkpd.fitting.model.population_likelihood import PopulationLikelihood

_CLOSE = 1e-6
"""Largest relative difference of the same model on another machine."""
_ROUGH = 1e-3
"""The same where engine, solver or steps were chosen otherwise."""
_SETTINGS = ("engine", "solver", "max_step_h", "general_step_h", "options")
_AWAY, _SPREAD = 0.1, 0.3
"""How far the second point lies from the start: parameters, and effects in their deviations."""
_COMMON = (1.0, 0.1)
"""About what parameters are at the points that go by their names, where those are positive."""


def predicted(likelihood: PopulationLikelihood) -> dict[str, Any]:
    """Predictions and log densities of all observations at two points, as JSON.

    The first point is the start with random effects of 0. The second has every estimated
    parameter moved a little, and random effects that are not 0: a function that another one equals
    at typical values alone is told apart.

    Returns
    -------
    dict
        ``quantities`` and ``densities``, a text for each point; ``settings``, how they were
        computed.
    """
    free, effects = FreeParameters(likelihood), likelihood.random_effects
    start, size = free.start(), (likelihood.n_subjects, effects.size)
    # numbers without a pattern that a model could have
    moved = start + _AWAY * np.sin(1.0 + 2.3 * np.arange(len(start)))
    sd = np.sqrt(np.diag(np.asarray(effects.covariance(free.begun, np))))
    waves = np.sin(1.7 + 3.1 * np.arange(size[0] * size[1], dtype=float)).reshape(size)
    points = (start, np.zeros(size)), (np.clip(moved, *free.bounds.T), _SPREAD * sd * waves)

    def both(fixed: Any, random: Any) -> tuple[Any, Any]:
        found = likelihood.quantities(fixed, random)
        return found, likelihood.density_of(fixed, found)

    compiled, out = jax.jit(both), ([], [])
    for x, random in points:
        for kept, values in zip(out, compiled(free.fixed(x), random), strict=True):
            kept.append(_text(values))
    return {"quantities": out[0], "densities": out[1], "settings": _told(likelihood)}


def of_functions(likelihood: PopulationLikelihood) -> dict[str, Any] | None:
    """Predictions at two points that go by the names of parameters, as JSON.

    Models of which one lies in the other predict the same there, wherever they start: typical
    values are numbers of their name and scale, coefficients of covariates and random effects 0.

    Returns
    -------
    dict
        ``predictions``, a text for each point; ``settings``, how they were computed. ``None`` where
        the model has no functions but those of this package, which a description tells apart.
    """
    model = likelihood.model
    if not _own([model.structure, [p.function for p in model.parameters]], set()):
        return None
    effects = [e.name(p.name) for p in model.parameters for e in p.effects]
    random = np.zeros((likelihood.n_subjects, likelihood.random_effects.size))
    predict, out = jax.jit(likelihood.predictions), []
    for size in _COMMON:
        values = FreeParameters(likelihood).begun | dict.fromkeys(effects, 0.0)
        for p in (p for p in model.parameters if p.has_typical):
            part = crc32(p.name.encode()) / 2.0**32
            low, high = p.bounds
            between = low + (high - low) * (0.2 + 0.6 * part) * size
            values[p.name] = between if p.scale == "logit" else size * 4.0 ** (part - 0.5)
        out.append(_text(predict(likelihood.fixed(values), random)))
    return {"predictions": out, "settings": _told(likelihood)}


def same_functions(one: Mapping[str, Any] | None, other: Mapping[str, Any] | None) -> bool:
    """Whether two models predict the same at points that go by names: see `of_functions`."""
    if one is None or other is None:
        return one is other
    near, finite = _near(one, other), 0
    for texts in zip(one["predictions"], other["predictions"], strict=True):
        old, new = map(_numbers, texts)
        if old.shape != new.shape or np.any(_apart(old, new, near)):
            return False
        finite += int(np.isfinite(new).sum())
    return finite > 0  # what cannot be solved tells nothing


def _own(part: Any, seen: set[int]) -> bool:
    """Whether a part of a model holds a function or an object that is none of this package."""
    if part is None or isinstance(part, str | bool | int | float | np.ndarray | np.generic | type):
        return False
    if id(part) in seen:  # functions may name themselves
        return False
    seen.add(id(part))
    if isinstance(part, Mapping):
        return any(_own(one, seen) for one in part.values())
    if isinstance(part, tuple | list | set | frozenset):
        return any(_own(one, seen) for one in part)
    function = isinstance(part, FunctionType)
    home = (part if function else type(part)).__module__ or ""
    if home.split(".")[0] != __name__.split(".")[0]:
        return True
    if function:
        return any(_own(cell.cell_contents, seen) for cell in part.__closure__ or ())
    held = fields(part) if is_dataclass(part) else ()
    return any(_own(getattr(part, one.name), seen) for one in held)


def densities(likelihood: PopulationLikelihood) -> list[str]:
    """Log density of the measurements at both points of `predicted`, for a folder of fits."""
    return [f"{_numbers(text).sum():.5g}" for text in predicted(likelihood)["densities"]]


def _settings(part: Any) -> Iterator[tuple[str, Any]]:
    """How a structure is computed, by name."""
    if not is_dataclass(part) or isinstance(part, type):
        return
    for one in fields(part):
        value = getattr(part, one.name)
        if one.name in _SETTINGS:
            yield one.name, value
        else:
            for each in value if isinstance(value, tuple | list) else (value,):
                yield from _settings(each)


def _told(likelihood: PopulationLikelihood) -> list[str]:
    return [f"{name} {value}" for name, value in _settings(likelihood.model.structure)]


def _text(values: Any) -> str:
    # single precision has the digits that are compared
    with np.errstate(over="ignore"):  # what is so large is infinite
        return base64.b64encode(np.asarray(values, dtype="<f4").tobytes()).decode()


def _numbers(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), dtype="<f4").astype(float)


def _near(one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    return _CLOSE if one.get("settings") == other.get("settings") else _ROUGH


def _apart(old: np.ndarray, new: np.ndarray, near: float) -> np.ndarray:
    scale = np.abs(new[np.isfinite(new)]).max(initial=0.0)
    return ~np.isclose(old, new, rtol=near, atol=near * 1e-2 * scale, equal_nan=True)


def unlike(
    theirs: Mapping[str, Any], mine: Mapping[str, Any], likelihood: PopulationLikelihood
) -> list[str]:
    """Say where the predictions of a saved fit and those of the model at hand differ.

    Parameters
    ----------
    theirs, mine
        As of `predicted`.
    likelihood
        Model and data at hand.

    Returns
    -------
    list of str
        One sentence on the first that differs; empty if none does.
    """
    near = _near(theirs, mine)
    seen = likelihood.dataset.observations
    for what, told in (("quantities", "prediction"), ("densities", "log density")):
        for k, point in enumerate(("at the start", "away from the start")):
            old, new = (_numbers(of[what][k]) for of in (theirs, mine))
            if old.shape != new.shape:
                return [f"{len(old)} {told}s in the file, {len(new)} by the model"]
            apart = _apart(old, new, near)
            if np.any(apart):
                at = int(np.argmax(apart))
                m = at % len(seen)
                line = likelihood.dataset.lines[int(seen.line[m])]
                subject = likelihood.dataset.subjects[int(seen.subject[m])]
                return [
                    f"the {told} of {line} {point}, first in subject {subject} at "
                    f"{seen.time[m]:g} h: {old[at]:.6g} in the file, {new[at]:.6g} by the model, "
                    "so that a function in it or its settings differ"
                ]
    return []
