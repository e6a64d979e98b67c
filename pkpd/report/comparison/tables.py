"""Result files: CSV and JSON tables, netCDF curves, figures and the report of one run.

A finished run is built in a hidden folder of its destination and then moved, so that a run that
stops leaves the files of an earlier run as they were (`pkpd.files.together`). What a running
comparison has completed lies in files named ``*.partial.*``, which a finished run removes.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
import json
import math
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pkpd.comparison.results import (
    ComparisonResult,
    EndpointRow,
    ExposureRatio,
    ExposureRow,
    Figure,
    PairRow,
    TrialResult,
    row_kind,
)
from pkpd.errors import DataError, PkpdError, writing
from pkpd.files import (
    file_stem,
    netcdf_bytes,
    settle,
    table_cell,
    together,
    unguarded,
    whole,
)

if TYPE_CHECKING:
    import xarray as xr

SENSITIVITY_COLUMNS = (
    "trial",
    "cohort",
    "neutrophil_threshold",
    "platelet_threshold",
    "by_day",
    "estimate",
    "lower",
    "upper",
    "evaluable",
)
QUESTION_COLUMNS = (
    *("trial", "question", "row", "column", "unit", "value", "lower", "upper", "text"),
    "posterior",
)
FIGURE_FORMATS = ("svg", "pdf", "png")
"""Files that a figure can be written as; ``svg`` is what the report holds."""

_LABELS = {
    "counts": {"units": "10^9/L"},
    "recovered": {"units": "probability"},
    "recovered_interval": {"units": "probability"},
    "dlt": {"units": "probability"},
    "dlt_sensitivity": {"units": "probability"},
    "dlt_sensitivity_evaluable": {"units": "share of patients"},
    "dose_given": {"units": "share of patients"},
    "split": {"units": "share of patients"},
    "neutrophil_threshold": {"units": "10^9/L"},
    "platelet_threshold": {"units": "10^9/L"},
    # not "units": readers would turn days into durations
    "day": {"long_name": "protocol day (day 1 = first dose)"},
    "by_day": {"long_name": "day of the rule's clock"},
}


_OURS = re.compile(
    r"report\.html|(results|pairs|sensitivity|questions|exposures|exposure_ratios)\.csv|what_is_known\.md"
    r"|curves_[\w.-]+\.nc|figures/[\w.-]+\.(svg|png|pdf)"
)
"""Names of what a comparison writes; nothing else is ever removed."""
_OF_EXPOSURES = ("exposures", "exposure_ratios", "without_exposure")
_PARTIAL = re.compile(r"(results|pairs|sensitivity)\.partial\.csv|curves_[\w.-]+\.partial\.nc")
"""Names of what a running one writes."""


def write_results(
    result: ComparisonResult,
    folder: str | Path,
    *,
    figures: bool = True,
    formats: Sequence[str] = ("svg",),
) -> tuple[Path, ...]:
    """Write a finished comparison.

    Parameters
    ----------
    result
        The comparison with its run record.
    folder
        Destination; made if absent. Files of an earlier run that this run does not write again
        are removed if the earlier ``results.json`` lists them.
    figures
        Whether to draw the figures, which the report then shows.
    formats
        Files of the figures in ``figures/``: ``"svg"``, ``"pdf"``, ``"png"`` (300 dpi).

    Returns
    -------
    tuple of Path
        The files, the report first: ``report.html``, ``results.csv``, ``pairs.csv``,
        ``sensitivity.csv``, ``results.json``, ``exposures.csv``, ``exposure_ratios.csv``,
        ``questions.csv`` where a trial asks any, ``what_is_known.md`` of a learned source,
        ``curves_<trial>.nc`` and ``figures/``.

    Raises
    ------
    pkpd.errors.PkpdError
        If the folder cannot be written to, or figures cannot be written so.
    """
    folder = Path(folder)
    check_writable(folder)
    check_formats(formats)
    # loaded by a run that has something to write: a page needs much else
    from pkpd.report.comparison import document, what_is_known

    with together(folder, last="results.json", earlier=_listed_files) as stage:
        pages: dict[str, list[Any]] = {}
        if figures:
            from pkpd.report.comparison.pages import save_pages  # draws, unlike the rest

            (stage / "figures").mkdir()
            for trial in result.trials:
                pages[trial.trial.id] = save_pages(trial, stage / "figures", result.record, formats)
        for trial in result.trials:
            _write_curves(trial, stage / curves_name(trial.trial.id))
        rows = all_rows(result.trials)
        write_rows(stage / "results.csv", row_kind(rows), rows)
        write_rows(stage / "pairs.csv", PairRow, all_pairs(result.trials))
        write_table(stage / "sensitivity.csv", SENSITIVITY_COLUMNS, sensitivity_rows(result.trials))
        for kind, name in ((ExposureRow, "exposures"), (ExposureRatio, "exposure_ratios")):
            if found := [row for trial in result.trials for row in getattr(trial, name)]:
                write_rows(stage / f"{name}.csv", kind, found)
        if any(trial.questions for trial in result.trials):
            write_table(stage / "questions.csv", QUESTION_COLUMNS, question_rows(result.trials))
        if result.learned:
            text = what_is_known.page(result)
            (stage / "what_is_known.md").write_text(text, encoding="utf-8")
        html = document.render(result, pages)
        (stage / "report.html").write_text(html, encoding="utf-8")
        made = [p for p in stage.rglob("*") if p.is_file()]
        names = sorted(p.relative_to(stage).as_posix() for p in made)
        files = {n: hashlib.sha256((stage / n).read_bytes()).hexdigest() for n in names}
        _write_json(stage / "results.json", result_document(result, files))
        names.append("results.json")
    remove_partial(folder)
    return tuple(folder / name for name in sorted(names, key=_reading_order))


def write_partial(
    folder: str | Path,
    rows: Sequence[EndpointRow],
    trials: Sequence[TrialResult] = (),
    *,
    there: int = 0,
) -> tuple[Path, ...]:
    """Write what a running comparison has completed, each file at once.

    Parameters
    ----------
    folder
        Destination; made if absent. Finished files of an earlier run are not touched.
    rows
        Rows of all cohorts that are complete.
    trials
        Trials that are complete: their pairs, sensitivity and curves are written too.
    there
        How many of them, the first ones, this run has written before: that is not repeated.

    Returns
    -------
    tuple of Path
        ``results.partial.csv`` and, with `trials`, ``pairs.partial.csv``,
        ``sensitivity.partial.csv`` and ``curves_<trial>.partial.nc``.
    """
    folder = Path(folder)
    check_writable(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    written = [folder / "results.partial.csv"]
    with whole(written[0], follow=False) as path:
        write_rows(path, row_kind(rows), rows)
    pairs, table = folder / "pairs.partial.csv", folder / "sensitivity.partial.csv"
    written += [pairs, table] if trials else []
    if len(trials) > there:
        with whole(pairs, follow=False) as path:
            write_rows(path, PairRow, all_pairs(trials))
        with whole(table, follow=False) as path:
            write_table(path, SENSITIVITY_COLUMNS, sensitivity_rows(trials))
    for number, trial in enumerate(trials):
        target = folder / curves_name(trial.trial.id, partial=True)
        if number >= there:
            with whole(target, follow=False) as path:
                _write_curves(trial, path)
        written.append(target)
    for stale in set(_partial_files(folder)) - set(written):
        stale.unlink(missing_ok=True)
    return tuple(written)


def remove_partial(folder: Path) -> None:
    """Remove the files of :func:`write_partial`."""
    for path in _partial_files(folder):
        path.unlink(missing_ok=True)


def _partial_files(folder: Path) -> list[Path]:
    """Files of :func:`write_partial`: no hidden ones, which another process may be writing."""
    return [folder / name for name in os.listdir(folder) if _PARTIAL.fullmatch(name)]


def read_rows(path: str | Path) -> tuple[EndpointRow, ...]:
    """Read ``results.csv`` back into rows as they were written; NaN is what is not known."""
    return tuple(_from_csv(Path(path), EndpointRow))


def read_pairs(path: str | Path) -> tuple[PairRow, ...]:
    """Read ``pairs.csv`` back into rows."""
    return tuple(_from_csv(Path(path), PairRow))


def check_formats(formats: Sequence[str]) -> None:
    """Refuse a kind of figure file that is not written, before any work is done."""
    for name in formats:
        if name not in FIGURE_FORMATS:
            raise PkpdError(
                where="--figure-format",
                what=f"figures cannot be written as {name!r}",
                allowed=", ".join(FIGURE_FORMATS),
            )


def check_writable(folder: str | Path) -> None:
    """Refuse a destination that is a file or cannot be written, before any work is done."""
    folder = Path(folder)
    parent = folder
    while not parent.exists() and parent != parent.parent:
        parent = parent.parent
    if not parent.is_dir():
        raise PkpdError(
            where=str(folder),
            what=f"results cannot be written here because {parent} is not a folder",
            remedy="name another folder with --out",
        )
    if not os.access(parent, os.W_OK):
        raise PkpdError(
            where=str(folder),
            what=f"results cannot be written here because {parent} is write-protected",
            remedy="name another folder with --out",
        )
    if folder.exists():
        settle(folder, last="results.json", earlier=_listed_files)
        return
    try:  # some file systems refuse what the permissions allow
        with tempfile.TemporaryDirectory(prefix=".pkpd-", dir=parent) as tried:
            (Path(tried) / folder.relative_to(parent)).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PkpdError(
            where=str(folder),
            what=f"the folder cannot be made ({error.strerror})",
            remedy="name another folder with --out",
        ) from error


# -- tables ---------------------------------------------------------------------------------


def all_rows(trials: Iterable[TrialResult]) -> list[EndpointRow]:
    """Endpoint rows of all trials."""
    return [row for trial in trials for row in trial.rows]


def all_pairs(trials: Iterable[TrialResult]) -> list[PairRow]:
    """Paired differences of all trials."""
    return [row for trial in trials for row in trial.pairs]


def sensitivity_rows(trials: Iterable[TrialResult]) -> Iterator[tuple[Any, ...]]:
    """DLT risk by thresholds and day, one tuple in the order of :data:`SENSITIVITY_COLUMNS`."""
    for trial in trials:
        if "dlt_sensitivity" not in trial.curves:
            continue
        data = trial.curves["dlt_sensitivity"].transpose(
            "cohort", "neutrophil_threshold", "platelet_threshold", "by_day", "bound"
        )
        axes = [data[name].values.tolist() for name in data.dims[:-1]]
        bounds = [str(b) for b in data["bound"].values]
        order = [bounds.index(b) for b in ("mean", "lower", "upper")]
        judged = trial.curves["dlt_sensitivity_evaluable"].transpose(*data.dims[:-1]).values
        for place in np.ndindex(*data.shape[:-1]):
            keys = [axis[i] for axis, i in zip(axes, place, strict=True)]
            figures = data.values[place]
            of_them = (*(float(figures[i]) for i in order), float(judged[place]))
            yield (trial.trial.id, *keys, *of_them)


def question_rows(trials: Iterable[TrialResult]) -> Iterator[tuple[Any, ...]]:
    """Cells of the questions' tables, one tuple in the order of :data:`QUESTION_COLUMNS`."""
    for trial in trials:
        posterior = trial.curves.attrs.get("posterior", "")
        for question in trial.questions:
            for number, row in enumerate(question.rows, start=1):
                for head, cell in zip(question.columns, row, strict=True):
                    key = (question.trial, question.name, number, head)
                    if isinstance(cell, Figure):
                        yield (*key, cell.unit, cell.value, cell.lower, cell.upper, "", posterior)
                    else:
                        yield (*key, "", math.nan, math.nan, math.nan, cell, posterior)
            for number, text in enumerate(question.answer, start=1):
                key = (question.trial, question.name, number, "answer")
                yield (*key, "", math.nan, math.nan, math.nan, text, posterior)


