"""Everything that reads a file, a text or a document of others, with samples to change.

A reader is a function of the path of a changed sample (or of its text, or of the document).
"""

from __future__ import annotations

import json
import logging
import re
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

ROOT = Path(__file__).parents[2]
HOST = "http://127.0.0.1:8765"
for _folder in ("nonmem", "data", "report"):
    sys.path.append(str(ROOT / "tests" / _folder))

Kind = Literal["text", "bytes", "words", "tree"]


@dataclass
class Reader:
    """How to read one kind of input.

    Attributes
    ----------
    name
        Name.
    kind
        ``text`` and ``bytes`` are files, ``words`` one string, ``tree`` a JSON document.
    samples
        Gives what is changed.
    read
        The reader: of a path, a string or a document.
    suffix
        Of the file.
    beside
        Files that lie beside it.
    """

    name: str
    kind: Kind
    samples: Callable[[], list[Any]]
    read: Callable[[Any], object]
    suffix: str = ".txt"
    beside: dict[str, str] = field(default_factory=dict)


def _files(*patterns: str) -> Callable[[], list[bytes]]:
    def found() -> list[bytes]:
        paths = [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]
        assert paths, patterns
        return [path.read_bytes() for path in paths]

    return found


def _cards(*patterns: str) -> Callable[[], list[bytes]]:
    """Cards, which bear the names of their files."""
    found = _files(*patterns)
    return lambda: [
        re.sub(rb'(?m)^name = ".*"', b'name = "case"', card, count=1) for card in found()
    ]


def _few_lines(*patterns: str) -> Callable[[], list[bytes]]:
    found = _files(*patterns)
    return lambda: [b"\n".join(text.splitlines()[:12]) + b"\n" for text in found()]


def _texts(*texts: str) -> Callable[[], list[bytes]]:
    return lambda: [text.encode() for text in texts]


def _made(write: Callable[[Path], object], suffix: str) -> Callable[[], list[bytes]]:
    def found() -> list[bytes]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"made{suffix}"
            write(path)
            return [path.read_bytes()]

    return found


# -- cards ------------------------------------------------------------------------------------


def _drug(path: Path) -> object:
    from pkpd.cards.drug_cards import read_drug_card

    return read_drug_card(path)


def _model(path: Path) -> object:
    from pkpd.cards.model_cards import read_model_card

    return read_model_card(path)


def _joint(path: Path) -> object:
    from pkpd.cards.model_cards import read_joint_card

    return read_joint_card(path)


def _population(path: Path) -> object:
    from pkpd.cards.population_cards import read_population_card

    return read_population_card(path)


def _rule(path: Path) -> object:
    from pkpd.cards.rule_cards import load_rule

    return load_rule(path)


def _leukaemia(path: Path) -> object:
    from pkpd.leukaemia.parameters import read_leukaemia_card

    return read_leukaemia_card(path)


def _trial(path: Path) -> object:
    from pkpd.cards.trial_cards import load_trial

    return load_trial(path)


def _scenario(path: Path) -> object:
    from pkpd.comparison.scenario import load_scenario

    return load_scenario(path)


def _checked(path: Path) -> object:
    from pkpd.comparison.check import check_as_compared

    return check_as_compared(path, None)


def _design(path: Path) -> object:
    from pkpd.designs.design_card import load_design

    return load_design(path)


def _menu(path: Path) -> object:
    from pkpd.cards.menu_cards import load_menu

    return load_menu(path)


def _evidence_populations(path: Path) -> object:
    from pkpd.evidence.table.populations import read_populations

    return read_populations(path)


# -- data -------------------------------------------------------------------------------------


def _nonmem_data(path: Path) -> object:
    from pkpd.data.nonmem import read_nonmem

    return read_nonmem(path, covariates=["WT"])


def _counts(path: Path) -> object:
    from pkpd.data.counts import read_counts

    return read_counts(path)


def _patient(path: Path) -> object:
    from pkpd.forecasting.seen import read_seen

    return read_seen(path)


def _adppk(path: Path) -> object:
    from pkpd.data.adppk import read_adppk

    return read_adppk(path, covariates=["WTBL"])


