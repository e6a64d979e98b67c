"""What is written is there whole or not at all: killed writers, full disks, two at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from pkpd.errors import PkpdError
from pkpd.files import (
    frame_text,
    netcdf_bytes,
    read_netcdf,
    settle,
    table_cell,
    together,
    unguarded,
    whole,
    write_bytes,
    write_netcdf,
    write_text,
)
from pkpd.report.comparison import tables

SCRIPT = Path(__file__).with_name("faulty_writes.py")


def told(how, folder):
    done = subprocess.run(
        [sys.executable, str(SCRIPT), how, str(folder)], capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], done.stderr


SMALL = """
import json, os, shutil, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from faulty_steps import ended_before, in_child
from pkpd.files import settle, together

def listed(folder):
    record = folder / "record"
    return set(record.read_text().split()) if record.exists() else set()

def write(folder, text, names):
    with together(folder, last="record", earlier=listed) as stage:
        for name in names:
            (stage / name).parent.mkdir(exist_ok=True)
            (stage / name).write_text(text)
        (stage / "record").write_text(" ".join(names))

def state(folder):
    if not (folder / "record").exists():
        return None
    files = [p for p in folder.rglob("*") if p.is_file()]
    names = [p.relative_to(folder).as_posix() for p in files]
    found = {{n: p.read_text() for n, p in zip(names, files) if not n.startswith(".")}}
    assert listed(folder) | {{"record", "mine"}} == set(found), found
    (text,) = {{found[name] for name in listed(folder)}}
    return text

folder = Path({folder!r})
for n in range(200):
    shutil.rmtree(folder, ignore_errors=True)
    write(folder, "old", ["a", "b", "sub/c"])
    (folder / "mine").write_text("mine")
    def work():
        ended_before(n)
        write(folder, "new", ["a", "d", "sub/e"])
    status = in_child(work)
    before = state(folder)
    settle(folder, last="record", earlier=listed)
    hidden = [p.name for p in folder.iterdir() if p.name.startswith(".")]
    print(json.dumps([status, before, state(folder), hidden, (folder / "mine").exists()]))
    if status == 0:
        break
