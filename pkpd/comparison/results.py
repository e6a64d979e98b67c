"""What a comparison returns: one row per endpoint, curves with named dimensions, a run record.

The layers above (tables, figures, files) read these types and nothing else.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from pkpd.errors import PkpdError

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

    from pkpd.evidence.posterior.learned import Learned
    from pkpd.trials import Trial


@dataclass(frozen=True)
class EndpointRow:
    """One predicted figure beside the published one.

    Attributes
    ----------
    trial, cohort, label
        Registry identifier, cohort identifier and what a reader calls it.
    endpoint
        For example ``"nadir"``, ``"recovery_day"``, ``"dlt"``, ``"grade_3_4"``.
    line
        ``"neutrophils"``, ``"platelets"`` or ``""`` when both are meant.
    rule
        The threshold or the rule's name, for example ``">= 0.5"`` or ``"len_mec_2018"``.
    unit
        Unit of the figures; ``"probability"`` for risks, ``"day"``,
        ``"fraction"`` for a share within a patient, of whom `estimate` is the median. Days of
        recovery count from the first dose of the rule's clock; ``nadir_day`` from that of the
        trial, or from what `rule` names; ``remission_day`` and ``recovery_day_in_remission`` from
        day 1; ``days_below`` and ``days_late`` are durations.
    estimate
        Median over patients and parameter draws, or the probability. ``inf`` means that more
        than half of the patients have not reached the event at the horizon.
    evaluable
        Share of the patients whom `estimate` is about. For a rule, also as visits see it: those
        whom it can judge; for the start of a cycle or course: those alive on its planned day; for
        the days it is late: those who start late; for cycles started and dose intensity: those
        alive on the last day; for the day of remission: those in it; for recovery in remission:
        those in it who were below the threshold; for recovery and what else counts from a later
        course: those who start it; for grades: those whose start allows one. 1 where it is of all.
        With fewer than 1 % there is no risk.
    not_judged
        For a rule: which share of the patients it cannot judge, and why.
    under_treatment
        For a rule: which treatment goes on when it looks by the clock of the row, and since which
        of its days, and what the verdict is of then; empty if none does.
    patients_lower, patients_upper
        90 % range across patients (5 % and 95 % quantile of the pooled distribution); NaN for
        probabilities.
    lower, upper
        90 % interval of the estimate from parameter uncertainty.
    mc_error
        Monte Carlo standard error of the estimate (finite patients and draws).
    share_patients, share_parameters
        Shares of the variance of one new patient's outcome; they add up to 1. NaN if constant.
    censored
        Share of patients without the event at the horizon (0 for endpoints that always exist).
    published, published_lower, published_upper, published_numerator, published_denominator
        The published outcome and its interval (NaN if nothing was published).
    published_source
        Where the published figure was read, with its reading status.
    assumed
        The assumed inputs that the figure rests on, separated by ``"; "``.
    """

    trial: str
    cohort: str
    label: str
    endpoint: str
    line: str
    rule: str
    unit: str
    estimate: float
    lower: float
    upper: float
    mc_error: float
    evaluable: float = float("nan")
    not_judged: str = ""
    under_treatment: str = ""
    patients_lower: float = float("nan")
    patients_upper: float = float("nan")
    share_patients: float = float("nan")
    share_parameters: float = float("nan")
    censored: float = 0.0
    published: float = float("nan")
    published_lower: float = float("nan")
    published_upper: float = float("nan")
    published_numerator: float = float("nan")
    published_denominator: float = float("nan")
    published_source: str = ""
    assumed: str = ""


@dataclass(frozen=True)
class PosteriorRow(EndpointRow):
    """A figure predicted by the marrow with leukaemia under a learned posterior.

    Attributes
    ----------
    marrow
        Which marrow.
    posterior
        Which posterior: its digits, its date, whether it converged.
    """

    marrow: str = ""
    posterior: str = ""


@dataclass(frozen=True)
class Figure:
    """A figure with its 90 % interval over posterior draws; NaN limits: it has none.

    `unit` as that of `EndpointRow`, or ``"difference"`` of two probabilities.
    """

    value: float
    lower: float = float("nan")
    upper: float = float("nan")
    unit: str = "probability"


@dataclass(frozen=True)
class Question:
    """A question of a trial and its answer as a small table.

    Attributes
    ----------
    trial, name
        Trial, and a short name for files.
    title, text
        The question, and how to read the answer.
    columns
        Heads.
    rows
        Cells, as many as heads.
    answer
        Conclusions, a sentence each.
    """

    trial: str
    name: str
    title: str
    text: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | Figure, ...], ...]
    answer: tuple[str, ...] = ()


@dataclass(frozen=True)
class PairRow:
    """Two schedules under the same patients and parameter draws.

    ``difference`` is risk of ``first`` minus risk of ``second``, of the patients who can be judged
    under both (the risk of a schedule is of those who can be judged under it); ``p_first_safer``
    the share of parameter draws in which the first has the lower risk (ties count half).
    """

    trial: str
    first: str
    second: str
    rule: str
    difference: float
    lower: float
    upper: float
    mc_error: float
    p_first_safer: float


@dataclass(frozen=True)
class ExposureRow:
    """Exposure to a drug in a cohort's first cycle with it, doses as planned.

    Attributes
    ----------
    trial, cohort, drug
        Whose.
    measure
        ``auc`` (area over the cycle), ``auc_dose`` (area of a dose to infinity, mean of the
        cycle's doses), ``cmax``, ``tmax`` (h after the last dose before the peak), ``ctrough``
        (before the cycle's last dose; 24 h after a single one), or ``auc_ratio``.
    unit
        ``ng/mL h``, ``ng/mL``, ``h``, or 1 for a ratio.
    when
        Protocol days of the cycle, or the ranges of creatinine clearance of an ``auc_ratio``.
    estimate, patients_lower, patients_upper
        Median, 5 % and 95 % quantile over patients and draws; of an ``auc_ratio`` the ratio of
        two medians alone.
    lanes
        Pairs of a patient and a draw that were looked at.
    published
        Published figure, in proportion to the dose; NaN if the drug card has none.
    published_spread, published_source
        What was printed beside it, at which dose, in whom, where.
    """

    trial: str
    cohort: str
    drug: str
    measure: str
    unit: str
    when: str
    estimate: float
    patients_lower: float
    patients_upper: float
    lanes: float
    published: float = float("nan")
    published_spread: str = ""
    published_source: str = ""


@dataclass(frozen=True)
class ExposureRatio:
    """Exposure of the first cohort by that of the second in the same patients and draws.

    ``ratio`` is the median, with its 5 % and 95 % quantile over patients and draws.
    """

    trial: str
    first: str
    second: str
    drug: str
    measure: str
    ratio: float
    patients_lower: float
    patients_upper: float


@dataclass(frozen=True)
class TrialResult:
    """All cohorts of one trial.

    Attributes
    ----------
    trial
        The trial definition that was run.
    rows, pairs
        Endpoint rows and paired differences.
    curves
        ``xarray.Dataset`` with dimensions ``cohort``, ``line``, ``quantile``, ``day``,
        ``criterion``, ``bound``, ``draw``, ``state`` and the sensitivity dimensions
        ``neutrophil_threshold``, ``platelet_threshold``, ``by_day``; variables

        - ``counts`` (cohort, line, quantile, day): 10^9/L, platelets including transfused ones
        - ``recovered`` (cohort, criterion, day): probability of recovery, as the rule means it, by
          the morning of the day
        - ``recovered_interval`` (cohort, criterion, bound, day): its 90 % interval over draws
        - ``dlt`` (cohort, draw): probability of the DLT for each parameter draw, among patients
          that the rule can judge
        - ``dlt_sensitivity`` (cohort, neutrophil_threshold, platelet_threshold, by_day, bound)
          with ``bound`` in lower, mean, upper
        - ``dlt_sensitivity_evaluable``, without ``bound``: share of the patients each is of
        - ``dose_given`` (cohort, drug, day): mean share of patients dosed on the day
        - ``split`` (cohort, state, day): share of patients recovered and low, each with and
          without leukaemia, and dead on the morning of the day; sums to 1 over states
    assumptions
        Plain sentences: what is assumed for this trial.
    questions
        Answers to the trial's own questions.
    limits
        Those of the assumptions that say what of this trial the model cannot do, or only guesses.
    exposures, exposure_ratios
        How much drug the patients get, and ratios between cohorts.
    without_exposure
        Drug -> why it has none, and in which cohorts if others have it.
    """

    trial: Trial
    rows: tuple[EndpointRow, ...]
    pairs: tuple[PairRow, ...]
    curves: xr.Dataset
    assumptions: tuple[str, ...] = ()
    questions: tuple[Question, ...] = ()
    limits: tuple[str, ...] = ()
    exposures: tuple[ExposureRow, ...] = ()
    exposure_ratios: tuple[ExposureRatio, ...] = ()
    without_exposure: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Tell trial and size in a line."""
        cohorts = len(dict.fromkeys(row.cohort for row in self.rows))
        size = f"{cohorts} cohorts, {len(self.rows)} rows, {len(self.pairs)} pairs"
        return f"TrialResult({self.trial.id}: {size})"


@dataclass(frozen=True)
class ComparisonResult:
    """The result of :func:`pkpd.compare`.

    Attributes
    ----------
    trials, record
        Results, and how they were made; ``record["marrow"]`` names a marrow with leukaemia.
    learned
        What the published outcomes said on each parameter of that marrow.
    """

    trials: tuple[TrialResult, ...]
    record: dict[str, Any] = field(default_factory=dict)
    learned: tuple[Learned, ...] = ()

    def __repr__(self) -> str:
        """Tell the trials in a line; `table` and `pairs` have the figures."""
        told = [f"{t.trial.id} ({len({r.cohort for r in t.rows})} cohorts)" for t in self.trials]
        return f"ComparisonResult({', '.join(told) or 'no trial'}; .table(), .pairs())"

    def _repr_html_(self) -> str:
        """Risks of all cohorts for notebooks."""
        table = self.table().query("endpoint == 'dlt'")
        shown = ["trial", "cohort", "rule", "estimate", "lower", "upper", "evaluable", "published"]
        risks = table[shown].to_html(index=False, float_format="{:.3f}".format, na_rep="-")
        return f"<p>{html.escape(repr(self))}</p>{risks}"

    def table(self) -> pd.DataFrame:
        """Return all endpoint rows as a data frame (one row per trial, cohort, endpoint, rule)."""
        import pandas as pd

        rows = [row for t in self.trials for row in t.rows]
        columns = list(row_kind(rows).__dataclass_fields__)
        return pd.DataFrame([asdict(row) for row in rows], columns=columns)

    def pairs(self) -> pd.DataFrame:
        """Return all paired differences as a data frame."""
        import pandas as pd

        columns = list(PairRow.__dataclass_fields__)
        return pd.DataFrame([asdict(r) for t in self.trials for r in t.pairs], columns=columns)

    def exposures(self) -> pd.DataFrame:
        """Return exposures as a data frame (one row per trial, cohort, drug and measure)."""
        import pandas as pd

        rows = [asdict(row) for t in self.trials for row in t.exposures]
        return pd.DataFrame(rows, columns=list(ExposureRow.__dataclass_fields__))

    def exposure_ratios(self) -> pd.DataFrame:
        """Return ratios of exposures between cohorts as a data frame."""
        import pandas as pd

        rows = [asdict(row) for t in self.trials for row in t.exposure_ratios]
        return pd.DataFrame(rows, columns=list(ExposureRatio.__dataclass_fields__))

    def trial(self, name: str) -> TrialResult:
        """Return one trial's result by registry identifier.

        Raises
        ------
        PkpdError
            If there is none.
        """
        for result in self.trials:
            if result.trial.id == name:
                return result
        known = ", ".join(t.trial.id for t in self.trials)
        raise PkpdError(where="trial", what=f"{name!r} is not in this result", allowed=known)


def row_kind(rows: Sequence[EndpointRow]) -> type[EndpointRow]:
    """Kind of the rows of a table: with the marrow and its posterior if one row has them."""
    return PosteriorRow if any(isinstance(row, PosteriorRow) for row in rows) else EndpointRow
