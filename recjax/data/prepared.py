"""The prepared form of a data source: memory-mapped `.npy` columns in CSR order by user.

A prepared log is a folder `<cache>/prepared/<name>-<fingerprint>` with one `.npy` file a column and
`meta.json`. It is made in a working folder beside it and renamed when complete, so a folder with
that name is always whole. A preparation that was killed goes on after its last finished pass;
of several processes that want the same log one prepares and the others wait for it.
"""

import fcntl
import functools
import json
import os
import re
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recjax.data import preparation, side_tables
from recjax.data.log import EventLog
from recjax.data.sources.base import Source, checked_ids, fingerprint
from recjax.errors import DataError, writing

# Raised whenever the files or the cleaning rules change, so that old logs are made again.
VERSION = 3
# Rows that are in memory at once.
ROWS = 1 << 20
_LONGEST = 60  # letters of a name in a file name


def prepare(
  source: Source,
  cache: Path,
  core: int = 0,
  duplicates: str = "drop",
  rows: int = ROWS,
  most_popular: int = 0,
) -> Path:
  """Prepares `source` below `cache` unless that is done already; returns the folder.

  `core`, `duplicates` and `most_popular` are those of `sources.base.Common`; `rows` bounds the
  memory, not the result. Prints one line with what was cleaned. Raises DataError for data that
  cannot be used.
  """
  options = (core, duplicates, *((most_popular,) if most_popular else ()))
  digest = fingerprint(source.fingerprint, *options, VERSION)[:16]
  name = re.sub(r"[^A-Za-z0-9_.-]", "_", source.name)[:_LONGEST]
  target = cache / "prepared" / f"{name}-{digest}"
  if (target / "meta.json").exists():
    return target
  with writing(target):
    target.parent.mkdir(parents=True, exist_ok=True)
  with writing(target), (target.parent / f".{target.name}.lock").open("w") as lock:
    _wait(lock, source.name)
    if (target / "meta.json").exists():
      return target
    started = time.perf_counter()
    work = target.parent / f".{target.name}.work"
    meta = _run_passes(source, work, core, duplicates, most_popular, rows)
    os.replace(work / "ready", target)
    shutil.rmtree(work)
  print(_summary(source, meta, time.perf_counter() - started), flush=True)
  return target


def open_log(path: Path) -> EventLog:
  """Memory-maps a prepared log; raises DataError where files are missing, cut or foreign.

  `facts` holds: `way` and `licence` of the source, `fingerprint`, `timing`, `cleaned` (counts by
  cleaning step), `names` (what codes of text columns stand for, by column, from code 0 on),
  `left_out` (reasons by column), `missing` (empty values by column), `without_row` (ids that a
  side table lacks).
  """
  file = path / "meta.json"
  try:
    meta = json.loads(file.read_text())
  except FileNotFoundError:
    raise DataError(f"{path} is not a prepared log: it has no meta.json.") from None
  except json.JSONDecodeError:
    raise DataError(f"{file} is damaged: remove the folder and prepare again.") from None
  if meta.get("version") != VERSION:
    raise DataError(
      f"{path} has version {meta.get('version')}, but this code reads {VERSION}: remove the "
      "folder and prepare again."
    )
  arrays = {
    kind: _Arrays({name: path / file for name, file in files.items()})
    for kind, files in meta["files"].items()
  }
  events = arrays["events"]
  return EventLog(
    name=meta["name"],
    indptr=events["indptr"],
    item=events["item"],
    time=events.get("time"),
    origin=meta["origin"],
    ordered=meta["facts"]["timing"] != "none",
    columns=arrays["columns"],
    items=arrays["items"],
    users=arrays["users"],
    vocabularies=meta["vocabularies"],
    facts=meta["facts"],
  )


