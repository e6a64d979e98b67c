"""How good predictions of published rows are: scores, baselines to beat, and calibration.

Used by the scripts of this folder alone; what the package itself needs of criticism is
`pkpd.evidence.criticism`.
"""
