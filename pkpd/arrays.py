"""Arrays as annotations name them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Integers32 = NDArray[np.int32]
