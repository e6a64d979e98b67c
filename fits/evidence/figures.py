"""Write the figures of the shipped posterior into the documents that print them.

    python fits/evidence/figures.py            # writes
    python fits/evidence/figures.py --check    # names documents that print others

Scripts keep their figures in `figures.json` when they are given `--figures`. `FIGURES.md` is made
of it as a whole. In other documents a sentence of `sentences.toml` stands between
`<!--=NAME-->` and `<!--=-->`; its figures are `{PATH FORMAT}`: names on the way through the file,
separated by `/`, and a format of Python (`+.3f`), with `pt` behind it for a share in per cent.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import json
import re
import sys
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from judging.figures import FILE
from judging.pairs_of_arms import ALL, SCALED
from plans import ROOT

DOCUMENTS = (
    "README.md",
    "docs/how_we_know/index.md",
    "docs/what_is_assumed.md",
    "fits/evidence/README.md",
)
PAGE = "fits/evidence/FIGURES.md"
_MARK = re.compile(r"<!--=([^>]+?)-->(.*?)<!--=-->", re.DOTALL)
_FIGURE = re.compile(r"\{([^{}]+)\s([^\s{}]+)\}")
SENTENCES = ROOT / "fits/evidence/sentences.toml"
_TABLES = {
    "unseen": "Unseen rows: fixed before anyone predicted them",
    "later": "Later rows",
    "unseen_later": "Unseen and later rows together",
    "left_out": "Rows of studies left out, five folds",
}
_PREDICTORS = {
    "model": "model",
    "average": "average of similar trials",
    "regression": "regression on doses",
    "mixture": "mixture of the three",
    "friberg": "marrow without leukaemia, numbers of its cards (rows on counts)",
}
_PAIRS = {
    ("left_out", "pairs"): "Folds of studies left out, chains of each sampled anew",
    ("pairs", "all"): "Pairs of studies never learned from, or taken out",
    ("pairs", "never"): "of these, studies that were never learned from",
    ("pairs", "left_out"): "of these, studies taken out by importance weights",
}
_FORMATS = {"%": ".0pt"}
MINUS = "\N{MINUS SIGN}"
CHECKS = ("left_out", "seeds", "runs", "tables")
"""Parts that take longer than the posterior itself: they may be of an earlier one, and say so."""
LEAST = 3
"""Rows from which a group is a line of a table."""


class FigureError(ValueError):
    """A sentence or figure that is asked for and is not there."""


def figure(figures: Mapping[str, Any], path: str, spec: str) -> str:
    """Print one figure.

    Raises
    ------
    FigureError
        If there is none, or the format is none.
    """
    found: Any = figures
    for name in path.split("/"):
        if isinstance(found, list) and name.isdigit() and int(name) < len(found):
            found = found[int(name)]
            continue
        if not isinstance(found, Mapping) or name not in found:
            among = ", ".join(found) if isinstance(found, Mapping) else "nothing below it"
            msg = f"no figure {path}: no {name!r} among {among}"
            raise FigureError(msg)
        found = found[name]
    return shown(found, spec)


def shown(value: Any, spec: str) -> str:
    """Print a number as documents do, with a true minus."""
    if value is None:
        return "none"
    if spec.endswith("pt"):
        value, spec = 100.0 * value, f"{spec[:-2]}f"
    try:
        told = format(value, spec)
        if isinstance(value, str):
            return told
        if not told.strip("-+0."):  # what is 0 as printed has no sign
            told = told.lstrip("-+")
        return told.replace("-", MINUS)
    except (ValueError, TypeError) as error:
        msg = f"format {spec} of {value!r}: {error}"
        raise FigureError(msg) from None


def with_figures(sentence: str, figures: Mapping[str, Any]) -> str:
    """Put figures into a sentence."""
    return _FIGURE.sub(lambda found: figure(figures, *found.groups()), sentence)


def with_sentences(text: str, sentences: Mapping[str, str]) -> str:
    """Put sentences between their marks.

    Raises
    ------
    FigureError
        If there is none of a name.
    """

    def put(mark: re.Match[str]) -> str:
        name = mark.group(1)
        if name not in sentences:
            msg = f"no sentence {name!r} among {', '.join(sentences)}"
            raise FigureError(msg)
        return f"<!--={name}-->{sentences[name]}<!--=-->"

    return _MARK.sub(put, text)


def with_posteriors(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Have each part say in words (`of`) which posterior it is of, if not of that which ships."""
    ships = figures["run"]["posterior"]
    return {
        name: {
            **part,
            "of": ""
            if part["posterior"] == ships
            else f" (of an earlier posterior, written {part['posterior'][:16].replace('T', ' ')})",
        }
        for name, part in figures.items()
    }


