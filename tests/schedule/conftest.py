import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parents[1]))  # strategies.py

# no deadline: a busy machine is not a failure
settings.register_profile("dosing", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("dosing")
