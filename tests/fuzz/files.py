"""Mutated data files, and whether every row of them is accounted for.

`csv_cases` and `parquet_cases` draw files with something odd or wrong in them; `judge` reads them with
recjax and with a reader that has nothing to do with it.
"""

import collections
import csv
import gzip
import io
import pathlib
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from recjax.data.load import load
from recjax.errors import DataError, RecjaxError

HEADER = ("who", "what", "when", "stars", "device", "note")
START = 1_600_000_000
CSV_KINDS = (
  "drop column", "add column", "rename column", "duplicate column", "wrong value", "bytes",
  "truncated", "flipped", "quotes", "open quote", "encoding", "line ends", "empty", "repeated rows",
  "unsorted", "compression", "wide row", "blank lines", "separator",
)
PARQUET_KINDS = (
  "drop column", "add column", "rename column", "duplicate column", "wrong value", "type", "truncated",
  "flipped", "empty", "repeated rows", "unsorted", "writer", "times", "side table", "histories", "core",
)
CELLS = (
  "", " ", "nan", "inf", "-1", "0", "1.5", "99999999999999999999", "9223372036854775807", "-5e9",
  "1e400", "abc", "ü", "\x00", "a\x00", "a", "TRUE", "NULL", "2020-01-01", '"', "a,b", "a\nb", "=1+1",
  "1_000", "٣", " 7 ", "0x10", "2147483647", "2147483648",
)


class Case(NamedTuple):
  """A folder of mutated files.

  Attributes:
    kind: what was done.
    detail: how, in a few words.
    files: content by name.
    options: keys of `config.data` besides name or path, folder and cache.
    rows: rows of the log's file, or None where `count_csv` has to find out.
    refusal: whether it must be refused; None where it is not known.
  """

  kind: str
  detail: str
  files: dict[str, bytes]
  options: dict[str, Any]
  rows: int | None
  refusal: bool | None


def table_of_rows(count: int = 30) -> list[list[str]]:
  """Plain rows under HEADER, no two of one user, item and time."""
  rng = np.random.default_rng(0)
  return [
    [
      f"u{rng.integers(1, 7)}", f"i{rng.integers(1, 12)}", str(START + 60 * row),
      f"{rng.integers(1, 11) / 2}", ("tv", "phone", "pad")[row % 3], f"note {row}",
    ]
    for row in range(count)
  ]


def write_csv(rows: list[list[str]], **how: Any) -> bytes:
  """Rows, the first of which is the header, as CSV."""
  text = io.StringIO()
  csv.writer(text, **{"lineterminator": "\n", **how}).writerows(rows)
  return text.getvalue().encode()


