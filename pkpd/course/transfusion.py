"""Prophylactic platelet transfusion: trigger, increment, decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pkpd.errors import PkpdError

TRIGGER = 10.0
"""Platelets (10^9/L) below which a patient is transfused: PLADO (Slichter 2010, N Engl J Med
362:600), morning count."""


@dataclass(frozen=True)
class TransfusionPolicy:
    """When platelets are transfused and what becomes of them.

    Each morning a patient whose platelet count (own and transfused) is below ``trigger`` receives
    one transfusion, which raises the count at once by the patient's increment; transfused platelets
    are lost exponentially. Transfused platelets never count towards recovery.

    Attributes
    ----------
    trigger
        10^9/L.
    increment, increment_sd
        Mean and between-patient standard deviation of the rise, 10^9/L. 24.9 at one hour: TRAP
        (Blood 2005;105:4106); the SD of 12 is assumed.
    half_life_h
        Of transfused platelets. 20 h follows from 24.9 at 1 h and 12.0 at about 21 h in the same
        trial (derived); healthy platelets live longer.
    """

    trigger: float = TRIGGER
    increment: float = 24.9
    increment_sd: float = 12.0
    half_life_h: float = 20.0

    def __post_init__(self) -> None:
        """Refuse values without meaning."""
        for name in ("trigger", "increment", "increment_sd", "half_life_h"):
            value, none = getattr(self, name), name == "increment_sd"
            if not (np.isfinite(value) and (value > 0 or (none and value == 0))):
                raise PkpdError(
                    where="transfusion policy",
                    what=f"{name} = {value}",
                    allowed="0 or a number above it" if none else "a number above 0",
                )

    def needed(self, platelets: Any) -> Any:
        """Whether a morning's platelet count (10^9/L, own and transfused) calls for one."""
        return platelets < self.trigger

    @property
    def loss_per_hour(self) -> float:
        """Rate of loss of transfused platelets, 1/h."""
        return float(np.log(2.0) / self.half_life_h)

    def individual_increment(self, score: np.ndarray) -> np.ndarray:
        """Increment of each patient from normal scores, never below a fifth of the mean."""
        return np.maximum(self.increment + self.increment_sd * score, 0.2 * self.increment)
