"""Comparisons on the workers of a scheduler: the same figures, and workers that are lost."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import nullcontext, suppress
from pathlib import Path

import numpy as np
import pytest
from scenarios import NUMBERS_OF_WORKERS, TWO_AMOUNTS
from typer.testing import CliRunner

import pkpd
from pkpd import cluster
from pkpd.cli import app
from pkpd.cluster import Workers, workers
from pkpd.errors import PkpdError

pytest.importorskip("distributed")

SHIPPED = Path(__file__).parents[2] / "models" / "evidence" / "posterior.nc"


@pytest.fixture(scope="module")
def scenario(tmp_path_factory):
    path = tmp_path_factory.mktemp("cluster") / "mine.toml"
    path.write_text(TWO_AMOUNTS)
    return path


def equal(one, other):
    """The same to the last bit: rows, pairs, curves."""
    for mine, theirs in zip(one.trials, other.trials, strict=True):
        assert repr(mine.rows) == repr(theirs.rows)
        assert repr(mine.pairs) == repr(theirs.pairs)
        for name in mine.curves:
            np.testing.assert_array_equal(mine.curves[name].values, theirs.curves[name].values)


@pytest.mark.long  # test_over_workers holds it for trials
@pytest.mark.parametrize("marrow", ["friberg", "leukaemia"])
def test_processes_give_the_figures_of_threads(scenario, marrow):
    size = {"patients": 40, "draws": 12, "marrow": marrow}
    if marrow == "leukaemia":
        size["posterior"] = SHIPPED
    alone = pkpd.compare(scenario, **size)
    for jobs in NUMBERS_OF_WORKERS:
        equal(pkpd.compare(scenario, cluster="local", jobs=jobs, **size), alone)


def square(x):
    return x * x


class Worker:
    """What a client of one worker, this process, does with plugins."""

    status = "running"

    def register_plugin(self, plugin, name):
        self.brought = name, plugin
        plugin.setup(None)

    def unregister_worker_plugin(self, name):
        assert name == self.brought[0]
        self.brought[1].teardown(None)


class Undisturbed(Worker):
    """A client whose blocks are all taken."""

    def as_current(self):
        return nullcontext()

    def cancel(self, futures):
        assert futures == []


class Finished:
    """A future whose value is there."""

    status = "finished"

    def __init__(self, value):
        self.result = lambda: value


@pytest.fixture
def one_item(monkeypatch):
    """Blocks of one item, however fast they are."""
    monkeypatch.setattr("pkpd.cluster._BLOCK_S", 0.0)


@pytest.mark.usefixtures("one_item")
def test_results_come_in_order_and_no_more_wait_than_twice_the_threads():
    class Future:
        status = "finished"

        def __init__(self, value):
            self.value = value

        def result(self):
            return self.value

    class Client(Worker):
        """Does a block when it is asked for the next that is done: the last one first."""

        def __init__(self):
            self.most = self.waiting = 0
            self.cancelled = []

        def nthreads(self):
            return {"a": 1, "b": 1}

        def as_current(self):
            return nullcontext()

        def submit(self, function, *words, pure):
            self.waiting += 1
            self.most = max(self.most, self.waiting)
            return Future(function(*words))

        def cancel(self, futures):
            self.cancelled = futures

    client = Client()

    def wait(futures, return_when):
        client.waiting -= 1
        return type("Found", (), {"done": futures[-1:]})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("distributed.wait", wait)
        assert list(Workers(client).in_turn(square, range(11))) == [x * x for x in range(11)]
        ready = list(Workers(client).as_done(square, range(11)))
    assert sorted(ready) == [x * x for x in range(11)]
    assert ready[0] == 9, "the fourth was ready first"
    assert client.most <= 4
    assert client.cancelled == []


@pytest.mark.parametrize("seconds", [1e-4, 0.2, 9.0])
def test_items_that_take_a_moment_travel_together(monkeypatch, seconds):
    """Blocks of half a second, few at the end; results in the order of the items."""

    class Client(Undisturbed):
        blocks = ()

        def nthreads(self):
            return {"a": 1, "b": 1}

        def submit(self, function, *words, pure):
            self.blocks = (*self.blocks, len(words[-1]))
            _, number, results = function(*words)
            assert number == len(words[-1])
            return Finished((seconds * number, number, results))

    client = Client()

    def wait(futures, return_when):
        return type("Found", (), {"done": futures[-1:]})

    monkeypatch.setattr("distributed.wait", wait)
    two = Workers(client)
    for known in (False, True):
        client.blocks = ()
        assert list(two.in_turn(square, range(120))) == [x * x for x in range(120)]
        assert sum(client.blocks) == 120
        size = {1e-4: 16, 0.2: 2, 9.0: 1}[seconds]
        assert max(client.blocks) == size
        assert client.blocks[0] == (size if known else 1)
        assert client.blocks[-1] <= max(size // 4, 1)
        assert len(client.blocks) <= 120 / size + 12


@pytest.mark.parametrize("way", ["in_turn", "as_done"])
def test_an_item_that_takes_long_does_not_hold_up_those_behind_it(monkeypatch, way):
    """The first are done in no time: a block of sixteen follows, of which each takes long."""

    class Client(Undisturbed):
        sent, done = (), ()

        def nthreads(self):
            return {"a": 1}

        def submit(self, function, *words, pure):
            value = function(*words)
            self.sent, self.done = (*self.sent, len(words[-1])), (*self.done, value[1])
            return Finished(value)

    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def of(x):
        now[0] += 0.0 if x < 4 else 0.4
        return x * x

    client = Client()

    def wait(futures, return_when):
        return type("Found", (), {"done": futures[:1]})

    monkeypatch.setattr("distributed.wait", wait)
    monkeypatch.setattr("cloudpickle.loads", lambda packed: of)
    monkeypatch.setattr("pkpd.cluster._made", {})
    found = list(getattr(Workers(client), way)(of, range(40)))
    assert sorted(found) == [x * x for x in range(40)]
    if way == "in_turn":
        assert found == sorted(found)
    assert max(client.sent) == 16
    assert max(n for n in client.done if n > 4) <= 6  # of which the first may be one of no time
    assert sum(client.done) == 40
    assert set(client.sent[-12:]) == {1}


@pytest.mark.usefixtures("one_item")
def test_workers_that_join_later_get_blocks(monkeypatch):
    class Future:
        status = "finished"

        def __init__(self, value):
            self.result = lambda: value

    class Client(Worker):
        """No worker at first; five when the first block is done."""

        def __init__(self):
            self.threads, self.most = {}, 0

        def nthreads(self):
            return self.threads

        def as_current(self):
            return nullcontext()

        def submit(self, function, *words, pure):
            return Future(function(*words))

        def cancel(self, futures):
            assert futures == []

    client = Client()

    def wait(futures, return_when):
        client.threads = dict.fromkeys("abcde", 1)
        client.most = max(client.most, len(futures))
        return type("Found", (), {"done": futures[:1]})

    monkeypatch.setattr("distributed.wait", wait)
    for way in (Workers(client).in_turn, Workers(client).as_done):
        client.threads, client.most = {}, 0
        assert list(way(square, range(30))) == [x * x for x in range(30)]
        assert client.most == 10


@pytest.mark.usefixtures("one_item")
def test_a_result_that_is_lost_with_its_worker_is_waited_for_again(monkeypatch):
    class Future:
        def __init__(self, value, states):
            self.value, self.states = value, states

        @property
        def status(self):
            return self.states[0]

        def result(self):
            return self.value

    class Client(Worker):
        """The third block is done, lost with its worker, and done again."""

        def nthreads(self):
            return {"a": 2}

        def as_current(self):
            return nullcontext()

        def submit(self, function, *words, pure):
            states = ["lost", "pending", "finished"] if list(words[-1]) == [2] else ["finished"]
            return Future(function(*words), states)

        def cancel(self, futures):
            assert futures == []

    asked = []

    def wait(futures, return_when):
        asked.append([pickle.loads(future.value[2])[0] for future in futures])
        for future in futures:
            if len(future.states) > 1 and len(asked) > 1:
                future.states.pop(0)
        return type("Found", (), {"done": list(futures)})

    monkeypatch.setattr("distributed.wait", wait)
    assert list(Workers(Client()).in_turn(square, range(6))) == [x * x for x in range(6)]
    assert not cluster._brought  # nothing of it stays with the workers
    assert [4 in values for values in asked] == [True, True, True]
    assert all(value not in values for value in (0, 1, 9) for values in asked[1:])


def test_a_worker_with_another_version_is_refused(monkeypatch):
    monkeypatch.setattr("pkpd.cluster._made", {})
    with pytest.raises(PkpdError, match=r"its pkpd has another source .*install the same version"):
        cluster._do("plugin", "key", "0" * 16, [1])


def test_without_dask_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "dask", None)
    told = r"in a checkout of pkpd run pip install '\.\[cluster\]'"
    with pytest.raises(PkpdError, match=told), workers("local", 1):
        pass


def test_no_scheduler_at_an_address_is_a_sentence(monkeypatch):
    monkeypatch.setattr("pkpd.cluster._PATIENCE_S", 1)
    for address in ("tcp://127.0.0.1:9", "nowhere at all"):
        with pytest.raises(PkpdError, match="no Dask scheduler answers there"), workers(address, 1):
            pass
    with workers(None, 2) as none:
        assert none is None


WORKERS = """
import os, sys, time
from pathlib import Path
from pkpd.cluster import workers
from pkpd.errors import PkpdError
folder = Path(sys.argv[1])

