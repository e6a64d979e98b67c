from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pkpd.leukaemia.parameters import default_theta

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def theta():
    return default_theta()
