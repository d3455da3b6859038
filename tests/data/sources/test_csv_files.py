"""CSV files: exact content, and a sentence for everything that is wrong."""

import gzip

import pytest

from recjax.data import prepared
from recjax.data.load import load
from recjax.data.sources import text_table
from recjax.errors import ConfigError, DataError

TEXT = """who,what,when,stars,device
zoe,b-2,30,4.5,phone
"Ada, L.",b-10,20,3,tv

zoe,b-10,10,1,phone
zoe,b-2,30,2,
"""
KEYS = {"user": "who", "item": "what", "time": "when", "columns": ("stars",)}


def read(tmp_path, text, name="log.csv", **options):
  file = tmp_path / name
  file.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
  return load({"name": "csv", "path": str(file), "cache": str(tmp_path / "c"), **KEYS, **options})


@pytest.mark.parametrize("block", [40, 1 << 20])
@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz"])
def test_exact_content(tmp_path, monkeypatch, block, name):
  monkeypatch.setattr(text_table, "BLOCK_BYTES", block)
  log = read(tmp_path, TEXT, name, text_columns=("device",))
  assert log.name == "log"
  assert log.users["raw"].tolist() == ["", "Ada, L.", "zoe"]
  assert log.items["raw"].tolist() == ["", "b-10", "b-2"]
  assert log.indptr.tolist() == [0, 0, 1, 3]
  assert log.item.tolist() == [1, 1, 2]
  assert log.time.tolist() == [10, 0, 20] and log.origin == 10
  assert log.columns["stars"].tolist() == [3.0, 1.0, 4.5]
  assert log.columns["device"].tolist() == [2, 1, 1]
  assert log.facts["names"]["events.device"] == ["", "phone", "tv"]
  assert log.facts["cleaned"] == {"repeated_events": 1}


def test_tsv_without_header_and_numeric_ids(tmp_path):
  log = read(
    tmp_path,
    "10\t7\t2000\n9\t7\t1999\n",
    separator="\t",
    header=("who", "what", "when"),
    columns=(),
    time_unit="ms",
  )
  assert log.users["raw"].tolist() == ["", "9", "10"]
  assert log.origin == 1 and log.time.tolist() == [0, 1]


BEHAVIOURS = """1,10,7,pv,100
1,11,8,buy,110
2,10,7,pv,95
2,12,9,pv,120
1,12,8,pv,130
3,13,7,pv,5000
1,10,7,cart,140
2,11,8,pv,150
"""
TAOBAO = {
  "header": ("u", "i", "c", "kind", "t"), "user": "u", "item": "i", "time": "t", "columns": (),
  "category": "c",
}


@pytest.mark.parametrize("block", [16, 1 << 20])
def test_rows_are_chosen_and_the_others_counted(tmp_path, monkeypatch, block):
  monkeypatch.setattr(text_table, "BLOCK_BYTES", block)
  log = read(tmp_path, BEHAVIOURS, only=("kind=pv|cart",), time_from=100, time_before=5000, **TAOBAO)
  # One row is a purchase; of those left one is at 95 and one at 5000. Item 12 came as 9 first.
  assert log.facts["cleaned"] == {
    "rows_of_other_kind": 1, "rows_outside_times": 2, "categories_overruled": 1, "repeated_events": 0,
  }
  assert log.users["raw"].tolist() == ["", "1", "2"]
  assert log.items["raw"].tolist() == ["", "10", "11", "12"]
  assert log.item.tolist() == [1, 3, 1, 3, 2] and log.time.tolist() == [0, 30, 40, 20, 50]
  names = log.facts["names"]["items.category"]
  assert [names[code] for code in log.items["category"]] == ["", "7", "8", "9"]
  assert log.facts["left_out"] == {}


