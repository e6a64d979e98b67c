"""Figures of a run that documents print: scripts write them to one file, `figures.py` reads it.

Each part of the file names the posterior that it is of, by the time at which that was written.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from judging.arm_contrasts import ArmContrast
from judging.pairs_of_arms import Pair, scored_groups
from judging.remissions import rank_correlation, remission_bias
from judging.scorecard import AVERAGE, LEVELS, MIXTURE, MODEL, REGRESSION, Scorecard
from judging.without_leukaemia import FRIBERG
from pkpd.evidence.posterior.stored import EvidencePosterior
from pkpd.files import whole

FILE = Path(__file__).parents[1] / "figures.json"
SHORT = {
    MODEL: "model",
    AVERAGE: "average",
    REGRESSION: "regression",
    MIXTURE: "mixture",
    FRIBERG: "friberg",
}
"""Names of predictors in the file."""
_COMPARED = [(one, other) for one in (MODEL, MIXTURE) for other in (AVERAGE, REGRESSION)]
_DIGITS = 5


def may_be_kept(ask: ArgumentParser) -> None:
    """Let a script be asked to keep its figures."""
    ask.add_argument("--figures", action="store_true", help="keep those that documents print")


def keep(
    name: str, posterior: EvidencePosterior, figures: Mapping[str, Any], file: Path = FILE
) -> None:
    """Write one part of the file, in place of what it had before."""
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    known[name] = _rounded({"posterior": posterior.record["written"], **figures})
    parts = [f"{json.dumps(part)}: {json.dumps(known[part])}" for part in sorted(known)]
    with whole(file) as path:
        path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def _rounded(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _rounded(own) for key, own in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(own) for own in value]
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}") if value == value else None
    return value


def of_card(card: Scorecard) -> dict[str, Any]:
    """Coverage, widths and paired scores by group, bias of remissions and ranks of studies."""
    compared = {}
    for judged, other in _COMPARED:
        if {judged, other} <= set(card.scores):
            compared[f"{SHORT[judged]} less {SHORT[other]}"] = _by_group(card, judged, other)
    if FRIBERG in card.scores:
        ids = [row.id for row in card.rows]
        both = card.against(FRIBERG, ids, lambda one: one.crps, MODEL)
        compared["model less friberg"] = {"all rows": asdict(both)} if both.rows else {}
    return {
        "rows": len(card.rows),
        "studies": len({row.study for row in card.rows}),
        "calibrated": {f"{level:.0%}": card.calibrated(MODEL, level) for level in LEVELS},
        "predictors": {
            SHORT[name]: {
                "rows": len(own),
                **{f"{level:.0%}": card.coverage(name, level)[0] for level in LEVELS},
                "width": card.width(name, 0.9, False),
                "remission": {
                    one.group: {
                        "rows": one.rows,
                        "studies": one.studies,
                        "points": one.points,
                        "error": 100.0 * one.error,
                    }
                    for one in remission_bias(own)
                },
                "ranks": dict(zip(("correlation", "studies"), rank_correlation(own), strict=True)),
            }
            for name, own in card.scores.items()
            if name in SHORT
        },
        "compared": compared,
    }


def _by_group(card: Scorecard, judged: str, other: str) -> dict[str, Any]:
    found = {}
    for grouping, group, ids in card.groups():
        crps = card.against(other, ids, lambda one: one.crps, judged)
        told = card.against(other, ids, lambda one: one.log_score, judged)
        if crps.rows:
            name = group if grouping == "all" else f"{grouping}: {group}"
            log_score = {"log": told.difference * told.rows, "log_error": told.error * told.rows}
            found[name] = asdict(crps) | log_score
    return found


def of_contrasts(contrasts: Sequence[ArmContrast]) -> dict[str, int]:
    """How many randomised contrasts are inside, and have the right sign."""
    clear = [one for one in contrasts if one.clear]
    return {
        "contrasts": len(contrasts),
        "inside": sum(one.inside for one in contrasts),
        "clear": len(clear),
        "right": sum(one.right for one in clear),
    }


def of_pairs(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Scores of pairs of arms, of all and by group."""
    return {name: asdict(score) for name, score in scored_groups(pairs)}
