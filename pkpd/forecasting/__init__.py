"""Forecasts for one patient: when counts are back, given those so far.

`pkpd.forecast` is the usual way in. `forecaster` makes a source ready for many patients,
`next_cycle` appends a cycle to a schedule, `read_seen` reads tables of counts. `forecast_series`
goes along a long series of counts, visit by visit.

Examples
--------
>>> import pkpd
>>> from pkpd.forecasting import next_cycle
>>> first = pkpd.daily("lenalidomide", "10 mg", days="1-21/28", route="oral")
>>> next_cycle(first, 36, dose=0.5).start_days
(1, 36)
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