def test_categories_after_a_preparation_that_was_killed(tmp_path, monkeypatch):
  finish = prepared._finish

  def killed(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr(prepared, "_finish", killed)
  with pytest.raises(KeyboardInterrupt):
    read(tmp_path, BEHAVIOURS, **TAOBAO)
  monkeypatch.setattr(prepared, "_finish", finish)
  # Another process: it has not streamed the file, but needs the categories.
  log = read(tmp_path, BEHAVIOURS, **TAOBAO)
  assert log.facts["cleaned"]["categories_overruled"] == 1
  names = log.facts["names"]["items.category"]
  assert [names[code] for code in log.items["category"]] == ["", "7", "8", "9", "7"]


def test_nothing_is_left_of_what_was_asked_for(tmp_path):
  with pytest.raises(DataError, match="Unknown column 'kinds'. Did you mean 'kind'"):
    read(tmp_path, BEHAVIOURS, only=("kinds=view",), **TAOBAO)
  with pytest.raises(DataError, match="log.csv holds no rows but 8 rows of other kind"):
    read(tmp_path, BEHAVIOURS, only=("kind=view",), **{**TAOBAO, "category": ""})


def test_path_below_the_data_root(tmp_path):
  (tmp_path / "log.csv").write_text(TEXT)
  keys = {**KEYS, "time": "", "order": "when"}
  log = load(
    {"name": "csv", "path": "log.csv", "folder": str(tmp_path), "cache": str(tmp_path), **keys}
  )
  assert log.time is None and log.ordered and log.num_events == 3


def test_options_change_the_fingerprint(tmp_path):
  assert read(tmp_path, TEXT).columns.keys() == {"stars"}
  assert read(tmp_path, TEXT, columns=()).columns.keys() == set()
  assert not read(tmp_path, TEXT, time="").ordered


BAD = [
  ("", "log.csv is empty"),
  ("who,what,when,stars\n", "log.csv holds no rows"),
  ("who,what,stars\na,b,1\n", "log.csv: Unknown column 'when'. Known: "),
  ("who,what,when,stars\na,b,1,2\na,b,x,2\n", "column 'when', row 2 holds 'x', which is no number"),
  ("who,what,when,stars\na,b,1,2\n\na,b,,2\n", "column 'when', row 2 holds '', which is no number"),
  ("who,what,when,stars\na,b,nan,2\n", "column 'when', row 1 holds nan, but a time must be a fini"),
  ("who,what,when,stars\na,b,1.5,2\n", "column 'when', row 1 holds 1.5, but a time must be a"),
  ("who,what,when,stars\na,b,1,2\na,b,2,inf\n", "column 'stars', row 2 holds inf, but numbers"),
  ("who,what,when,stars\na,b,1,2\n,b,1,2\n", "column 'who', row 2 holds an empty id"),
  ("who,what,when,stars\na,b,1,2\na,b,1\n", "log.csv: row 2 has 3 columns, expected 4"),
  ("who,what,when,stars\na,b,9999999999999,2\n", "time in row 1 is 9999999999999, .*milliseconds"),
]


@pytest.mark.parametrize("text, message", BAD, ids=range(len(BAD)))
def test_malformed(tmp_path, text, message):
  with pytest.raises(DataError, match=message) as caught:
    read(tmp_path, text)
  assert "\n" not in str(caught.value)


def test_row_numbers_count_across_blocks(tmp_path, monkeypatch):
  monkeypatch.setattr(text_table, "BLOCK_BYTES", 64)
  rows = [f"u{number},i,{number},1" for number in range(100)]
  for bad, message in (("u,i,x,1", "row 91 holds 'x'"), ("u,i,1", "row 91 has 3 columns")):
    text = "\n".join(["who,what,when,stars", *rows[:90], bad, *rows[90:]])
    with pytest.raises(DataError, match=message):
      read(tmp_path, text)


def test_not_utf8_and_missing(tmp_path):
  (tmp_path / "log.csv").write_bytes(b"who,what,when,stars\n\xff,b,1,2\n")
  keys = {"name": "csv", "cache": str(tmp_path), **KEYS}
  with pytest.raises(DataError, match="log.csv cannot be read from row 1 on: .*UTF8"):
    load({**keys, "path": str(tmp_path / "log.csv")})
  with pytest.raises(DataError, match="none.csv does not exist"):
    load({**keys, "path": str(tmp_path / "none.csv")})


@pytest.mark.parametrize(
  "options, message",
  [
    ({"path": ""}, "path is empty"),
    ({"order": "stars"}, "both set"),
    ({"time_unit": "sec"}, "Unknown value of config.data.time_unit 'sec'"),
    ({"separator": "::"}, "expected one character"),
    ({"columns": ("when",)}, "names the column 'when' twice"),
    ({"only": ("when",)}, "only holds 'when', expected 'column=text'"),
    ({"time": "", "time_from": 3}, "time_from and time_before need config.data.time"),
    ({"columnz": ("when",)}, "Did you mean 'columns'"),
    ({"core": -1}, "config.data.core is at least 0 and below 2"),
    ({"duplicates": "dropp"}, "Did you mean 'drop'"),
    ({"file_prefix": "core5_"}, "is for folders"),
  ],
)
def test_declarations_that_cannot_work(tmp_path, options, message):
  with pytest.raises(ConfigError, match=message):
    read(tmp_path, TEXT, **options)
