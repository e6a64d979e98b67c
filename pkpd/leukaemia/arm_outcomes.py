"""From arms and global parameters to the outcomes of their patients: what a calibration calls."""

from __future__ import annotations

from collections.abc import Sequence

from pkpd.leukaemia.outcomes import ArmOutcomes
from pkpd.leukaemia.parameters import Theta
from pkpd.leukaemia.patients import Candidates, Who, who
from pkpd.leukaemia.schedule import Arm
from pkpd.leukaemia.simulate import STEPS_PER_DAY, chosen_of, prepare_arm
from pkpd.marrow.variants import FULL, Variant
from pkpd.solve.compiled.run_days import course_pool


def population_outcomes(
    arm: Arm,
    theta: Theta,
    n: int = 500,
    *,
    seed: int = 1,
    source: Who | None = None,
    variant: Variant = FULL,
    steps_per_day: int = STEPS_PER_DAY,
    threads: int | None = None,
) -> ArmOutcomes:
    """Outcomes of ``n`` patients of an arm under global parameters.

    With the same seed (or candidates) two sets of parameters meet the same patients, and one set
    gives the same numbers every time.

    Parameters
    ----------
    arm
        Disease, entry limits and schedule.
    theta
        Global parameters (`pkpd.leukaemia.parameters.default_theta` and changes to it).
    n
        Number of patients.
    seed
        Of the random scores, which also depend on who the arm's patients are, not on its name.
    source
        Candidates instead of ``n`` and a seed (`pkpd.leukaemia.patients.who`).
    variant
        Mechanisms that are on.
    steps_per_day, threads
        As `pkpd.leukaemia.simulate.simulate`.

    Raises
    ------
    PkpdError
        If the disease, a drug or a parameter is unknown.
    """
    source = who(arm, n, seed) if source is None else source
    prepared = PreparedArms((arm,), (source,), variant, steps_per_day)
    return prepared.outcomes(theta, threads)[0]


class PreparedArms:
    """Arms whose patients meet many sets of global parameters.

    What does not depend on the parameters is worked out once; the patients of all arms are made
    together.

    Parameters
    ----------
    arms
        The arms.
    sources
        Of each its candidates (`pkpd.leukaemia.patients.who`).
    variant
        Mechanisms that are on.
    steps_per_day
        As `pkpd.leukaemia.simulate.simulate`.

    Attributes
    ----------
    candidates
        The candidates of all arms.
    """

    def __init__(
        self,
        arms: Sequence[Arm],
        sources: Sequence[Who],
        variant: Variant = FULL,
        steps_per_day: int = STEPS_PER_DAY,
    ) -> None:
        self.arms = tuple(arms)
        self.candidates = Candidates(arms, sources)
        self.variant = variant
        self._prepared = [
            prepare_arm(arm, source.sample, steps_per_day)
            for arm, source in zip(arms, sources, strict=True)
        ]

    def outcomes(
        self,
        theta: Theta,
        threads: int | None = None,
    ) -> list[ArmOutcomes]:
        """Outcomes of each arm under global parameters; see `population_outcomes`."""
        made = self.candidates
        patients = made.patients(theta, self.variant)
        par, chosen, kill = patients.parameters, chosen_of(patients), patients.kill_score

        def one(index: int, inside: int | None) -> ArmOutcomes:
            own = slice(int(made.starts[index]), int(made.starts[index + 1]))
            mine = {name: values[own] for name, values in par.items()}
            course = self._prepared[index].course(
                theta, mine, chosen[own] - made.first[index], kill[own], self.variant, inside
            )
            return ArmOutcomes(self.arms[index], course, mine["age"])

        every = range(len(self.arms))
        if threads is not None or len(self.arms) == 1:  # each on so many threads in its turn
            outcomes = [one(index, threads) for index in every]
        else:
            outcomes = list(course_pool().map(lambda index: one(index, 1), every))
        return outcomes
