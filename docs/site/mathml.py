"""Formulas as MathML, which browsers draw themselves: the site loads nothing from elsewhere."""

from __future__ import annotations

from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml


def formula(text: str, block: bool) -> str:
    """MathML of a formula in LaTeX."""
    return tex2mathml(text, as_block=block)


def _inline(self: Any, node: nodes.math) -> None:
    self.body.append(formula(node.astext(), block=False))
    raise nodes.SkipNode


def _block(self: Any, node: nodes.math_block) -> None:
    shown = formula(node.astext(), block=True)
    self.body.append(f'<div class="formula" tabindex="0">{shown}</div>')
    raise nodes.SkipNode


def setup(app: Any) -> dict[str, bool]:
    """Register the renderer."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
