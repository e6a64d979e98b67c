"""Functions linked once give what Numba's own way of linking gives."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from pkpd.solve.bridge import linking


def _kernel(version):
    """Make a kernel whose parts share a part, and one of which allocates."""
    kernel, inner = linking._decorators(version)

    @inner
    def shared(x):
        return np.exp(-x)

    @inner
    def left(x):
        return 2.0 * shared(x)

    @inner
    def right(x):
        work = np.empty(3)
        work[:] = shared(x)
        return left(x) - work.sum()

    @kernel(cache=False)
    def run(xs, out):
        for i in range(xs.size):
            out[i] = left(xs[i]) * right(xs[i]) + shared(xs[i])

    return run, (shared, left, right)


@pytest.mark.parametrize("version", [(0, 62, 0), numba.version_info])
def test_parts_that_call_one_another_are_linked_into_the_kernel(version):
    run, _ = _kernel(version)
    xs = np.linspace(0.1, 2.0, 7)
    out = np.empty_like(xs)
    run(xs, out)
    e = np.exp(-xs)
    # left is 2 e, right 2 e - 3 e
    np.testing.assert_allclose(out, 2 * e * -e + e, rtol=1e-14)


def test_parts_are_not_made_machine_code():
    if numba.version_info[:2] not in linking._TRIED:
        pytest.skip("this version of Numba links in its own way")
    run, parts = _kernel(numba.version_info)
    run(np.ones(2), np.empty(2))
    for part in parts:
        (compiled,) = part.overloads.values()
        assert not compiled.library._finalized
    (whole,) = run.overloads.values()
    assert whole.library._finalized
