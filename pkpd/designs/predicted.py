"""Risks of the doses of a trial that a model predicts, in place of true risks made up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import xarray as xr

from pkpd.designs.design_card import DesignFile
from pkpd.designs.text import characteristics_lines
from pkpd.errors import PkpdError

_BY_TARGET = ("right", *(f"{name}{of}" for name in ("correct", "too_high", "overdosed")
                         for of in ("", "_se")))  # fmt: skip


@dataclass(frozen=True, eq=False)
class Predicted:
    """Predicted risks of a DLT.

    Attributes
    ----------
    cohorts
        Whose, [J].
    risks : float[M, J]
        By draw of the parameters, among the patients who can be judged.
    judged
        Share of the patients who can be judged, [J].
    errors
        Monte Carlo standard error of each mean risk, [J]; empty where the risks have none.
    simulated
        How they were simulated, in words.
    """

    cohorts: tuple[str, ...]
    risks: np.ndarray
    judged: tuple[float, ...]
    errors: tuple[float, ...] = ()
    simulated: str = ""


def order_of(file: DesignFile, cohorts: Sequence[str]) -> list[int]:
    """Find the cohort of each dose: by name, or as they stand if none is named.

    Raises
    ------
    PkpdError
        If the cohorts are not the doses.
    """
    if set(cohorts) == set(file.doses):
        return [cohorts.index(dose) for dose in file.doses]
    if len(cohorts) == len(file.doses) and not set(cohorts) & set(file.doses):
        return list(range(len(file.doses)))
    raise PkpdError(
        where=file.schedules,
        what=f"its cohorts are {', '.join(cohorts)}",
        allowed=f"a cohort for each dose: {', '.join(file.doses)}",
        remedy="name the cohorts as the doses",
    )


def by_dose(file: DesignFile, found: Predicted) -> Predicted:
    """Put predicted risks in the order of the doses (`order_of`)."""
    order = order_of(file, found.cohorts)
    return replace(
        found,
        cohorts=tuple(found.cohorts[j] for j in order),
        risks=found.risks[:, order],
        judged=tuple(found.judged[j] for j in order),
        errors=tuple(found.errors[j] for j in order if found.errors),
    )


def predicted_lines(file: DesignFile, found: Predicted, made: xr.Dataset) -> Iterator[str]:
    """Tell operating characteristics under predicted risks, averaged over their draws.

    Parameters
    ----------
    file
        The design.
    found
        Risks, as `by_dose` gives them.
    made
        Of each draw, as `pkpd.designs.characteristics` or `pkpd.designs.simulate_trials` gives
        them.

    Yields
    ------
    str
        A line.
    """
    mean = over_draws(made.drop_vars([name for name in _BY_TARGET if name in made]))
    yield from characteristics_lines(mean, file.doses, risk="predicted risk", errors=found.errors)
    if "correct" in made:
        closest = (
            f"The dose closest to the target {made.attrs['target']:g}, another in each draw, is "
            f"selected with probability {float(made['correct'].mean()):.3f}"
        )
        if "correct_se" in made:
            error = float(over_draws(made[["correct", "correct_se"]])["correct_se"])
            yield f"{closest} +- {error:.3f}."
        else:
            low, high = made["correct"].quantile([0.05, 0.95]).values
            yield f"{closest} (90 % of draws: {low:.3f} to {high:.3f})."
    simulated = "selected_se" in made
    given = "The trials are simulated with" if simulated else "The characteristics are exact for"
    yield from error_lines(found, f"{given} these simulated risks")
    yield from judged_lines(file, found)


def over_draws(made: xr.Dataset) -> xr.Dataset:
    """Means over the draws of the risks, and the Monte Carlo errors of these means."""
    out = made.mean("draw", keep_attrs=True)
    draws = made.sizes["draw"]
    for name in made:
        if str(name).endswith("_se"):
            out[name] = np.sqrt((made[name] ** 2).sum("draw", keep_attrs=True)) / draws
    if "trials" in made.attrs:
        out.attrs["trials"] = made.attrs["trials"] * draws
    return out


def error_lines(found: Predicted, given: str) -> Iterator[str]:
    """Say that the risks themselves were simulated, and what their error is."""
    if not found.errors:
        return
    yield (
        f"{given}: {found.simulated}. +- is the Monte Carlo error of a risk, which the "
        "characteristics share; another --seed gives other risks."
    )


def judged_lines(file: DesignFile, found: Predicted) -> Iterator[str]:
    """Say how many patients are enrolled for one who can be judged, where it is not one."""
    told = [
        f"{dose} {1.0 / share:.1f}"
        for dose, share in zip(file.doses, found.judged, strict=True)
        if share < 0.95
    ]
    if told:
        yield (
            "Patients enrolled for one who can be judged (others die or have leukaemia before): "
            f"{', '.join(told)}. The numbers above count those judged."
        )