def page(figures: Mapping[str, Any]) -> str:
    """Write the page of all figures (`with_posteriors`)."""
    parts = [
        "# Figures of the posterior that ships",
        "Made by `python fits/evidence/figures.py` of what the scripts kept in `figures.json`; "
        "what they mean stands in the [README](README.md#reached). CRPS: less is better; of shares "
        "as fractions, of days on the log scale. Standard errors (SE) are clustered by study, and "
        "of fewer than five studies too small; inside: share of printed numbers in intervals. "
        f"Groups of fewer than {LEAST} rows are left out.",
        *_run(figures),
        *_landmarks(figures["run"]["landmarks"]["each"]),
        *_mechanisms(figures["mechanisms"]),
    ]
    for name, title in _TABLES.items():
        parts += _table(title, figures[name])
    parts += _remission(figures)
    parts += _pairs(figures)
    return "\n\n".join(parts) + "\n"


def _run(figures: Mapping[str, Any]) -> list[str]:
    run = figures["run"]
    by, marks = run["emulator"], run["landmarks"]
    since = "nothing" if run["from_nothing"] else "simulations that were kept"
    outside = f" (outside: {', '.join(marks['outside'])})" if marks["outside"] else ""
    lines = [
        ("posterior written", run["posterior"]),
        (
            f"minutes from {since} to draws that are checked, two cores",
            shown(run["minutes"], ".0f"),
        ),
        ("sets of parameters simulated", run["simulations"]),
        ("parameters", run["parameters"]),
        ("largest R-hat", shown(run["rhat"], ".3f")),
        ("least effective sample size", shown(run["ess"], ".0f")),
        ("divergent transitions", shown(run["divergent"], ".1pt") + " %"),
        ("gradients of a draw", shown(run["gradients"], ".0f")),
        (
            "error of the emulator in the log likelihood of the table, by halves of the "
            "simulations: SD",
            shown(by["halves"], ".2f"),
        ),
        ("emulator less simulation of 512 patients, mean", shown(by["mean"], "+.2f")),
        ("the same, SD", shown(by["sd"], ".2f")),
        ("of which the chance of these patients, SD", shown(by["patients"], ".2f")),
        ("landmarks inside 90 % intervals", f"{marks['inside']} of {marks['of']}{outside}"),
    ]
    # a whole run takes an hour: not every posterior has others
    runs, seeds = figures.get("runs", {"moved": (), "risks": (), "of": ""}), figures["seeds"]
    moved = [(f"blocks drawn with replacement{seeds['of']}", one) for one in seeds["moved"]]
    moved += [(f"a whole run{runs['of']}", one) for one in runs["moved"]]
    for of, one in moved:
        told = (
            f"{shown(one['size'], '.2f')} (root mean square), {one['beyond']} of "
            f"{run['parameters']} by more than 0.15, most `{one['most']}` by "
            f"{shown(one['by'], '+.2f')}; posterior SDs {shown(one['ratio'], '.2f')} times as large"
        )
        lines.append((f"{of}, {one['label']}: means move by posterior SDs", told))
    for one in runs["risks"]:
        told = (
            f"{shown(one['mean'], '.1pt')} (mean of {one['risks']} risks of {one['trials']} "
            f"trials), most {shown(one['by'], '+.1pt')} ({one['most']}; Monte Carlo error "
            f"{shown(one['error'], '.1pt')} if both had other patients; they have the same)"
        )
        lines.append(
            (f"a whole run{runs['of']}, {one['label']}: risks of a DLT move by points", told)
        )
    tables = figures["tables"]
    told = (
        f"{tables['tables']} tables: ranks {'' if tables['uniform'] else 'not '}uniform, root mean "
        f"square of z scores {shown(tables['rms'], '.3f')} (SE {shown(tables['error'], '.3f')}), "
        f"{shown(tables['50%'], '.0pt')} and {shown(tables['90%'], '.0pt')} % inside 50 and 90 %"
        f"{tables['of']}"
    )
    if "converged" in tables:
        told += f"; chains of {tables['converged']} tables converged"
    lines.append(("synthetic tables", told))
    lines.append(
        (
            "parameters whose SD is at least a half, a fifth below that of the prior",
            f"{run['learned']['half']}, {run['learned']['fifth']}",
        )
    )
    answers = [
        (
            name,
            one["counts"],
            f"{shown(one['risk'][0], '.0pt')} to {shown(one['risk'][1], '.0pt')} %",
            *(
                f"{shown(one[asked][1], '+.1pt')} ({shown(one[asked][0], '+.1pt')} to "
                f"{shown(one[asked][2], '+.1pt')})"
                for asked in ("schedule", "dose")
            ),
        )
        for name, own in run["answers"].items()
        for one in own
    ]
    head = (
        "trial",
        "recovered: neutrophils and platelets",
        "risk of delay in its cohorts",
        "risk with the longer less the shorter schedule, points (90 % interval)",
        "with the highest less the lowest dose, points (90 % interval)",
    )
    return ["## The run", _rows(("", ""), lines), "Trials that ask for schedule or dose:",
            _rows(head, answers)]  # fmt: skip


