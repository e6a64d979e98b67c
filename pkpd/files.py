"""Files that are there whole or not at all, whatever happens to the process that writes them."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import itertools
import json
import os
import platform
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pkpd.errors import PkpdError, writing

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr

_STAGE, _FINISHED, _REMOVED = ".writing-", ".finished-", ".removed.json"
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_GUARDED = re.compile(r"'+[=+\-@\t\r]")
_SEAL = b"pkpd sha256 "
_SEALED = len(_SEAL) + hashlib.sha256().digest_size
_count = itertools.count()
_MOST_PACKED, _MOST_SMALL = 1_100, 10_000_000
"""No compression of netCDF makes a file smaller than that, but for a small one's empty values."""


def file_stem(name: str) -> str:
    """Trial identifier as a safe part of a file name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "trial"


# -- one file -------------------------------------------------------------------------------


@contextmanager
def whole(target: str | Path, *, follow: bool = True) -> Iterator[Path]:
    """Yield a name beside `target` to write to; it takes the place of `target` if all went well.

    Parameters
    ----------
    target
        The file. An earlier one stays as it was until the new one is complete.
    follow
        Write what a link points to; else the file takes the place of the link.

    Raises
    ------
    PkpdError
        If it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole(Path(folder) / "a.txt") as path:
    ...         _ = path.write_text("all of it")
    ...     [p.name for p in Path(folder).iterdir()]
    ['a.txt']
    """
    target = Path(target)
    if follow and target.is_symlink():
        target = target.resolve()
    path = target.with_name(f".{target.name}.{_own()}.tmp")
    with writing(target):
        _forget(target.parent, f".{target.name}.", ".tmp")
        try:
            if target.exists() and not target.is_file() and not target.is_dir():
                yield target  # a device or a pipe is written to itself
                return
            yield path
            os.replace(path, target)
        finally:
            path.unlink(missing_ok=True)


def write_text(target: str | Path, text: str) -> None:
    """Write a text in UTF-8, with line ends as they are: see :func:`whole`."""
    write_bytes(target, text.encode())


def write_bytes(target: str | Path, data: bytes) -> None:
    """Write bytes: see :func:`whole`."""
    with whole(target) as path:
        path.write_bytes(data)


def write_checked(target: str | Path, data: bytes) -> None:
    """Write bytes that `read_checked` reads, and nothing else: a hash stands before them."""
    write_bytes(target, hashlib.sha256(data).digest() + data)


def read_checked(path: Path) -> bytes | None:
    """Read what `write_checked` has written; none where it is not as it was written.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    size = hashlib.sha256().digest_size
    data = path.read_bytes()
    digest, content = data[:size], data[size:]
    return content if hashlib.sha256(content).digest() == digest else None


def netcdf_bytes(groups: Mapping[str | None, xr.Dataset], **how: Any) -> bytes:
    """Make a netCDF file in memory.

    The HDF5 library ends the interpreter where a disk is full, so that it is not let near one.

    Parameters
    ----------
    groups
        Data by name of the group; ``None`` is the root.
    **how
        For ``xarray.Dataset.to_netcdf``.
    """
    file = io.BytesIO()
    for number, (name, data) in enumerate(groups.items()):
        mode = "a" if number else "w"
        data.to_netcdf(file, mode=mode, group=name, engine="h5netcdf", **how)  # pyright: ignore
    return file.getvalue()


def write_netcdf(target: str | Path, data: xr.Dataset, **how: Any) -> None:
    """Write netCDF: see :func:`netcdf_bytes` and :func:`whole`."""
    write_bytes(target, _sealed(netcdf_bytes({None: data}, **how)))


def write_groups(target: str | Path, idata: Any) -> None:
    """Write the groups of an ``arviz.InferenceData`` so that ``arviz.from_netcdf`` reads them."""
    data = io.BytesIO()
    for number, name in enumerate(idata.groups()):
        group = idata[name]
        packed = {n: {"zlib": True} for n, v in group.variables.items() if v.dtype.kind in "biuf"}
        mode = "a" if number else "w"
        group.to_netcdf(data, mode=mode, group=name, engine="h5netcdf", encoding=packed)
    write_bytes(target, _sealed(data.getvalue()))


def _sealed(data: bytes) -> bytes:
    """Put a hash after the end of an HDF5 file, where its readers do not look."""
    return data + _SEAL + hashlib.sha256(data).digest()


