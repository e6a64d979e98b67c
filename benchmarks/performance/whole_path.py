"""W3: ``pkpd.simulate`` end to end, every outcome judged, beside the bare engine.

1,000 patients under 20 draws, clofarabine on days 1-5 and lenalidomide on days 29-49, 84 days, a
rule for the dose-limiting toxicity. The bare engine is the driver of days alone on the same lanes,
with parameters and doses ready: what is left is making patients, judging courses, gathering arrays.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import pkpd
from pkpd.course import simulate as of_lines
from pkpd.leukaemia import simulate as of_leukaemia
from pkpd.schedule import daily

PATIENTS, DRAWS, DAYS = 1000, 20, 84
RULE = "leukemia_d56_generic"
TARGET = 2.0
_ROUNDS = 5


def _schedule() -> pkpd.Regimen:
    first = daily("clofarabine", "20 mg/m^2", days="1-5", route="iv", duration="1 h")
    return first.then(daily("lenalidomide", "10 mg", days="1-21", route="oral"), start_day=29)


@contextmanager
def _calls() -> Iterator[list[tuple[tuple[Any, ...], dict[str, Any]]]]:
    """Keep what the driver of days is called with."""
    seen: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    own = of_lines.run_days, of_leukaemia.run_days

    def kept(*given: Any, **more: Any) -> Any:
        seen.append((given, more))
        return own[0](*given, **more)

    of_lines.run_days = of_leukaemia.run_days = kept
    try:
        yield seen
    finally:
        of_lines.run_days, of_leukaemia.run_days = own


def whole_path() -> dict[str, Any]:
    """Seconds of the public function and of the bare engine, by marrow, on one thread."""
    out: dict[str, Any] = {"rows": {}, "target_ratio": TARGET}
    regimen = _schedule()
    for marrow in ("leukaemia", "friberg"):

        def whole(marrow: str = marrow) -> Any:
            return pkpd.simulate(
                regimen, "rr_aml", marrow=marrow, patients=PATIENTS, draws=DRAWS,
                until_day=DAYS, rule=RULE, threads=1,
            )  # fmt: skip

        whole()
        with _calls() as seen:
            whole()
        times: list[tuple[float, float]] = []
        for _ in range(_ROUNDS):
            start = time.perf_counter()
            whole()
            middle = time.perf_counter()
            for given, more in seen:
                of_lines.run_days(*given, **{**more, "threads": 1})
            times.append((middle - start, time.perf_counter() - middle))
        public, bare = np.median(times, axis=0)
        out["rows"][marrow] = {
            "seconds": float(public),
            "bare_seconds": float(bare),
            "ratio": float(public / bare),
        }
    return out