@st.composite
def csv_cases(draw: Any, kinds: tuple[str, ...] = CSV_KINDS) -> Case:
  """A mutated CSV file."""
  kind = draw(st.sampled_from(kinds))
  rows = [list(HEADER), *table_of_rows()]
  options = {"duplicates": draw(st.sampled_from(("keep", "drop", "error")))}
  text = draw(st.sampled_from(((), ("device",), ("device", "note"))))
  options["text_columns"] = text
  column, row = draw(st.integers(0, len(HEADER) - 1)), draw(st.integers(1, len(rows) - 1))
  name, detail, refusal, data = "log.csv", "", None, None
  needed = HEADER[column] in ("who", "what", "when", "stars", *text)
  pick = lambda *values: draw(st.sampled_from(values))
  if kind == "drop column":
    rows = [r[:column] + r[column + 1 :] for r in rows]
    detail, refusal = HEADER[column], needed
  elif kind == "add column":
    rows = [[*r[:column], f"x{i}", *r[column:]] for i, r in enumerate(rows)]
    refusal = False
  elif kind == "rename column":
    rows[0][column] = detail = pick("WHO", "", "wh0", "wh\no", "when ", "x" * 300, "\x00", '"')
    refusal = needed
  elif kind == "duplicate column":
    rows = [[*r, r[column]] for r in rows]
    detail, refusal = HEADER[column], needed or None
  elif kind == "wrong value":
    rows[row][column] = detail = pick(*CELLS)
  elif kind == "wide row":
    rows[row] = pick(rows[row][:-1], [*rows[row], "x"], rows[row][:1])
    refusal = True
  elif kind == "repeated rows":
    rows += [list(rows[row])] * draw(st.integers(1, 5))
    refusal = options["duplicates"] == "error"
  elif kind == "unsorted":
    rows[1:] = draw(st.permutations(rows[1:]))
    refusal = False
  elif kind == "quotes":
    odd = pick('say "hi"', "a, b", "two\nlines", '""', "'", "a\r\nb", ",,,", "\n\n")
    rows[row][pick(0, 1, 4, 5)] = detail = odd
    refusal = False if odd != "\n\n" else None
  elif kind == "separator":
    options["separator"] = detail = pick("\t", ";", "|", ",,", "", '"', "\n")
  how = {"lineterminator": "\r\n" if kind == "line ends" else "\n"}
  data = write_csv(rows, **how)
  if kind == "bytes":
    at = draw(st.integers(0, len(data)))
    odd = draw(st.binary(min_size=1, max_size=4))
    data, detail = data[:at] + odd + data[at:], f"{odd!r} at {at}"
  elif kind == "truncated":
    at = draw(st.integers(0, len(data)))
    data, detail = data[:at], f"after {at} bytes"
  elif kind == "flipped":
    data, detail = flipped(draw, data)
  elif kind == "open quote":
    lines = data.split(b"\n")
    cells = lines[row].split(b",")
    cells[column] = b'"' + cells[column]
    lines[row] = b",".join(cells)
    data, detail = b"\n".join(lines)[: pick(None, -1)], f"row {row}, column {HEADER[column]}"
    refusal = None if row == len(rows) - 1 else True
  elif kind == "encoding":
    detail = pick("utf-8-sig", "utf-16", "latin-1", "utf-32", "cp1252")
    rows[row][5] = "Ä" if detail != "utf-8-sig" else "x"
    data = write_csv(rows).decode().encode(detail)
    refusal = detail != "utf-8-sig"
  elif kind == "empty":
    data = pick(b"", b"\n", b"\n\n\n", write_csv(rows[:1]), b"\xef\xbb\xbf", b" ", b"\x00", b'"')
    detail, refusal = repr(data), True
  elif kind == "blank lines":
    lines = data.split(b"\n")
    lines.insert(row, pick(b"", b"\r", b"\n\n\n"))
    data, refusal = b"\n".join(lines), False
  elif kind == "compression":
    detail = pick("gzip as csv", "csv as gz", "torn gz", "gz", "two members")
    packed = gzip.compress(data, mtime=0)
    name = "log.csv" if detail == "gzip as csv" else "log.csv.gz"
    half = len(data) // 2
    packed = {
      "csv as gz": data, "torn gz": packed[: len(packed) * 2 // 3],
      "two members": gzip.compress(data[:half]) + gzip.compress(data[half:]),
    }.get(detail, packed)
    data, refusal = packed, detail not in ("gz", "two members")
  return Case(kind, detail, {name: data}, options, None, refusal)


def flipped(draw: Any, data: bytes) -> tuple[bytes, str]:
  """The bytes with one to four bits changed."""
  changed, places = bytearray(data), []
  for _ in range(draw(st.integers(1, 4))):
    at, bit = draw(st.integers(0, len(data) - 1)), draw(st.integers(0, 7))
    changed[at] ^= 1 << bit
    places.append(at)
  return bytes(changed), f"bits at {places}"


def parquet_tables(raw: bool) -> dict[str, dict[str, pa.Array]]:
  """Columns of interactions, items, users and histories that belong together."""
  rows = table_of_rows()
  number = lambda text: text if raw else int(text[1:])
  users, items = ([f"{k}{n}" for n in range(1, m)] for k, m in (("u", 7), ("i", 12)))
  return {
    "interactions": {
      "user_id": pa.array([number(r[0]) for r in rows]),
      "item_id": pa.array([number(r[1]) for r in rows]),
      "timestamp": pa.array([int(r[2]) for r in rows]),
      "stars": pa.array([float(r[3]) for r in rows]),
      "device": pa.array([r[4] for r in rows]),
      "is_click": pa.array([n % 3 > 0 for n in range(len(rows))]),
    },
    "items": {
      "item_id": pa.array([number(i) for i in items]),
      "title": pa.array([f"Item {i}" for i in items]),
      "year": pa.array([1990 + n for n in range(len(items))], pa.int32()),
      "genres": pa.array(["A|B", "C", None] * 3 + ["A", "B"]),
      "codes": pa.array([[1, n + 1] for n in range(len(items))]),
    },
    "users": {
      "user_id": pa.array([number(u) for u in users]),
      "gender": pa.array(["F", "M"] * 3),
      "age": pa.array([20, None, 30, 40, 50, 60]),
    },
    "histories": {
      "user_id": pa.array([number(u) for u in users[:4]]),
      "earlier": pa.array([[1, 2], [3], [], None]),
    },
  }


def odd_columns(length: int) -> dict[str, pa.Array]:
  """Columns of `length` values of all kinds of types, by what is odd about them."""
  n = np.arange(1, length + 1)
  half = lambda values: pa.array(values, mask=n % 7 == 3)
  text = [f"t{i}" for i in n]
  time = START + 60 * n
  decimal = pa.array(n).cast(pa.decimal128(21, 2))
  return {
    "null": pa.nulls(length),
    "some null": half(n),
    "some null text": half(np.array(text)),
    "text": pa.array(text),
    "large text": pa.array(text, pa.large_string()),
    "view": pa.array(text, pa.string_view()),
    "binary": pa.array([t.encode() for t in text]),
    "bad utf-8": pa.array([b"\xff\xfe%d" % i for i in n]),
    "dictionary": pa.array(text).dictionary_encode(),
    "number dictionary": pa.array(n).dictionary_encode(),
    "decimal": decimal,
    "float": pa.array(n.astype(np.float64)),
    "half float": pa.array(n.astype(np.float16)),
    "nan": pa.array(np.where(n % 7 == 3, np.nan, n)),
    "inf": pa.array(np.where(n % 7 == 3, np.inf, n)),
    "fraction": pa.array(n + 0.5),
    "int8": pa.array(n.astype(np.int8)),
    "uint64": pa.array(n.astype(np.uint64)),
    "huge uint64": pa.array(n.astype(np.uint64) + np.uint64(2**63)),
    "negative": pa.array(-n),
    "zero": pa.array(n - 1),
    "least": pa.array(np.where(n == 4, np.iinfo(np.int64).min, time)),
    "largest": pa.array(np.where(n == 4, np.iinfo(np.int64).max, time)),
    "huge": pa.array(n * 10**12),
    "above int32": pa.array(n + 2**31),
    "bool": pa.array(n % 2 == 0),
    "list": pa.array([[int(i)] for i in n]),
    "list of text": pa.array([[t] for t in text]),
    "struct": pa.array([{"a": int(i)} for i in n]),
    "date": pa.array(n.astype("datetime64[D]")),
    "duration": pa.array(n.astype("timedelta64[s]")),
    "time of day": pa.array(n, pa.time64("us")),
    "s": pa.array(time, pa.timestamp("s")),
    "ms": pa.array(time * 1000 + n, pa.timestamp("ms")),
    "us with zone": pa.array(time * 10**6 + n, pa.timestamp("us", "Europe/Berlin")),
    "ns with zone": pa.array(time * 10**9 + n, pa.timestamp("ns", "UTC")),
    "empty text": pa.array([""] * length),
    "NUL text": pa.array([f"a{chr(0) * (i % 3)}" for i in n]),
    "long text": pa.array(["x" * 5000] * length),
  }


def write_parquet(columns: list[tuple[str, pa.Array]], **how: Any) -> bytes:
  """Columns, whose names may repeat, as a Parquet file."""
  sink = io.BytesIO()
  table = pa.Table.from_arrays([c for _, c in columns], [n for n, _ in columns])
  pq.write_table(table, sink, **how)
  return sink.getvalue()


@st.composite
def parquet_cases(draw: Any, kinds: tuple[str, ...] = PARQUET_KINDS) -> Case:
  """A folder of Parquet files, one of which is mutated."""
  kind = draw(st.sampled_from(kinds))
  pick = lambda *values: draw(st.sampled_from(values))
  raw = draw(st.booleans())
  tables = {name: list(columns.items()) for name, columns in parquet_tables(raw).items()}
  if raw or kind != "histories":
    del tables["histories"]
  if kind not in ("side table", "histories") and draw(st.booleans()):
    del tables["items"], tables["users"]
  options = {"ids": "raw" if raw else "numbered", "duplicates": pick("keep", "drop", "error")}
  which, refusal, detail, how = "interactions", None, "", {}
  if kind in ("side table", "histories"):
    which = pick("items", "users") if raw or kind == "side table" else "histories"
  columns = tables[which]
  place = draw(st.integers(0, len(columns) - 1))
  name, old = columns[place]
  length = len(old)
  needed = name in ("user_id", "item_id")
  action = kind
  if kind in ("side table", "histories"):
    action = pick(
      "drop column", "rename column", "duplicate column", "type", "repeated rows", "truncated",
      "flipped", "empty", "unknown ids",
    )
  if action == "drop column":
    columns.pop(place)
    detail, refusal = name, needed
    if name == "timestamp" and not needed:
      refusal = None  # rows of one user and item now repeat one another
  elif action == "add column":
    odd, values = pick(*odd_columns(length).items())
    columns.append((pick("extra", "split", "user", "item", "x/../y", "", "ü\n"), values))
    detail = odd
  elif action == "rename column":
    columns[place] = (pick("USER_ID", "", name + " ", "x" * 300), old)
    detail, refusal = name, needed
  elif action == "duplicate column":
    columns.append((name, old))
    detail, refusal = name, needed or None
  elif action in ("type", "wrong value", "times"):
    if action == "times":
      place = next((i for i, (n, _) in enumerate(columns) if n == "timestamp"), place)
      name = columns[place][0]
    odd, values = pick(*odd_columns(length).items())
    columns[place], detail = (name, values), f"{name} {odd}"
    if name == "timestamp":
      good = ("s", "ms", "us with zone", "ns with zone", "int8", "uint64", "negative", "zero", "float")
      refusal = odd not in (*good, "half float", "above int32", "number dictionary")
    if needed and odd in ("null", "some null", "nan", "inf", "list", "struct", "some null text"):
      refusal = True
  elif action == "repeated rows":
    at = draw(st.lists(st.integers(0, length - 1), min_size=1, max_size=5))
    index = pa.array([*range(length), *at])
    tables[which] = [(n, c.take(index)) for n, c in columns]
    refusal = options["duplicates"] == "error" or which != "interactions"
  elif action == "unsorted":
    index = pa.array(draw(st.permutations(range(length))))
    tables[which], refusal = [(n, c.take(index)) for n, c in columns], False
  elif action == "empty":
    tables[which] = [(n, c.slice(0, 0)) for n, c in columns]
    refusal = True if which == "interactions" else None
  elif action == "writer":
    how = {
      "compression": pick("none", "snappy", "gzip", "zstd", "brotli", "lz4"),
      "row_group_size": pick(1, 3, 7, 1000), "use_dictionary": pick(True, False),
      "version": pick("1.0", "2.4", "2.6"), "data_page_version": pick("1.0", "2.0"),
      "write_statistics": pick(True, False), "store_schema": pick(True, False),
    }
    detail, refusal = str(how), False
  elif action == "unknown ids":
    odd = 10**9 if not raw else "never seen"
    columns[0] = (columns[0][0], pa.array([odd, *old.to_pylist()[1:]])) if place == 0 else columns[0]
  elif action == "core":
    options |= {"core": pick(2, 5, 100), "most_popular": pick(0, 0, 3)}
    detail = str(options)
  rows = len(tables["interactions"][0][1])
  files = {f"{n}.parquet": write_parquet(c, **how) for n, c in tables.items()}
  if action in ("truncated", "flipped"):
    data = files[f"{which}.parquet"]
    if action == "flipped":
      data, detail = flipped(draw, data)
    else:
      at = draw(st.integers(0, len(data) - 1))
      data, detail, refusal = data[:at], f"after {at} bytes", True
    files[f"{which}.parquet"] = data
  return Case(kind, f"{which} {action} {detail}".strip(), files, options, rows, refusal)


def count_csv(data: bytes, options: dict[str, Any]) -> collections.Counter | None:
  """(user, item) of every row by Python's reader; by line where that does not take it for CSV."""
  text = data.decode("utf-8-sig")
  try:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True,
                        delimiter=options.get("separator", ","))
    header, *rows = (row for row in reader if row)
    user, item = header.index("who"), header.index("what")
    return collections.Counter((row[user], row[item]) for row in rows)
  except csv.Error:
    lines = [line for line in text.replace("\r", "\n").split("\n") if line]
    return collections.Counter({None: len(lines) - 1})


