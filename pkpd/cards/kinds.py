"""Files of one kind given to the command of another: the error names the right command."""

from __future__ import annotations

from pkpd.cards.tables import Table

_COMMANDS = {
    "design": ("pkpd design",),
    "trial": ("pkpd compare", "pkpd search"),
    "scenario": ("pkpd compare",),
    "menu": ("pkpd search",),
}


def check_command(root: Table, command: str) -> None:
    """Refuse a file that another command takes.

    Parameters
    ----------
    root
        The file.
    command
        What it was given to, such as ``"pkpd design"``.

    Raises
    ------
    CardError
        Naming the file, its kind and its command.
    """
    # a schedule of one's own need not say its kind
    kind = root.data.get("kind", "trial" if "course" in root.data else None)
    if not isinstance(kind, str) or command in _COMMANDS.get(kind, ()):
        return
    allowed = ", ".join(name for name, own in _COMMANDS.items() if command in own)
    (other, *_) = _COMMANDS.get(kind, ("pkpd show",))
    root.refuse("kind", f"{command} takes no {kind} file", allowed, f"use {other} {root.file}")
