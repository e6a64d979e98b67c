"""Made-up comparison results with the shapes of real ones, for tests and for looking at figures.

Nothing here is a prediction: counts follow a drawn-by-hand dip, risks are typed in.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import xarray as xr

from pkpd.comparison.results import ComparisonResult, EndpointRow, PairRow, TrialResult
from pkpd.schedule import daily
from pkpd.trials import Arm, Cohort, Trial

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
CRITERIA = (
    "neutrophils >= 0.5",
    "neutrophils >= 1.0",
    "platelets >= 20",
    "platelets >= 25",
    "platelets >= 50",
    "platelets >= 100",
)
STATES = (
    "recovered without leukaemia",
    "recovered with leukaemia",
    "low without leukaemia",
    "low with leukaemia",
    "died",
)
ASSUMED = (
    "effects/lenalidomide_plasma: slope",
    "effects/clofarabine_triphosphate: EC50",
    "rules/len_mec_2018: platelet threshold",
    "populations/rr_aml: platelet count",
)
NAN = float("nan")

# cohort, label, n, drugs, P(DLT), published count, depth of the dip (log10), recovery shift (days)
_COHORTS = (
    (
        "14d-10",
        "lenalidomide 10 mg, days 1-14, then mitoxantrone-etoposide-cytarabine days 4-8",
        6,
        0.24,
        2,
        2.6,
        10.0,
    ),
    ("14d-5", "lenalidomide 5 mg, days 1-14, with MEC days 4-8", 3, 0.21, 0, 2.4, 8.0),
    ("10d-5", "lenalidomide 5 mg, days 1-10, with MEC days 4-8", 3, 0.14, 0, 2.2, 4.0),
    ("10d-10", "lenalidomide 10 mg, days 1-10, with MEC days 4-8", 3, 0.155, 0, 2.3, 5.0),
    ("10d-25", "lenalidomide 25 mg, days 1-10, with MEC days 4-8", 3, 0.19, 0, 2.5, 7.0),
    ("10d-50", "lenalidomide 50 mg, days 1-10, with MEC days 4-8", 7, 0.62, 1, 3.4, 45.0),
)


def make_trial(n_cohorts: int, name: str = "nct01681537", arms: int = 1) -> Trial:
    """Trial definition with the first `n_cohorts` cohorts."""
    regimen = daily("lenalidomide", "10 mg", days="1-10", route="oral")
    cohorts = tuple(
        Cohort(id=c, label=label, regimen=regimen, n=n, published=(), level=i + 1, note="")
        for i, (c, label, n, *_) in enumerate(_COHORTS[:n_cohorts])
    )
    split = max(1, n_cohorts // arms)
    groups = [cohorts[i : i + split] for i in range(0, n_cohorts, split)]
    return Trial(
        id=name,
        name=name,
        title="Lenalidomide with mitoxantrone, etoposide and cytarabine in relapsed acute "
        "myeloid leukaemia",
        disease="relapsed or refractory acute myeloid leukaemia",
        population="rr_aml",
        arms=tuple(Arm(name=f"arm {i + 1}", cohorts=g) for i, g in enumerate(groups)),
        rule="len_mec_2018",
        horizon_days=90,
        visit_days=(),
        phase="1",
        references=(),
        assumptions=("Thresholds of the DLT rule were not read: 0.5 and 20 are assumed.",),
    )


def make_trial_result(
    n_cohorts: int = 4,
    name: str = "nct01681537",
    *,
    n_draws: int = 40,
    with_published: bool = True,
    drugs: tuple[str, ...] = ("lenalidomide", "mitoxantrone", "etoposide", "cytarabine"),
) -> TrialResult:
    """All results of one trial; the sixth cohort has recovery medians that are not reached."""
    trial = make_trial(n_cohorts, name)
    rng = np.random.default_rng(7)
    ids = [c[0] for c in _COHORTS[:n_cohorts]]
    days = np.arange(1, 91)
    rows: list[EndpointRow] = []
    counts = np.empty((n_cohorts, 2, len(QUANTILES), days.size))
    recovered = np.empty((n_cohorts, len(CRITERIA), days.size))
    interval = np.empty((n_cohorts, len(CRITERIA), 3, days.size))
    risk = np.empty((n_cohorts, n_draws))
    sensitivity = np.empty((n_cohorts, 2, 4, 4, 3))
    dose = np.zeros((n_cohorts, len(drugs), days.size))
    split = np.empty((n_cohorts, len(STATES), days.size))
    for i, (cid, label, n, p, k, depth, shift) in enumerate(_COHORTS[:n_cohorts]):
        common = {
            "trial": name,
            "cohort": cid,
            "label": label,
            "assumed": "; ".join(ASSUMED[: 2 + i % 3]),
        }
        spread = np.array([-1.2, -0.5, 0.0, 0.5, 1.2])
        for j, (start, baseline) in enumerate(((1.3, "neutrophils"), (55.0, "platelets"))):
            dip = depth * (1.0 if j == 0 else 0.7)
            rise = 22.0 + shift + 3 * j
            shape = np.exp(-(((days - 17) / (0.45 * rise)) ** 2))
            late = 1.0 if shift < 40 else 2.2
            log = np.log10(start) - late * dip * shape + 0.0 * days
            counts[i, j] = 10 ** (log + 0.45 * spread[:, None] * (0.7 + shape))
            nadir = counts[i, j].min(axis=-1)
            rows.append(
                EndpointRow(
                    **common,
                    endpoint="nadir",
                    line=baseline,
                    rule="",
                    unit="10^9/L",
                    estimate=nadir[2],
                    lower=0.8 * nadir[2],
                    upper=1.3 * nadir[2],
                    mc_error=0.02 * nadir[2],
                    patients_lower=nadir[0],
                    patients_upper=nadir[4],
                    share_patients=0.81,
                    share_parameters=0.19,
                )
            )
        for c, criterion in enumerate(CRITERIA):
            line = criterion.split()[0]
            middle = 22.0 + shift + 4.0 * c
            top = 0.92 - 0.05 * c - (0.52 if shift > 40 else 0.0)
            recovered[i, c] = top / (1.0 + np.exp(-(days - middle) / 4.0))
            interval[i, c, 0] = 0.8 * recovered[i, c]
            interval[i, c, 1] = recovered[i, c]
            interval[i, c, 2] = np.minimum(1.0, 1.15 * recovered[i, c] + 0.02)
            reached = recovered[i, c, -1] > 0.5
            rows.append(
                EndpointRow(
                    **common,
                    endpoint="recovery_day",
                    line=line,
                    rule=criterion.removeprefix(line).strip(),
                    unit="day",
                    estimate=middle if reached else np.inf,
                    lower=middle - 3.0,
                    upper=middle + 5.0 if reached else np.inf,
                    mc_error=0.4,
                    patients_lower=middle - 9.0,
                    patients_upper=np.inf,
                    share_patients=0.74,
                    share_parameters=0.26,
                    censored=float(1.0 - recovered[i, c, -1]),
                    published=31.0 if (c == 0 and i == 0 and with_published) else NAN,
                    published_lower=13.0 if (c == 0 and i == 0 and with_published) else NAN,
                    published_upper=51.0 if (c == 0 and i == 0 and with_published) else NAN,
                    published_source="Author 2018, text (read)" if c == 0 and i == 0 else "",
                )
            )
        died = 0.15 * days / days[-1]
        low = (1.0 - died) * np.exp(-(((days - 20) / 15) ** 2))
        fine = 1.0 - died - low
        split[i] = 0.9 * fine, 0.1 * fine, 0.75 * low, 0.25 * low, died
        risk[i] = np.clip(rng.beta(8 * p, 8 * (1 - p), n_draws), 0, 1)
        has = with_published and cid != "10d-5"
        rows.append(
            EndpointRow(
                **common,
                endpoint="dlt",
                line="",
                rule="len_mec_2018",
                unit="probability",
                estimate=p,
                lower=0.3 * p,
                upper=min(1.0, 2.1 * p),
                mc_error=0.006,
                share_patients=0.68,
                share_parameters=0.32,
                published=k / n if has else NAN,
                published_numerator=k if has else NAN,
                published_denominator=n if has else NAN,
                published_source="trial report, table 2 (read)" if has else "",
            )
        )
        rows.append(
            EndpointRow(
                **common,
                endpoint="grade_3_4",
                line="platelets",
                rule="",
                unit="probability",
                estimate=0.997,
                lower=0.95,
                upper=1.0,
                mc_error=0.02,
                share_patients=0.9,
                share_parameters=0.1,
            )
        )
        for a, b, d in np.ndindex(2, 4, 4):
            mean = np.clip(p * (1 + 0.3 * a + 0.35 * b - 0.12 * (d - 1)), 0, 1)
            sensitivity[i, a, b, d] = 0.3 * mean, mean, min(1.0, 2.1 * mean)
        last = 14 if cid.startswith("14d") else 10
        for g, drug in enumerate(drugs):
            if drug == "lenalidomide":
                dose[i, g, :last] = 1.0
                dose[i, g, 28 : 28 + last] = 0.55
            else:
                dose[i, g, 3:8] = 1.0
    pairs = tuple(
        PairRow(
            name,
            ids[a],
            ids[b],
            "len_mec_2018",
            float(risk[a].mean() - risk[b].mean()),
            -0.21,
            0.34,
            0.008,
            float(np.mean(risk[a] < risk[b])),
        )
        for a in range(len(ids))
        for b in range(a + 1, len(ids))
    )
    curves = xr.Dataset(
        {
            "counts": (("cohort", "line", "quantile", "day"), counts),
            "recovered": (("cohort", "criterion", "day"), recovered),
            "recovered_interval": (("cohort", "criterion", "bound", "day"), interval),
            "dlt": (("cohort", "draw"), risk),
            "dlt_sensitivity_evaluable": (
                ("cohort", "neutrophil_threshold", "platelet_threshold", "by_day"),
                0.8 - 0.5 * sensitivity[..., 1],
            ),
            "dlt_sensitivity": (
                ("cohort", "neutrophil_threshold", "platelet_threshold", "by_day", "bound"),
                sensitivity,
            ),
            "dose_given": (("cohort", "drug", "day"), dose),
            "split": (("cohort", "state", "day"), split),
        },
        coords={
            "cohort": ids,
            "line": ["neutrophils", "platelets"],
            "quantile": list(QUANTILES),
            "day": days,
            "criterion": list(CRITERIA),
            "bound": ["lower", "mean", "upper"],
            "draw": np.arange(n_draws),
            "neutrophil_threshold": [0.5, 1.0],
            "platelet_threshold": [20.0, 25.0, 50.0, 100.0],
            "by_day": [42, 45, 49, 56],
            "drug": list(drugs),
            "state": list(STATES),
        },
        attrs={
            "patients": 1000,
            "draws": n_draws,
            "rule_text": "neutrophils below 0.5 or platelets below 20 on day 45",
            "rule_kind": "not_recovered",
            "rule_neutrophils": 0.5,
            "rule_platelets": 20.0,
            "rule_by_day": 45,
            "rule_clock": "first_dose",
        },
    )
    assumptions = (
        "Thresholds of the DLT rule were not read: 0.5 and 20 x 10^9/L are assumed.",
        "Mitoxantrone, etoposide and cytarabine doses come from memory of the regimen.",
    )
    return TrialResult(
        trial=trial, rows=tuple(rows), pairs=pairs, curves=curves, assumptions=assumptions
    )


def make_result(sizes: tuple[int, ...] = (6, 1)) -> ComparisonResult:
    """Comparison of several trials with the given numbers of cohorts."""
    names = ("nct01681537", "nct00983528", "nct01629082", "nct01116193", "nct01673308")
    trials = tuple(
        make_trial_result(
            n,
            names[i],
            with_published=i == 0,
            drugs=("lenalidomide", "mitoxantrone", "etoposide", "cytarabine")
            if i == 0
            else ("clofarabine",),
        )
        for i, n in enumerate(sizes)
    )
    return ComparisonResult(
        trials=trials,
        record={
            "question": "Does a 10-day course of lenalidomide lower the risk of delayed recovery?",
            "seed": 1,
            "settings": {"patients": 1000, "draws": 40, "options": {"transfusion": True}},
            "cards": {"trials/nct01681537": "0" * 64},
        },
    )


def without(result: TrialResult, *names: str) -> TrialResult:
    """The same result with some curve variables dropped."""
    return replace(result, curves=result.curves.drop_vars(list(names)))