def read(case: Case, folder: pathlib.Path) -> Any:
  """Loads the case from a folder."""
  folder.mkdir(parents=True)
  for name, data in case.files.items():
    (folder / name).write_bytes(data)
  place = {"cache": str(folder / "cache"), **case.options}
  if "interactions.parquet" in case.files:
    return load({"name": str(folder), **place})
  keys = {"user": "who", "item": "what", "time": "when", "columns": ("stars",)}
  return load({"name": "csv", "path": str(folder / next(iter(case.files))), **keys, **place})


def judge(case: Case, folder: pathlib.Path) -> tuple[str, str]:
  """("accepted" | "refused" | "failed", what was said or went wrong)."""
  try:
    log = read(case, folder)
    pairs = pairs_of(log)
  except RecjaxError as error:
    said = str(error)
    if not said.strip() or not said.isprintable() or said[-1] not in ".?":
      return "failed", f"no sentence: {said!r}"
    if isinstance(error, DataError) and not any(name in said for name in case.files):
      return "failed", f"names no file: {said}"
    if case.refusal is False:
      return "failed", f"refused, although nothing is wrong: {said}"
    return "refused", said
  except Exception as error:  # noqa: BLE001 - what this looks for
    return "failed", f"{type(error).__name__}: {error}"
  if case.refusal:
    return "failed", f"accepted with {log.num_events} events"
  return account(case, log, pairs)


