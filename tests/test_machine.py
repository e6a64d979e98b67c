"""What this process may use."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from pkpd import machine


@pytest.fixture(autouse=True)
def _other_library():
    machine._c.cache_clear()
    yield
    machine._c.cache_clear()


def test_memory_is_given_back_where_the_c_library_can(monkeypatch):
    called = []
    library = SimpleNamespace(malloc_trim=called.append, mallopt=lambda *what: called.append(what))
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda _: library)
    machine.give_back_memory()
    machine.share_memory()
    assert called == [0, (-8, 1)]  # bytes that stay free; M_ARENA_MAX


@pytest.mark.parametrize("missing", [OSError, AttributeError, TypeError])
def test_another_c_library_keeps_its_memory(monkeypatch, missing):
    def none(_):
        raise missing

    monkeypatch.setattr(machine.ctypes, "CDLL", none)
    machine.give_back_memory()
    machine.share_memory()


@pytest.fixture
def grouped(tmp_path, monkeypatch):
    """A machine of 64 cores, whose control groups are files of a folder."""
    monkeypatch.setattr(machine, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(machine, "_OWN_GROUPS", tmp_path / "own")
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)

    def make(own: str, files: dict[str, str]) -> int:
        (tmp_path / "own").write_text(own)
        for name, text in files.items():
            file: Path = tmp_path / "groups" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return machine.cores()

    return make


@pytest.mark.parametrize(
    ("own", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2),  # one and a half
        ("0::/\n", {"cpu.max": "5000 100000\n"}, 1),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 64),
        ("0::/\n", {}, 64),
        # the narrowest of the groups around the process, and none beside it
        ("0::/jobs/7\n", {"jobs/cpu.max": "300000 100000", "jobs/7/cpu.max": "max 100000"}, 3),
        ("0::/jobs/7\n", {"jobs/8/cpu.max": "100000 100000"}, 64),
        # the first version: a tree for each kind, named by the container as from outside
        ("4:memory:/\n2:cpu,cpuacct:/docker/ab\n",
         {"cpu,cpuacct/cpu.cfs_quota_us": "400000\n", "cpu,cpuacct/cpu.cfs_period_us": "100000\n"},
         4),
        ("1:cpu:/\n0::/\n", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, 64),
        ("2:cpuset:/\n", {"cpu/cpu.cfs_quota_us": "100000", "cpu/cpu.cfs_period_us": "100000"}, 64),
        ("nonsense", {"cpu.max": "nonsense"}, 64),
        ("0::/\n", {"cpu.max": "12800000 100000\n"}, 64),  # no more than there are
    ],
)  # fmt: skip
def test_cores_are_no_more_than_the_time_of_a_container_is_worth(grouped, own, files, cores):
    assert grouped(own, files) == cores


def test_the_time_of_a_container_is_read_once(grouped, monkeypatch):
    """Fits ask at every step: the files of control groups are slow in a sandbox."""
    assert grouped("0::/\n", {"cpu.max": "200000 100000\n"}) == 2
    monkeypatch.setattr(machine, "_quota", lambda _: pytest.fail("read again"))
    assert machine.cores() == 2


def test_cores_are_those_the_process_is_bound_to_where_the_container_allows_more(
    grouped, monkeypatch
):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5}, raising=False)
    assert grouped("0::/\n", {"cpu.max": "200000 100000\n"}) == 1


def test_another_system_has_no_control_groups(grouped, monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "_OWN_GROUPS", tmp_path / "none")
    assert machine.cores() == 64
