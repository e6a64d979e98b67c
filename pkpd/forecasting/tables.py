"""Forecasts as a data frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from pkpd.forecasting.summaries import start_shares
from pkpd.forecasting.words import COMPLETE, days_shown

if TYPE_CHECKING:
    import pandas as pd

    from pkpd.forecasting.result import Forecast


def frame_of(forecast: Forecast) -> pd.DataFrame:
    """One row for each patient, quantity and criterion or line.

    Columns: ``patient``, ``quantity``, ``of``, ``estimate``, and ``lower`` and ``upper`` of the
    80 % interval where there is one. Of a forecast that cannot tell only ``pareto_k`` and
    ``effective`` have numbers, which say why.
    """
    import pandas as pd

    rows: list[dict[str, Any]] = []
    for label in forecast.patients:
        one = forecast.dataset.sel(patient=label)

        weighed = forecast.weighed[label]

        def add(
            quantity: str, of: str, values: Any, label: Any = label, known: bool = weighed.trusted
        ) -> None:
            low, middle, high = (
                values if len(values) == 3 else (float("nan"), *values, float("nan"))
            )
            if not known:
                low = middle = high = float("nan")
            rows.append(
                {
                    "patient": label,
                    "quantity": quantity,
                    "of": of,
                    "estimate": float(middle),
                    "lower": float(low),
                    "upper": float(high),
                }
            )

        def three(values: Any) -> Any:
            return values.sel(quantile=[0.1, 0.5, 0.9]).values

        for name in one["criterion"].values:
            add("recovery_day", str(name), three(one["recovery_day"].sel(criterion=name)))
            add("low", str(name), [one["low"].sel(criterion=name)])
            add("day_after", str(name), three(one["day_after"].sel(criterion=name)))
            add("low_after", str(name), [one["low_after"].sel(criterion=name)])
            for share in ("recovered_after", "recovered"):
                for day in days_shown(one):
                    at_day = one[share].sel(criterion=name, day=day)
                    add(f"{share}_by_day_{day}", str(name), [at_day])
        for line in one["graded"].values:
            for name in ("nadir", "nadir_ahead"):
                add(name, str(line), three(one[name].sel(graded=line)))
            for name in ("grade_4", "grade_4_ahead"):
                add(name, str(line), [one[name].sel(graded=line)])
        for name in ("dlt", "dlt_judged", "dlt_before", "pending_weight", "death"):
            if name in one:
                add(name, "", [one[name]])
        for start in weighed.bank.starts:
            for name, share in start_shares(start.late, weighed.weights).items():
                add("alive_on_planned_day" if name == "alive" else name, start.label, [share])
        if "response" in one:
            codes = [c for c in one["response_code"].values if str(c).startswith(COMPLETE)]
            add("remission", "", [one["response"].sel(response_code=codes).sum()])
        for name in ("pareto_k", "effective"):
            # without importance weights there is no k
            add(name, "", [one[name].where(np.isfinite(one[name]))], known=True)
    return pd.DataFrame(rows)
