"""A small schedule file, and a server of the explorer to ask."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest

DATA = {
    "title": "Two doses",
    "population": "rr_aml",
    "rule": "leukemia_d42_generic",
    "horizon_days": 60,
    "dose": {
        "clofarabine": {
            "amount": "20 mg/m^2",
            "days": "1-5",
            "route": "iv",
            "duration": "1 h",
        }
    },
    "course": {"induction": {"doses": ["clofarabine"], "cycle_days": 28}},
    "cohort": [
        {"id": "low", "label": "20 mg/m2"},
        {
            "id": "high",
            "label": "40 mg/m2",
            "change": {"clofarabine": {"amount": "40 mg/m^2"}},
            "published": [
                {
                    "endpoint": "dlt_delayed_recovery",
                    "numerator": 2,
                    "denominator": 6,
                    "source": "made up for this test",
                    "status": "assumed",
                }
            ],
        },
    ],
}
SIZE = {"patients": 8, "draws": 3}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """First answers of a test and its Sobol points, which no other test has left."""
    for module in ("explorer.first_answers", "sobol"):
        monkeypatch.setattr(f"pkpd.{module}.cache_home", lambda: tmp_path / "cache")
    return tmp_path / "cache" / "explorer"


@pytest.fixture
def data():
    return copy.deepcopy(DATA)


@pytest.fixture
def document(data):
    return {"data": data, **SIZE}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    inside = tmp_path / "work"
    inside.mkdir()
    return inside
