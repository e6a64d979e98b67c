"""Text of an exported stream carried out line by line, its equations solved by DOP853."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from scipy.integrate import solve_ivp

_ELEMENT = re.compile(r"\b(THETA|ETA|DADT|A_0|A)\((\d+)\)")
_FUNCTIONS = {"EXP": np.exp, "LOG": np.log, "SQRT": np.sqrt, "MAX": max, "MIN": min}


def _block(text, start, end):
    """Statements of a record as Python: elements in square brackets, IF with its indentation."""
    body = text[text.index(f"${start}\n") : text.index(end)].splitlines()[1:]
    out = []
    for line in body:
        line = _ELEMENT.sub(r"\1[\2]", line.split(";")[0].rstrip())
        asked = re.fullmatch(r"(\s*)IF \((\w+)\.EQ\.(\d+)\) THEN", line)
        if asked:
            line = f"{asked[1]}if {asked[2]} == {asked[3]}:"
        if line.strip() not in ("", "ENDIF"):
            out.append(line)
    return compile("\n".join(out), start, "exec")


def individual_predictions(path, etas):
    """IPRED of the observations of a stream whose doses are infusions; ``etas`` by subject."""
    text = path.read_text()
    pk, des = _block(text, "PK", "$DES"), _block(text, "DES", "$ERROR")
    error = _block(text, "ERROR", "IF (CENS")
    starting = re.findall(r"^\$THETA \(?(?:[^,;)]*, )?([^,;) ]+)", text, re.MULTILINE)
    theta = dict(enumerate(map(float, starting), 1))
    size = int(re.search(r"NCOMPARTMENTS=(\d+)", text)[1])
    found = []
    rows = pd.read_csv(path.with_suffix(".csv"), na_values=".")
    for eta, (_, own) in zip(etas, rows.groupby("ID", sort=False), strict=True):
        known = {"THETA": theta, "ETA": dict(enumerate(eta, 1)), "A_0": {}, **_FUNCTIONS}
        exec(pk, known)
        doses = own[own.EVID == 1]
        ends = doses.TIME + doses.AMT / doses.RATE
        amounts = np.array([known["A_0"].get(i + 1, 0.0) for i in range(size)], dtype=float)

        def slopes(rate, known=known):
            def of(_, y):
                known.update(A=dict(enumerate(y, 1)), DADT={})
                exec(des, known)
                return [known["DADT"][i + 1] + rate[i] for i in range(size)]

            return of

        at = float(own.TIME.iloc[0])
        for time in sorted({*own.TIME, *ends}):
            if time > at:
                rate = np.zeros(size)
                for (_, dose), end in zip(doses.iterrows(), ends, strict=True):
                    rate[int(dose.CMT) - 1] += dose.RATE if dose.TIME <= at < end else 0.0
                span = solve_ivp(
                    slopes(rate), (at, time), amounts, method="DOP853", rtol=1e-10, atol=1e-12
                )
                amounts, at = span.y[:, -1], time
            for _, row in own[(own.EVID == 0) & (time == own.TIME)].iterrows():
                known.update(row.to_dict(), A=dict(enumerate(amounts, 1)))
                exec(error, known)
                found.append(known["IPRED"])
    return np.array(found)