def write_rows(path: Path, kind: type, rows: Iterable[Any]) -> None:
    """Write frozen dataclass rows as CSV with the fields as columns."""
    columns = [field.name for field in dataclasses.fields(kind)]
    write_table(path, columns, ([getattr(row, c) for c in columns] for row in rows))


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write CSV to a file: see `csv_text`."""
    path.write_bytes(csv_text(columns, rows).encode())


def csv_text(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Table as CSV: NaN as an empty field, infinity as ``inf``, floats so that they read back."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_field(value) for value in row] for row in rows)
    return file.getvalue()


def _field(value: Any) -> Any:
    if isinstance(value, (float, np.floating)):
        return "" if math.isnan(value) else repr(float(value))
    return table_cell(value)


def _from_csv(path: Path, kind: type) -> Iterator[Any]:
    fields = dataclasses.fields(kind)
    numeric = {field.name for field in fields if str(field.type) == "float"}
    remedy = "give a table written by pkpd"
    try:
        text = path.read_bytes().decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""))
        missing = [f.name for f in fields if f.name not in (reader.fieldnames or ())]
        lines = list(reader)
    except (OSError, ValueError, csv.Error) as error:
        what = f"cannot be read ({error})"
        raise DataError(where=str(path), what=what, remedy=remedy) from error
    if missing:
        raise DataError(
            where=str(path),
            what=f"the column {missing[0]!r} is missing",
            allowed=", ".join(f.name for f in fields),
            remedy=remedy,
        )
    for number, line in enumerate(lines, start=2):
        made: dict[str, Any] = {}
        for name in (f.name for f in fields):
            cell = line[name]
            try:
                made[name] = float(cell or "nan") if name in numeric else unguarded(cell)
            except (ValueError, TypeError):
                what = "the cell is missing" if cell is None else f"{cell!r} is not a number"
                where = f"{path}, row {number}, column {name}"
                raise DataError(where=where, what=what, remedy=remedy) from None
        yield kind(**made)


# -- JSON and netCDF ------------------------------------------------------------------------


def result_document(result: ComparisonResult, files: Mapping[str, str]) -> dict[str, Any]:
    """Everything but the curves as plain data: NaN is None, infinity is ``"inf"``."""
    return plain(
        {
            "format": "pkpd comparison 1",
            "simulated": result.record.get("simulated", {}),
            "record": {k: v for k, v in result.record.items() if k != "simulated"},
            "trials": [
                {
                    "trial": trial.trial,
                    "rows": trial.rows,
                    "pairs": trial.pairs,
                    **{k: getattr(trial, k) for k in _OF_EXPOSURES if getattr(trial, k)},
                    "sensitivity": [
                        dict(zip(SENSITIVITY_COLUMNS, row, strict=True))
                        for row in sensitivity_rows([trial])
                    ],
                    "assumptions": trial.assumptions,
                    "curves": curves_name(trial.trial.id),
                    "settings": trial.curves.attrs,
                    **({"questions": trial.questions} if trial.questions else {}),
                }
                for trial in result.trials
            ],
            "files": dict(files),
        }
    )


def plain(value: Any) -> Any:
    """Turn dataclasses, arrays, numbers and mappings into what JSON can hold."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # fields that do not count for equality, such as the path of a card, stay on the machine
        return {
            f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.compare
        }
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return value if math.isfinite(value) else ("inf" if value > 0 else "-inf")
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return str(value)


