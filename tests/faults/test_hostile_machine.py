"""A machine that is not as one would wish: no home, another locale, a clock set back, line ends."""

from __future__ import annotations

import datetime as dt
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import pkpd
from pkpd.cards.tables import read_toml
from pkpd.data.nonmem import read_nonmem
from pkpd.errors import PkpdError
from pkpd.evidence.posterior.stored import EvidencePosterior, load_posterior
from pkpd.machine import lend_home
from pkpd.nonmem import read_listing

ROOT = Path(__file__).parents[2]
_FAKED = """
import sys, warnings
warnings.simplefilter("ignore")
sys.path[:0] = [{tests!r}, {report!r}]
import pytest
import test_cli
from pkpd.cli import main
{before}
with pytest.MonkeyPatch.context() as patch:
    test_cli.stand_in(patch)
    sys.argv = ["pkpd", "compare", "--out", {out!r}, "--no-figures"]
    main()
"""


def compared(out, before="", **environment):
    """Run the command with made-up cohorts in a process of such an environment."""
    code = _FAKED.format(
        tests=str(ROOT / "tests"),
        report=str(ROOT / "tests" / "report"),
        out=str(out),
        before=before,
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHONUTF8"))}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, env=kept | environment, timeout=300
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert b"Traceback" not in done.stderr
    return json.loads((out / "results.json").read_bytes())


@pytest.fixture(scope="module")
def homeless(tmp_path_factory):
    """What is told where there is neither a home nor a folder to keep anything in."""
    nowhere = "/proc/none"  # not even root can write there
    words = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), nowhere)
    return compared(tmp_path_factory.mktemp("homeless") / "out", **words)


@pytest.mark.slow
def test_no_home_and_no_cache_folder(homeless):
    assert homeless["trials"]


_NOBODY = "import pwd; pwd.getpwuid = lambda number: {}[number]"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "words"),
    [
        ("", {"HOME": "/proc/none"}),
        (_NOBODY, {}),  # as where a container runs for a user without an entry
        (_NOBODY, {"XDG_CACHE_HOME": "/proc/none"}),
    ],
)
def test_pymc_is_imported_where_there_is_no_home(before, words, tmp_path):
    code = f"{before}\nimport pkpd.pymc, os\nprint(os.environ['HOME'], pkpd.pymc.observe.__name__)"
    bare = ("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "PYTENSOR_FLAGS")
    rest = {k: v for k, v in os.environ.items() if k not in bare}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=rest | {"TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)} | words,
    )
    assert done.returncode == 0, done.stderr
    home, name = done.stdout.split()
    assert Path(home).parent == tmp_path
    assert name == "observe"
    assert not Path(home).exists()


def test_a_home_is_left_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    before = dict(os.environ)
    lend_home()
    assert dict(os.environ) == before


@pytest.mark.parametrize("kept", [None, "2020-01-01", ""])
@pytest.mark.slow
def test_processes_that_import_arviz_at_once_do_not_meet(tmp_path, kept):
    """ArviZ would write the day through this temporary name; here it can't."""
    notice = tmp_path / "arviz" / "daily_warning"
    (notice.parent / "daily_warning.tmp").mkdir(parents=True)
    if kept is not None:
        notice.write_text(kept)
    code = "import pkpd.fitting, arviz; print(arviz.__version__)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in notice.parent.iterdir()) == [notice.name, f"{notice.name}.tmp"]
    assert dt.date.fromisoformat(notice.read_text())


def test_compilations_are_not_kept_where_no_folder_can_be():
    code = "from pkpd.solve.cache import keep_compilations; print(keep_compilations())"
    rest = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=rest | {"HOME": "/proc/none", "XDG_CACHE_HOME": ""},
    )
    assert (done.stdout, done.returncode) == ("False\n", 0), done.stderr


