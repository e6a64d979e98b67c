"""What a protocol asks of counts, defined once for every marrow.

Every endpoint is a function of a `pkpd.course.course.Course`.

Counts
    Nadirs and grades are those of the laboratory: platelets with transfused ones. Recovery, low
    counts that last and haematological improvement are those of the patient's own cells: platelets
    without transfused ones.
Time
    Days since the rule's clock. The morning of the clock's day 1 is time 0. *By day N* means time
    <= N: until the end of protocol day N, so that the morning of protocol day N + 1, which has
    time N, counts. This holds in every resolution.
Thresholds
    Met at ``>=``, missed at ``<``, everywhere.
Resolution
    ``"continuous"``: exact on the curve between mornings, for marrows that have one; platelets are
    then the patient's own everywhere. ``"morning"``: a laboratory count every morning.
    `pkpd.endpoints.resolution.Visits`: counts on visits only. Comparisons use mornings.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
