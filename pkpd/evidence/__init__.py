"""Learning from aggregated outcomes of trials.

`load_evidence` reads published outcomes, one line each. `EvidenceLikelihood` compares them with
simulated patients, `learn` samples the parameters of the simulator, and the rest criticises
the result. Nothing here knows how patients are simulated: a simulator is a function from
parameters to arms.

Examples
--------
>>> from pkpd.evidence import load_evidence
>>> table = load_evidence()
>>> table.rows[0].study in table.studies
True
"""

import lazy_loader

from pkpd.machine import ready_for_pymc

ready_for_pymc()  # before PyMC and ArviZ are imported below
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
