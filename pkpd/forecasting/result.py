"""What a forecast returns: numbers, words, a table and a figure; further counts update it."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pkpd.data.dataset import Dataset
from pkpd.data.sheets import TableSource, open_sheet
from pkpd.ensemble.source import in_words
from pkpd.errors import PkpdError
from pkpd.forecasting.bank import Bank
from pkpd.forecasting.doses import named_alternatives
from pkpd.forecasting.remarks import (
    as_sentence,
    counts_in_words,
    not_used,
    remarks,
    set_aside,
)
from pkpd.forecasting.seen import Seen, read_seen
from pkpd.forecasting.summaries import of_patient, summary, together
from pkpd.forecasting.tables import frame_of
from pkpd.forecasting.weighing import Weighed
from pkpd.forecasting.words import (
    aligned,
    by_need_sentences,
    continued_lines,
    days_in_words,
    facts_of,
    first_sentence,
    planned_sentences,
    rule_sentence,
    size_in_words,
    table_of,
    warnings,
)
from pkpd.schedule import Regimen

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr
    from matplotlib.figure import Figure

    from pkpd.forecasting.forecast import Forecaster

Clock = Literal["today", "rule"]
CLOCKS = ("today", "rule")


@dataclass(frozen=True, eq=False)
class Forecast:
    """Forecasts of one patient or of many.

    Attributes
    ----------
    forecaster
        Source and banks.
    weighed
        Virtual patients with their weights, by patient.
    engine
        Engine that was asked for.
    notes_of_table
        Sentences on how the table and the doses in it were read.
    continuations
        Other continuations by patient and name.
    planned
        Schedules as they were planned, by patient, where doses as given took their place.
    """

    forecaster: Forecaster
    weighed: Mapping[Any, Weighed]
    engine: str = "auto"
    notes_of_table: tuple[str, ...] = ()
    continuations: Mapping[Any, Mapping[str, Bank]] = field(default_factory=dict)
    planned: Mapping[Any, Regimen] = field(default_factory=dict)

    @property
    def patients(self) -> tuple[Any, ...]:
        """Labels of the patients."""
        return tuple(self.weighed)

    @property
    def notes_of_all(self) -> tuple[str, ...]:
        """Sentences on how the table was read, and on lines that the source does not have."""
        return (*self.notes_of_table, *not_used(self.weighed.values()))

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences of `notes_of_all`, and on what each patient's counts and body leave open."""
        own = (
            f"patient {label}: {text}"
            for label, one in self.weighed.items()
            for text in (*set_aside(one), *remarks(one, self.forecaster.measurement))
        )
        return (*self.notes_of_all, *own)

    @property
    def dataset(self) -> xr.Dataset:
        """All numbers by ``patient``.

        By the clock of today, if nothing more is given: ``recovered_after`` (criterion, day),
        probability that a line is back after the last count by the end of a protocol day;
        ``day_after`` (criterion, quantile), days since the start of day 1 until the first morning
        that shows it: 0 not low after the last count, infinite not seen; ``low_after`` (criterion),
        probability to be low after it.
        By the clock of the rule, as planned:
        ``recovered`` (criterion, day): probability that a line is back by the end of a protocol
        day, never having been low counted as back; ``recovery_day`` (criterion, quantile) in days
        since the start of day 1: 0 never low after the last dose, infinite not seen; ``low``
        (criterion): probability to be low at all. ``known_until``: the last day whose shares are
        known, as mornings after it confirm a recovery. ``count`` (line, day, quantile): what a
        laboratory would count in the morning, without its error, transfused platelets included, the
        dead going on as if they lived.
        ``nadir`` and ``grade_4`` (graded), over all days or ``_ahead`` of the last count seen.
        With a rule ``dlt`` among those ``dlt_judged``, ``dlt_before`` treatment and
        ``pending_weight`` (`pkpd.designs.weight_of_forecast`). With leukaemia ``response``
        (response_code) and ``death``. ``pareto_k``, ``effective`` and ``engine`` say how far the
        forecast is to be trusted, ``counts_used`` how many of ``counts_seen`` it rests on.
        """
        return self._dataset

    @cached_property
    def _dataset(self) -> xr.Dataset:
        some = next(iter(self.weighed.values()))
        seed, threads = self.forecaster.seed, self.forecaster.threads
        found = {label: of_patient(one, seed, threads) for label, one in self.weighed.items()}
        return together("patient", found, some.bank, self._attrs)

    @property
    def _attrs(self) -> dict[str, str]:
        made = self.forecaster
        attrs = {"marrow": made.ensemble.marrow, "scatter of counts": made.measurement.words}
        return attrs | ({"rule": made.rule.name} if made.rule else {})

    @cached_property
    def alternatives(self) -> xr.Dataset:
        """Numbers of every continuation by ``patient`` and ``continuation``, "as planned" first.

        Raises
        ------
        PkpdError
            If no continuation was asked for.
        """
        import xarray as xr

        if not self.continuations:
            what, remedy = "no other continuation was asked for", "give alternatives="
            raise PkpdError(where="forecast", what=what, remedy=remedy)
        every = []
        for label, one in self.weighed.items():
            banks = {"as planned": one.bank, **self.continuations[label]}
            day = one.seen.last_day
            found = {name: summary(bank, one.weights, day) for name, bank in banks.items()}
            every.append(together("continuation", found, one.bank, self._attrs))
        return xr.concat(every, dim="patient").assign_coords(patient=list(self.patients))

    def __getitem__(self, patient: Any) -> Forecast:
        """Forecast of one patient, by its label."""
        label = self._label(patient)
        others = {label: self.continuations[label]} if label in self.continuations else {}
        return replace(self, weighed={label: self.weighed[label]}, continuations=others)

    def __iter__(self) -> Iterator[Forecast]:
        """Forecasts of the patients one by one."""
        return (self[label] for label in self.patients)

    def __len__(self) -> int:
        """Return the number of patients."""
        return len(self.weighed)

    def __repr__(self) -> str:
        """Tell the first patient's forecast in a sentence."""
        more = f" (and {len(self) - 1} more)" if len(self) > 1 else ""
        return f"Forecast({self.sentence()}{more})"

    def _repr_html_(self) -> str:
        """Summary for notebooks."""
        return f"<pre>{html.escape(self.summary())}</pre>"

    def sentence(
        self, patient: Any = None, by_day: int | None = None, clock: Clock = "today"
    ) -> str:
        """Tell a forecast in one sentence.

        Parameters
        ----------
        patient
            Whose; the first if not given.
        by_day
            Protocol day that it names, by the clock of today none before the last count; the end
            of the telling week if not given.
        clock
            ``"today"``: when counts are back after the last one, if nothing more is given, whatever
            the schedule plans; ``"rule"``: when they are back after the first cycle, as planned.
        """
        if clock not in CLOCKS:
            allowed = ", ".join(CLOCKS)
            raise PkpdError(where="clock", what=f"{clock!r}", allowed=allowed)
        label = self.patients[0] if patient is None else self._label(patient)
        one = self.weighed[label]
        first = one.seen.last_day if clock == "today" else 1
        of_patient = self.dataset.sel(patient=label)
        last = max(first, int(of_patient["known_until"]))
        if by_day is not None and not first <= by_day <= last:
            past = 1 <= by_day < first
            raise PkpdError(
                where="by_day (--by-day)",
                what=f"{by_day}" + f" is before the last count, of day {first}" * past,
                allowed=f"{first} to {last}",
                remedy=None if by_day < first else "forecast further (until_day)",
            )
        return (first_sentence if clock == "today" else rule_sentence)(one, of_patient, by_day)

    def summary(self, by_day: int | None = None) -> str:
        """Tell all forecasts: sentence, table of recovery, risks, warnings."""
        parts = []
        for label, one in self.weighed.items():
            data = self.dataset.sel(patient=label)
            day, over = by_day, []
            if by_day is not None and len(self) > 1 and 1 <= by_day < one.seen.last_day:
                day, over = None, [f"! Day {by_day} is before this patient's last count."]
            parts += [
                f"Patient {label}: {counts_in_words(one)} until day {one.seen.last_day} "
                f"({size_in_words(one)}; {one.engine})",
                "",
                self.sentence(label, day),
                *planned_sentences(one, data, day),
                *by_need_sentences(one),
                "",
                *aligned(table_of(one, data)),
                days_in_words(one),
                "",
                *facts_of(one, data),
                *self._continued_lines(label),
                f"How fast counts come back rests on the {self._words(one)}.",
                *over,
                *(f"! {text}" for text in warnings(one)),
                *(f"! {as_sentence(text)}" for text in remarks(one, self.forecaster.measurement)),
                "",
            ]
        return "\n".join([*parts, *(f"! {note}." for note in self.notes_of_all)]).rstrip()

    def _words(self, one: Weighed) -> str:
        return in_words(self.forecaster.ensemble, one.bank.lanes.regimen)

    def _continued_lines(self, label: Any) -> list[str]:
        if label not in self.continuations or not self.weighed[label].trusted:
            return []
        data = self.alternatives.sel(patient=label)
        return ["", *continued_lines(self.weighed[label], data)]

    def table(self) -> pd.DataFrame:
        """One row for each patient, criterion and quantity: estimate, 80 % interval."""
        return frame_of(self)

    def update(
        self,
        patient: Dataset | TableSource | Mapping[str, Any],
        *,
        units: Mapping[str, str] | str | None = None,
        lines: Mapping[Any, str] | None = None,
        lloq: float | Mapping[str, float] | None = None,
    ) -> Forecast:
        """Take further counts into account.

        Parameters
        ----------
        patient, units, lines, lloq
            The new counts alone, as of `pkpd.forecast`; patients that are not among them stay as
            they are.

        Returns
        -------
        Forecast
            Of the same patients; other continuations are weighed anew as well.

        Raises
        ------
        PkpdError
            If a patient is unknown, a count is known already, or another continuation has begun
            before the last of them.
        """
        limits = self.forecaster.measurement.limits
        seen, notes = read_seen(
            patient, units=units, lines=lines, lloq=lloq, limits=limits, to_begin=False
        )
        if len(seen) == 1 and len(self) == 1 and not _has_labels(patient):
            seen = (replace(seen[0], label=self.patients[0]),)
        weighed, continuations = dict(self.weighed), dict(self.continuations)
        for one in seen:
            label = self._label(one.label)
            before = weighed[label]
            weighed[label] = self.forecaster.updated(before, one, self.engine)  # pyright: ignore
            if label in continuations:
                new = weighed[label]
                continuations[label] = {
                    name: self.forecaster.continued(
                        new, bank.lanes.regimen, bank if new.bank is before.bank else None
                    )
                    for name, bank in continuations[label].items()
                }
        every = tuple(dict.fromkeys((*self.notes_of_table, *notes)))
        return replace(self, weighed=weighed, notes_of_table=every, continuations=continuations)

    def continued(self, alternatives: Mapping[str, Regimen | str] | Sequence[str]) -> Forecast:
        """Simulate the same patients under other continuations.

        Parameters
        ----------
        alternatives
            As of `pkpd.forecast`.
        """
        found = {}
        for label, one in self.weighed.items():
            given, today = one.bank.lanes.regimen, one.seen.last_day
            named = named_alternatives(alternatives, given, today, self.planned.get(label))
            found[label] = {
                name: self.forecaster.continued(one, regimen) for name, regimen in named.items()
            }
        return replace(self, continuations=found)

    def plot(self, patient: Any = None) -> Figure:
        """Draw counts with bands, and the probability to have recovered, of one patient.

        Parameters
        ----------
        patient
            Whose; the first if not given.
        """
        from pkpd.forecasting.figure import draw

        label = self.patients[0] if patient is None else self._label(patient)
        return draw(self, label)

    def seen(self, patient: Any = None) -> Seen:
        """Give what was seen of a patient; of the first if none is named."""
        label = self.patients[0] if patient is None else self._label(patient)
        return self.weighed[label].seen

    def _label(self, patient: Any) -> Any:
        for label in self.patients:
            if label == patient or str(label) == str(patient):
                return label
        known = ", ".join(str(label) for label in self.patients[:10])
        what = f"there is no patient {patient!r}"
        raise PkpdError(where="forecast", what=what, allowed=known)


def _has_labels(patient: Any) -> bool:
    if isinstance(patient, Dataset):
        return True
    if isinstance(patient, str | Path):
        names = open_sheet(patient, {}, ("ID",)).at
    else:
        names = getattr(patient, "columns", patient)
    return bool({"ID", "SUBJECT", "PATIENT", "USUBJID"} & {str(n).upper() for n in names})
