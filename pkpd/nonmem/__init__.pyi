from .listing import (
    Estimates,
    Listing,
    read_estimates,
    read_iterations,
    read_listing,
    read_table,
)
from .stream import ControlStream
from .verify import Compared, Verification

__all__ = [
    "Compared",
    "ControlStream",
    "Estimates",
    "Listing",
    "Verification",
    "read_estimates",
    "read_iterations",
    "read_listing",
    "read_table",
]
