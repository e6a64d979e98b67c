"""A fit as text that reviewers know: NONMEM's listing, and its files of iterations and of ETAs.

The layout is that of NONMEM 7 (listing, ``.ext``, ``.phi``); the first line says who wrote it.
`pkpd.nonmem` reads all three back.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pkpd.arguments import PATH, Kind, check_arguments
from pkpd.data.dataset import NOT_CENSORED, Dataset
from pkpd.errors import PkpdError
from pkpd.export.nonmem_text import nonmem_text
from pkpd.files import write_text
from pkpd.fitting.maximum.result import MaximumLikelihood
from pkpd.fitting.sampled import Fit
from pkpd.nonmem.listing import ERRORS, FINAL, OWN, Estimates
from pkpd.nonmem.structure import StreamStructure
from pkpd.report.fit.reported import Reported, reported, vector

_WIDE = 120
_IN_A_LINE = 10
_HELD = "........."
EIGENVALUES, CONDITION, DEVIATIONS, DEVIATION_ERRORS, HELD, ENDED = (FINAL - k for k in range(2, 8))
"""Lines of a file of iterations after those of estimates and standard errors."""

_FIT = Kind("what pkpd.fit gave", lambda v: isinstance(v, (Fit, MaximumLikelihood)))


def listing(fit: Fit | MaximumLikelihood) -> str:
    """Tell a fit in the layout of a NONMEM listing.

    Parameters
    ----------
    fit
        What `pkpd.fit` gave, by any method.

    Returns
    -------
    str
        The model as a control stream where it can be written as one (an imported one as it was
        read), numbers of records and subjects, method, how the search ended, eta-bar with standard
        error and p-value, shrinkage, the objective, THETA, OMEGA and SIGMA with standard errors and
        relative ones, their covariance and correlation, eigenvalues of the correlation matrix and
        condition numbers.

    Raises
    ------
    PkpdError
        If it is no fit.

    Notes
    -----
    THETAs are the fixed effects of the model in their order, residual standard deviations among
    them, with SIGMA fixed at 1, as `pkpd.models.export_model` writes them; of an imported control
    stream all are the stream's own. Of a posterior, estimates are means and errors standard
    deviations of the draws, and the objective is the average of -2 log likelihood given the random
    effects.
    """
    check_arguments("listing", fit=(fit, _FIT))
    return _text(reported(fit))


def write_listing(fit: Fit | MaximumLikelihood, path: str | Path) -> Path:
    """Write a fit as a NONMEM listing, with its files of iterations and of random effects.

    Parameters
    ----------
    fit
        What `pkpd.fit` gave, by any method.
    path
        File to write (``run1.lst``); ``run1.ext`` and ``run1.phi`` go beside it.

    Returns
    -------
    Path
        The listing.

    Raises
    ------
    PkpdError
        If it is no fit, or a file cannot be written.

    Examples
    --------
    >>> import pkpd
    >>> fit = pkpd.fit(model, data, method="focei")  # doctest: +SKIP
    >>> path = pkpd.report.write_listing(fit, "run1.lst")  # doctest: +SKIP
    >>> pkpd.nonmem.read_listing(path).last  # doctest: +SKIP
    """
    check_arguments("write_listing", fit=(fit, _FIT), path=(path, PATH))
    path, found = Path(path), reported(fit)
    for suffix, text in ((".ext", _iterations(found)), (".phi", _modes(found))):
        write_text(path.with_suffix(suffix), text)
    write_text(path, _text(found))
    return path


def _text(found: Reported) -> str:
    fit, data = found.fit, found.fit.likelihood.dataset
    out = [
        OWN,
        *_stream(found),
        "",
        "NM-TRAN MESSAGES",
        " (none: this is no output of NM-TRAN)",
        "",
        f" DATA SET: {data.events.source}",
        f" NO. OF DATA RECS IN DATA SET:{int(data.events.valid.sum()):9d}",
        f" TOT. NO. OF OBS RECS:{len(data.observations):9d}",
        f" TOT. NO. OF INDIVIDUALS:{len(data.subjects):9d}",
        "",
        " #TBLN:      1",
        f" #METH: {found.method}",
        "",
        " #TERM:",
        f"{'' if found.sampled else '0'}{' ' if found.sampled else ''}{found.ended[0]}",
        *(f" {line}" for line in found.ended[1:]),
        "",
        *_etas(found),
        " #TERE:",
        f" Elapsed estimation time in seconds: {_seconds(found):11.2f}",
        "",
        *_objective(found),
        *_title("FINAL PARAMETER ESTIMATE", found),
        *_values(found.estimates),
        *_title("STANDARD ERROR OF ESTIMATE", found),
        *_values(found.errors, errors=True),
        *_relative(found),
        *_matrices(found),
    ]
    if isinstance(fit, MaximumLikelihood):
        out.append(f" CONDITION NUMBER ON THE SCALES OF THE SEARCH: {fit.condition_number:.5E}")
    return "\n".join([*out, ""])


def _seconds(found: Reported) -> float:
    fit = found.fit
    if isinstance(fit, MaximumLikelihood):
        return fit.seconds
    return float(fit.record.get("wall_s", float("nan")))


def _stream(found: Reported) -> list[str]:
    """Text of the model as a control stream, or why there is none."""
    likelihood = found.fit.likelihood
    structure = likelihood.model.structure
    if isinstance(structure, StreamStructure) and structure.program.text:
        return [line for line in structure.program.text if line.strip() != OWN]
    try:
        text = nonmem_text(likelihood.model, likelihood.dataset, "data.csv")
    except PkpdError as error:
        return [f"; no control stream of this model: {' '.join(str(error).split())}"]
    return text.rstrip("\n").split("\n")


def _etas(found: Reported) -> list[str]:
    mean, error, p = found.eta_bar
    if not len(mean):
        return []
    shrunk = 100.0 * found.eta_shrinkage
    lines = [
        f" ETAS: {', '.join(f'{i} {name}' for i, name in enumerate(found.terms.etas, start=1))}",
        "",
        " ETABAR IS THE ARITHMETIC MEAN OF THE ETA-ESTIMATES,",
        " AND THE P-VALUE IS GIVEN FOR THE NULL HYPOTHESIS THAT THE TRUE MEAN IS 0.",
        "",
        *_row(" ETABAR:", mean),
        *_row(" SE:", error),
        *_row(" N:", [f"{n:11d}" for n in found.visited.sum(axis=0)]),
        "",
        *_row(" P VAL.:", p),
        "",
        *_row(" ETASHRINKSD(%)", shrunk),
        *_row(" ETASHRINKVR(%)", 100.0 * (1.0 - (1.0 - shrunk / 100.0) ** 2)),
    ]
    if found.epsilon_shrinkage:
        values = 100.0 * np.array(list(found.epsilon_shrinkage.values()))
        lines += [
            *_row(" EPSSHRINKSD(%)", values),
            *_row(" EPSSHRINKVR(%)", 100.0 * (1.0 - (1.0 - values / 100.0) ** 2)),
            f" RESIDUALS OF: {', '.join(found.epsilon_shrinkage)}",
        ]
    return [*lines, ""]


def _row(label: str, values: Sequence[float | str] | np.ndarray) -> list[str]:
    """Values after a label, ten in a line."""
    cells = [v if isinstance(v, str) else _number(float(v)) for v in values]
    parts = [cells[k : k + _IN_A_LINE] for k in range(0, len(cells), _IN_A_LINE)]
    return [f"{label if k == 0 else '':16s}{' '.join(part)}" for k, part in enumerate(parts)]


def _number(value: float) -> str:
    return f"{value:11.4E}" if np.isfinite(value) else f"{_HELD:>11s}"


def _objective(found: Reported) -> list[str]:
    data = found.fit.likelihood.dataset
    what = (
        "AVERAGE VALUE OF LIKELIHOOD FUNCTION"
        if found.sampled
        else ("MINIMUM VALUE OF OBJECTIVE FUNCTION")
    )
    lines = [
        f" TOTAL DATA POINTS NORMALLY DISTRIBUTED (N): {_measured(data):12d}",
        f" N*LOG(2PI) CONSTANT TO OBJECTIVE FUNCTION: {found.constant:18.6f}",
        f" OBJECTIVE FUNCTION VALUE WITHOUT CONSTANT: {found.objective:18.6f}",
        f" OBJECTIVE FUNCTION VALUE WITH CONSTANT:    {found.objective + found.constant:18.6f}",
        *_of_logarithms(found),
        "",
        f" {'*' * _WIDE}",
        f" #OBJT:{f' {found.method.upper()}: {what} ':*^{_WIDE - 6}}",
        f" {'*' * _WIDE}",
        "",
        f" #OBJV:{'*' * 44}    {found.objective:.6f}       {'*' * 50}",
    ]
    if np.isfinite(found.objective_sd):
        lines.append(f" #OBJS:{'*' * 44}    {found.objective_sd:.6f} (STD)   {'*' * 50}")
    return lines


def _of_logarithms(found: Reported) -> list[str]:
    """Objective of a stream that has logarithms where the data have values: none without them."""
    likelihood = found.fit.likelihood
    model, seen = likelihood.model, likelihood.dataset.observations
    if isinstance(model.structure, StreamStructure):
        return []
    logarithmic = [model.residual[name].logarithmic for name in likelihood.dataset.lines]
    mine = np.array(logarithmic)[seen.line] & (seen.censored == NOT_CENSORED)
    if not mine.any():
        return []
    value = found.objective - 2.0 * float(np.log(seen.value[mine]).sum())
    return [
        f" OBJECTIVE FUNCTION VALUE OF LOGARITHMS:    {value:18.6f}",
        f" ({mine.sum()} VALUES ARE LOGARITHMS IN THE STREAM ABOVE; THEIR TWICE SUM IS TAKEN OFF)",
    ]


def _measured(data: Dataset) -> int:
    return int(np.sum(data.observations.censored == NOT_CENSORED))


def _title(words: str, found: Reported) -> list[str]:
    side = "*" * 20
    return [
        "1",
        f" {'*' * _WIDE}",
        f" {side}{'':80s}{side}",
        f" {side}{found.method.upper():^80s}{side}",
        f" {side}{words:^80s}{side}",
        f" {side}{'':80s}{side}",
        f" {'*' * _WIDE}",
        "",
    ]


def _values(found: Estimates, errors: bool = False) -> list[str]:
    out = [
        " THETA - VECTOR OF FIXED EFFECTS PARAMETERS   *********",
        "",
        *_columns([f"TH{i + 1:2d}" for i in range(len(found.theta))], found.theta),
        "",
        " OMEGA - COV MATRIX FOR RANDOM EFFECTS - ETAS  ********",
        "",
        *_triangle("ET", found.omega),
        "",
        " SIGMA - COV MATRIX FOR RANDOM EFFECTS - EPSILONS  ****",
        "",
        *_triangle("EP", found.sigma),
        "",
    ]
    if errors:
        return out
    out += [
        " OMEGA - CORR MATRIX FOR RANDOM EFFECTS - ETAS  *******",
        "",
        *_triangle("ET", _deviations(found.omega)),
        "",
        " SIGMA - CORR MATRIX FOR RANDOM EFFECTS - EPSILONS  ***",
        "",
        *_triangle("EP", _deviations(found.sigma)),
        "",
    ]
    return out


def _deviations(matrix: np.ndarray) -> np.ndarray:
    """Correlations, with standard deviations on the diagonal."""
    sd = np.sqrt(np.diag(matrix))
    both = np.outer(sd, sd)
    out = np.divide(matrix, both, out=np.zeros_like(matrix), where=both > 0)
    np.fill_diagonal(out, sd)
    return out


def _columns(labels: Sequence[str], values: np.ndarray) -> list[str]:
    """Labels, and values below them, ten in a line."""
    out = []
    for first in range(0, len(labels), _IN_A_LINE):
        part = slice(first, first + _IN_A_LINE)
        out += [
            ("         " + " ".join(f"{label:>8s}   " for label in labels[part])).rstrip(),
            "",
            "         " + " ".join(_number(float(v)) for v in values[part]),
            "",
        ]
    return out


def _label(word: str, i: int) -> str:
    """``ETA1``, ``ET10``: four letters as NONMEM has them."""
    return f"{word}{'A' if word == 'ET' else 'S'}{i}" if i < 10 else f"{word}{i}"


def _triangle(word: str, matrix: np.ndarray) -> list[str]:
    labels = [_label(word, i + 1) for i in range(len(matrix))]
    out: list[str] = []
    for first in range(0, len(labels), _IN_A_LINE):
        some = labels[first : first + _IN_A_LINE]
        out.append(("          " + " ".join(f"{label:>8s}   " for label in some)).rstrip())
    out.append(" ")
    for i in range(len(matrix)):
        cells = [_number(float(v)) for v in matrix[i, : i + 1]]
        out.append(f" {labels[i]}")
        for first in range(0, len(cells), _IN_A_LINE):
            mark = "+" if first == 0 else " "
            out.append(f"{mark}        " + " ".join(cells[first : first + _IN_A_LINE]))
        out.append(" ")
    return out


def _relative(found: Reported) -> list[str]:
    """Table of all values that are not zero: estimate, standard error, relative, name."""
    values, errors = vector(found.estimates), vector(found.errors)
    meanings = _meanings(found)
    out = [
        " PARAMETER           ESTIMATE          SE        RSE(%)   OF",
        "",
    ]
    for name, value, error, free in zip(found.names, values, errors, found.free, strict=True):
        if value == 0.0 and not free:
            continue
        relative = 100.0 * error / abs(value) if value else np.nan
        percent = f"{relative:11.2f}" if np.isfinite(relative) else f"{'':11s}"
        told = f"{_number(error) if free else 'FIXED'.rjust(11)} {percent}"
        out.append(f" {name:15s} {_number(value)} {told}   {meanings.get(name, '')}".rstrip())
    return [*out, ""]


def _meanings(found: Reported) -> dict[str, str]:
    out = {f"THETA{i}": name for i, name in enumerate(found.terms.thetas, start=1)}
    etas = found.terms.etas
    for i, name in enumerate(etas, start=1):
        out[f"OMEGA({i},{i})"] = f"variance of {name}"
        for j in range(1, i):
            out[f"OMEGA({i},{j})"] = f"covariance of {etas[j - 1]} and {name}"
    return out


def _matrices(found: Reported) -> list[str]:
    chosen = found.estimated
    if not len(found.eigenvalues):
        return [" NO COVARIANCE OF THE ESTIMATES", ""]
    names = [name for name, there in zip(found.names, chosen, strict=True) if there]
    covariance = found.covariance[np.ix_(chosen, chosen)]
    values = found.eigenvalues
    out = []
    for title, matrix in (
        ("COVARIANCE MATRIX OF ESTIMATE", covariance),
        ("CORRELATION MATRIX OF ESTIMATE", found.correlation),
    ):
        out += _title(title, found)
        for i, name in enumerate(names):
            cells = [_number(float(v)) for v in matrix[i, : i + 1]]
            out.append(f" {name}")
            for first in range(0, len(cells), _IN_A_LINE):
                out.append("+        " + " ".join(cells[first : first + _IN_A_LINE]))
    out += _title("EIGENVALUES OF COR MATRIX OF ESTIMATE", found)
    for first in range(0, len(values), _IN_A_LINE):
        part = values[first : first + _IN_A_LINE]
        numbers = range(first + 1, first + len(part) + 1)
        out += ["         " + " ".join(f"{n:11d}" for n in numbers), ""]
        out += ["         " + " ".join(_number(float(v)) for v in part), ""]
    ratio = values[-1] / values[0] if values[0] > 0 else np.inf
    return [*out, f" CONDITION NUMBER OF THE CORRELATION MATRIX: {ratio:.5E}"]


def _iterations(found: Reported) -> str:
    """Text of a file of iterations: draws, estimates, errors, eigenvalues, what was held."""
    names = found.names
    name = "MCMCOBJ" if found.sampled else "OBJ"
    values, errors = vector(found.estimates), vector(found.errors)
    eigen = np.zeros(len(names))
    eigen[: len(found.eigenvalues)] = found.eigenvalues[: len(names)]
    condition = np.zeros(len(names))
    if len(found.eigenvalues) and found.eigenvalues[0] > 0:
        ends = found.eigenvalues[[-1, 0]]
        few = np.array([ends[0] / ends[1], ends[1], ends[0]])[: len(names)]
        condition[: len(few)] = few
    deviations = Estimates(
        found.estimates.theta,
        _deviations(found.estimates.omega),
        _deviations(found.estimates.sigma),
    )
    of_deviations = _deviation_errors(found, vector(deviations))
    good = not isinstance(found.fit, MaximumLikelihood) or found.fit.converged
    ended = np.zeros(len(names))
    ended[0] = 0.0 if good else 1.0
    rows = [(k, row, 0.0) for k, row in enumerate(found.draws, start=1)]
    if isinstance(found.fit, MaximumLikelihood):
        rows = [(found.fit.iterations, values, found.objective)]
    rows += [
        (FINAL, values, found.objective),
        (ERRORS, errors, found.objective_sd),
        (EIGENVALUES, eigen, 0.0),
        (CONDITION, condition, 0.0),
        (DEVIATIONS, vector(deviations), 0.0),
        (DEVIATION_ERRORS, of_deviations, 0.0),
        (HELD, (~found.free).astype(float), 0.0),
        (ENDED, ended, 0.0),
    ]
    lines = [
        f"TABLE NO.     1: {found.method}: Problem=1 Subproblem=0 (written by pkpd)",
        " ITERATION    " + " ".join(f"{n:<19s}" for n in (*names, name)),
    ]
    for number, row, objective in rows:
        cells = [_exact(float(v)) for v in (*row, objective)]
        lines.append(f"{number:13d} " + " ".join(cells))
    return "\n".join(lines) + "\n"


def _exact(value: float) -> str:
    """Write a number with all its digits; 1E10, as NONMEM does, for an error that there is not."""
    return f"{value if np.isfinite(value) else 1e10:19.12E}"


def _deviation_errors(found: Reported, deviations: np.ndarray) -> np.ndarray:
    """Return standard errors of standard deviations; 1E10 for those of correlations."""
    errors = vector(found.errors)
    at = [
        k
        for k, name in enumerate(found.names)
        if "(" in name and name[6:-1].split(",")[0] == name[6:-1].split(",")[1]
    ]
    out = np.where([name.startswith("THETA") for name in found.names], errors, np.nan)
    for k in at:
        out[k] = errors[k] / (2.0 * deviations[k]) if deviations[k] > 0 else np.nan
    return out


def _modes(found: Reported) -> str:
    """Text of a file of random effects: modes (means), their covariance, the objective."""
    count = found.random.shape[1]
    lower = [(i, j) for i in range(count) for j in range(i + 1)]
    names = [
        *(f"ETA({i + 1})" for i in range(count)),
        *(f"ETC({i + 1},{j + 1})" for i, j in lower),
        "OBJ",
    ]
    subjects = np.asarray(found.fit.likelihood.dataset.subjects)
    whole = subjects.dtype.kind in "iuf"
    lines = [
        f"TABLE NO.     1: {found.method}: Problem=1 Subproblem=0 (written by pkpd)",
        " SUBJECT_NO   ID           " + " ".join(f"{n:<19s}" for n in names),
    ]
    for b, label in enumerate(subjects):
        spread = [found.random_covariance[b, i, j] for i, j in lower]
        cells = [_exact(float(v)) for v in (*found.random[b], *spread, found.by_subject[b])]
        lines.append(f"{b + 1:12d} {float(label) if whole else b + 1:12.10g} " + " ".join(cells))
    return "\n".join(lines) + "\n"
