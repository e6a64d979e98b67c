"""Phase I dose-finding designs.

A design is a pure function from what a trial has seen to its next dose: `Design.next_dose` for one
trial with the reason, `Design.decide` for many at once. Its operating characteristics are exact
where patients come in cohorts (`characteristics`), and simulated where they come one by one and
toxicities come late (`simulate_trials`).

Examples
--------
>>> from pkpd.designs import BOIN, TrialData
>>> design = BOIN(levels=5, target=0.3)
>>> print(design.next_dose(TrialData.from_outcomes(5, "1NNN 2NNN 3NTT")).reason)
2 of 3 patients at dose 3 had a DLT; with 3 patients escalate at 0 or fewer, de-escalate at 2 or \
more.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
