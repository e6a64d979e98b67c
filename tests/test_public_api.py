"""What `import pkpd` offers, and what it must not pull in."""

from __future__ import annotations

import subprocess
import sys
from types import ModuleType

import pytest

import pkpd

SLOW = {"pymc", "pytensor", "arviz", "matplotlib", "jax", "equinox", "diffrax", "pandas", "xarray",
        "scipy", "numba", "rich"}  # fmt: skip


def modules_after(code):
    """Names of the modules that a fresh interpreter holds after running the code."""
    code = f"{code}\nimport sys\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_is_light():
    assert not SLOW & modules_after("import pkpd")


def test_schedules_cards_and_patients_need_no_jax():
    code = """
import pkpd
pkpd.load_trial("nct01681537_len_mec"), pkpd.load_rule("len_mec_2018")
pkpd.sample_population(pkpd.load_population("rr_aml"), 2, 1)
pkpd.daily("clofarabine", "5 mg/m^2", days="1-5", route="iv", duration="1 h")
"""
    found = modules_after(code)
    assert not {"jax", "pymc", "arviz", "matplotlib", "pandas"} & found


def test_a_simulation_pulls_in_neither_pymc_nor_plotting():
    found = modules_after("import pkpd\npkpd.compare, pkpd.simulate")
    assert "jax" in found
    assert not {"pymc", "pytensor", "arviz", "matplotlib"} & found


@pytest.mark.parametrize("name", pkpd.__all__)
def test_every_name_resolves_and_is_documented(name):
    value = getattr(pkpd, name)
    if name != "__version__":
        assert value.__doc__
        home = value.__name__ if isinstance(value, ModuleType) else value.__module__
        assert home.startswith("pkpd.")
    assert name in dir(pkpd)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'comparee'"):
        pkpd.comparee  # noqa: B018
