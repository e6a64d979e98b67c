"""Numbers of decision tables that others printed or computed."""

from __future__ import annotations

BOIN_RATES = {  # BOIN 2.7.2 (R), get.boundary: escalation and de-escalation
    0.10: (0.0784490, 0.1190318),
    0.15: (0.1177966, 0.1786863),
    0.20: (0.1572423, 0.2384624),
    0.25: (0.1968009, 0.2983922),
    0.30: (0.2364907, 0.3585195),
    0.33: (0.2603767, 0.3947159),
    0.35: (0.2763343, 0.4189075),
    0.40: (0.3163600, 0.4796503),
}

BOIN_TABLES = {  # BOIN 2.7.2 (R), get.boundary(target, 30, 1): 1 to 30 patients
    0.20: (
        "0 0 0 0 0 0 1 1 1 1 1 1 2 2 2 2 2 2 2 3 3 3 3 3 3 4 4 4 4 4",
        "1 1 1 1 2 2 2 2 3 3 3 3 4 4 4 4 5 5 5 5 6 6 6 6 6 7 7 7 7 8",
        "- - 2 3 3 3 4 4 4 5 5 5 5 6 6 6 7 7 7 7 8 8 8 8 9 9 9 9 10 10",
    ),
    0.25: (
        "0 0 0 0 0 1 1 1 1 1 2 2 2 2 2 3 3 3 3 3 4 4 4 4 4 5 5 5 5 5",
        "1 1 1 2 2 2 3 3 3 3 4 4 4 5 5 5 6 6 6 6 7 7 7 8 8 8 9 9 9 9",
        "- - 3 3 3 4 4 4 5 5 6 6 6 7 7 7 8 8 8 9 9 9 10 10 10 11 11 11 12 12",
    ),
    0.30: (
        "0 0 0 0 1 1 1 1 2 2 2 2 3 3 3 3 4 4 4 4 4 5 5 5 5 6 6 6 6 7",
        "1 1 2 2 2 3 3 3 4 4 4 5 5 6 6 6 7 7 7 8 8 8 9 9 9 10 10 11 11 11",
        "- - 3 3 4 4 5 5 5 6 6 7 7 8 8 8 9 9 9 10 10 11 11 11 12 12 12 13 13 14",
    ),
}

BOIN_LOWEST = "- - 2 3 3 4 4 4 5 5 6 6 6 7 7 8 8 8 9 9 9 10 10 10 11 11 12 12 12 13"
"""BOIN 2.7.2 (R): target 0.30, extra safety with offset 0.05, lowest dose."""

BOIN_AFTER_1_OF_3 = (  # Zhao 2024, Table 1: target 0.25, 3 to 30 patients, 1 of 3 stays
    "0 0 0 1 1 1 1 1 2 2 2 2 2 3 3 3 3 3 4 4 4 4 4 5 5 5 5 5",
    "2 2 2 2 3 3 3 3 4 4 4 5 5 5 6 6 6 6 7 7 7 8 8 8 9 9 9 9",
    "3 3 3 4 4 4 5 5 6 6 6 7 7 7 8 8 8 9 9 9 10 10 10 11 11 11 12 12",
)

KEYBOARD_TABLES = {  # Keyboard 0.1.3 (R), get.boundary.kb(target, 30, 1); mTPI-2 has the same
    0.20: (
        "0 0 0 0 0 0 0 1 1 1 1 1 1 1 2 2 2 2 2 2 2 3 3 3 3 3 3 3 4 4",
        "1 1 1 1 2 2 2 2 3 3 3 3 4 4 4 4 5 5 5 5 6 6 6 6 7 7 7 7 8 8",
        "1 2 2 3 3 3 4 4 4 5 5 5 5 6 6 6 7 7 7 7 8 8 8 8 9 9 9 9 10 10",
    ),
    0.25: (
        "0 0 0 0 0 1 1 1 1 1 2 2 2 2 2 3 3 3 3 3 4 4 4 4 4 5 5 5 5 5",
        "1 1 1 2 2 2 3 3 3 3 4 4 4 5 5 5 6 6 6 6 7 7 7 8 8 8 9 9 9 9",
        "- 2 3 3 3 4 4 4 5 5 6 6 6 7 7 7 8 8 8 9 9 9 10 10 10 11 11 11 12 12",
    ),
    0.30: (
        "0 0 0 0 1 1 1 1 2 2 2 2 3 3 3 3 4 4 4 4 5 5 5 5 6 6 6 6 7 7",
        "1 1 2 2 2 3 3 3 4 4 4 5 5 5 6 6 6 7 7 7 8 8 9 9 9 10 10 10 11 11",
        "- 2 3 3 4 4 5 5 5 6 6 7 7 8 8 8 9 9 9 10 10 11 11 11 12 12 12 13 13 14",
    ),
}