def _adppk_text() -> list[bytes]:
    from test_adppk_reader import ADPPK

    return [ADPPK.encode()]


def _transport() -> list[bytes]:
    from test_adppk_reader import ADPPK, as_transport

    return _made(lambda path: as_transport(ADPPK, path), ".xpt")()


def _parquet(path: Path) -> None:
    import pandas as pd

    pd.read_csv(ROOT / "fits" / "data" / "theophylline.csv").to_parquet(path)


# -- NONMEM -----------------------------------------------------------------------------------


def _streams() -> list[bytes]:
    from streams import ADVAN1
    from test_stream import LINEAR

    ode = ADVAN1.replace("ADVAN1 TRANS2", "ADVAN13 TOL=6\n$MODEL COMP=(CENTRAL)").replace(
        "$ERROR", "$DES\nDADT(1) = -CL/V*A(1)\n$ERROR"
    )
    more = ADVAN1.replace(
        "$PK\n", "$PK\nIF (WT.GT.60.AND.LEVEL.NE.2) THEN\nX=1\nELSE\nX=2\nENDIF\n"
    )
    named = "$PRIOR NWPRI\n$THETAP 2 FIX 20 FIX\n$THETAPV BLOCK(2) FIX 0.1 0.01 9\n"
    prior = ADVAN1 + named + "$OMEGAP 0.09 FIX 0.04 FIX\n$OMEGAPD 20 FIX 9 FIX\n"
    placed = ADVAN1 + (
        "$PRIOR NWPRI NTHETA=2,NETA=2,NTHP=2,NETP=2\n$THETA 2 FIX 20 FIX 20 FIX 9 FIX\n"
        "$OMEGA BLOCK(2) FIX 0.1 0.01 9\n$OMEGA 0.09 FIX 0.04 FIX\n"
    )
    return [text.encode() for text in (ADVAN1, LINEAR, ode, more, prior, placed)]


def _stream_data() -> str:
    from streams import DATA

    return DATA


def _stream(path: Path) -> object:
    from pkpd.nonmem.stream import read_control_stream

    return read_control_stream(path).summary()


def _listings() -> list[bytes]:
    from test_listing import LISTING, VALUES

    final = VALUES.format("5.1E-03  1.4E+00", "2.2E-01", "1E-02", "1.1E-01", "1.6E-02")
    return [LISTING.replace("{final}", final).replace("{error}", "").encode(), LISTING.encode()]


def _listing(path: Path) -> object:
    from pkpd.nonmem import read_listing

    return read_listing(path)


def _iterations(path: Path) -> object:
    from pkpd.nonmem import read_iterations

    return read_iterations(path)


def _iteration_files() -> list[bytes]:
    from test_listing import EXT

    return [EXT.encode()]


def _table(path: Path) -> object:
    from pkpd.nonmem import read_table

    return read_table(path)


def _estimates(path: Path) -> object:
    from pkpd.nonmem import read_estimates

    return read_estimates(path)


# -- what pkpd itself wrote -------------------------------------------------------------------


def _evidence(path: Path) -> object:
    from pkpd.evidence.table.table import load_evidence

    return load_evidence(path)


def _posterior(path: Path) -> object:
    from pkpd.evidence.posterior.stored import load_posterior

    return load_posterior(path)


def _write_posterior(path: Path) -> None:
    from pkpd.evidence.posterior.stored import EvidencePosterior

    rng = np.random.default_rng(1)
    sizes = {"values": 2, "z": 2, "by_study": 3, "by_term": 4}
    EvidencePosterior(
        names=("a", "b"),
        **{name: rng.normal(size=(1, 8, n)) for name, n in sizes.items()},
        studies=("x", "y", "z"),
        terms=("p", "q", "r", "s"),
        fixed={"c": 1.0},
        problems=(),
    ).save(path)


def _rows(path: Path) -> object:
    from pkpd.report.comparison.tables import read_rows

    return read_rows(path)


