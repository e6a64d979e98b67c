"""What is written as TOML is read back by another reader as it was."""

from __future__ import annotations

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from pkpd.cards import card_folder, card_names
from pkpd.explorer.toml import write_toml

# a lone half of a surrogate pair is no text that a file can hold
text = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
scalars = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False),
    text,
)
values = st.recursive(
    scalars,
    lambda inside: st.lists(inside, max_size=4) | st.dictionaries(text, inside, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(text, values, max_size=6))
def test_any_table_reads_back(data):
    assert tomllib.loads(write_toml(data)) == data


def test_shipped_files_read_back():
    for kind in ("trials", "schedules", "drugs"):
        for name in card_names(kind):
            data = tomllib.loads((card_folder(kind) / f"{name}.toml").read_text())
            assert tomllib.loads(write_toml(data)) == data, name
