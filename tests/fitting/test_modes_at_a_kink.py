"""A search for a mode that no step can improve ends there, and is not made a second time."""

import numpy as np

from pkpd.fitting.maximum.individual_modes import find_modes

PLACE = 0.3


class Kinked:
    """``q = 3 |u - 0.3| + u^2 / 2`` of one subject: its least value is at a kink."""

    shape = (1, 1)

    def __init__(self):
        self.starts = []
        self.hessians = 0

    def central(self, x):
        return np.zeros(1)

    def only_of(self, u, who):
        return u

    def value(self, x, u, central):
        return 3.0 * np.abs(u[:, 0] - PLACE) + 0.5 * u[:, 0] ** 2

    def slope(self, x, u, central):
        return self.value(x, u, central), u + 3.0 * np.sign(u - PLACE)

    def approximate(self, x, u, central):
        self.starts.append(float(u[0, 0]))
        return *self.slope(x, u, central), np.ones((1, 1, 1))

    def exact(self, x, u, central):
        self.hessians += 1
        return *self.slope(x, u, central), np.ones((1, 1, 1))


def test_a_subject_that_is_stuck_is_not_asked_again():
    density = Kinked()
    found = find_modes(density, np.zeros(1))
    assert not found.converged[0]
    assert abs(found.u[0, 0] - PLACE) < 1e-3
    assert density.hessians <= 3


def test_the_search_from_zero_is_made_once():
    alone, again = Kinked(), Kinked()
    find_modes(alone, np.zeros(1))
    find_modes(again, np.zeros(1), restarts=2, seed=3)
    assert alone.starts[0] == 0.0
    later = again.starts[len(alone.starts) :]
    assert later, "a search from a random place follows"
    assert later[0] == np.random.default_rng(3).standard_normal(1)[0]