def _write_rows(path: Path) -> None:
    import synthetic

    from pkpd.report.comparison.tables import write_rows

    rows = synthetic.make_trial_result(1).rows
    write_rows(path, type(rows[0]), rows)


def _simulations(path: Path) -> object:
    from pkpd.errors import PkpdError
    from pkpd.evidence.sampling.simulations import read_block

    found = read_block(path)
    if found is None:
        raise PkpdError("it is no block.")
    return found


def _write_simulations(path: Path) -> None:
    from pkpd.evidence.sampling.simulations import Simulations, write_block

    rng = np.random.default_rng(1)
    shapes = ((4, 2), (4, 3), (4, 3), (4, 1, 4), (4, 1))
    write_block(path, Simulations(*(rng.random(shape) for shape in shapes)))


def _calibration(path: Path) -> object:
    from pkpd.fitting.calibration.calibrate import load_calibration

    return load_calibration(path)


def _write_calibration(path: Path) -> None:
    frame = {"index": [0, 1], "level": [1.0, 2.0]}
    parts = dict.fromkeys(("ranks", "truths", "fits"), frame)
    path.write_text(json.dumps(parts | {"largest": 9, "failed": {"3": "x"}, "settings": {"n": 2}}))


@cache
def _small_fit() -> Any:
    import pkpd
    from pkpd.models import PopulationModel, compartments, parameter, residual

    data = pkpd.read_nonmem(ROOT / "fits" / "data" / "theophylline.csv")
    model = PopulationModel(
        compartments(1, absorption="first_order"),
        [parameter("ka", 1.5, iiv=0.6), parameter("CL", 2.7, iiv=0.3), parameter("V", 32)],
        residual.additive(0.7),
    )
    return model, data


def _fit(path: Path) -> object:
    from pkpd.fitting.saved import load_fit

    return load_fit(path, *_small_fit())


def _write_fit(path: Path) -> None:
    import arviz as az

    from pkpd.fitting.model.likelihood import bind
    from pkpd.fitting.model.population_parameters import start_values
    from pkpd.fitting.sampled import Fit

    model, data = _small_fit()
    names = list(start_values(model))
    rng = np.random.default_rng(1)
    idata = az.from_dict(
        {name: rng.normal(size=(2, 4)) for name in names} | {"eta": rng.normal(size=(2, 4, 12))},
        coords={"subject": [str(s) for s in data.subjects]},
        dims={"eta": ["subject"]},
    )
    Fit(bind(model, data), idata).save(path)


def _runs(path: Path) -> object:
    from pkpd.checks import runs

    return runs(path.parent)


def _write_maximum(path: Path) -> None:
    import xarray as xr

    from pkpd.files import write_netcdf
    from pkpd.fitting.maximum.description import description
    from pkpd.fitting.maximum.result import KIND
    from pkpd.fitting.maximum.scales import FreeParameters
    from pkpd.fitting.model.likelihood import bind

    free = FreeParameters(bind(*_small_fit()))
    values = free.values(free.start())
    record = {
        "method": "focei",
        "names": free.names,
        "estimates": values,
        "standard_errors": values,
        "objective": 1.0,
        "constant": 2.0,
        "converged": True,
        "condition_number": 3.0,
        "seconds": 4.0,
    }
    about = json.dumps(description(free))
    attrs = {"kind": KIND, "record": json.dumps(record), "about": about}
    write_netcdf(path, xr.Dataset({"by_subject": ("subject", [1.0])}, attrs=attrs))


# -- strings ----------------------------------------------------------------------------------


def _quantity(text: str) -> object:
    from pkpd.units import parse_quantity

    return parse_quantity(text)


def _amount(text: str) -> object:
    from pkpd.schedule.amounts import parse_amount

    return parse_amount(text)


def _hours(text: str) -> object:
    from pkpd.schedule.amounts import parse_hours

    return parse_hours(text)


def _days(text: str) -> object:
    from pkpd.schedule.amounts import parse_days

    return parse_days(text)


def _evidence_schedule(text: str) -> object:
    from pkpd.evidence.table.schedule import parse_schedule

    return parse_schedule(text)


