"""Write a comparison in children that end, or fail, at each step; tell what each left as JSON.

``python faulty_writes.py killed FOLDER`` ends the n-th child before its n-th change to the file
system; ``full`` lets files grow to few bytes only; ``two`` writes two comparisons at once;
``search`` is ``killed`` of a search.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import xarray as xr
from matplotlib import pyplot as plt

sys.path.insert(0, str(Path(__file__).parents[1] / "report"))

import synthetic
from faulty_steps import ended_before, in_child

from pkpd.files import read_netcdf, settle
from pkpd.report.comparison import tables
from pkpd.search.result import SearchResult

OLD = synthetic.make_result((1, 1))
NEW = synthetic.make_result((1,))


def state(folder):
    """Tell which comparison a folder holds: its seed, whether all its files are those listed."""
    record = folder / "results.json"
    hidden = sorted(p.name for p in folder.iterdir() if p.name.startswith("."))
    if not record.exists():
        return {"trials": None, "sound": False, "hidden": hidden}
    told = json.loads(record.read_text(encoding="utf-8"))
    found = {
        p.relative_to(folder).as_posix()
        for p in folder.rglob("*")
        if p.is_file() and not p.relative_to(folder).as_posix().startswith(".")
    }
    sound = found == {*told["files"], "results.json"} and all(
        hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
        for name, digest in told["files"].items()
    )
    return {"trials": len(told["trials"]), "sound": sound, "hidden": hidden}


def killed(folder):
    """Kill at every step, and look before and after the next process comes by."""
    earlier = folder.with_name("earlier")
    tables.write_results(OLD, earlier, figures=False)
    for n in range(400):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(earlier, folder)

        def work(n=n):
            ended_before(n)
            tables.write_results(NEW, folder, figures=False)

        status = in_child(work)
        before = state(folder)
        tables.check_writable(folder)
        yield {"status": status, "before": before, "after": state(folder)}
        if status == 0:
            return


def search(folder):
    """Kill a search at every step of its writing, and look before and after the next one begins."""

    def save(seed):
        table = pd.DataFrame({"seed": [seed]})
        of = SimpleNamespace(
            dataset=xr.Dataset({"seed": seed}), table=lambda: table, differences=lambda: table,
            plot=plt.figure,
        )  # fmt: skip
        SearchResult.save(of, folder)

    def seeds():
        read = {"search.nc": lambda p: int(read_netcdf(p)["seed"])}
        found = {
            p.name: read.get(p.name, lambda q: int(pd.read_csv(q)["seed"].iloc[0]))(p)
            for p in folder.iterdir()
            if not p.name.startswith(".") and p.suffix != ".svg"
        }
        return [found.get(n) for n in ("search.nc", "schedules.csv", "differences.csv")]

    for n in range(400):
        shutil.rmtree(folder, ignore_errors=True)
        save(1)

        def work(n=n):
            ended_before(n)
            save(2)

        status = in_child(work)
        before = seeds()
        settle(folder, last="search.nc")
        hidden = [p.name for p in folder.iterdir() if p.name.startswith(".")]
        yield {"status": status, "before": before, "after": seeds(), "hidden": hidden}
        if status == 0:
            return


def full(folder):
    """Let no file grow beyond some bytes."""
    tables.write_results(OLD, folder, figures=False)
    for room in (0, 3_000, 20_000):

        def work(room=room):
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
            tables.write_results(NEW, folder, figures=False)

        yield {"room": room, "status": in_child(work), "before": state(folder)}


def two(folder):
    """Two processes write to one folder at once, again and again, and to one that is not there."""
    for absent in (False, False, True, True):
        if absent:
            shutil.rmtree(folder)
        children = []
        for result in (OLD, NEW):
            child = os.fork()
            if child == 0:
                try:
                    for _ in range(2):
                        tables.write_partial(folder, result.trials[0].rows)
                        tables.write_results(result, folder, figures=False)
                except BaseException as error:
                    sys.stderr.write(f"{error!r}\n")
                    os._exit(9)
                os._exit(0)
            children.append(child)
        statuses = [os.WEXITSTATUS(os.waitpid(child, 0)[1]) for child in children]
        tables.remove_partial(folder)
        yield {"statuses": statuses, "before": state(folder)}


if __name__ == "__main__":
    how = {"killed": killed, "full": full, "two": two, "search": search}[sys.argv[1]]
    for told in how(Path(sys.argv[2])):
        print(json.dumps(told))
