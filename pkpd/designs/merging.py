"""Equal rows of counts found fast."""

from __future__ import annotations

import numpy as np


def merged(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index of one of each distinct row, and for each row which of them it is.

    Parameters
    ----------
    rows
        Whole numbers from 0, shape ``(rows, columns)``.
    """
    words, word, room = [], np.zeros(len(rows), np.int64), 1
    for column, most in zip(rows.T, rows.max(axis=0), strict=True):
        base = int(most) + 1
        if room * base >= 2**62:
            words.append(word)
            word, room = np.zeros(len(rows), np.int64), 1
        word = word * base + column
        room *= base
    words.append(word)
    key = words[0] if len(words) == 1 else np.stack(words, axis=1)
    axis = None if len(words) == 1 else 0
    _, first, back = np.unique(key, axis=axis, return_index=True, return_inverse=True)
    return first, back.reshape(-1)
