"""Trials in a marrow with leukaemia in it: normal and leukaemic blood formation under drugs.

The equations are those of `pkpd.marrow.leukaemic`. `pkpd.leukaemia.patients` makes patients from
global parameters, `pkpd.leukaemia.drug_effects` says what the drugs of a regimen do to them,
`pkpd.leukaemia.simulate` runs them, and `pkpd.leukaemia.outcomes` reduces their counts to what
trials publish.
"""
