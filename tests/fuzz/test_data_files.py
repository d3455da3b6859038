"""Data files that are odd, torn or wrong: a sentence that names the file, or every row accounted for.

`benchmarks/fuzz.py` runs many more of the same.
"""

import itertools
import re

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings

from fuzz import files
from recjax.errors import DataError

EXAMPLES = settings(
  max_examples=60, derandomize=True, database=None, deadline=None,
  suppress_health_check=list(HealthCheck),
)
_numbers = itertools.count()


def failure(case, tmp_path):
  """What went wrong with a case, or None."""
  outcome, said = files.judge(case, tmp_path / str(next(_numbers)))
  return (case.kind, case.detail, case.options, said) if outcome == "failed" else None


@EXAMPLES
@given(case=files.csv_cases())
def test_csv(case, tmp_path):
  assert failure(case, tmp_path) is None


@EXAMPLES
@given(case=files.parquet_cases())
def test_parquet(case, tmp_path):
  assert failure(case, tmp_path) is None


def csv_case(data, name="log.csv", **options):
  return files.Case("", "", {name: data}, {"duplicates": "keep", **options}, None, None)


def parquet_case(columns, which="interactions", ids="numbered"):
  tables = {n: list(c.items()) for n, c in files.parquet_tables(ids == "raw").items()}
  if which != "histories":
    del tables["histories"]
  tables[which] = columns(dict(tables[which]))
  contents = {f"{n}.parquet": files.write_parquet(c) for n, c in tables.items()}
  return files.Case("", "", contents, {"ids": ids, "duplicates": "keep"}, 30, None)


ROWS = [list(files.HEADER), *files.table_of_rows()]


def refusal(case, tmp_path):
  """The sentence with which a case is refused."""
  with pytest.raises(DataError) as caught:
    files.read(case, tmp_path / "case")
  return str(caught.value)


def test_a_quote_that_is_not_closed_swallows_no_rows(tmp_path):
  lines = files.write_csv(ROWS).split(b"\n")
  lines[16] = lines[16].replace(b",note", b',"note')
  case = csv_case(b"\n".join(lines))
  assert "log.csv: the quotes in the row that begins in line 17" in refusal(case, tmp_path)


def test_a_quoted_line_end_is_a_value(tmp_path):
  rows = [list(row) for row in ROWS]
  rows[5][5] = 'two\nlines, "quoted"'
  log = files.read(csv_case(files.write_csv(rows), text_columns=("note",)), tmp_path / "case")
  assert log.num_events == 30
  assert rows[5][5] in log.facts["names"]["events.note"]


def test_two_columns_of_one_name_are_refused(tmp_path):
  data = files.write_csv([[*row, row[0]] for row in ROWS])
  assert "log.csv has several columns called 'who'" in refusal(csv_case(data), tmp_path)
  twice = lambda columns: [*columns.items(), ("stars", columns["stars"])]
  said = refusal(parquet_case(twice), tmp_path / "p")
  assert "parquet has several columns called 'stars'" in said


def test_bytes_that_are_no_text_are_named(tmp_path):
  assert "log.csv is no UTF-8 text" in refusal(csv_case(b"who,wh\xe4t\n1,2\n"), tmp_path)


def test_ids_with_a_nul_stay_apart(tmp_path):
  rows = [list(row) for row in ROWS]
  rows[3][0] = "u1\0"
  said = refusal(csv_case(files.write_csv(rows)), tmp_path)
  assert "column 'who', row 3 holds an id with a NUL" in said


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_timestamps_are_cut_to_seconds_exactly(tmp_path, unit):
  each = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
  seconds = [files.START + 60 * n - 10**9 * (n == 0) for n in range(30)]
  late = [second * each + each - 1 for second in seconds]
  values = pa.array(late, pa.timestamp(unit, "Asia/Tokyo"))
  case = parquet_case(lambda columns: [*{**columns, "timestamp": values}.items()])
  log = files.read(case, tmp_path / "case")
  assert sorted(log.time + log.origin) == sorted(seconds)


@pytest.mark.parametrize("least", [-(2**63), 2**63 - 1])
def test_times_beyond_all_bounds_are_named(tmp_path, least):
  whens = pa.array([files.START] * 29 + [least])
  case = parquet_case(lambda columns: [*{**columns, "timestamp": whens}.items()])
  assert f"the time in row 30 is {least}" in refusal(case, tmp_path)


def test_long_names_of_columns_are_kept(tmp_path):
  case = parquet_case(lambda columns: [*columns.items(), ("x" * 300, columns["stars"])])
  log = files.read(case, tmp_path / "case")
  assert log.columns["x" * 300].tolist() == log.columns["stars"].tolist()


@pytest.mark.parametrize("which", ["users", "histories"])
def test_ids_of_side_tables_are_checked_as_others_are(tmp_path, which):
  text = lambda columns: [
    ("user_id", pa.array([f"t{n}" for n in range(len(columns["user_id"]))])), *list(columns.items())[1:]
  ]
  message = r"parquet( \(user table\))?: column 'user_id' from row 1 on holds string"
  assert re.search(message, refusal(parquet_case(text, which), tmp_path))


def test_ids_of_a_type_that_cannot_be_ids(tmp_path):
  lists = lambda columns: [("user_id", pa.array([[1]] * 30)), *list(columns.items())[1:]]
  said = refusal(parquet_case(lists, ids="raw"), tmp_path)
  assert "column 'user_id' from row 1 on holds list" in said
