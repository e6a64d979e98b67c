"""Run simulation-based calibration of one problem; an interrupted run goes on where it was.

python fits/sbc/run.py theophylline --fits 200
python fits/sbc/run.py theophylline --fits 1000 --cluster tcp://host:8786

Finished fits are kept under build/sbc/; ranks, true values and the verdict are written beside this
script.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))


def main() -> None:
    """Read the command line, run, write results."""
    from problems import PROBLEMS

    from pkpd.fitting.calibration.calibrate import calibrate

    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ask.add_argument("problem", choices=sorted(PROBLEMS))
    ask.add_argument("--fits", type=int, default=200)
    ask.add_argument("--cluster", default="local")
    ask.add_argument("--jobs", type=int)
    ask.add_argument("--seed", type=int, default=1)
    ask.add_argument("--folder", type=Path, default=None)
    given = ask.parse_args()
    problem = PROBLEMS[given.problem]()
    folder = given.folder or HERE.parents[1] / "build" / "sbc" / given.problem
    found = calibrate(
        problem.model,
        problem.design,
        n=given.fits,
        draws=problem.draws,
        tune=problem.tune,
        lloq=problem.lloq,
        cluster=given.cluster,
        jobs=given.jobs,
        folder=folder,
        seed=given.seed,
        progress=True,
    )
    sys.stdout.write(f"{found.verdict}\n{found.table().round(3).to_string()}\n")
    store = HERE / given.problem
    found.ranks.to_csv(f"{store}_ranks.csv")
    summary = {
        "command": f"python fits/sbc/run.py {given.problem} --fits {given.fits} "
        f"--seed {given.seed}",
        "verdict": found.verdict,
        "ranked_among": found.largest,
        "seconds_per_fit": round(float(found.fits["seconds"].median()), 2),
        "table": found.table().round(4).to_dict(orient="index"),
        "settings": found.settings,
    }
    Path(f"{store}_summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    axes = found.plot()
    axes.figure.savefig(f"{store}_ecdf.png", dpi=120)


if __name__ == "__main__":
    main()
