"""A compilation cache that outlives the process, in the user's cache folder."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

import jax

import pkpd.float64  # noqa: F401  (before anything is traced)
from pkpd.machine import cache_home


def folder() -> Path:
    """Return the folder of the cache: ``$XDG_CACHE_HOME/pkpd/jax``, or below ``~/.cache``."""
    return cache_home() / "jax"


@lru_cache(maxsize=1)
def keep_compilations() -> bool:
    """Let JAX keep what it compiles; a folder that the user or JAX has set is left as it is.

    Returns
    -------
    bool
        Whether this package's folder is in use.
    """
    if getattr(jax.config, "jax_compilation_cache_dir", None) is not None:
        return False
    try:
        folder().mkdir(parents=True, exist_ok=True)
        usable = os.access(folder(), os.W_OK)
    except (OSError, RuntimeError):
        usable = False
    if usable:
        jax.config.update("jax_compilation_cache_dir", str(folder()))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    return usable
