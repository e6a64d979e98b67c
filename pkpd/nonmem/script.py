"""``pkpd import``: a Python script that does with pkpd what a control stream does with NONMEM."""

from __future__ import annotations

import textwrap
from pathlib import Path

from pkpd.errors import PkpdError
from pkpd.files import write_text
from pkpd.fitting.model.population_parameters import held, start_values
from pkpd.nonmem.stream import ControlStream, read_control_stream

_SCRIPT = '''"""{title}

From {name}, by pkpd import.
"""

import pkpd

{call}
print(stream.summary())

# starting values; change them here
stream = stream.with_values(
    {{
{values}
    }}
)

# compares with NONMEM's listing, estimates and tables beside the stream
print(stream.verify({beside}))

# {words}
# fit = pkpd.fit(stream.model, stream.data, method="{method}")
# print(fit.summary())
'''


def script_of(
    stream: ControlStream, data: Path | None, problem: int | None, beside: list[Path]
) -> str:
    """Text of a script that reads a stream again, sets its values, and verifies it."""
    arguments = [f'"{stream.path}"']
    if data is not None:
        arguments.append(f'data="{data}"')
    if problem is not None:
        arguments.append(f"problem={problem}")
    fixed, lines = held(stream.model), []
    for name, value in start_values(stream.model).items():
        if name in fixed:
            continue
        label = stream.labels.get(name, "")
        lines.append(f'"{name}": {value!r},' + (f"  # {label}" if label else ""))
    step = stream.steps[-1] if stream.steps else None
    method = step.method if step is not None and step.method else "focei"
    words = f"the stream's step: {step.words}" if step is not None else "the stream has no step"
    title = " ".join(
        (stream.title or stream.path.name).replace('"', "'").replace("\\", "/").split()
    )
    return _SCRIPT.format(
        title=textwrap.shorten(title, 90).rstrip(".") + ".",
        name=stream.path.name,
        call=f"stream = pkpd.read_control_stream({', '.join(arguments)})",
        values=textwrap.indent("\n".join(lines), " " * 8),
        beside="[" + ", ".join(f'"{p}"' for p in beside) + "]" if beside else "",
        method=method,
        words=words,
    )


def import_stream(
    path: Path,
    *,
    data: Path | None = None,
    problem: int | None = None,
    beside: list[Path] | None = None,
    out: Path | None = None,
    overwrite: bool = False,
) -> tuple[Path, str, bool]:
    """Read a stream, write its script, and compare with NONMEM.

    Parameters
    ----------
    path
        Control stream or listing.
    data, problem
        See `pkpd.read_control_stream`.
    beside
        Listings, estimates and tables; default those that bear the stream's name.
    out
        The script; default the stream's name with ``.py``.
    overwrite
        Whether a file of that name with other contents, such as a script that was edited, is lost.

    Returns
    -------
    tuple
        The script, the report, and whether nothing differs from NONMEM.

    Raises
    ------
    PkpdError
        If an input cannot be used, or another file would be overwritten.
    """
    stream = read_control_stream(path, data=data, problem=problem)
    target = out or path.with_suffix(".py")
    script = script_of(stream, data, problem, beside or [])
    if not overwrite and target.is_file() and target.read_bytes() != script.encode():
        raise PkpdError(
            where=str(target),
            what="it has other contents than pkpd import would write, and may have been edited",
            remedy="name another file with --out, or give --overwrite to lose what is there",
        )
    found = stream.verify(beside or None)
    write_text(target, script)
    differs = any(one.agrees is False for one in found.compared)
    return target, f"{stream.summary()}\n{found}", not differs
