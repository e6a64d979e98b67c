"""JAX in double precision: imported by every module that uses JAX, before anything is traced.

Counts after chemotherapy span four powers of ten and a course is followed for months, so single
precision would lose the nadir. JAX computes in float32 unless told otherwise before the first
array is made.
"""

from __future__ import annotations

import os

WITHOUT_JAX = "PKPD_KERNELS_WITHOUT_JAX"
"""Set in the environment of a process that only compiles kernels: JAX takes a second to load."""

if WITHOUT_JAX not in os.environ:
    import jax

    jax.config.update("jax_enable_x64", True)
