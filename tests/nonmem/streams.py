"""Streams written for the tests, with small data."""

from __future__ import annotations

import numpy as np

from pkpd.fitting.maximum.marginal import MarginalLikelihood
from pkpd.fitting.model.likelihood import bind
from pkpd.nonmem.stream import read_control_stream

DATA = """ID,TIME,AMT,RATE,CMT,EVID,MDV,DV,WT,LEVEL
1,0,100,0,1,1,1,.,70,1
1,1,.,.,1,0,0,4.1,70,2
1,4,.,.,1,0,0,3.2,80,3
1,4,.,.,1,0,0,3.0,80,3
1,12,.,.,1,0,0,1.4,80,4
2,0,150,50,1,1,1,.,55,1
2,2,.,.,1,0,0,5.5,55,2
2,3,.,.,1,0,0,7.0,55,2
2,9,.,.,1,0,0,2.5,55,3
"""

INPUT = "$PROB test\n$INPUT ID TIME AMT RATE CMT EVID MDV DV WT LEVEL\n$DATA d.csv IGNORE=@\n"
ENDING = "$OMEGA 0.09 0.04\n$SIGMA 0.1\n$EST METHOD=1 INTER\n"
ADVAN1 = (
    INPUT
    + """$SUBROUTINES ADVAN1 TRANS2
$PK
CL = THETA(1)*(WT/70)**0.75*EXP(ETA(1))
V = THETA(2)*EXP(ETA(2))
S1 = V
$ERROR
Y = F*(1+EPS(1))
$THETA (0,2) (0,20)
"""
    + ENDING
)


def written(folder, text, data=DATA):
    """Write a stream and its data, and read them."""
    (folder / "d.csv").write_text(data)
    path = folder / "run1.mod"
    path.write_text(text)
    return read_control_stream(path)


def predictor_of(stream):
    """Bind a stream's structure, and give its starting values."""
    bound = stream.structure.bind(stream.data)
    n = len(stream.data.subjects)
    return bound, {name: np.full(n, value) for name, value in stream.structure.start.items()}


def means_and_sds(stream, **values):
    """Means (or log likelihoods) and standard deviations of the observations."""
    bound, start = predictor_of(stream)
    given = {
        **start,
        **{k: np.broadcast_to(v, len(stream.data.subjects)) for k, v in values.items()},
    }
    mean, log_sd = np.asarray(bound.quantities(given)).reshape(2, -1)
    return mean, np.exp(log_sd)


def objective(stream, method):
    """Objective at the starting values."""
    marginal = MarginalLikelihood(bind(stream.model, stream.data), method)
    return marginal.evaluate(marginal.free.start()).value
