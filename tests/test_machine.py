"""What this process may use."""

from __future__ import annotations

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