def block(x):
    import os, time
    from pathlib import Path
    (Path(folder) / f"{x}-{os.getpid()}-{time.time_ns()}").touch()
    if x == 3 and len(list(Path(folder).glob("3-*"))) == 1:
        time.sleep(300)  # whoever begins this block first is killed in it
    if x == 99:
        raise PkpdError("block: 99 is no number.")
    return x * x

if __name__ == "__main__":
    with workers("local", 2) as two:
        print(list(two.in_turn(block, range(12))), flush=True)
        try:
            list(two.in_turn(block, [1, 99]))
        except PkpdError as error:
            print(error, flush=True)
"""


@pytest.mark.slow
def test_a_killed_worker_loses_one_block(tmp_path):
    script, seen = tmp_path / "run.py", tmp_path / "seen"
    script.write_text(WORKERS)
    seen.mkdir()
    killed = []

    def kill():
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline:
            begun = list(seen.glob("3-*"))
            if begun:
                killed.append(begun[0].name.split("-")[1])
                os.kill(int(killed[0]), signal.SIGKILL)
                return
            time.sleep(0.02)

    thread = threading.Thread(target=kill)
    thread.start()
    done = subprocess.run(
        [sys.executable, str(script), str(seen)], capture_output=True, text=True, timeout=400
    )
    thread.join()
    assert killed
    lines = [line for line in done.stdout.splitlines() if line.startswith(("[", "block"))]
    assert lines == [str([x * x for x in range(12)]), "block: 99 is no number."], done.stderr
    begun = [path.name.split("-")[:2] for path in seen.iterdir()]
    times = Counter(int(x) for x, _ in begun)
    assert set(times) == {*range(12), 99}
    times[1] -= 1  # the second list has it, too
    assert times[3] == 2
    # a result that had not yet travelled when its worker ended is done again; nothing else is
    lost = {int(x) for x, process in begun if process == killed[0]}
    assert {x for x in range(12) if times[x] > 1} <= lost
    assert max(times.values()) == 2


def test_the_command_names_a_cluster(scenario, tmp_path):
    words = ["compare", str(scenario), "--out", str(tmp_path), "--cluster", "nowhere at all"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2
    assert "cluster nowhere at all: no Dask scheduler answers there" in done.stderr


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_workers_of_this_machine_need_no_port_of_their_own():
    # another run, or another program, holds the port that Dask would take
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with suppress(OSError):
            held.bind(("0.0.0.0", 8787))
            held.listen()
        with workers("local", 1) as one, workers("local", 1) as other:
            assert one is not None
            assert other is not None
            assert one.threads == other.threads == 1


@pytest.mark.parametrize("error", [None, ValueError("of the work")])
def test_what_dask_warns_of_at_the_end_alone_is_left_out(monkeypatch, error):
    log = logging.getLogger("distributed.nanny")

    class Dask:
        status = "closed"

        def __init__(self, *words, **settings):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *words):
            log.warning("Worker process still alive after 4.0 seconds, killing")
            log.error("odd")

    for name in ("LocalCluster", "Client"):
        monkeypatch.setattr(f"distributed.{name}", Dask)
    told, parent = [], logging.getLogger("distributed")
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: told.append(record.getMessage()))
    monkeypatch.setattr(parent, "handlers", [handler])
    before = parent.level
    refused = nullcontext() if error is None else pytest.raises(ValueError, match="of the work")
    with refused, workers("local", 2):
        log.warning("in the work")
        if error is not None:
            raise error
    assert told == ["in the work", "odd", "odd"]
    assert parent.level == before
