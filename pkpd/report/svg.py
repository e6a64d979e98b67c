"""A matplotlib figure as SVG of few bytes: text as text, coordinates in tenths of a point.

matplotlib's own SVG has six digits of a coordinate, a group and a style for every tick, and draws
every figure twice. Here a figure is drawn once. The same figure gives the same bytes: there are no
dates and no random identifiers.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any

import numpy as np
from matplotlib.backend_bases import GraphicsContextBase, RendererBase
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.font_manager import weight_dict
from matplotlib.path import Path

FONTS = "DejaVu Sans,Verdana,Bitstream Vera Sans,sans-serif"
"""Fonts as wide as the one that the figure was laid out with, then any."""

_MARKS = 4
"""So many marks of one kind are told once and used; fewer are drawn one by one, as ticks are."""
_POINT = 10  # user units of a point
_ANCHOR = {"left": "start", "center": "middle", "right": "end"}
_CAP = {"butt": "butt", "projecting": "square", "round": "round"}
_LETTER = {Path.MOVETO: "m", Path.LINETO: "l", Path.CURVE3: "q", Path.CURVE4: "c"}


def svg(figure: Figure, name: str, title: str, alt: str) -> str:
    """Draw a figure as one SVG element that stands in a page or in a file of its own.

    Parameters
    ----------
    figure
        The figure; its size is kept.
    name
        Begins the identifiers in the element, so that several can stand in one page.
    title, alt
        What the figure is, and its content in words for a reader who cannot see it.
    """
    before = figure.dpi
    try:
        figure.set_dpi(72.0)
        renderer = _Renderer(figure, name)
        figure.draw(renderer)
    finally:
        figure.set_dpi(before)
    width, height = (f"{72.0 * side:.1f}" for side in figure.get_size_inches())
    box = f"0 0 {_whole(float(width))} {_whole(float(height))}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{html.escape(alt)}" '
        f'width="{width}pt" height="{height}pt" viewBox="{box}" font-family="{FONTS}" '
        f'font-size="75" stroke-linejoin="round"><title>{html.escape(title)}</title>'
        f"{''.join(renderer.parts)}</svg>\n"
    )


def _whole(value: float) -> int:
    return round(_POINT * value)


class _Renderer(RendererBase):
    """Gathers elements; the y axis of a figure goes up, that of SVG down."""

    def __init__(self, figure: Figure, name: str) -> None:
        super().__init__()
        width, height = figure.get_size_inches()
        self.width, self.height = 72.0 * width, 72.0 * height
        self.name = name
        self.parts: list[str] = []
        self.clips: dict[str, str] = {}
        self.marks: dict[str, str] = {}

    def flipy(self) -> bool:
        return True

    def get_canvas_width_height(self) -> tuple[float, float]:
        return self.width, self.height

    def points_to_pixels(self, points: Any) -> Any:
        return points

    def draw_path(
        self, gc: GraphicsContextBase, path: Path, transform: Any, rgbFace: Any = None
    ) -> None:
        line = gc.get_linewidth() > 0.0 and gc.get_rgb()[3] > 0.0
        if not line and rgbFace is None:
            return
        simple = rgbFace is None and path.should_simplify
        clean = path.cleaned(transform=transform, simplify=simple, remove_nans=True, curves=True)
        data = "".join(self._data(clean))
        if data:
            style = _fill(gc, rgbFace) + (_stroke(gc) if line else "")
            clip = self._clip(gc, np.asarray(clean.vertices)[np.asarray(clean.codes) != Path.STOP])
            self.parts.append(f'<path d="{data}"{style}{clip}/>')

    def draw_markers(
        self,
        gc: GraphicsContextBase,
        marker_path: Path,
        marker_trans: Any,
        path: Path,
        trans: Any,
        rgbFace: Any = None,
    ) -> None:
        places = trans.transform(np.asarray(path.vertices, dtype=float))
        if len(places) < _MARKS:
            super().draw_markers(gc, marker_path, marker_trans, path, trans, rgbFace)
            return
        # the mark is told once, and used in every place
        shape = marker_path.cleaned(transform=marker_trans, curves=True)
        data = "".join(self._data(shape, 0.0))
        line = gc.get_linewidth() > 0.0 and gc.get_rgb()[3] > 0.0
        style = _fill(gc, rgbFace) + (_stroke(gc) if line else "")
        drawn = f'd="{data}"{style}'
        if drawn not in self.marks:
            self.marks[drawn] = f"{self.name}-mark{len(self.marks)}"
            self.parts.append(f'<defs><path id="{self.marks[drawn]}" {drawn}/></defs>')
        inside = np.isfinite(places).all(axis=1)
        box: Any = gc.get_clip_rectangle()
        if box is not None:
            with np.errstate(invalid="ignore"):
                inside &= ((places >= box.min - 1e-6) & (places <= box.max + 1e-6)).all(axis=1)
        self.parts += [
            f'<use href="#{self.marks[drawn]}" x="{_whole(x)}" y="{_whole(self.height - y)}"/>'
            for x, y in places[inside]
        ]

    def draw_text(
        self,
        gc: GraphicsContextBase,
        x: float,
        y: float,
        s: str,
        prop: Any,
        angle: float,
        ismath: Any = False,
        mtext: Any = None,
    ) -> None:
        anchor = ""
        if mtext is not None and (angle == 0 or mtext.get_rotation_mode() == "anchor"):
            # aligned by the reader's font, whatever its width
            ax, ay = mtext.get_transform().transform(mtext.get_unitless_position())
            ay = self.height - ay
            across = np.array([np.sin(np.deg2rad(angle)), np.cos(np.deg2rad(angle))])
            off = across @ (x - ax, y - ay)
            x, y = ax + off * across[0], ay + off * across[1]
            if mtext.get_ha() != "left":
                anchor = f' text-anchor="{_ANCHOR[mtext.get_ha()]}"'
        px, py = _whole(x), _whole(y)
        turn = f' transform="rotate({-angle:g} {px} {py})"' if angle else ""
        size = _whole(prop.get_size_in_points())
        weight = prop.get_weight()
        bold = weight_dict.get(weight, 400) if isinstance(weight, str) else weight
        style = "" if size == 75 else f' font-size="{size}"'
        style += ' font-weight="bold"' if bold >= 600 else ""
        style += _fill(gc, gc.get_rgb())
        self.parts.append(
            f'<text x="{px}" y="{py}"{anchor}{turn}{style}>{html.escape(s, quote=False)}</text>'
        )

    def _data(self, path: Path, height: float | None = None) -> Iterator[str]:
        """Path data in whole units, each point told from the one before."""
        top = self.height if height is None else height
        places = np.asarray(path.vertices, dtype=float) * (1.0, -1.0) + (0.0, top)
        points = np.rint(_POINT * places).astype(np.int64).tolist()
        codes = np.asarray(path.codes).tolist()
        at, began, i = [0, 0], [0, 0], 0
        while i < len(codes) and codes[i] != Path.STOP:
            code = codes[i]
            here = points[i : i + Path.NUM_VERTICES_FOR_CODE[code]]
            i += len(here)
            if code == Path.CLOSEPOLY:
                yield "z"
                at = began
                continue
            if code == Path.LINETO:
                dx, dy = here[0][0] - at[0], here[0][1] - at[1]
                if dx and dy:
                    yield _moves("l", [(dx, dy)])
                elif dx or dy:
                    yield f"h{dx}" if dx else f"v{dy}"
            else:
                yield _moves(_LETTER[code], [(px - at[0], py - at[1]) for px, py in here])
            at = here[-1]
            began = at if code == Path.MOVETO else began

    def _clip(self, gc: GraphicsContextBase, vertices: Any) -> str:
        """Clip what leaves its rectangle by more than a line is wide."""
        box: Any = gc.get_clip_rectangle()
        if box is None:
            return ""
        low, high = np.min(vertices, axis=0), np.max(vertices, axis=0)
        width = gc.get_linewidth()
        if np.all(low >= box.min - width) and np.all(high <= box.max + width):
            return ""
        x, y = _whole(box.x0), _whole(self.height - box.y1)
        shape = f'x="{x}" y="{y}" width="{_whole(box.width)}" height="{_whole(box.height)}"'
        if shape not in self.clips:
            self.clips[shape] = f"{self.name}-clip{len(self.clips)}"
            self.parts.append(
                f'<clipPath id="{self.clips[shape]}"><rect {shape}/></clipPath>',
            )
        return f' clip-path="url(#{self.clips[shape]})"'


def _moves(letter: str, steps: list[tuple[int, int]]) -> str:
    """Write steps; a minus sign parts two numbers, else a space does."""
    text = letter
    for number in (n for step in steps for n in step):
        text += f" {number}" if number >= 0 and text[-1].isdigit() else f"{number}"
    return text


def _short(colour: Any) -> str:
    """Colour in hexadecimal digits, three where they do."""
    text = to_hex(colour)
    same = text[1] == text[2] and text[3] == text[4] and text[5] == text[6]
    return f"#{text[1]}{text[3]}{text[5]}" if same else text


def _opacity(gc: GraphicsContextBase, colour: Any) -> float:
    if gc.get_forced_alpha():
        return float(gc.get_alpha())
    return float(colour[3]) if len(colour) > 3 else 1.0


def _fill(gc: GraphicsContextBase, face: Any) -> str:
    if face is None:
        return ' fill="none"'
    colour, opacity = _short(face), _opacity(gc, face)
    style = "" if colour == "#000" else f' fill="{colour}"'
    return style if opacity == 1.0 else f'{style} fill-opacity="{opacity:.3g}"'


def _stroke(gc: GraphicsContextBase) -> str:
    colour = gc.get_rgb()
    style = f' stroke="{_short(colour)}" stroke-width="{_whole(gc.get_linewidth())}"'
    if (opacity := _opacity(gc, colour)) != 1.0:
        style += f' stroke-opacity="{opacity:.3g}"'
    known: Any = gc.get_dashes()
    offset, dashes = known
    if dashes is not None:
        style += f' stroke-dasharray="{" ".join(str(_whole(d)) for d in dashes)}"'
        style += f' stroke-dashoffset="{_whole(offset)}"' if offset else ""
    elif (cap := _CAP[str(gc.get_capstyle())]) != "butt":
        style += f' stroke-linecap="{cap}"'
    return style
