"""Schedule files, numbers of workers and a worker that tests of several folders share."""

import os
from contextlib import contextmanager

NUMBERS_OF_WORKERS = [int(n) for n in os.environ.get("PKPD_WORKERS", "3").split(",")]
"""Of a cluster, whose answer must not depend on them. Eight processes take a minute to load their
libraries on two cores: ``PKPD_WORKERS=1,2,8`` tries them."""

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


class _AWorker:
    def in_turn(self, function, items):
        import cloudpickle

        travelled = cloudpickle.loads(cloudpickle.dumps(function))
        return [travelled(item) for item in items]

    def as_done(self, function, items):
        return self.in_turn(function, list(items)[::-1])


@contextmanager
def a_worker(address, _):
    """In the place of `pkpd.cluster.workers`: this process, to which functions travel."""
    yield None if address is None else _AWorker()
