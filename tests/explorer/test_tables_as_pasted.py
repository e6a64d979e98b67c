"""A table that is pasted is read as the same text in a file is."""

from pkpd.explorer.patient import SOURCE, _table
from pkpd.forecasting.seen import read_seen

TEXT = "DAY;WBC;ANC;PLT\n1;2,4;1,1;45\n8;,9;,31;21\n"


def test_decimal_commas_between_semicolons(tmp_path):
    frame = _table(TEXT)
    frame.attrs |= {"name": SOURCE, "first_line": 2}
    pasted = read_seen(frame, limits={})[0][0]
    file = tmp_path / "a.csv"
    file.write_text(TEXT)
    read = read_seen(file, limits={})[0][0]
    assert pasted.value.tolist() == read.value.tolist() == [1.1, 45.0, 2.4, 0.31, 21.0, 0.9]
