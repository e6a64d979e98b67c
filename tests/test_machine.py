"""What this process may use."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pkpd import machine


@pytest.fixture(autouse=True)
def _other_library():
    machine._trim.cache_clear()
    yield
    machine._trim.cache_clear()


def test_memory_is_given_back_where_the_c_library_can(monkeypatch):
    kept = []
    monkeypatch.setattr(machine.ctypes, "CDLL", lambda _: SimpleNamespace(malloc_trim=kept.append))
    machine.give_back_memory()
    assert kept == [0]  # bytes that stay free


@pytest.mark.parametrize("missing", [OSError, AttributeError, TypeError])
def test_another_c_library_keeps_its_memory(monkeypatch, missing):
    def none(_):
        raise missing

    monkeypatch.setattr(machine.ctypes, "CDLL", none)
    machine.give_back_memory()