def _run_passes(
  source: Source, work: Path, core: int, duplicates: str, most_popular: int, rows: int
) -> dict[str, Any]:
  """All passes that are not done yet; leaves the complete log in `work / "ready"`."""
  seen = _once(work / "stream", lambda folder: preparation.stream(source, folder))
  _once(
    work / "placed", lambda folder: preparation.place(work / "stream", seen, rows, folder)
  )
  found = _once(
    work / "sorted",
    lambda folder: preparation.order(
      work / "placed", seen, rows, duplicates, source.place, folder
    ),
  )
  return _once(
    work / "ready",
    lambda folder: _finish(
      source, work, seen, found, core, duplicates, most_popular, rows, folder
    ),
    mark="meta.json",
  )


def _once(
  folder: Path, run: Callable[[Path], dict[str, Any]], mark: str = "done.json"
) -> dict[str, Any]:
  """Runs a pass in a fresh `folder` unless its mark says that it is done; returns its result."""
  if (folder / mark).exists():
    return json.loads((folder / mark).read_text())
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir(parents=True)
  result = run(folder)
  draft = folder / f"{mark}.draft"
  with draft.open("w") as file:
    json.dump(result, file)
    file.flush()
    os.fsync(file.fileno())
  os.replace(draft, folder / mark)
  return result


def _finish(
  source: Source,
  work: Path,
  seen: Mapping[str, Any],
  found: Mapping[str, Any],
  core: int,
  duplicates: str,
  most_popular: int,
  rows: int,
  folder: Path,
) -> dict[str, Any]:
  """Last pass: k-core, side tables, final columns; returns the content of meta.json."""
  columns = preparation.Columns(
    work / "sorted", {name: t for name, t in seen["dtypes"].items() if name != "user"}
  )
  indptr = preparation.load_array(work / "sorted" / "indptr.npy")
  tables = {"user": source.users(), "item": source.items()}
  ids = {kind: _table_ids(source, work, kind, table) for kind, table in tables.items()}
  sizes = {
    "user": max(len(indptr) - 1, int(ids["user"].max(initial=0)) + 1),
    "item": max(seen["largest_item"], int(ids["item"].max(initial=0))) + 1,
  }
  indptr = np.concatenate([indptr, np.full(sizes["user"] + 1 - len(indptr), indptr[-1])])
  kept = {kind: np.arange(size) for kind, size in sizes.items()}
  cleaned = {
    **seen["dropped"], "repeated_events": found["repeated"] if duplicates == "drop" else 0
  }
  if core or most_popular:
    least = max(core, 1)
    stays = preparation.core(indptr, columns, sizes["item"] - 1, least, rows, most_popular)
    kept = {
      kind: np.concatenate([[0], np.flatnonzero(mask)])
      for kind, mask in zip(sizes, stays, strict=True)
    }
    if not stays[0].any():
      raise DataError(
        f"{source.place}: no user is left with {least} events on items with {least} events "
        "(config.data.core)."
      )
  files, events = _write_events(source, seen, columns, indptr, kept, sizes, rows, folder)
  if core or most_popular:
    cleaned |= {
      "events_outside_core": int(indptr[-1]) - events,
      "users_outside_core": sizes["user"] - len(kept["user"]),
      "items_outside_core": sizes["item"] - len(kept["item"]),
    }
  vocabularies = {kind: len(rows) for kind, rows in kept.items()}
  facts = {
    "way": source.way,
    "licence": source.licence,
    "fingerprint": source.fingerprint,
    "timing": source.timing,
    "cleaned": cleaned,
    "names": {f"events.{name}": names for name, names in seen["names"].items()},
    "left_out": {f"events.{name}": reason for name, reason in seen["left_out"].items()},
    "missing": {},
    "without_row": {},
    **source.facts,
  }
  taken = tables["item"].column_names if tables["item"] is not None else ()
  make_users = functools.partial(side_tables.user_table, taken=taken)
  for kind, make in (("user", make_users), ("item", side_tables.item_table)):
    raw = _raw(work, kind, sizes[kind])
    made = make(tables[kind], ids[kind], raw, f"{source.place} ({kind} table)")
    made = side_tables.keep_rows(made, kept[kind])
    files[f"{kind}s"] = _write_arrays(made.columns, f"{kind}s", folder)
    vocabularies |= made.vocabularies
    for key in ("names", "left_out", "missing"):
      facts[key] |= {f"{kind}s.{name}": value for name, value in getattr(made, key).items()}
    if tables[kind] is not None:
      facts["without_row"][f"{kind}s"] = made.without_row
  return {
    "version": VERSION,
    "name": source.name,
    "events": events,
    "origin": seen["times"][0] if source.timing == "time" else 0,
    "files": files,
    "vocabularies": vocabularies,
    "facts": facts,
  }


