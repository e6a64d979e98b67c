"""Search over schedules: a menu or a grid in the same patients, and a short list of it.

Examples
--------
>>> from pkpd.search import Limit
>>> Limit("dlt", at_most=0.25).words
'Pr(risk of a DLT > 0.25) <= 0.25'
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
