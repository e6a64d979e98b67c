"""A marrow with leukaemia in it: normal and leukaemic blood formation under drugs, many patients.

`pkpd.leukaemia.equations` holds the joint equations, `pkpd.leukaemia.simulate` runs them for an
arm of a trial, `pkpd.leukaemia.patients` makes the patients from global parameters, and
`pkpd.leukaemia.arm_outcomes` reduces their counts to what trials publish.
"""