def _write_events(
  source: Source,
  seen: Mapping[str, Any],
  columns: preparation.Columns,
  indptr: np.ndarray,
  kept: Mapping[str, np.ndarray],
  sizes: Mapping[str, int],
  rows: int,
  folder: Path,
) -> tuple[dict[str, dict[str, str]], int]:
  """Writes the event columns of kept users and items; files by kind and name, number of events."""
  stays = {kind: np.zeros(size, np.bool_) for kind, size in sizes.items()}
  number = np.zeros(sizes["item"], np.int32)
  for kind in stays:
    stays[kind][kept[kind]] = True
  number[kept["item"]] = np.arange(len(kept["item"]))
  origin, span = seen["times"][0], seen["times"][1] - seen["times"][0]
  if source.timing == "time" and span > np.iinfo(np.int32).max:
    raise DataError(f"{source.place}: times span {span} seconds, more than 68 years.")

  def kept_rows() -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    for start, stop in preparation.blocks(indptr, rows):
      user = np.repeat(np.arange(start, stop), np.diff(indptr[start : stop + 1]))
      item = columns.read("item", indptr[start], indptr[stop])
      mask = stays["user"][user] & stays["item"][item]
      yield indptr[start], indptr[stop], mask, user[mask]

  counts = np.zeros(sizes["user"], np.int64)
  for *_, user in kept_rows():
    counts += np.bincount(user, minlength=len(counts))
  total = int(counts.sum())
  np.save(folder / "indptr.npy", np.concatenate([[0], np.cumsum(counts[kept["user"]])]))
  files = {"events": {"indptr": "indptr.npy"}, "columns": {}}
  targets = {}
  for key, (kind, name, dtype) in _wanted(source, seen).items():
    files[kind][name] = _file_name(kind, name, len(files[kind]))
    targets[key] = (folder / files[kind][name], np.dtype(dtype))
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": (total,)}
    with targets[key][0].open("wb") as file:
      np.lib.format.write_array_header_1_0(file, header)
  for start, stop, mask, _ in kept_rows():
    for key, (path, dtype) in targets.items():
      part = columns.read(key, start, stop)[mask]
      part = number[part] if key == "item" else part - origin if key == "when" else part
      with path.open("ab") as file:
        file.write(part.astype(dtype).tobytes())
  return files, total


def _wanted(source: Source, seen: Mapping[str, Any]) -> dict[str, tuple[str, str, Any]]:
  """What each column file becomes: group and name in the log, and dtype."""
  wanted = {"item": ("events", "item", np.int32)}
  if source.timing == "time":
    wanted["when"] = ("events", "time", np.int32)
  for name, key in seen["columns"].items():
    wanted[key] = ("columns", name, seen["dtypes"][key])
  return wanted