def pairs_of(log: Any) -> collections.Counter:
  """(raw user, raw item) of every event."""
  user = np.repeat(np.arange(log.num_users + 1), np.diff(log.indptr))
  raw = zip(log.users["raw"][user].tolist(), log.items["raw"][log.item].tolist(), strict=True)
  list(log.columns.values()), list(log.items.values()), list(log.users.values())
  return collections.Counter(raw)


def account(case: Case, log: Any, pairs: collections.Counter) -> tuple[str, str]:
  """Whether the rows of the file are those of the log and those that it says it dropped."""
  cleaned = log.facts["cleaned"]
  dropped = cleaned["repeated_events"] + cleaned.get("events_outside_core", 0)
  truth = None
  if case.rows is None:
    (name, data), = case.files.items()
    truth = count_csv(gzip.decompress(data) if name.endswith("gz") else data, case.options)
  rows = case.rows if truth is None else truth.total()
  if rows != log.num_events + dropped:
    return "failed", f"{rows} rows became {log.num_events} events and {dropped} dropped ones"
  known = truth is not None and None not in truth
  if known and (truth.keys() != pairs.keys() or (truth - pairs).total() > dropped):
    return "failed", f"other rows than in the file: {truth - pairs} for {pairs - truth}"
  return "accepted", ""