"""


def test_a_run_killed_at_any_step_leaves_the_earlier_files_or_the_new(tmp_path):
    code = SMALL.format(tests=str(SCRIPT.parent), folder=str(tmp_path / "out"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) > 15
    assert [one[0] for one in found] == [-signal.SIGKILL] * (len(found) - 1) + [0]
    assert {(before, after) for _, before, after, _, _ in found} == {
        ("old", "old"),  # killed before the run was complete
        ("old", "new"),  # killed before the first file was moved
        (None, "new"),  # killed between: no record tells of a complete run
        ("new", "new"),
    }
    assert all(one[3] == [] and one[4] for one in found)


@pytest.mark.long  # the test above ends what it is written by
def test_a_comparison_killed_at_any_step_leaves_the_earlier_results_or_the_new(tmp_path):
    found, _ = told("killed", tmp_path / "out")
    assert len(found) > 25
    assert [one["status"] for one in found] == [-signal.SIGKILL] * (len(found) - 1) + [0]
    seen = set()
    for one in found:
        before, after = one["before"], one["after"]
        if before["trials"] is None:  # half moved: the rest waits beside
            assert any(name.startswith(".finished-") for name in before["hidden"])
            assert after["trials"] == 1
        elif before["trials"] == 2:
            assert before["sound"], "the earlier results were touched"
        assert after["sound"]
        assert after["hidden"] == []
        seen.add((before["trials"], after["trials"]))
    assert {(2, 2), (None, 1), (1, 1)} <= seen
    assert seen <= {(2, 2), (2, 1), (None, 1), (1, 1)}


@pytest.mark.long  # as of the comparison
def test_a_search_killed_at_any_step_leaves_the_earlier_result_or_the_new(tmp_path):
    found, _ = told("search", tmp_path / "out")
    assert len(found) > 15
    assert [one["status"] for one in found] == [-signal.SIGKILL] * (len(found) - 1) + [0]
    seen = [(one["before"], one["after"]) for one in found]
    assert all(one["hidden"] == [] for one in found)
    assert {tuple(after) for _, after in seen} == {(1, 1, 1), (2, 2, 2)}
    # half moved: without search.nc, which tells of a complete run
    assert all(before[0] is None or len(set(before)) == 1 for before, _ in seen)


@pytest.mark.slow
def test_a_full_disk_leaves_the_earlier_results(tmp_path):
    found, errors = told("full", tmp_path / "out")
    assert len(found) == 3
    for one in found:
        assert one["status"] == 2, errors
        assert one["before"] == {"trials": 2, "sound": True, "hidden": []}
    assert errors.count("cannot be written (File too large); name a place that exists") == 3


@pytest.mark.long  # two writers are below, of a file and of parts
def test_two_processes_in_one_folder_leave_the_results_of_one(tmp_path):
    found, errors = told("two", tmp_path / "out")
    assert len(found) == 4
    for one in found:
        assert one["statuses"] == [0, 0], errors
        assert one["before"]["sound"]
        assert one["before"]["hidden"] == []


def test_partial_results_leave_what_another_process_is_writing(tmp_path):
    others = {".results.partial.csv.elsewhere-1-0.tmp", "mine.partial.csv", "results.partial.txt"}
    stale = {"pairs.partial.csv", "sensitivity.partial.csv", "curves_a.b-1.partial.nc"}
    for name in others | stale:
        (tmp_path / name).touch()
    tables.write_partial(tmp_path, [])
    assert {p.name for p in tmp_path.iterdir()} == others | {"results.partial.csv"}
    tables.remove_partial(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == others


def test_a_folder_that_another_process_makes_meanwhile_is_no_error(tmp_path, monkeypatch):
    folder = tmp_path / "a" / "out"
    exists, looks = Path.exists, []

    def made_after_the_second_look(path):
        found = exists(path)
        looks.append(path)
        if looks.count(folder) == 2:
            folder.mkdir(parents=True, exist_ok=True)
        return found

    monkeypatch.setattr(Path, "exists", made_after_the_second_look)
    tables.check_writable(folder)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "out"]


def test_a_destination_is_tried_before_the_work(tmp_path):
    tables.check_writable(tmp_path / "a" / "b")
    assert os.listdir(tmp_path) == []
    with pytest.raises(PkpdError, match=r"the folder cannot be made \(File name too long\)"):
        tables.check_writable(tmp_path / "a" / ("b" * 300))
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("size", [10, 2_000_000])
def test_netcdf_on_a_full_disk_is_a_sentence_and_no_crash(tmp_path, size):
    code = f"""
import resource, signal, sys
import numpy as np, xarray as xr
from pkpd.errors import PkpdError
from pkpd.files import write_netcdf
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    write_netcdf({str(tmp_path / "a.nc")!r}, xr.Dataset({{"a": ("x", np.arange({size}.0))}}))
except PkpdError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "a.nc: cannot be written (File too large)" in done.stdout
    assert os.listdir(tmp_path) == []


def test_a_device_without_room_is_a_sentence():
    with pytest.raises(PkpdError, match=r"/dev/full: cannot be written \(No space left"):
        write_text("/dev/full", "x" * 100_000)


def test_a_failed_write_keeps_the_old_file(tmp_path):
    target = tmp_path / "a.csv"
    target.write_text("old")

    def write_half():
        with whole(target) as path:
            path.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_half()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.csv"]