@pytest.mark.long
def test_another_locale_writes_the_same_bytes(homeless, tmp_path):
    told = compared(tmp_path / "out", LC_ALL="POSIX", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0")
    same = {name for name in homeless["files"] if homeless["files"][name] == told["files"][name]}
    # the report tells when it was made
    assert set(homeless["files"]) - same <= {"report.html"}
    assert {"results.csv", "pairs.csv"} <= same


@pytest.mark.long
def test_a_clock_that_is_set_back_during_a_run(tmp_path):
    backwards = """
import datetime, itertools, time
hours = itertools.count(100, -1)
class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return datetime.datetime(2030, 1, 1, tzinfo=tz) + datetime.timedelta(hours=next(hours))
datetime.datetime = Clock
time.time = lambda: 1e9 + 3600.0 * next(hours)
"""
    told = compared(tmp_path / "out", before=backwards)
    assert told["record"]["started"] > told["record"]["finished"]
    assert told["record"]["wall_s"] == 0.0
    assert not [p for p in (tmp_path / "out").iterdir() if p.name.startswith(".")]


# -- line ends and byte order marks ------------------------------------------------------------


def windows(path, target):
    """Copy a text as some editors write it: a mark at the start, other line ends."""
    text = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    target.write_bytes(b"\xef\xbb\xbf" + text)
    return target


@pytest.mark.parametrize(
    "card",
    [*sorted((ROOT / "models").rglob("*.toml"))[::9], *(ROOT / "benchmarks").rglob("*.toml")],
)
def test_cards_with_other_line_ends(tmp_path, card):
    found = read_toml(windows(card, tmp_path / card.name)).data
    assert json.dumps(found, default=str).replace("\\r\\n", "\\n") == json.dumps(
        read_toml(card).data, default=str
    )


def test_data_and_control_streams_with_other_line_ends(tmp_path):
    usual = ROOT / "fits" / "data" / "theophylline.csv"
    (tmp_path / "w").mkdir()
    other = windows(usual, tmp_path / "w" / usual.name)
    found, wanted = (read_nonmem(p, covariates=["WT"]) for p in (other, usual))
    np.testing.assert_array_equal(found.observations.value, wanted.observations.value)
    np.testing.assert_array_equal(found.covariates["WT"], wanted.covariates["WT"])
    stream = tmp_path / "run1.mod"
    stream.write_text(
        "$PROBLEM one\n$INPUT ID TIME AMT DV EVID WT\n"
        f"$DATA {usual.name} IGNORE=@\n$SUBROUTINES ADVAN2 TRANS2\n"
        "$PK\nKA=THETA(1)\nCL=THETA(2)*EXP(ETA(1))\nV=THETA(3)\nS2=V\n"
        "$ERROR\nY=F+EPS(1)\n$THETA (0,1.5) (0,2.7) (0,32)\n$OMEGA 0.1\n$SIGMA 0.5\n"
        "$ESTIMATION METHOD=1\n"
    )
    header = usual.read_text().splitlines()[0]
    stream.write_text(
        stream.read_text().replace("ID TIME AMT DV EVID WT", header.replace(",", " "))
    )
    shutil.copy(usual, tmp_path / usual.name)
    mine = windows(stream, tmp_path / "w" / stream.name)
    one, two = pkpd.read_control_stream(stream), pkpd.read_control_stream(mine)
    assert one.summary() == two.summary()


def test_a_listing_with_a_mark_and_other_line_ends(tmp_path):
    listing = next(iter(sorted((ROOT / "tests").rglob("*.lst"))), None)
    if listing is None:
        listing = tmp_path / "run1.lst"
        listing.write_text(
            "1NONLINEAR MIXED EFFECTS MODEL PROGRAM (NONMEM) VERSION 7.4.3\n"
            " #METH: First Order Conditional Estimation\n"
            "0MINIMIZATION SUCCESSFUL\n #OBJV:********      116.803       ********\n"
        )
    other = windows(listing, tmp_path / "other.lst")
    assert repr(read_listing(other).last) == repr(read_listing(listing).last)


# -- files that ended early --------------------------------------------------------------------


def posterior(path):
    rng = np.random.default_rng(1)
    made = EvidencePosterior(
        names=("a", "b"),
        values=rng.normal(size=(1, 50, 2)),
        z=rng.normal(size=(1, 50, 2)),
        by_study=rng.normal(size=(1, 50, 3)),
        by_term=rng.normal(size=(1, 50, 4)),
        studies=("x", "y", "z"),
        terms=("p", "q", "r", "s"),
        fixed={"c": 1.0},
        problems=(),
    )
    made.save(path)
    return made


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_posterior_that_was_not_fully_copied_is_a_sentence(tmp_path, share):
    path = tmp_path / "posterior.nc"
    posterior(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(PkpdError, match=r"posterior\.nc: it is no posterior of a calibration"):
        load_posterior(path)


def test_a_posterior_holds_data_only(tmp_path):
    path = tmp_path / "posterior.nc"
    made = posterior(path)
    np.testing.assert_array_equal(load_posterior(path).values, made.values)
    assert b"pickle" not in path.read_bytes()
    with xr.open_dataset(path, engine="h5netcdf") as found:
        assert {array.dtype.kind for array in found.variables.values()} <= set("fiuSUOT")
        names = found["parameter"].values
        assert {type(name) for name in names} <= {str, np.str_}


def test_no_module_unpickles_what_it_reads():
    unsafe = ("pickle.load(", "allow_pickle=True", "read_pickle", "marshal.load", "yaml.load(")
    for path in (ROOT / "pkpd").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not [word for word in unsafe if word in text], path


def test_tables_with_a_mark_are_frames_too(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbfID,TIME,AMT,DV,EVID\r\n1,0,100,.,1\r\n1,1,.,3.5,0\r\n")
    found = read_nonmem(path)
    wanted = read_nonmem(
        pd.DataFrame(
            {"ID": [1, 1], "TIME": [0, 1], "AMT": [100, 0], "DV": [0, 3.5], "EVID": [1, 0]}
        )
    )
    np.testing.assert_array_equal(found.observations.value, wanted.observations.value)
