"""The Python, and the command, that give the figures of a state without a browser."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from pkpd.explorer.state import FILE_NAME, State
from pkpd.explorer.toml import write_toml

_SCRIPT = '''"""{title}"""

from pathlib import Path

import pkpd

SCHEDULES = r{quotes}
{toml}{quotes}

Path("{file}").write_text(SCHEDULES, encoding="utf-8")
result = pkpd.compare(
    "{file}",
    patients={patients},
    draws={draws},
    seed={seed},
    {ensemble},
    with_questions=False,
)
columns = ["cohort", "endpoint", "line", "rule", "estimate", "lower", "upper", "published"]
print(result.table()[columns].to_string())
print(result.pairs().to_string())
'''


def script(state: State) -> str:
    """Python that writes the schedule file beside itself and compares its schedules.

    A fit of the user's own is the name ``fit``, which the user's script has made.
    """
    toml = write_toml(state.data)
    quotes = "'" * 3
    raw = quotes not in toml and not toml.rstrip().endswith("\\")
    text = _SCRIPT if raw else _SCRIPT.replace("r{quotes}\n{toml}{quotes}", "{toml}")
    return text.format(
        title=_one_line(state.trial.title),
        quotes=quotes,
        toml=toml if raw else repr(toml),
        file=FILE_NAME,
        patients=state.patients,
        draws=state.draws,
        seed=state.seed,
        ensemble=_ensemble(state),
    )


_PATIENT = '''"""{title}: one patient"""

from pathlib import Path

import pkpd
from pkpd.forecasting import forecast_lines

SCHEDULES = {toml}
COUNTS = {counts}

Path("{file}").write_text(SCHEDULES, encoding="utf-8")
Path("counts.csv").write_text(COUNTS, encoding="utf-8")
told = forecast_lines(
    Path("counts.csv"),
    "{file}",
    Path("forecast"),
    cohort={cohort},
    {ensemble},
    engine="{engine}",
    bank={bank},
    seed={seed},
)
print(*told, sep="\\n")
'''


def patient_script(state: State, cohort: str, counts: str, engine: str, bank: int) -> str:
    """Python that forecasts one patient under a schedule of a page, of as many virtual ones."""
    return _PATIENT.format(
        title=_one_line(state.trial.title),
        toml=repr(write_toml(state.data)),
        counts=repr(counts),
        file=FILE_NAME,
        cohort=repr(cohort),
        ensemble=_ensemble(state),
        engine=engine,
        bank=bank,
        seed=state.seed,
    )


def command_line(state: State) -> str:
    """Command that does the same with the downloaded file; words where only Python has the fit."""
    if state.ensemble in state.fits:
        return "no command has this fit; the Python has"
    words = ["pkpd", "compare", FILE_NAME, "--patients", str(state.patients)]
    words += ["--draws", str(state.draws), "--seed", str(state.seed)]
    if state.marrow:
        words += ["--marrow", state.marrow]
    if isinstance(state.posterior, Path):
        words += ["--posterior", state.ensemble]
    return shlex.join(words)


def _ensemble(state: State) -> str:
    if isinstance(state.posterior, Path):
        return f"posterior=Path({json.dumps(state.ensemble, ensure_ascii=False)})"
    if state.marrow:
        return f'marrow="{state.marrow}"'
    name = _one_line(state.ensemble)
    return f"# fit is your own: what pkpd.fit gave, {name} on the page\n    posterior=fit"


def _one_line(text: str) -> str:
    """Text that cannot end a docstring."""
    return " ".join(text.replace("\\", "/").replace('"', "'").split())
