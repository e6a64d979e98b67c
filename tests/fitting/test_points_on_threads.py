"""Points of a subject's density on threads: order, the first call alone, and who may not."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from pkpd import machine
from pkpd.fitting.maximum import conditional
from pkpd.fitting.maximum.conditional import ConditionalDensity


def density(monkeypatch, *, concurrent=True, threads=2):
    monkeypatch.setattr(conditional, "threads", lambda: threads)
    predictor = SimpleNamespace(concurrent=concurrent) if concurrent else SimpleNamespace()
    return ConditionalDensity(SimpleNamespace(predictor=predictor))


def test_the_first_call_is_made_alone_and_others_side_by_side(monkeypatch):
    both, began = threading.Barrier(2), []

    def call(point):
        began.append(point)
        if point:  # passes only when two wait here at once; the first would wait for ever
            both.wait(timeout=20)
        return -point

    assert density(monkeypatch).each("program", call, [0, 1, 2, 3, 4]) == [0, -1, -2, -3, -4]
    assert began[0] == 0


@pytest.mark.parametrize(("concurrent", "threads"), [(False, 2), (True, 1)])
def test_calls_stay_in_this_thread_where_they_must(monkeypatch, concurrent, threads):
    own = density(monkeypatch, concurrent=concurrent, threads=threads)
    here = {threading.get_ident()}
    assert set(own.each("program", lambda _: threading.get_ident(), range(4))) == here


def test_an_error_on_a_thread_is_raised(monkeypatch):
    own = density(monkeypatch)
    with pytest.raises(ZeroDivisionError):
        own.each("program", lambda point: 1 / point, [1, 2, 0, 3])


@pytest.mark.parametrize(
    ("given", "allowed"), [("1", 1), ("2", 2), ("64", 4), ("", 4), ("0", 4), ("many", 4)]
)
def test_threads_are_those_of_numba_or_the_cores(monkeypatch, given, allowed):
    monkeypatch.setattr(machine, "cores", lambda: 4)
    monkeypatch.setenv("NUMBA_NUM_THREADS", given)
    assert machine.threads() == allowed
