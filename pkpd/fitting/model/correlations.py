"""Blocks of correlated random effects, and the names of their partial correlations."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from pkpd.cards.files import nearest_of
from pkpd.errors import PkpdError
from pkpd.fitting.model.priors import Estimate, estimate


def partial_names(blocks: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Names of the partial correlations of blocks, block by block, row by row."""
    return tuple(
        f"partial_{block[j]}_{block[i]}"
        for block in blocks
        for i in range(1, len(block))
        for j in range(i)
    )


def checked_partial(
    blocks: Sequence[Sequence[str]], given: Mapping[str, float | Estimate]
) -> dict[str, Estimate]:
    """Partial correlations of blocks by name, those that were given and 0 for the others."""
    names = partial_names(blocks)
    out = {name: estimate(value) for name, value in given.items()}
    for name, one in out.items():
        what = allowed = None
        if name not in names:
            what = f"is not a partial correlation of the model{nearest_of(name, names)}"
            allowed = ", ".join(names) or "none: no parameters are correlated"
        elif not -1 < one.value < 1:
            what, allowed = f"value {one.value:g}", "between -1 and 1"
        elif one.prior is not None:
            what, allowed = "has a prior of its own", "the LKJ prior of its block (lkj=)"
        if what is not None:
            raise PkpdError(where=f"partial {name!r}", what=what, allowed=allowed)
    return {name: out.get(name, Estimate(0.0)) for name in names}


def check_blocks(blocks: Sequence[Sequence[str]], varying: Container[str]) -> None:
    """Refuse blocks that a covariance cannot have.

    Parameters
    ----------
    blocks
        Names of parameters whose random effects are correlated.
    varying
        Names of the parameters that differ between patients.
    """
    seen: list[str] = []
    for block in blocks:
        for name in block:
            what = None
            if name not in varying:
                what = "has no variability between patients"
            elif name in seen:
                what = "is in two blocks"
            if what or len(block) < 2:
                raise PkpdError(
                    where=f"correlated parameters {', '.join(block)}",
                    what=f"{name!r} {what or 'stands alone'}",
                    remedy="name two or more parameters with iiv, each once",
                )
            seen.append(name)
