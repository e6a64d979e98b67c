"""Curves of the pictures as arrays: a page is quicker without the library of labelled arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, eq=False)
class Curve:
    """An array and the names of its dimensions.

    Attributes
    ----------
    dims, values
        As those of an ``xarray.DataArray``.
    """

    dims: tuple[str, ...]
    values: np.ndarray


class Curves(Mapping[str, Curve]):
    """Arrays by name, as `pkpd.report` reads those of a comparison.

    Parameters
    ----------
    arrays
        Names of dimensions and values, by name.
    coords
        Values of each dimension.
    attrs
        What is said of all of them.
    """

    def __init__(
        self,
        arrays: Mapping[str, tuple[tuple[str, ...], Any]],
        coords: Mapping[str, Any],
        attrs: Mapping[str, Any],
    ) -> None:
        self.attrs = dict(attrs)
        self._coords = tuple(coords)
        given = {**{name: ((name,), values) for name, values in coords.items()}, **arrays}
        self._curves = {name: Curve(dims, np.asarray(v)) for name, (dims, v) in given.items()}

    def __getitem__(self, name: str) -> Curve:
        """Return the array of a name."""
        return self._curves[name]

    def __iter__(self) -> Iterator[str]:
        """Names."""
        return iter(self._curves)

    def __len__(self) -> int:
        """Count the arrays."""
        return len(self._curves)

    def dataset(self) -> xr.Dataset:
        """Give the same as labelled arrays."""
        import xarray

        every = {name: (one.dims, one.values) for name, one in self._curves.items()}
        own = {name: one for name, one in every.items() if name not in self._coords}
        return xarray.Dataset(own, {name: every[name] for name in self._coords}, self.attrs)