def _check_seal(path: Path) -> None:
    """Refuse a file that is not as it was written: HDF5 may read a damaged one without end."""
    with path.open("rb") as file:
        left = max(path.stat().st_size - _SEALED, 0)
        file.seek(left)
        seal = file.read()
        if _SEAL not in seal:
            return
        file.seek(0)
        digest = hashlib.sha256()
        while left:
            part = file.read(min(left, 1 << 20))
            digest.update(part)
            left -= len(part)
    if digest.digest() != seal[len(_SEAL) :]:
        what = "the file is not as it was written"
        raise PkpdError(where=str(path), what=what, remedy="copy the file again")


def read_netcdf(path: str | Path, group: str | None = None) -> xr.Dataset:
    """Read netCDF into memory, unless it claims to be far larger than its file.

    Raises
    ------
    PkpdError
        If it cannot be read.
    """
    import xarray

    with _reading(Path(path)), xarray.open_dataset(path, group=group, engine="h5netcdf") as found:
        return found.load()


def read_arrays(path: str | Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read the variables of netCDF and its attributes, as `read_netcdf` without its labels.

    It does without `xarray`, which takes a second to load and to read a first file.

    Raises
    ------
    PkpdError
        If it cannot be read.
    """
    import h5py
    import numpy as np

    arrays: dict[str, np.ndarray] = {}
    with _reading(Path(path)), h5py.File(path, "r") as file:
        for name, one in file.items():
            if isinstance(one, h5py.Dataset):
                text = h5py.check_string_dtype(one.dtype) is not None
                arrays[name] = np.asarray(one.asstr()[...] if text else one[...])
        attrs = {name: _plain(value) for name, value in file.attrs.items()}
    return arrays, attrs


def _plain(value: Any) -> Any:
    """Give an attribute of a netCDF file as it was before it was written."""
    if isinstance(value, bytes):
        return value.decode()
    return value.item() if getattr(value, "size", 0) == 1 else value


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Refuse a netCDF file that is damaged or far larger than it looks; say what a reader meets."""
    import h5py

    try:
        _check_seal(path)
        most = _MOST_PACKED * path.stat().st_size + _MOST_SMALL
        sizes = []
        with h5py.File(path, "r") as file:
            file.visititems(lambda _, one: sizes.append(getattr(one, "nbytes", 0)))
        if sum(sizes) > most:
            what = f"holds {sum(sizes):,} bytes in a file of {path.stat().st_size:,}"
            raise PkpdError(where=str(path), what=what, remedy="copy the file again")
        yield
    except (PkpdError, FileNotFoundError):
        raise
    except Exception as error:  # HDF5 and its readers raise nearly everything
        told = next(iter(str(error).splitlines()), "") or type(error).__name__
        what, remedy = f"is no netCDF file that can be read ({told})", "copy the file again"
        raise PkpdError(where=str(path), what=what, remedy=remedy) from error


# -- tables ---------------------------------------------------------------------------------


def table_cell(value: Any) -> Any:
    """Guard a text that a spreadsheet would take for a formula with an apostrophe before it.

    Examples
    --------
    >>> table_cell("=1+1"), table_cell("a=b"), table_cell("-3.5"), table_cell(-3.5)
    ("'=1+1", 'a=b', '-3.5', -3.5)
    """
    if not isinstance(value, str) or not _FORMULA.match(value):
        return value
    try:
        float(value)
    except ValueError:
        return "'" + value
    return value


def unguarded(text: str) -> str:
    """Give back the text that :func:`table_cell` was given.

    Examples
    --------
    >>> unguarded("'=1+1"), unguarded(table_cell("'=x")), unguarded("'tis")
    ('=1+1', "'=x", "'tis")
    """
    return text[1:] if _GUARDED.match(text) else text


def frame_text(frame: pd.DataFrame) -> str:
    """Table as CSV without its index, its texts guarded by :func:`table_cell`."""
    texts = frame.rename(columns=table_cell).copy()
    for place in range(texts.shape[1]):
        column = texts.iloc[:, place]
        if column.dtype.kind not in "biufcmM":
            texts.isetitem(place, column.astype(object).map(table_cell))
    return texts.to_csv(index=False, lineterminator="\n")


# -- the files of one run -------------------------------------------------------------------


@contextmanager
def together(
    folder: str | Path,
    *,
    last: str | None = None,
    earlier: Callable[[Path], set[str]] | None = None,
) -> Iterator[Path]:
    """Yield an empty folder; what is written there is moved to `folder` together.

    A process that ends before leaves what `folder` had. One that is killed while files are moved
    leaves the others in a folder beside them, and :func:`settle` moves these.

    Parameters
    ----------
    folder
        Made if absent.
    last
        Name of the file that tells a complete run: the earlier one goes first, the new one
        comes last.
    earlier
        Names, by the state of `folder` before, of files that go if the run did not write them.

    Raises
    ------
    PkpdError
        If it cannot be written.
    """
    folder = Path(folder)
    stage = folder / f"{_STAGE}{_own()}"
    with writing(folder):
        settle(folder, last=last, earlier=earlier)
        stage.mkdir(parents=True)
        try:
            yield stage
            for path in stage.rglob("*"):
                inside(folder, path.relative_to(stage).as_posix())
            os.rename(stage, folder / f"{_FINISHED}{_order(folder):06d}-{_own()}")
        finally:
            shutil.rmtree(stage, ignore_errors=True)
        settle(folder, last=last, earlier=earlier)


def settle(
    folder: str | Path,
    *,
    last: str | None = None,
    earlier: Callable[[Path], set[str]] | None = None,
) -> None:
    """Complete what a killed process had begun to move, and remove what it had not finished.

    Parameters
    ----------
    folder, last, earlier
        As of :func:`together`.
    """
    folder = Path(folder)
    if not folder.is_dir():
        return
    with writing(folder), _alone(folder):
        for done in sorted(folder.glob(f"{_FINISHED}*")):
            _move(done, folder, last, earlier)
        _forget(folder, _STAGE, "")


def _move(
    done: Path, folder: Path, last: str | None, earlier: Callable[[Path], set[str]] | None
) -> None:
    """Move the files of a finished run, in an order that can be taken up again."""
    removed = done / _REMOVED
    made = [p for p in done.rglob("*") if p.is_file() and not p.name.startswith(_REMOVED)]
    names = sorted(p.relative_to(done).as_posix() for p in made)
    names.sort(key=lambda name: name == last)
    if not names:  # all were moved, or there were none
        shutil.rmtree(done, ignore_errors=True)
        return
    if not removed.exists():
        old = sorted((earlier(folder) if earlier else set()) - set(names))
        part = done / f"{_REMOVED}.part"
        part.write_text(json.dumps(old), encoding="utf-8")
        os.replace(part, removed)
    if last is not None and last in names:
        (folder / last).unlink(missing_ok=True)
    for name in _listed(removed):
        inside(folder, name).unlink(missing_ok=True)
    for name in names:
        target = inside(folder, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(done / name, target)
    shutil.rmtree(done, ignore_errors=True)


def _listed(removed: Path) -> list[str]:
    """Names of the files that go."""
    try:
        names = json.loads(removed.read_text(encoding="utf-8"))
        if isinstance(names, list) and all(isinstance(name, str) for name in names):
            return names
    except ValueError:
        pass
    what, remedy = "is no list of files", f"remove the folder {removed.parent.name}"
    raise PkpdError(where=str(removed), what=what, remedy=remedy)


def inside(folder: Path, name: str) -> Path:
    """Path of a file of a folder, refused where it leads out of it.

    Raises
    ------
    PkpdError
        If the name, or a link in the folder, leads elsewhere.
    """
    target = folder / name
    if not target.parent.resolve().is_relative_to(folder.resolve()) or target.name in ("", ".."):
        raise PkpdError(
            where=str(folder),
            what=f"{name} would be written outside this folder",
            remedy="remove the link, or name another folder",
        )
    return target


def _order(folder: Path) -> int:
    """Give the number after those that wait in `folder`; the clock may be set back."""
    waiting = [p.name.removeprefix(_FINISHED)[:6] for p in folder.glob(f"{_FINISHED}*")]
    return max((int(n) for n in waiting if n.isdecimal()), default=0) + 1


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from moving files in `folder` meanwhile."""
    held = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # not every file system can lock a folder
            fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def _own() -> str:
    """Name of a machine, a process and one file of it; no other has the same."""
    return f"{_machine()}-{os.getpid()}-{next(_count)}"


def _machine() -> str:
    return re.sub(r"[^A-Za-z0-9]", "_", platform.node())


def _forget(folder: Path, before: str, after: str) -> None:
    """Remove files and folders that a process of this machine left when it was killed."""
    if not folder.is_dir():
        return
    name = re.compile(re.escape(before) + re.escape(_machine()) + r"-(\d+)-\d+" + re.escape(after))
    for path in _named(folder, before):
        found = name.fullmatch(path.name)
        if found is None or _alive(int(found[1])):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()


def _named(folder: Path, before: str) -> Sequence[Path]:
    with os.scandir(folder) as found:
        return [Path(one.path) for one in found if one.name.startswith(before)]


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
