"""Reports: terminal, tables, figures, one-page HTML, run record.

Names load on first use, so that ``import pkpd.report`` imports neither matplotlib nor rich.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
