"""Forecast the day of neutrophil recovery after transplantation from counts so far.

The population of GIVEN_PREFIX_counts.csv and GIVEN_PREFIX_patients.csv is learned, in the package's
marrow, and the series of HELD_PREFIX are forecast at days 5 to 25. HELD_PREFIX may be "cv": the
given series are forecast in three folds (patients in sorted order, modulo 3), each from the others.

Two files are written with columns patient, transplant, landmark, day, probability (day 46 stands
for all days after 45): OUT.csv, the marrow alone, and OUT_mixture.csv, its even mixture with a
regression of the hazard. Series are forecast while they have not recovered and have a count on the
landmark or the day before; nothing after the landmark is read but for that.
"""

# ruff: noqa: T201

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from forecasts import CHAINS, Forecasts, fit_chains, forecast_series
from hazard import HazardRegression
from marrow_bank import STRUCTURES, MarrowBank
from scores import score
from series import LANDMARKS, Series, folds, read_series

from pkpd.errors import DataError, PkpdError
from pkpd.files import whole

NO_DATA = 3
_LEAST = 1e-6  # probabilities below it are not written


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("given", metavar="GIVEN_PREFIX", help="files to learn from")
    parser.add_argument("held", metavar="HELD_PREFIX", help='files to forecast, or "cv"')
    parser.add_argument("out", metavar="OUT.csv", type=Path, help="where forecasts are written")
    parser.add_argument("--structure", choices=tuple(STRUCTURES), default="ten_stages",
                        help="marrow: ten stages of maturation (default); full: three, the default "
                        "before; full_held: that with its own rate of regrowth")  # fmt: skip
    parser.add_argument("--mixture", action="store_true", help="write the mixture to OUT.csv alone")
    parser.add_argument("--chains", type=int, default=CHAINS, help="fits that are averaged")
    parser.add_argument("--bank", type=int, default=2048,
                        help="virtual patients of a source and round (a power of 2)")  # fmt: skip
    return parser.parse_args(words)


def learn_and_forecast(
    given: Sequence[Series], held: Sequence[Series], options: argparse.Namespace
) -> tuple[Forecasts, Forecasts]:
    """Forecasts of the marrow alone, and of the even mixture with the hazard regression."""
    if not any(one.landmarks for one in given if one.low.any()):
        what = "no series with a count below recovery on a day from 5 to 25"
        raise DataError(where=f"series of {options.given} to learn from", what=what)
    began = time.monotonic()
    chains = fit_chains(
        MarrowBank(options.structure), given, chains=options.chains, bank=options.bank
    )
    learned = time.monotonic()
    alone = forecast_series(chains, held)
    regression = HazardRegression(given)
    mixture = {
        (*one.key, landmark): 0.5 * alone[(*one.key, landmark)]
        + 0.5 * regression.forecast(one, landmark)
        for one in held
        for landmark in one.landmarks
    }
    print(
        f"{len(given)} series learned from in {learned - began:.0f} s, "
        f"{len(alone)} forecasts of {len(held)} series in {time.monotonic() - learned:.0f} s",
        flush=True,
    )
    return alone, mixture


def write(path: Path, forecasts: Forecasts) -> None:
    """Write forecasts."""
    with whole(path) as target, target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("patient", "transplant", "landmark", "day", "probability"))
        for key, p in forecasts.items():
            writer.writerows((*key, day, f"{p[day]:.6g}") for day in np.flatnonzero(p > _LEAST))


def tell(name: str, forecasts: Forecasts, series: Sequence[Series]) -> None:
    """Print scores where outcomes are known."""
    if not any(one.outcome is not None and one.landmarks for one in series):
        return
    scored = score(forecasts, series)
    mean, error = scored.mean()
    held, stated = 100.0 * scored.held.mean(axis=0), 100.0 * scored.stated.mean(axis=0)
    split = 100.0 * scored.split_coverage()
    print(f"{name}: CRPS {mean:.3f} days (SE {error:.3f})")
    print(f"  whole-day intervals of 50 and 90 % hold {held[0]:.0f} and {held[1]:.0f} %, and say "
          f"{stated[0]:.0f} and {stated[1]:.0f} %; with split days {split[0]:.0f} and "
          f"{split[1]:.0f} %")  # fmt: skip
    by_day = [
        f"day {day}: {scored.crps[scored.landmarks == day].mean():.2f}"
        for day in LANDMARKS
        if (scored.landmarks == day).any()
    ]
    print("  " + ", ".join(by_day))


def main(words: Sequence[str] | None = None) -> int:
    """Learn, forecast, write."""
    options = arguments(words)
    try:
        given = read_series(options.given)
        split = list(folds(given)) if options.held == "cv" else [(given, read_series(options.held))]
        alone: Forecasts = {}
        mixture: Forecasts = {}
        for learned_from, held in split:
            own, mixed = learn_and_forecast(learned_from, held, options)
            alone |= own
            mixture |= mixed
        if options.mixture:
            write(options.out, mixture)
        else:
            write(options.out, alone)
            beside = options.out.with_name(f"{options.out.stem}_mixture{options.out.suffix}")
            write(beside, mixture)
    except FileNotFoundError as missing:
        print(f"No data: {missing.filename} was not found. Give the prefix of two files of your "
              "series, PREFIX_counts.csv and PREFIX_patients.csv.")  # fmt: skip
        return NO_DATA
    except PkpdError as error:
        print(error, file=sys.stderr)
        return 2
    series = [one for _, held in split for one in held]
    tell("marrow alone", alone, series)
    tell("even mixture with the hazard regression", mixture, series)
    return 0


if __name__ == "__main__":
    sys.exit(main())