def _landmarks(every: Sequence[Mapping[str, Any]]) -> list[str]:
    lines = [
        (
            one["name"],
            shown(one["published"], ".3g"),
            f"{shown(one['median'], '.3g')} ({shown(one['lower'], '.3g')} to "
            f"{shown(one['upper'], '.3g')})",
        )
        for one in every
    ]
    said = (
        "All are learned from. Predicted: what their trials would print, median and 90 % interval."
    )
    return ["## Landmarks", said, _rows(("landmark", "published", "predicted"), lines)]


def _mechanisms(own: Mapping[str, Any]) -> list[str]:
    heads = list(own["rows"][0])
    lines = [
        [
            f"`{one['switched']}`",
            *(shown(one[head], _FORMATS.get(head[-1], ".2g")) for head in heads[1:]),
        ]
        for one in own["rows"]
    ]
    said = (
        f"The posterior's medians in its structure (`{own['structure']}`), one switch at a time "
        f"(`pkpd/marrow/variants.py`), {own['patients']:,} patients; nothing is learned anew. Days "
        "are medians of patients in remission. Late: not recovered to 0.5 and 20 by day 45, of "
        "patients alive and free of leukaemia."
    )
    return ["## Which mechanism does what", said, _rows(heads, lines)]


def _table(title: str, own: Mapping[str, Any]) -> list[str]:
    levels = ("50%", "80%", "90%")
    printed = [
        (
            _PREDICTORS[name],
            one["rows"],
            *(shown(one[level] / one["rows"], ".0pt") for level in levels),
            shown(one["width"], ".2f"),
        )
        for name, one in own["predictors"].items()
        if one["rows"]
    ]
    printed.append(
        ("to expect if the model were true (counts are whole)", own["rows"],
         *(shown(own["calibrated"][level], ".0pt") for level in levels), "")
    )  # fmt: skip
    head = ("predictor", "rows", "inside 50 %", "80 %", "90 %", "width of 90 % (shares)")
    parts = [f"## {title}", f"{own['rows']} rows of {own['studies']} studies{own['of']}.",
             _rows(head, printed)]  # fmt: skip
    compared = own["compared"]
    first = compared["model less average"]
    groups = [
        (
            name,
            one["rows"],
            one["studies"],
            f"{shown(one['ours'], '.3f')} / {shown(one['theirs'], '.3f')}",
            _difference(one),
            f"{shown(one['log'], '+.1f')} ({shown(one['log_error'], '.1f')})",
            *(
                _difference(compared[other].get(name), one["rows"])
                for other in ("model less regression", "mixture less average",
                              "mixture less regression")
            ),
        )
        for name, one in first.items()
        if one["rows"] >= LEAST
    ]  # fmt: skip
    head = ("rows", "number", "studies", "CRPS, model / average", "difference (SE)",
            "log score, model less average, sum (SE)", "model less regression (SE)",
            "mixture less average (SE)", "mixture less regression (SE)")  # fmt: skip
    parts.append(_rows(head, groups))
    friberg = compared.get("model less friberg", {}).get("all rows")
    if friberg:
        parts.append(
            f"The marrow without leukaemia can predict {friberg['rows']} rows on counts: CRPS of "
            f"the model {shown(friberg['ours'], '.3f')}, its {shown(friberg['theirs'], '.3f')}, "
            f"difference {_difference(friberg)}."
        )
    if own["contrasts"]:
        parts.append(
            f"Randomised contrasts: {own['inside']} of {own['contrasts']} inside their 80 % "
            f"intervals; of those whose own interval excludes zero the sign is right in "
            f"{own['right']} of {own['clear']}."
        )
    return parts


