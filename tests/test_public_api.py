"""What `import pkpd` offers, and what it must not pull in."""

from __future__ import annotations

import importlib
import subprocess
import sys
from types import ModuleType

import pytest

import pkpd

SLOW = {"pymc", "pytensor", "arviz", "matplotlib", "jax", "equinox", "diffrax", "pandas", "xarray",
        "scipy", "numba", "numpy", "rich"}  # fmt: skip
MODULES = sorted(name for name in pkpd.__all__ if isinstance(getattr(pkpd, name), ModuleType))


def modules_after(code):
    """Names of the modules that a fresh interpreter holds after running the code."""
    code = f"{code}\nimport sys\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def public_names(module):
    """Public names of a module: those it lists, or else those it defines."""
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return list(listed)
    found = {n: v for n, v in vars(module).items() if not n.startswith("_")}
    return [n for n, v in found.items() if getattr(v, "__module__", None) == module.__name__]


def test_import_is_light():
    assert not SLOW & modules_after("import pkpd")


def test_schedules_cards_and_patients_need_no_jax():
    code = """
import pkpd
pkpd.load_trial("nct01681537_len_mec"), pkpd.cards.load_rule("len_mec_2018")
pkpd.subjects.sample_population(pkpd.cards.load_population("rr_aml"), 2, 1)
pkpd.daily("clofarabine", "5 mg/m^2", days="1-5", route="iv", duration="1 h")
pkpd.evidence, pkpd.endpoints, pkpd.report, pkpd.trials, pkpd.data, pkpd.errors
from pathlib import Path
from pkpd.explorer.choices import choices  # of the explorer's controls, before any picture
choices(Path.cwd())
"""
    found = modules_after(code)
    assert not {"jax", "pymc", "arviz", "matplotlib", "pandas"} & found


def test_a_simulation_pulls_in_neither_pymc_nor_plotting():
    found = modules_after("import pkpd\npkpd.compare, pkpd.simulate, pkpd.models.PopulationModel")
    assert "jax" in found
    assert not {"pymc", "pytensor", "arviz", "matplotlib"} & found


def test_few_names_are_at_the_top():
    assert len(set(pkpd.__all__) - set(MODULES) - {"__version__"}) <= 21


def test_the_docstring_names_every_public_module():
    assert [name for name in MODULES if f"`pkpd.{name}`" not in pkpd.__doc__] == []


@pytest.mark.parametrize("name", ["pkpd", *(f"pkpd.{name}" for name in MODULES)])
def test_every_name_resolves_and_is_documented(name):
    module = importlib.import_module(name)
    assert module.__doc__
    assert public_names(module)
    for public in public_names(module):
        value = getattr(module, public)
        assert public in dir(module) or public == "__version__"
        if callable(value):
            assert value.__doc__, f"{name}.{public}"
            assert value.__module__.startswith("pkpd."), f"{name}.{public}"


def test_a_name_has_one_home_beside_the_top():
    homes = {}
    for name in MODULES:
        module = importlib.import_module(f"pkpd.{name}")
        for public in public_names(module):
            value = getattr(module, public)
            if isinstance(value, type) or callable(value):
                homes.setdefault(id(value), set()).add(f"{name}.{public}")
    assert [several for several in homes.values() if len(several) > 1] == []


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="comparee"):
        pkpd.comparee  # noqa: B018