def _write_json(path: Path, data: Mapping[str, Any]) -> None:
    text = json.dumps(data, indent=1, allow_nan=False, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


def curves_name(trial: str, *, partial: bool = False) -> str:
    """File name of a trial's curves."""
    return f"curves_{file_stem(trial)}{'.partial' if partial else ''}.nc"


def _write_curves(trial: TrialResult, path: Path) -> None:
    curves = labelled(trial.curves)
    packed = {
        name: {"zlib": True, "complevel": 4}
        for name, array in curves.data_vars.items()
        if array.dtype.kind in "fiub" and array.ndim
    }
    path.write_bytes(netcdf_bytes({None: curves}, encoding=packed))


def labelled(curves: xr.Dataset) -> xr.Dataset:
    """Copy with units on every variable and with attributes that netCDF can hold."""
    copy = curves.copy()
    copy.attrs = {str(k): _attribute(v) for k, v in curves.attrs.items() if v is not None}
    for name in copy.variables:
        attrs = {str(k): _attribute(v) for k, v in copy[name].attrs.items() if v is not None}
        copy[name].attrs = {**_LABELS.get(str(name), {}), **attrs}
    return copy


def _attribute(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, int, float, np.number, np.ndarray)):
        return value
    return json.dumps(plain(value), ensure_ascii=False)


# -- files ----------------------------------------------------------------------------------


def _listed_files(folder: Path) -> set[str]:
    """Files that an earlier run wrote, by its own list, never outside the folder."""
    try:
        listed = json.loads((folder / "results.json").read_text(encoding="utf-8"))["files"]
        names = {str(name) for name in listed}
    except (OSError, ValueError, KeyError, TypeError):
        return set()
    return {name for name in names if _OURS.fullmatch(name)}


def _reading_order(name: str) -> tuple[int, str]:
    order = ("report.html", "results.csv", "pairs.csv", "sensitivity.csv", "results.json")
    if name in order:
        return order.index(name), name
    return (len(order) + (1 if name.startswith("figures/") else 0)), name
