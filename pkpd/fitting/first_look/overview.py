"""An overview of data before a model is fitted: covariates, sampling, dosing, doubtful rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pkpd.arguments import NAMES, NONE, NUMBER, a, check_arguments
from pkpd.cards.files import nearest_of
from pkpd.data.dataset import ABOVE, BELOW, Dataset
from pkpd.errors import PkpdError
from pkpd.fitting.checks.replicates import dose_times
from pkpd.fitting.first_look.doubtful import concentrations, doubtful_rows

if TYPE_CHECKING:
    import pandas as pd

_CLOSE = 0.7
"""Rank correlation of two covariates above which a search cannot well tell their effects apart."""
_LEVELS = 5  # a covariate with at most so many values is told by their frequencies
_ROWS = 10  # doubtful rows of a summary


@dataclass(frozen=True, eq=False)
class DataOverview:
    """What is in a data set.

    Attributes
    ----------
    data
        The data set.
    covariates : DataFrame
        One row for each: ``minimum``, ``lower`` and ``upper`` quartile, ``median`` and ``maximum``
        at the subjects' first records, number of ``values``, ``levels`` with their subjects where
        there are at most five, and whether it ``changes`` within subjects.
    correlations : DataFrame
        Rank correlations (Spearman) of covariates at first records, NaN for one with a single
        value.
    sampling : DataFrame
        One row for each line: ``observations``, ``below`` and ``above`` a limit, ``subjects``, the
        ``fewest``, ``median`` and ``most`` per subject, ``first_h`` and ``last_h`` in time, and the
        ``median_after_dose_h`` and ``longest_after_dose_h`` since the last dose, of observations
        that follow a dose of their period: NaN where there is none.
    dosing : DataFrame
        One row for each compartment: ``doses`` (additional ones included), ``infusions``,
        ``subjects``, the ``fewest``, ``median`` and ``most`` doses of a subject, ``minimum``,
        ``median_amount``, ``maximum``, and the ``interval_h``, the median time between doses that
        no reset parts.
    doubtful : DataFrame
        Rows to look at: ``row`` of the source, ``subject``, ``time_h``, ``what``, ``value``,
        ``why``.
    """

    data: Dataset
    covariates: pd.DataFrame
    correlations: pd.DataFrame
    sampling: pd.DataFrame
    dosing: pd.DataFrame
    doubtful: pd.DataFrame

    @property
    def close(self) -> list[tuple[str, str, float]]:
        """Pairs of covariates with a rank correlation of 0.7 or more, and that."""
        names, table = list(self.correlations.columns), self.correlations.to_numpy()
        first, second = np.triu_indices(len(names), 1)
        pairs = [
            (names[i], names[j], float(table[i, j])) for i, j in zip(first, second, strict=True)
        ]
        return [pair for pair in pairs if abs(pair[2]) >= _CLOSE]

    def summary(self) -> str:
        """Tell the overview in text."""
        source = self.data.events.source
        text = [f"{source}: {len(self.data.subjects)} subjects", "", "Sampling"]
        text += _lines(self.sampling)
        text += ["", "Dosing", *_lines(self.dosing)] if len(self.dosing) else ["", "No doses"]
        if len(self.covariates):
            text += ["", "Covariates at first records", *_lines(self.covariates)]
            text += [
                f"- {a} and {b} go together (rank correlation {r:.2f})" for a, b, r in self.close
            ]
        count = len(self.doubtful)
        text += ["", f"{count} doubtful row{'' if count == 1 else 's'}"]
        if count:
            text += _lines(self.doubtful.head(_ROWS), index=False)
        if count > _ROWS:
            text.append(f"and {count - _ROWS} more in `doubtful`")
        return "\n".join(text)

    __repr__ = summary


def look_at_data(
    data: Dataset, *, concentration: Sequence[str] | None = None, jump: float = 100.0
) -> DataOverview:
    """Look at data before a model is fitted.

    Parameters
    ----------
    data
        The data set.
    concentration
        Lines that are concentrations of a drug, zero before its first dose and positive after it;
        all that are not named as counts of cells if left out.
    jump
        Factor that is doubtful: between neighbouring values of one subject (a rise, if no dose is
        between them), and of doses and covariates from their median.

    Returns
    -------
    DataOverview
        Its ``summary()`` tells it; `pkpd.plots.plot_data` draws the data.

    Raises
    ------
    PkpdError
        If a line is not in the data, or ``jump`` is not above 1.

    Examples
    --------
    >>> import pandas as pd, pkpd
    >>> from pkpd.checks import look_at_data
    >>> table = pd.DataFrame({"ID": 1, "TIME": [0, 1, 2], "AMT": [10, 0, 0], "DV": [0, 5, 0.01]})
    >>> look_at_data(pkpd.read_nonmem(table)).doubtful["why"].tolist()
    ['500 times below the value 1 h before']
    """
    check_arguments(
        "look_at_data",
        data=(data, a(Dataset)),
        concentration=(concentration, NAMES | NONE),
        jump=(jump, NUMBER),
    )
    if not jump > 1.0:
        what, allowed = f"{jump:g} is given", "a factor above 1"
        raise PkpdError(where="look_at_data, jump", what=what, allowed=allowed)
    chosen = concentrations(data) if concentration is None else tuple(concentration)
    for name in chosen:
        if name not in data.lines:
            raise PkpdError(
                where="look_at_data, concentration",
                what=f"{name!r} is no line of the data{nearest_of(name, data.lines)}",
                allowed=", ".join(data.lines),
            )
    return DataOverview(
        data,
        _covariates(data),
        _correlations(data),
        _sampling(data),
        _dosing(data),
        doubtful_rows(data, chosen, float(jump)),
    )


def _lines(table: pd.DataFrame, index: bool = True) -> list[str]:
    return table.to_string(index=index, na_rep="", float_format="{:.4g}".format).splitlines()


def _frame(rows: Sequence[dict[str, Any]], name: str) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(rows).set_index(name) if rows else pd.DataFrame()


def _covariates(data: Dataset) -> pd.DataFrame:
    rows = []
    for name, values in data.covariates.items():
        first = values[:, 0]
        levels, counts = np.unique(first, return_counts=True)
        few = len(levels) <= _LEVELS
        pairs = zip(levels, counts, strict=True) if few else ()
        told = ", ".join(f"{data.word(name, v)}: {n}" for v, n in pairs)
        low, quarter, middle, more, high = np.quantile(first, [0.0, 0.25, 0.5, 0.75, 1.0])
        rows.append(
            {
                "covariate": name,
                "minimum": low,
                "lower": quarter,
                "median": middle,
                "upper": more,
                "maximum": high,
                "values": len(levels),
                "levels": told,
                "changes": not data.constant(name),
            }
        )
    return _frame(rows, "covariate")


def _correlations(data: Dataset) -> pd.DataFrame:
    import pandas as pd

    first = {name: values[:, 0] for name, values in data.covariates.items()}
    return pd.DataFrame(first).corr(method="spearman") if first else pd.DataFrame()


def _since_dose(data: Dataset) -> np.ndarray:
    """Hours of every observation since the last dose of its period, NaN before the first."""
    seen, period = data.observations, data.events.period
    out = np.full(len(seen), np.nan)
    for b, (when, record) in enumerate(dose_times(data)):
        for m in np.flatnonzero(seen.subject == b):
            at = int(seen.record[m])
            past = (period[b, record] == period[b, at]) & (when <= seen.time[m]) & (record < at)
            if past.any():
                out[m] = seen.time[m] - when[past].max()
    return out


def _sampling(data: Dataset) -> pd.DataFrame:
    seen, after = data.observations, _since_dose(data)
    rows = []
    for k, name in enumerate(data.lines):
        mine = seen.line == k
        if not np.any(mine):
            continue
        per = np.unique(seen.subject[mine], return_counts=True)[1]
        since = after[mine & ~np.isnan(after)]
        rows.append(
            {
                "line": name,
                "observations": int(mine.sum()),
                "below": int(np.sum(seen.censored[mine] == BELOW)),
                "above": int(np.sum(seen.censored[mine] == ABOVE)),
                "subjects": len(per),
                "fewest": int(per.min()),
                "median": float(np.median(per)),
                "most": int(per.max()),
                "first_h": float(seen.time[mine].min()),
                "last_h": float(seen.time[mine].max()),
                "median_after_dose_h": float(np.median(since)) if since.size else np.nan,
                "longest_after_dose_h": float(since.max()) if since.size else np.nan,
            }
        )
    return _frame(rows, "line")


def _dosing(data: Dataset) -> pd.DataFrame:
    events, given = data.events, dose_times(data)
    rows = []
    for cmt in np.unique(events.cmt[events.is_dose]).tolist():
        counts, gaps, amounts, infusions = [], list[float](), list[float](), 0
        for b, (when, record) in enumerate(given):
            mine = events.cmt[b, record] == cmt
            # a record at steady state stands for itself, too
            doses = np.unique(np.stack([record[mine], when[mine]]), axis=1)
            record = doses[0].astype(int)
            if not record.size:
                continue
            counts.append(len(record))
            for part in np.unique(events.period[b, record]):
                gaps += np.diff(np.unique(doses[1][events.period[b, record] == part])).tolist()
            amounts += events.amt[b, record].tolist()
            infusions += int(np.sum(events.rate[b, record] != 0))
        rows.append(
            {
                "compartment": cmt or "default",
                "doses": sum(counts),
                "infusions": infusions,
                "subjects": len(counts),
                "fewest": min(counts),
                "median": float(np.median(counts)),
                "most": max(counts),
                "minimum": min(amounts),
                "median_amount": float(np.median(amounts)),
                "maximum": max(amounts),
                "interval_h": float(np.median(gaps)) if gaps else np.nan,
            }
        )
    return _frame(rows, "compartment")
