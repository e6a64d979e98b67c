r"""NONMEM's control streams, and readers of what NONMEM wrote: listings, iterations, tables.

`pkpd.read_control_stream` reads a stream. `read_listing` reads a listing (``.lst``),
`read_estimates` and `read_iterations` read a file of iterations (``.ext``), and `read_table` a
table (``$TABLE``, ``.phi``).

Examples
--------
>>> from pathlib import Path
>>> from tempfile import TemporaryDirectory
>>> from pkpd.nonmem import read_table
>>> with TemporaryDirectory() as folder:
...     path = Path(folder, "sdtab1")
...     _ = path.write_text("TABLE NO.  1\n ID  TIME  IPRED\n 1.0E+00 0.0E+00 3.5E+00\n")
...     read_table(path)["IPRED"].tolist()
[3.5]
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