def _expression(text: str) -> object:
    from pkpd.nonmem.code import parse_code
    from pkpd.nonmem.records import read_records

    (problem,) = read_records(["$PROBLEM x", "$PK", *text.split("\n")], "stream")[:1]
    return [parse_code(record) for record in problem.records if record.name == "PK"]


# -- the explorer -----------------------------------------------------------------------------


def _states() -> list[Any]:
    return [{"data": tomllib.loads(SCHEDULES_OF_A_PAGE), "patients": 50, "draws": 4, "seed": 1}]


def _state(document: Any) -> object:
    from pkpd.explorer.state import read_state

    return read_state(document, ROOT / "benchmarks" / "schedules")


def _request(text: str) -> object:
    """Ask the server for an address, and post to it; nothing but refusals may come back."""
    from urllib.parse import quote

    name = text.encode("utf-8", errors="replace")[:300]
    client = _client()
    with _silent("pkpd.explorer"):
        for path in (f"/static/{quote(name)}", f"/{quote(name)}", f"/api/{quote(name, safe='')}"):
            # with the host, so that two slashes at the front are no name of another
            answer = client.get(f"{HOST}{path}")
            assert answer.status_code < 500, (path, answer.status_code)
            assert b"root:" not in answer.content, path
        told = {"Content-Type": "application/json"}
        answer = client.post("/api/open", content=name, headers=told)
        assert answer.status_code < 500, answer.status_code
        answer = client.post("/api/open", json={"toml": text})
        assert answer.status_code < 500, answer.status_code
    return answer.json()


@contextmanager
def _silent(name: str) -> Iterator[None]:
    """Keep what the logger writes off the screen, and leave it as it was afterwards."""
    log = logging.getLogger(name)
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(before)


@cache
def _client() -> Any:
    from starlette.testclient import TestClient

    from pkpd.explorer.server import Explorer

    explorer = Explorer(ROOT / "benchmarks" / "schedules", _states()[0]["data"])
    return TestClient(explorer.app(), base_url=HOST, raise_server_exceptions=False).__enter__()


def _counts_text() -> list[bytes]:
    wide = "ID,DAY,ANC,PLT\n1,1,3.5,200\n1,8,<0.1,20\n1,15,0.4,\n2,1,2.0,150\n"
    long = "ID,DAY,LINE,VALUE\n1,1,neutrophils,3.5\n1,8,platelets,20\n"
    return [wide.encode(), long.encode()]


TABLE = "TABLE NO.  1\n ID  TIME  IPRED\n 1.0E+00 0.0E+00 3.5E+00\n 1.0E+00 1.0E+00 2.5E+00\n"
QUANTITIES = ("10 mg/m^2", "5 mg", "1.5 ug/mL", "0.5 10^9/L", "70 kg", "30 min")
HOURS = ("1 h", "30 min", "2 days", "0.5 h")
DAYS = ("1-5", "1, 8, 15, 22", "1-21/28", "1-36 every 7", "1-5, 8-12")
SCHEDULES_OF_A_PAGE = """
title = "Two doses"
population = "rr_aml"
rule = "leukemia_d42_generic"
horizon_days = 60
dose.clofarabine = { amount = "20 mg/m^2", days = "1-5", route = "iv", duration = "1 h" }
course.induction = { doses = ["clofarabine"], cycle_days = 28 }

[[cohort]]
id = "low"

[[cohort]]
id = "high"
change.clofarabine = { amount = "40 mg/m^2" }
"""
SCHEDULES = (
    "clofarabine:40 mg/m2:IV1h:1-5;cytarabine:1000 mg/m2:IV2h:1-5",
    "abexinostat:60|120 mg bid:PO:1-14",
    "CPX-351:101 units/m2:IV90min:1,3,5",
    "daunorubicin:45 mg/m2:IV:1-3;cytarabine:200 mg/m2:CI:1-7",
)
CODE = (
    "CL = THETA(1)*(WT/70)**0.75*EXP(ETA(1))\nIF (WT.GT.60) THEN\nX=1\nELSE\nX=LOG(2)\nENDIF\n",
    "V = THETA(2)+MIN(1,2)\n",
)


