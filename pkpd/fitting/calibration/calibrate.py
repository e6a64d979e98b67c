"""Simulation-based calibration, which asks whether the posterior is right whatever the data.

Draw population parameters from their priors, simulate the study with them, fit it, and rank the
true values among posterior draws. Over many fits the ranks are uniform if, and for practical
purposes only if, model code, likelihood and sampler agree (Cook, Gelman and Rubin 2006; Talts et
al. 2018, arXiv:1804.06788).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from pkpd.arguments import MAPPING, NONE, SHARE, a, check_arguments, from_to, one_of
from pkpd.cluster import workers
from pkpd.data.dataset import Dataset
from pkpd.errors import PkpdError
from pkpd.files import write_text
from pkpd.fitting.calibration.one_fit import CalibrationFits, Quantity, Trial
from pkpd.fitting.calibration.ranks import Uniformity, ecdf_band, ecdf_difference, uniformity
from pkpd.fitting.fit import Centring
from pkpd.fitting.kept import KeptFits
from pkpd.fitting.model.specification import PopulationModel
from pkpd.machine import cores

if TYPE_CHECKING:
    from matplotlib.axes import Axes


NAMED, MOST_NAMED = 6, 20
"""Curves with a name where there are more than so many, which are all named."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Results of simulation-based calibration.

    Attributes
    ----------
    ranks : DataFrame
        Rank (0 to ``largest``) of the true value, one row for each fit, one column for each
        quantity; the index is the number of the fit.
    truths : DataFrame
        The true values.
    largest
        Number of posterior draws each truth was ranked among.
    fits : DataFrame
        Seconds, divergences, draws, smallest effective sample size, largest R-hat of each fit.
    failed
        Sentence for each fit that gave no posterior, by number of the fit.
    settings
        What was run.
    """

    ranks: pd.DataFrame
    truths: pd.DataFrame
    largest: int
    fits: pd.DataFrame
    failed: Mapping[int, str]
    settings: Mapping[str, Any]

    def __len__(self) -> int:
        """Return the number of fits that gave a posterior."""
        return len(self.ranks)

    @property
    def quantities(self) -> tuple[str, ...]:
        """What was ranked."""
        return tuple(self.ranks.columns)

    def uniformity(self, quantity: str) -> Uniformity:
        """Test the ranks of one quantity."""
        return uniformity(self.ranks[quantity].to_numpy(dtype=np.int64), self.largest)

    @property
    def divergent(self) -> float:
        """Share of the posterior draws that diverged."""
        total: Any = self.fits.sum()
        return float(total["divergences"] / max(1, total["draws"]))

    @property
    def unsettled(self) -> int:
        """Fits whose draws were still too few or whose chains still differed at the last length."""
        few = self.fits["smallest_ess"].to_numpy() < self.largest
        return int(np.sum(few | (self.fits["largest_rhat"].to_numpy() > 1.05)))

    def table(self) -> pd.DataFrame:
        """Test every quantity.

        Returns
        -------
        DataFrame
            ``chi_square_p``, ``ecdf_p``; ``adjusted_p``, the smaller of the two by Bonferroni over
            all tests; ``mean`` and ``spread`` as in
            `pkpd.fitting.calibration.ranks.Uniformity`; ``covered_50`` and ``covered_90``, the
            share of truths within the central 50 and 90 % intervals.
        """
        rows = {}
        for name in self.quantities:
            found = self.uniformity(name)
            share = (self.ranks[name].to_numpy() + 0.5) / (self.largest + 1)
            tests = 2 * len(self.quantities)
            rows[name] = {
                "chi_square_p": found.chi_square_p,
                "ecdf_p": found.ecdf_p,
                "adjusted_p": min(1.0, tests * min(found.chi_square_p, found.ecdf_p)),
                "mean": found.mean,
                "spread": found.spread,
                "covered_50": float(np.mean(np.abs(share - 0.5) < 0.25)),
                "covered_90": float(np.mean(np.abs(share - 0.5) < 0.45)),
            }
        return pd.DataFrame(rows).T

    @property
    def calibrated(self) -> bool:
        """Whether no quantity departs from uniform ranks at 5 %, adjusted for their number."""
        return bool(len(self) and (self.table()["adjusted_p"] > 0.05).all())

    @property
    def verdict(self) -> str:
        """What was found, in a few sentences."""
        if not len(self):
            return f"None of {_fits(len(self.failed))} gave a posterior."
        table: Any = self.table().sort_values("adjusted_p")
        worst = table.iloc[0]
        n = len(self.quantities)
        if self.calibrated:
            text = (
                f"Calibrated: over {len(self)} fits the ranks of all {n} quantities are uniform "
                f"(smallest adjusted p {worst['adjusted_p']:.2f}, {table.index[0]})."
            )
        else:
            bad = table.index[table["adjusted_p"] <= 0.05]
            words = "; ".join(f"{name}: {_departure(table.loc[name])}" for name in bad)
            text = (
                f"Not calibrated: over {len(self)} fits the ranks of {len(bad)} of {n} quantities "
                f"are not uniform ({words})."
            )
        text += f" {100 * self.divergent:.2g} % of the draws diverged."
        if self.unsettled:
            text += f" {_fits(self.unsettled)} had too few independent draws."
        if self.failed:
            first = min(self.failed)
            text += f" {_fits(len(self.failed))} failed (fit {first}: {self.failed[first]})."
        return text

    def __repr__(self) -> str:
        """Give the verdict."""
        return self.verdict

    def plot(self, ax: Axes | None = None, quantities: Sequence[str] | None = None) -> Axes:
        """Draw ECDF differences with the band that holds a right curve in 95 of 100 cases.

        Of more quantities than a legend can name, the `NAMED` that go furthest have a colour and a
        name, and the others are grey.

        Parameters
        ----------
        ax
            Matplotlib axes; new ones if ``None``.
        quantities
            Which; all if ``None``.

        Returns
        -------
        Axes
        """
        if ax is None:
            import matplotlib.pyplot as plt

            _, ax = plt.subplots(figsize=(6.0, 3.6), layout="constrained")
        low, high = ecdf_band(len(self), self.largest)
        at = np.arange(1, self.largest + 2) / (self.largest + 1)
        ax.fill_between(at, low, high, step="mid", color="0.88", label="95 % band, each curve")
        curves = {
            name: ecdf_difference(self.ranks[name].to_numpy(dtype=np.int64), self.largest)[1]
            for name in quantities or self.quantities
        }
        far = sorted(curves, key=lambda name: -float(np.abs(curves[name]).max()))
        grey = far[NAMED:] if len(far) > MOST_NAMED else []
        for k, name in enumerate(grey):
            label = None if k else f"{len(grey)} others"
            ax.plot(at, curves[name], drawstyle="steps-mid", color="0.6", lw=0.5, label=label)
        for i, name in enumerate(name for name in curves if name not in grey):
            style = ("-", "--", ":")[i // 10 % 3]  # colours repeat after ten
            ax.plot(at, curves[name], style, drawstyle="steps-mid", linewidth=1.2, label=name)
        ax.axhline(0.0, color="0.4", linewidth=0.8)
        ax.set(
            xlim=(0, 1),
            xlabel="rank of the true value, share of posterior draws",
            ylabel="ECDF - uniform",
            title=f"{len(self)} fits",
        )
        ax.legend(fontsize="small", frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))
        return ax

    def save(self, path: str | Path) -> None:
        """Write all of it as one JSON file; read it back with `load_calibration`."""
        parts = {
            name: {"index": frame.index.tolist()} | {c: frame[c].tolist() for c in frame}
            for name, frame in (("ranks", self.ranks), ("truths", self.truths), ("fits", self.fits))
        }
        told = {
            "largest": self.largest,
            "failed": {str(k): v for k, v in self.failed.items()},
            "settings": dict(self.settings),
        }
        write_text(path, json.dumps(parts | told))


def load_calibration(path: str | Path) -> Calibration:
    """Read a `Calibration` back from a file written by `Calibration.save`.

    Raises
    ------
    PkpdError
        If there is no such file, or it is another.
    """
    try:
        told = json.loads(Path(path).read_text(encoding="utf-8"))
        frames = {}
        for name in ("ranks", "truths", "fits"):
            index = pd.Index(told[name].pop("index"), name="fit")
            frames[name] = pd.DataFrame(told[name], index=index)
        failed = {int(k): v for k, v in told["failed"].items()}
        largest, settings = int(told["largest"]), dict(told["settings"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = f"is no calibration ({error})"
        remedy = "name the file that its save(...) wrote"
        raise PkpdError(where=str(path), what=what, remedy=remedy) from error
    return Calibration(frames["ranks"], frames["truths"], largest, frames["fits"], failed, settings)


def calibrate(
    model: PopulationModel,
    data_design: Dataset,
    *,
    n: int = 200,
    draws: int = 500,
    tune: int = 500,
    ranked: int = 99,
    method: Literal["nuts", "map", "advi"] = "nuts",
    simulated: PopulationModel | None = None,
    functions: Mapping[str, Quantity] | None = None,
    lloq: float | Mapping[str, float] | None = None,
    centring: Centring = "auto",
    target_accept: float | None = None,
    cluster: str | None = None,
    jobs: int | None = None,
    folder: str | Path | None = None,
    seed: int = 1,
    progress: bool = False,
) -> Calibration:
    """Check by simulation that fits of a model to data of a design give the right posterior.

    Parameters
    ----------
    model
        The model, with the priors that truths are drawn from. Priors as wide as the defaults draw
        patients no solver was made for; give priors that mean something.
    data_design
        Subjects, doses, times, covariates and occasions; values are simulated, and limits of
        quantification applied.
    n
        Fits.
    draws, tune
        Draws of each of two chains after and during adaptation. A fit that gives fewer
        independent draws than ``ranked`` is run again, up to four times longer.
    ranked
        Draws each truth is ranked among; ``ranked + 1`` should have many divisors.
    method
        ``"nuts"``; or ``"map"`` or ``"advi"`` of `pkpd.fitting.fit.fit`, which compile anew for
        every fit. So does ``"nuts"`` where a lag ends at a measurement, as its coordinates go with
        the data.
    simulated
        Model to draw truths and data from in the place of ``model``: shows that the check sees a
        wrong fit.
    functions
        Further quantities by name: functions from population parameters by name (``[D]`` each)
        to ``[D]``. The log-likelihood is always among the quantities.
    lloq
        Limit of quantification where the design's censored values do not tell, one or by line.
    centring
        As in `pkpd.fitting.fit.fit`.
    target_accept
        Acceptance rate of NUTS; that of `pkpd.fitting.fit.fit` if left out.
    cluster, jobs
        Address of a Dask scheduler (``"tcp://host:8786"``) over whose workers fits are spread, or
        ``"local"`` for so many processes of this machine (all cores by default). Without a
        cluster, fits run one after the other in this process. Ranks are the same. A worker that
        is lost loses the fit it was at, which another does again.
    folder
        Where finished fits are kept, one small file each; a run that was interrupted goes on.
    seed
        Seed. Fit ``i`` is the same whatever ``n``, ``cluster`` and ``jobs``.
    progress
        Print a line for every finished fit.

    Returns
    -------
    Calibration

    Raises
    ------
    PkpdError
        If the folder holds fits of another calibration, a setting has no meaning, or the cluster
        cannot be used.
    """
    jobs = cores() if jobs is None else jobs
    check_arguments(
        "calibrate",
        model=(model, a(PopulationModel)),
        data_design=(data_design, a(Dataset)),
        **{
            word: (value, from_to(1))
            for word, value in (("n", n), ("draws", draws), ("tune", tune), ("jobs", jobs))
        },
        ranked=(ranked, from_to(9)),
        method=(method, one_of("nuts", "map", "advi")),
        simulated=(simulated, a(PopulationModel) | NONE),
        functions=(functions, MAPPING | NONE),
        centring=(centring, one_of("auto", "centred", "non-centred") | MAPPING),
        target_accept=(target_accept, SHARE | NONE),
        seed=(seed, from_to(0)),
    )
    available = draws * (2 if method == "nuts" else 1)
    if ranked > available:
        raise PkpdError(
            where="calibrate",
            what=f"ranked = {ranked}",
            allowed=f"9 to the number of draws ({available})",
        )
    trial = Trial(
        model,
        simulated or model,
        data_design,
        lloq,
        method,
        draws,
        tune,
        ranked,
        centring,
        target_accept,
        dict(functions or {}),
        seed,
    )
    described = trial.description()
    told = described if folder is None else described | {"densities": trial.densities()}
    kept = KeptFits(folder, "calibration", told)
    missing = kept.missing(n)
    run = CalibrationFits(trial)
    with workers(cluster if missing else None, jobs) as spread:
        for one in map(run, missing) if spread is None else spread.as_done(run, missing):
            kept.keep(one)
            if progress:
                words = one["failed"] or f"{one['divergences']} divergences"
                told = f"fit {one['index']}: {one['seconds']:.1f} s, {words}"
                print(told, flush=True)  # noqa: T201
    return _collected([kept.found[i] for i in range(n)], ranked, described)


def _collected(
    found: Sequence[dict[str, Any]], ranked: int, described: dict[str, Any]
) -> Calibration:
    good = [one for one in found if one["failed"] is None]
    index = pd.Index([one["index"] for one in good], name="fit")
    columns = ("seconds", "divergences", "draws", "smallest_ess", "largest_rhat")
    return Calibration(
        pd.DataFrame([one["ranks"] for one in good], index=index),
        pd.DataFrame([one["truth"] for one in good], index=index),
        ranked,
        pd.DataFrame([{c: one[c] for c in columns} for one in good], index=index, columns=columns),
        {one["index"]: one["failed"] for one in found if one["failed"] is not None},
        described,
    )


def _fits(number: int) -> str:
    return f"{number} fit{'s' * (number != 1)}"


def _departure(row: Any) -> str:
    """How ranks depart from uniform, in words."""
    if abs(row["mean"] - 0.5) > 0.05:
        where = "low" if row["mean"] > 0.5 else "high"
        return f"posterior too {where}, mean rank {row['mean']:.2f}"
    if abs(row["spread"] - 1.0) > 0.1:
        width = "wide" if row["spread"] < 1.0 else "narrow"
        return f"posterior too {width}, variance of ranks {row['spread']:.2f} of uniform"
    return f"p {row['adjusted_p']:.2g}"
