"""Schedule files that tests of several folders share."""

TWO_AMOUNTS = """
title = "Two amounts"
population = "rr_aml"
rule = "leukemia_d42_generic"
horizon_days = 50

[dose.lenalidomide]
amount = "10 mg"
days = "1-21"
route = "oral"

[course.treatment]
doses = ["lenalidomide"]
cycle_days = 28

[[cohort]]
id = "10 mg"

[[cohort]]
id = "25 mg"
change.lenalidomide = { amount = "25 mg" }
"""