def all_readers() -> dict[str, Reader]:
    """Readers by name."""
    models = "models"
    data = _files("fits/data/*.csv")
    found = [
        Reader("drug cards", "text", _cards(f"{models}/drugs/*.toml"), _drug, ".toml"),
        Reader(
            "model cards",
            "text",
            _cards(f"{models}/pk/*.toml", f"{models}/effects/*.toml", f"{models}/marrow/*.toml"),
            _model,
            ".toml",
        ),
        Reader("joint cards", "text", _cards(f"{models}/joint/*.toml"), _joint, ".toml"),
        Reader("populations", "text", _cards(f"{models}/populations/*.toml"), _population, ".toml"),
        Reader("rules", "text", _cards(f"{models}/rules/*.toml"), _rule, ".toml"),
        Reader(
            "leukaemia cards", "text", _cards(f"{models}/leukaemia/*.toml"), _leukaemia, ".toml"
        ),
        Reader("trials", "text", _cards(f"{models}/trials/*.toml"), _trial, ".toml"),
        Reader("scenarios", "text", _files("benchmarks/schedules/*.toml"), _scenario, ".toml"),
        Reader("pkpd check", "text", _files("benchmarks/schedules/*.toml"), _checked, ".toml"),
        Reader("designs", "text", _files("benchmarks/designs/*.toml"), _design, ".toml"),
        Reader("menus", "text", _files("benchmarks/menus/*.toml"), _menu, ".toml"),
        Reader(
            "evidence populations",
            "text",
            _cards(f"{models}/evidence/populations.toml"),
            _evidence_populations,
            ".toml",
        ),
        Reader("NONMEM data", "text", data, _nonmem_data, ".csv"),
        Reader("counts", "text", _counts_text, _counts, ".csv"),
        Reader("patients", "text", _files("benchmarks/forecasts/*.csv"), _patient, ".csv"),
        Reader("ADPPK", "text", _adppk_text, _adppk, ".csv"),
        Reader("transport files", "bytes", _transport, _adppk, ".xpt"),
        Reader("parquet", "bytes", _made(_parquet, ".parquet"), _nonmem_data, ".parquet"),
        Reader("control streams", "text", _streams, _stream, ".mod", {"d.csv": _stream_data}),
        Reader("abbreviated code", "words", lambda: list(CODE), _expression),
        Reader("listings", "text", _listings, _listing, ".lst"),
        Reader("iterations", "text", _iteration_files, _iterations, ".ext"),
        Reader("NONMEM tables", "text", _texts(TABLE), _table, ".tab"),
        Reader("estimates", "text", _iteration_files, _estimates, ".ext"),
        Reader(
            "evidence tables",
            "text",
            _few_lines("models/evidence/*outcomes.csv"),
            _evidence,
            ".csv",
        ),
        Reader("posteriors", "bytes", _made(_write_posterior, ".nc"), _posterior, ".nc"),
        Reader("fits", "bytes", _made(_write_fit, ".nc"), _fit, ".nc"),
        Reader("records of runs", "bytes", _made(_write_maximum, ".nc"), _runs, ".nc"),
        Reader("simulations", "bytes", _made(_write_simulations, ".npz"), _simulations, ".npz"),
        Reader("calibrations", "text", _made(_write_calibration, ".json"), _calibration, ".json"),
        Reader("results", "text", _made(_write_rows, ".csv"), _rows, ".csv"),
        Reader("quantities", "words", lambda: list(QUANTITIES), _quantity),
        Reader("amounts", "words", lambda: list(QUANTITIES), _amount),
        Reader("hours", "words", lambda: list(HOURS), _hours),
        Reader("days", "words", lambda: list(DAYS), _days),
        Reader("evidence schedules", "words", lambda: list(SCHEDULES), _evidence_schedule),
        Reader("states of a page", "tree", _states, _state),
        Reader("addresses", "words", lambda: ["index.html", "app.js", '{"toml": ""}'], _request),
    ]
    return {reader.name: reader for reader in found}