def _difference(one: Mapping[str, Any] | None, beside: int | None = None) -> str:
    """Print a difference, and its number of rows where the column beside it has another."""
    if one is None:
        return ""
    rows = "" if beside in (None, one["rows"]) else f"; {one['rows']} rows"
    return f"{shown(one['difference'], '+.3f')} ({shown(one['error'], '.3f')}{rows})"


def _remission(figures: Mapping[str, Any]) -> list[str]:
    lines = []
    for table in _TABLES:
        every = figures[table]["predictors"]
        for group, one in every["model"]["remission"].items():
            if one["rows"] < LEAST:
                continue
            others = (every[name]["remission"].get(group) for name in ("average", "regression"))
            told = (
                "" if other is None
                else f"{shown(other['points'], '+.1f')} ({shown(other['error'], '.1f')})"
                for other in (one, *others)
            )  # fmt: skip
            lines.append((table.replace("_", " "), group, one["rows"], one["studies"], *told))
    ranks = [
        (
            table.replace("_", " "),
            figures[table]["predictors"]["model"]["ranks"]["studies"],
            *(
                shown(figures[table]["predictors"][name]["ranks"]["correlation"], ".2f")
                for name in ("model", "average", "regression", "mixture")
            ),
        )
        for table in _TABLES
    ]
    head = ("table", "group", "rows", "studies", "model (SE)", "average (SE)", "regression (SE)")
    return [
        "## Remission or response in adults",
        "Predicted less printed, in points:",
        _rows(head, lines),
        "Rank correlation of studies, printed and predicted:",
        _rows(("table", "studies", "model", "average", "regression", "mixture"), ranks),
    ]


def _pairs(figures: Mapping[str, Any]) -> list[str]:
    lines = []
    for (part, name), title in _PAIRS.items():
        for group, one in figures[part][name].items():
            lines.append(
                (
                    f"{title}{figures[part]['of']}" if group == ALL else f"… {group}",
                    one["pairs"],
                    one["studies"],
                    ""
                    if group == SCALED
                    else f"{shown(one['slope'], '.2f')} ({shown(one['slope_error'], '.2f')})",
                    f"{shown(one['error'], '.3f')} / {shown(one['of_none'], '.3f')}",
                    f"{shown(one['less'], '+.3f')} ({shown(one['less_error'], '.3f')})",
                )
            )
    head = ("pairs of arms of one study", "pairs", "studies", "slope (SE)",
            "squared error of the prediction / of no difference", "difference (SE)")  # fmt: skip
    return [
        "## Do differences between arms come true?",
        "Slope of printed on predicted log odds ratios (1 if they come true).",
        _rows(head, lines),
    ]


def _rows(head: Sequence[object], lines: Sequence[Sequence[object]]) -> str:
    every = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in every)


def written(figures: Mapping[str, Any], root: Path = ROOT) -> dict[Path, str]:
    """Give every document as it is with these figures."""
    told = tomllib.loads(SENTENCES.read_text(encoding="utf-8"))
    figures = with_posteriors(figures)
    sentences = {name: with_figures(" ".join(t.split()), figures) for name, t in told.items()}
    found = {root / PAGE: page(figures)}
    for name in DOCUMENTS:
        found[root / name] = with_sentences((root / name).read_text(encoding="utf-8"), sentences)
    return found


def main() -> None:
    """Write, or check."""
    ask = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    ask.add_argument("--check", action="store_true", help="write nothing")
    given = ask.parse_args()
    try:
        documents = written(json.loads(FILE.read_text(encoding="utf-8")))
    except FigureError as error:
        sys.exit(str(error))
    other = [
        path
        for path, text in documents.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path in other:
        if not given.check:
            path.write_text(documents[path], encoding="utf-8")
        print(f"{path.relative_to(ROOT)} {'prints other figures' if given.check else 'is written'}")
    sys.exit(1 if given.check and other else 0)


if __name__ == "__main__":
    main()
