"""Ages of entry that the words on a row's patients name, and the median age between them.

Many abstracts print no median age but say who could enter: "untreated AML 18-60 y". Patients below
60 reach remission more often than all adults, so that such rows must not be simulated at the age of
all. A lower limit alone tells little (few patients with AML are young) and is ignored.
"""

from __future__ import annotations

import re

from pkpd.evidence.table.rows import EvidenceRow

_YEARS = r"\s*(?:y|yr|years)\b"
_AGE = r"(\d\d+(?:\.\d+)?)"  # of fewer than ten years are remissions and intervals told
_STATED = re.compile(rf"(?i)\b(?:median|mean)\s+(?:age\s+)?{_AGE}{_YEARS}")
_BETWEEN = re.compile(
    rf"(?i)\b(\d+)\s*(?:[-\u2013]|to)\s*(\d\d+){_YEARS}"
    rf"(?:,?\s*\(?median\s+{_AGE}(?=\s*(?:[),;(]|$|y)))?"
)
_BELOW = re.compile(rf"(?i)\b(?:under|below|younger than|up to|at most)\s+(\d\d+){_YEARS}")
_YOUNGER = re.compile(r"(?i)\b(?:younger adults|young and middle-aged)\b")
_CHILDREN = re.compile(r"(?i)\bof children\b")
YOUNGER_ADULTS = 60.0
"""Oldest of "younger adults" with AML, years: the limit of most trials in them."""
YOUNGEST_ADULT = 18.0
"""Lower limit where none is printed, and upper limit of children, years."""


def age_limits(words: str) -> tuple[float, float] | None:
    """Read the limits of age that the words on patients name, in years.

    Parameters
    ----------
    words
        Column ``patients`` of a row.

    Returns
    -------
    (low, high), or ``None`` where no upper limit is named.

    Examples
    --------
    >>> age_limits("untreated AML/HR-MDS 18-65 y")
    (18.0, 65.0)
    >>> age_limits("untreated AML, mostly under 60 y, 657 randomised")
    (18.0, 60.0)
    >>> age_limits("untreated AML from 60 years") is None
    True
    """
    if between := _BETWEEN.search(words):
        low, high = float(between[1]), float(between[2])
        return (low, high) if low < high else None
    if below := _BELOW.search(words):
        return min(YOUNGEST_ADULT, float(below[1]) - 1.0), float(below[1])
    if _YOUNGER.search(words):
        return YOUNGEST_ADULT, YOUNGER_ADULTS
    if _CHILDREN.search(words):
        return 1.0, YOUNGEST_ADULT
    return None


def age_of_words(words: str, median: float, sd: float) -> float | None:
    """Median age of patients as the words on them tell it, in years.

    It is the median that the words print, or that of a normal distribution between the limits that
    they name.

    Parameters
    ----------
    words
        Column ``patients`` of a row.
    median, sd
        Of the ages of such patients where nothing limits them, years.

    Returns
    -------
    Years; ``None`` where the words tell nothing.

    Examples
    --------
    >>> round(age_of_words("untreated AML 17-60 y", 60.0, 16.0))
    49
    >>> age_of_words("AML, 60-83 y (median 67)", 60.0, 16.0)
    67.0
    """
    if stated := _STATED.search(words):
        return float(stated[1])
    between = _BETWEEN.search(words)
    if between and between[3]:
        return float(between[3])
    limits = age_limits(words)
    if limits is None:
        return None
    from scipy.stats import truncnorm  # takes long to import

    low, high = ((limit - median) / sd for limit in limits)
    return float(truncnorm.median(low, high, loc=median, scale=sd))


def told_age(row: EvidenceRow) -> float | None:
    """Median age of a row's patients, printed or by its words; ``None`` where it tells nothing."""
    known = row.population
    if row.age_median is not None or known.age is None or known.age_sd is None:
        return row.age_median
    return age_of_words(row.patients, known.age, known.age_sd)