def _table_ids(source: Source, work: Path, kind: str, table: Any) -> np.ndarray:
  """Final ids of the rows of a side table, int64 [rows]; empty where there is no table."""
  if table is None:
    return np.zeros(0, np.int64)
  column = f"{kind}_id"
  place = f"{source.place} ({kind} table)"
  ids = checked_ids(table[column].combine_chunks(), source.numbered, place, column, 1)
  if source.numbered:
    if ids.max(initial=0) > preparation.LARGEST_NUMBER:
      raise DataError(
        f"{place}: column {column!r}, row {ids.argmax() + 1} holds {ids.max()}, too large for "
        f"{kind}s numbered from 1: set config.data.ids = 'raw'."
      )
    return ids
  raw = preparation.load_array(work / "stream" / f"{kind}_raw.npy")
  number = {name: at for at, name in enumerate(raw.tolist())}
  return np.array([number[name] for name in ids.tolist()], np.int64)


def _raw(work: Path, kind: str, size: int) -> np.ndarray:
  """Raw ids by final id as str [size]; the number itself where the source numbers its ids."""
  file = work / "stream" / f"{kind}_raw.npy"
  if file.exists():
    return preparation.load_array(file)
  raw = np.arange(size).astype(f"U{len(str(size))}")
  raw[0] = ""
  return raw


def _write_arrays(arrays: Mapping[str, np.ndarray], kind: str, folder: Path) -> dict[str, str]:
  files = {name: _file_name(kind, name, at) for at, name in enumerate(arrays)}
  for name, array in arrays.items():
    if array.dtype.kind == "T":
      files[name] = files[name].removesuffix(".npy") + ".parquet"
      text = pa.table({"text": pa.array(array.tolist(), pa.large_string())})
      pq.write_table(text, folder / files[name])
    else:
      np.save(folder / files[name], array, allow_pickle=False)
  return files


def _file_name(kind: str, name: str, number: int) -> str:
  """A file name that any column name can have; the number tells similar names apart."""
  return f"{kind}.{number}.{re.sub(r'[^A-Za-z0-9_-]', '_', name)[:_LONGEST]}.npy"


class _Arrays(Mapping):
  """Arrays by name; memory maps at once, long text (a Parquet file) only when asked for."""

  def __init__(self, files: Mapping[str, Path]):
    self._files = files
    self._loaded = {n: _load(file) for n, file in files.items() if file.suffix == ".npy"}

  def __getitem__(self, name: str) -> np.ndarray:
    if name not in self._loaded:
      self._loaded[name] = _load(self._files[name])
    return self._loaded[name]

  def __iter__(self) -> Iterator[str]:
    return iter(self._files)

  def __len__(self) -> int:
    return len(self._files)


def _load(path: Path) -> np.ndarray:
  if path.suffix == ".npy":
    return preparation.load_array(path, mmap_mode="r")
  try:
    return np.array(pq.read_table(path)["text"].to_pylist(), np.dtypes.StringDType())
  except (OSError, ValueError) as error:
    raise DataError(
      f"{path} of a prepared log is missing or damaged ({error}): remove {path.parent} and prepare "
      "again."
    ) from None


def _wait(lock: Any, name: str) -> None:
  """Takes the lock; says so when another process has it. The system frees it when we end."""
  try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    print(f"{name}: waiting for another process that prepares it.", flush=True)
    fcntl.flock(lock, fcntl.LOCK_EX)


def _summary(source: Source, meta: Mapping[str, Any], seconds: float) -> str:
  sizes, facts = meta["vocabularies"], meta["facts"]
  parts = [f"{count} {step.replace('_', ' ')}" for step, count in facts["cleaned"].items() if count]
  parts += [f"left out {name}: {reason}" for name, reason in facts["left_out"].items()]
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  peak = peak / 2**20 if sys.platform == "darwin" else peak / 2**10
  return (
    f"{meta['name']}: {meta['events']:,} events of {sizes['user'] - 1:,} users on "
    f"{sizes['item'] - 1:,} items (timing: {facts['timing']}); cleaned: "
    f"{', '.join(parts) or 'nothing'}; {source.way} ({source.place}); {seconds:.1f} s, peak memory "
    f"{peak:.0f} MiB."
  )