def test_what_a_killed_writer_left_goes_and_what_a_living_one_writes_stays(tmp_path):
    target = tmp_path / "a.txt"
    code = f"""
import os, signal
from pkpd.files import whole
with whole({str(target)!r}) as path:
    path.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], check=False)
    assert [p.name.endswith(".tmp") for p in tmp_path.iterdir()] == [True]
    with whole(target) as path:
        path.write_text("first")
        write_text(target, "second")  # another writer meanwhile
        assert path.exists()
    assert os.listdir(tmp_path) == ["a.txt"]
    assert target.read_text() == "first"


def test_threads_that_write_one_file_leave_one_of_their_texts(tmp_path):
    target = tmp_path / "a.txt"
    texts = [f"{k}" * 50_000 for k in range(8)]
    threads = [threading.Thread(target=write_text, args=(target, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_text() in texts
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_link_is_followed_or_replaced(tmp_path):
    real, link = tmp_path / "real.txt", tmp_path / "link.txt"
    real.write_text("old")
    link.symlink_to(real)
    write_text(link, "new")
    assert (link.is_symlink(), real.read_text()) == (True, "new")
    with whole(link, follow=False) as path:
        path.write_text("own")
    assert (link.is_symlink(), real.read_text(), link.read_text()) == (False, "new", "own")


def test_no_file_of_a_run_leaves_its_folder_by_a_link(tmp_path):
    outside, out = tmp_path / "outside", tmp_path / "out"
    outside.mkdir()
    out.mkdir()
    (out / "figures").symlink_to(outside)

    def write():
        with together(out) as stage:
            (stage / "figures").mkdir()
            (stage / "figures" / "a.svg").write_text("x")

    with pytest.raises(PkpdError, match=r"figures/a\.svg would be written outside this folder"):
        write()
    assert os.listdir(outside) == []
    assert os.listdir(out) == ["figures"]


def test_a_planted_list_removes_nothing_outside(tmp_path):
    precious = tmp_path / "precious.txt"
    precious.write_text("keep")
    planted = tmp_path / "out" / ".finished-000001-elsewhere"
    planted.mkdir(parents=True)
    (planted / "a.txt").write_text("a")
    for text, words in (('["../precious.txt"]', "outside this folder"), ("{", "is no list")):
        (planted / ".removed.json").write_text(text)
        with pytest.raises(PkpdError, match=words):
            settle(tmp_path / "out")
        assert precious.exists()


def test_a_failed_run_leaves_the_folder_as_it_was(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")

    def write():
        with together(tmp_path) as stage:
            (stage / "a.txt").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write()
    assert os.listdir(tmp_path) == ["mine.txt"]


def test_groups_made_in_memory_read_back(tmp_path):
    groups = {
        name: xr.Dataset({"a": (("chain", "draw"), np.random.default_rng(n).normal(size=(2, 5)))})
        for n, name in enumerate(("posterior", "sample_stats"))
    }
    write_bytes(tmp_path / "a.nc", netcdf_bytes(groups))
    for name, data in groups.items():
        with xr.open_dataset(tmp_path / "a.nc", group=name, engine="h5netcdf") as found:
            xr.testing.assert_identical(found.load(), data)
    write_netcdf(tmp_path / "b.nc", groups["posterior"])
    with xr.open_dataset(tmp_path / "b.nc", engine="h5netcdf") as found:
        xr.testing.assert_identical(found.load(), groups["posterior"])


FORMULAS = ("=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''@x")


@pytest.mark.parametrize("text", [*FORMULAS, "a", "", "'tis", "1-14", "<0.1", "-3.5", "-inf"])
def test_guarded_text_reads_back_and_is_no_formula(text):
    cell = table_cell(text)
    assert unguarded(cell) == text
    assert cell[:1] not in "=+@\t\r" or not cell
    if cell.startswith("-"):
        float(cell)  # a number is left alone


def test_texts_of_tables_are_guarded_and_numbers_are_not():
    frame = pd.DataFrame({"=name": ["=1+1", "b"], "x": [-1.5, 2.0], "kind": ["@a", None]})
    assert frame_text(frame) == "'=name,x,kind\n'=1+1,-1.5,'@a\nb,2.0,\n"


def test_a_damaged_netcdf_is_refused_before_its_library_reads_it(tmp_path):
    path = tmp_path / "a.nc"
    write_netcdf(path, xr.Dataset({"x": ("t", [1.0, 2.0])}, attrs={"about": "text " * 200}))
    assert read_netcdf(path)["x"].values.tolist() == [1.0, 2.0]
    with xr.open_dataset(path, engine="h5netcdf") as others:  # the seal is no matter to others
        assert others["x"].values.tolist() == [1.0, 2.0]
    data = path.read_bytes()
    for place in (20, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        with pytest.raises(PkpdError, match=r"a\.nc: the file is not as it was written; copy"):
            read_netcdf(path)