TITE_BOIN_TABLES = {
    # Yuan 2018: Table 1 (target 0.2) and Table S1 (0.3). Patients, DLTs, pending: decision, and the
    # total weight from which it escalates or up to which it de-escalates. E escalate, S stay,
    # D de-escalate, X drop the dose, W wait; + stands for all above.
    0.2: """
        3 0 0-1 E; 3 0 2+ W; 3 1 0-2 D; 3 2+ 0-1 X;
        6 0 0-3 E; 6 0 4+ W; 6 1 0-3 S; 6 1 4+ W; 6 2 0-4 D; 6 3+ 0-3 X;
        9 0 0-4 E; 9 0 5+ W; 9 1 0-2 E; 9 1 3 S/E 0.77; 9 1 4 S/E 2.15; 9 1 5+ W;
        9 2 0 S; 9 2 1 D/S 0.52; 9 2 2 D/S 1.59; 9 2 3 D/S 2.66; 9 2 4 D/S 3.73; 9 2 5+ W;
        9 3 0-6 D; 9 4+ 0-5 X;
        12 0 0-6 E; 12 0 7+ W; 12 1 0-5 E; 12 1 6 S/E 1.24; 12 1 7+ W;
        12 2 0-6 S; 12 2 7+ W; 12 3-4 0-9 D; 12 5+ 0-7 X;
        15 0 0-7 E; 15 0 8+ W; 15 1 0-7 E; 15 1 8+ W;
        15 2 0-2 E; 15 2 3 S/E 1.14; 15 2 4 S/E 2.31; 15 2 5 S/E 3.48; 15 2 6 S/E 4.65;
        15 2 7 S/E 5.82; 15 2 8+ W;
        15 3 0-2 S; 15 3 3 D/S 1.16; 15 3 4 D/S 2.34; 15 3 5 D/S 3.53; 15 3 6 D/S 4.72;
        15 3 7 D/S 5.90; 15 3 8+ W; 15 4-5 0-11 D; 15 6+ 0-9 X""",
    0.3: """
        3 0 0-1 E; 3 0 2+ W; 3 1 0 S; 3 1 1 D/S 0.88; 3 1 2+ W; 3 2 0-1 D; 3 3 0 X;
        6 0 0-3 E; 6 0 4+ W; 6 1 0-1 E; 6 1 2 S/E 0.60; 6 1 3 S/E 1.96; 6 1 4+ W;
        6 2 0 S; 6 2 1 D/S 0.73; 6 2 2 D/S 1.80; 6 2 3 D/S 2.87; 6 2 4+ W; 6 3 0-3 D; 6 4+ 0-2 X;
        9 0 0-4 E; 9 0 5+ W; 9 1 0-4 E; 9 1 5+ W;
        9 2 0 E; 9 2 1 S/E 0.59; 9 2 2 S/E 1.65; 9 2 3 S/E 2.71; 9 2 4 S/E 3.77; 9 2 5+ W;
        9 3 0 S; 9 3 1 D/S 0.58; 9 3 2 D/S 1.65; 9 3 3 D/S 2.72; 9 3 4 D/S 3.79; 9 3 5+ W;
        9 4 0-5 D; 9 5+ 0-4 X;
        12 0 0-6 E; 12 0 7+ W; 12 1 0-6 E; 12 1 7+ W;
        12 2 0-3 E; 12 2 4 S/E 1.33; 12 2 5 S/E 2.72; 12 2 6 S/E 4.11; 12 2 7+ W;
        12 3 0-6 S; 12 3 7+ W;
        12 4 0 S; 12 4 1 D/S 0.43; 12 4 2 D/S 1.50; 12 4 3 D/S 2.57; 12 4 4 D/S 3.65;
        12 4 5 D/S 4.72; 12 4 6 D/S 5.79; 12 4 7+ W; 12 5-6 0-7 D; 12 7+ 0-5 X;
        15 0 0-7 E; 15 0 8+ W; 15 1 0-7 E; 15 1 8+ W;
        15 2 0-5 E; 15 2 6 S/E 0.35; 15 2 7 S/E 2.07; 15 2 8+ W;
        15 3 0-1 E; 15 3 2 S/E 0.11; 15 3 3 S/E 1.29; 15 3 4 S/E 2.46; 15 3 5 S/E 3.64;
        15 3 6 S/E 4.81; 15 3 7 S/E 5.98; 15 3 8+ W; 15 4 0-7 S; 15 4 8+ W;
        15 5 0 S; 15 5 1 D/S 0.28; 15 5 2 D/S 1.35; 15 5 3 D/S 2.42; 15 5 4 D/S 3.50;
        15 5 5 D/S 4.57; 15 5 6 D/S 5.64; 15 5 7 D/S 6.72; 15 5 8+ W;
        15 6-7 0-9 D; 15 8+ 0-7 X""",
}

