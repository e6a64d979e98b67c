"""Every reader takes what nobody should write: a sentence comes out, soon, and in little memory.

The quick tests try a hundred cases for each reader. The long ones try 10,000, or as many as
``PKPD_FUZZ_CASES`` says; ``PKPD_FUZZ_SEED`` gives other ones. A case is tried again with
``python tests/fuzz/fuzz.py READER --seed SEED --first NUMBER --cases 1``.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from fuzz import SLOW_TO_TRY, fuzz
from hypothesis import given, settings
from hypothesis import strategies as st
from readers import all_readers

from pkpd.errors import PkpdError
from pkpd.files import table_cell, unguarded

pytest.importorskip("starlette")
pytest.importorskip("pyarrow")

READERS = all_readers()
FEW = 100
MANY = int(os.environ.get("PKPD_FUZZ_CASES", "10000"))
SEED = int(os.environ.get("PKPD_FUZZ_SEED", "1"))
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def _refused_only(told):
    assert told.within, (str(told), told.others)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_few_changed_samples(name):
    told = fuzz(READERS[name], FEW // SLOW_TO_TRY.get(name, 1), SEED)
    _refused_only(told)


@pytest.mark.long  # the first ones of them are above
@pytest.mark.parametrize("name", READERS)
def test_many_changed_samples(name):
    told = fuzz(READERS[name], MANY // SLOW_TO_TRY.get(name, 1), SEED)
    print(told)
    _refused_only(told)


@pytest.mark.parametrize("name", READERS)
def test_some_sample_is_read_as_it_is(tmp_path, name):
    reader = READERS[name]
    for beside, text in reader.beside.items():
        (tmp_path / beside).write_text(text() if callable(text) else text)
    good = 0
    for sample in reader.samples():
        case = sample
        if reader.kind in ("text", "bytes"):
            case = tmp_path / f"case{reader.suffix}"
            case.write_bytes(sample)
        try:
            reader.read(case)
        except PkpdError:
            continue
        good += 1
    assert good, "every case would be refused for the sample's own reason"


@pytest.mark.parametrize("name", [n for n, r in READERS.items() if r.kind in ("text", "words")])
@settings(max_examples=15)
@given(text=st.text(max_size=200))
def test_any_text_at_all(name, text):
    reader = READERS[name]
    with tempfile.TemporaryDirectory() as folder:
        case = text
        if reader.kind == "text":
            case = Path(folder) / f"case{reader.suffix}"
            case.write_bytes(text.encode("utf-8", errors="surrogatepass"))
        try:
            reader.read(case)
        except PkpdError as error:
            assert str(error).endswith(".")  # noqa: PT017


@settings(max_examples=50)
@given(document=DOCUMENTS)
def test_any_document_at_all(document):
    try:
        READERS["states of a page"].read(document)
    except PkpdError as error:
        assert str(error)  # noqa: PT017


@given(text=st.text(max_size=20))
def test_no_text_in_a_table_is_a_formula(text):
    cell = table_cell(text)
    assert unguarded(cell) == text
    if cell[:1] in ("=", "+", "-", "@", "\t", "\r") and cell:
        float(cell)  # a number, which spreadsheets may read


def test_missing_files_and_folders_are_sentences(tmp_path):
    for name, reader in READERS.items():
        if reader.kind not in ("text", "bytes") or name == "pkpd check":
            continue
        (tmp_path / f"folder{reader.suffix}").mkdir(exist_ok=True)
        for path in (tmp_path / f"none{reader.suffix}", tmp_path / f"folder{reader.suffix}"):
            with pytest.raises(PkpdError):
                reader.read(path)