TITE_BOIN_WITH_RULES = {
    # Chen 2025, Table 1 (0.3), and Chen 2026, Table A1 (0.25): less than half pending, and a
    # quarter of the window behind every pending patient before escalation; * marks those.
    0.3: """
        3 0 0 E; 3 0 1 E*; 3 0 2+ W; 3 1 0 S; 3 1 1 D/S 0.88; 3 1 2+ W; 3 2 0-1 D; 3 3 0 X;
        6 0 0 E; 6 0 1-2 E*; 6 0 3+ W; 6 1 0 E; 6 1 1 E*; 6 1 2 S/E* 0.6; 6 1 3+ W;
        6 2 0 S; 6 2 1 D/S 0.73; 6 2 2 D/S 1.8; 6 2 3+ W; 6 3 0-3 D; 6 4+ 0-2 X""",
    0.25: """
        3 0 0 E; 3 0 1 E*; 3 0 2+ W; 3 1-2 0-2 D; 3 3 0 X;
        6 0 0 E; 6 0 1-2 E*; 6 0 3+ W; 6 1 0 E; 6 1 1 S/E* 0.22; 6 1 2 S/E* 1.38; 6 1 3+ W;
        6 2-3 0-4 D; 6 4+ 0-2 X;
        9 0 0 E; 9 0 1-4 E*; 9 0 5+ W; 9 1 0 E; 9 1 1-3 E*; 9 1 4 S/E* 0.66; 9 1 5+ W;
        9 2 0-4 S; 9 2 5+ W; 9 3-4 0-6 D; 9 5+ 0-4 X""",
}

ROLLING_SIX = """
    0-5 0 0 S; 6 0 0 W; 1-5 1 0 S; 6 1 0 W; 2-5 2 0 S; 6 2 0 W; 3 3 0 E; 4-5 3 0 S; 6 3 0 W;
    4 4 0 E; 5 4 0 S; 6 4 0 W; 5-6 5 0 E; 6 6 0 E;
    1-5 1-5 1 S; 6 1-5 1 W; 6 6 1 E; 2-6 2-6 2 D; 3-6 3-6 3 D"""
"""JAMA Netw Open 2020;3:e204787, Table 2: enrolled, evaluable, DLTs, next patient."""


def numbers(text: str) -> list[int]:
    """Numbers of a table; -1 for a dash."""
    return [-1 if word == "-" else int(word) for word in text.split()]


def span(word: str, most: int) -> range:
    """Numbers of ``"2"``, ``"2-5"`` or ``"2+"``."""
    if word.endswith("+"):
        return range(int(word[:-1]), most + 1)
    low, _, high = word.partition("-")
    return range(int(low), int(high or low) + 1)


def pending_states(text: str) -> dict[tuple[int, int, int], tuple[str, float | None]]:
    """States of a table with pending patients: decision, and its threshold if it has one."""
    found = {}
    for row in text.split(";"):
        n, dlts, pending, decision, *bound = row.split()
        patients = int(n)
        for y in span(dlts, patients):
            for c in span(pending, patients - y):
                if y + c <= patients:
                    assert (patients, y, c) not in found
                    found[patients, y, c] = decision, float(bound[0]) if bound else None
    return found
