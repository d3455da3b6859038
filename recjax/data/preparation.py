"""The passes that turn a stream of chunks into columns sorted by user and time.

`stream` appends chunks to plain column files, `place` moves rows to their user's range (a counting
sort), `order` sorts each user's events by time and drops repeated ones. Memory follows the block
size and the vocabularies, never the number of events. Every pass writes only its own folder, so one
that was interrupted is simply run again.
"""

import collections
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recjax.data.sources.base import Source, checked_ids, is_str
from recjax.errors import DataError

# Text columns of events with at most this many values become codes; others are left out.
MOST_CODES = 1024
# Unix seconds beyond the year 5138 are milliseconds in truth.
LATEST_TIME = 10**11
# Users or items numbered beyond this (and beyond 100 times the events) are hardly numbered from 1.
LARGEST_NUMBER = 10**8


def load_array(path: Path, mmap_mode: str | None = None) -> np.ndarray:
  """An array of a preparation or of a prepared log; DataError where it is missing or damaged."""
  try:
    return np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
  except (OSError, ValueError, EOFError) as error:
    raise DataError(
      f"{path} of a prepared log is missing or damaged ({error}): remove {path.parent} and prepare "
      "again."
    ) from None


class Codes:
  """Numbers str values from 1, in sorted order once all are known; "" is 0.

  The order is numeric where every value is a whole number, else by code point.
  """

  def __init__(self):
    self._codes = {"": 0}

  def __len__(self) -> int:
    return len(self._codes)

  def add(self, values: np.ndarray) -> np.ndarray:
    """Provisional codes int32 [n] of str values [n]; `finish` says what they become."""
    unique, inverse = np.unique(values, return_inverse=True)
    known = self._codes
    codes = [known.setdefault(value, len(known)) for value in unique.tolist()]
    return np.asarray(codes, np.int32)[inverse]

  def finish(self) -> tuple[np.ndarray, np.ndarray]:
    """Names by final code, str [n + 1], and the final code of each provisional one, int32."""
    names = list(self._codes)[1:]
    if all(name.isascii() and name.isdigit() for name in names):
      names.sort(key=lambda name: (int(name), name))
    else:
      names.sort()
    final = np.zeros(len(self._codes), np.int32)
    for code, name in enumerate(names, start=1):
      final[self._codes[name]] = code
    return np.array(["", *names], np.str_), final


class Columns(NamedTuple):
  """Column files of one folder: raw arrays of equal length, one file a column."""

  folder: Path
  dtypes: Mapping[str, str]

  def read(self, name: str, start: int, stop: int) -> np.ndarray:
    """Rows [start, stop) of a column, read into memory."""
    dtype = np.dtype(self.dtypes[name])
    file = self.folder / f"{name}.bin"
    return np.fromfile(file, dtype, stop - start, offset=start * dtype.itemsize)

  def create(self, length: int) -> None:
    """Makes every column a file of `length` zeros."""
    for name, dtype in self.dtypes.items():
      with (self.folder / f"{name}.bin").open("wb") as file:
        size = length * np.dtype(dtype).itemsize
        if hasattr(os, "posix_fallocate"):
          # A hole that is written through a map kills the process where the disk is full.
          os.posix_fallocate(file.fileno(), 0, size)
        else:
          file.truncate(size)

  def scatter(self, name: str, at: np.ndarray, values: np.ndarray) -> None:
    """Sets the rows `at`. The map lives for this call only, so that its pages are let go."""
    np.memmap(self.folder / f"{name}.bin", self.dtypes[name], "r+")[at] = values

  def append(self, rows: Mapping[str, np.ndarray]) -> None:
    """Appends rows to every column; raises TypeError where a dtype does not fit safely."""
    for name, dtype in self.dtypes.items():
      with (self.folder / f"{name}.bin").open("ab") as file:
        file.write(rows[name].astype(dtype, casting="safe").tobytes())


def blocks(indptr: np.ndarray, rows: int) -> Iterator[tuple[int, int]]:
  """Ranges of users [start, stop) with at most `rows` events each, single users excepted."""
  start, users = 0, len(indptr) - 1
  while start < users:
    stop = int(np.searchsorted(indptr, indptr[start] + rows, "right")) - 1
    stop = min(max(stop, start + 1), users)
    yield start, stop
    start = stop


def stream(source: Source, folder: Path) -> dict[str, Any]:
  """Pass 1: appends all chunks of `source` to column files in `folder`; returns what it saw.

  The files are `user`, `item`, `when` (unless the source has no timing) and 0, 1, ... for further
  columns. Ids and text in them are provisional codes; `<file>_codes.npy` holds the final one of
  each, `user_raw.npy` and `item_raw.npy` the raw ids by final number; a numbered source has
  neither for its ids. Raises DataError for an empty source and impossible values.
  """
  ids = {} if source.numbered else {"user": Codes(), "item": Codes()}
  text: dict[str, Codes] = {}
  columns, keys, events, times = None, {}, 0, (0, 0)
  counts, largest_item = np.zeros(1, np.int64), 0
  dropped: collections.Counter[str] = collections.Counter()
  for chunk in source.chunks():
    dropped.update(chunk.dropped)
    if not len(chunk.user):
      continue
    rows = {
      "user": ids["user"].add(chunk.user) if ids else chunk.user.astype(np.int32),
      "item": ids["item"].add(chunk.item) if ids else chunk.item.astype(np.int32),
    }
    if not ids:
      _check_dense(rows, events, source.place)
    if source.timing != "none":
      rows["when"] = chunk.when
      low, high = int(chunk.when.min()), int(chunk.when.max())
      times = (min(times[0], low), max(times[1], high)) if events else (low, high)
      if source.timing == "time":
        _check_times(chunk.when, events, source)
    keys = keys or {name: str(number) for number, name in enumerate(chunk.columns)}
    for name, key in keys.items():
      values = chunk.columns[name]
      rows[key] = _encode(text.setdefault(key, Codes()), values) if is_str(values) else values
    if columns is None:
      columns = Columns(folder, {name: values.dtype.str for name, values in rows.items()})
    columns.append(rows)
    counts = _add_counts(counts, rows["user"])
    largest_item = max(largest_item, int(rows["item"].max()))
    events += len(chunk.user)
  if events == 0:
    reasons = ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in dropped.items())
    raise DataError(f"{source.place} holds no rows{f' but {reasons}' if reasons else ''}.")
  if ids:
    counts, largest_item = _finish_ids(source, ids, counts, folder)
  np.save(folder / "counts.npy", counts)
  dtypes, names, left_out = dict(columns.dtypes), {}, {}
  for name, key in list(keys.items()):
    if key in text and len(text[key]) > MOST_CODES + 1:
      left_out[name] = f"text with more than {MOST_CODES} different values"
      del keys[name], dtypes[key]
    elif key in text:
      found, final = text[key].finish()
      names[name] = found.tolist()
      np.save(folder / f"{key}_codes.npy", final)
  return {
    "events": events,
    "dtypes": dtypes,
    "columns": keys,
    "times": times,
    "largest_item": largest_item,
    "names": names,
    "left_out": left_out,
    "dropped": dict(dropped),
  }


def place(before: Path, seen: Mapping[str, Any], rows: int, folder: Path) -> dict[str, Any]:
  """Pass 2: moves rows to their user's range, in the order of the stream, `rows` at a time.

  `before` is the folder of `stream` and `seen` what that returned. Writes `indptr.npy` and the
  same columns with final codes.
  """
  source = Columns(before, seen["dtypes"])
  target = Columns(folder, {name: t for name, t in seen["dtypes"].items() if name != "user"})
  finals = {
    name: load_array(before / f"{name}_codes.npy")
    for name in seen["dtypes"]
    if (before / f"{name}_codes.npy").exists()
  }
  indptr = np.concatenate([[0], np.cumsum(load_array(before / "counts.npy"))])
  target.create(seen["events"])
  free = indptr[:-1].copy()
  for start in range(0, seen["events"], rows):
    stop = min(start + rows, seen["events"])
    values = {name: source.read(name, start, stop) for name in source.dtypes}
    values |= {name: final[values[name]] for name, final in finals.items()}
    order = np.argsort(values["user"], kind="stable")
    user, first, count = np.unique(
      values.pop("user")[order], return_index=True, return_counts=True
    )
    at = np.repeat(free[user] - first, count) + np.arange(len(order))
    for name, column in values.items():
      target.scatter(name, at, column[order])
    free[user] += count
  np.save(folder / "indptr.npy", indptr)
  return {}


def order(
  before: Path, seen: Mapping[str, Any], rows: int, duplicates: str, place: str, folder: Path
) -> dict[str, Any]:
  """Pass 3: sorts each user's events by time or position, ties as they came; counts duplicates.

  A duplicate repeats user, item and time of an earlier row (user and item where there is no time);
  `duplicates` says whether it is dropped, kept or an error. Memory is `rows` events or the largest
  user's. Writes `indptr.npy` and the columns.
  """
  columns = Columns(folder, {name: t for name, t in seen["dtypes"].items() if name != "user"})
  indptr = load_array(before / "indptr.npy")
  source = Columns(before, columns.dtypes)
  counts, repeated = np.diff(indptr), 0
  for start, stop in blocks(indptr, rows):
    user = np.repeat(np.arange(start, stop), counts[start:stop])
    values = {name: source.read(name, indptr[start], indptr[stop]) for name in source.dtypes}
    # Most logs come in order of time, and looking costs a tenth of sorting.
    if "when" in values and _late(user, values["when"]).any():
      by_time = np.lexsort((values["when"], user))
      values = {name: column[by_time] for name, column in values.items()}
    again = _repeats(user, values.get("when"), values["item"])
    repeated += int(again.sum())
    if duplicates == "error" and again.any():
      first = int(np.argmax(again))
      raise DataError(
        f"{place}: event {first + 1} of user number {user[first]}'s history repeats user, item and "
        "time of an earlier row (config.data.duplicates = 'error')."
      )
    if duplicates == "drop":
      counts[start:stop] -= np.bincount(user[again] - start, minlength=stop - start)
      values = {name: column[~again] for name, column in values.items()}
    columns.append(values)
  np.save(folder / "indptr.npy", np.concatenate([[0], np.cumsum(counts)]))
  return {"repeated": repeated}


def core(
  indptr: np.ndarray, columns: Columns, num_items: int, least: int, rows: int, most_popular: int = 0
) -> tuple[np.ndarray, np.ndarray]:
  """Users [U] and items [I + 1] (bool) that stay when all with < `least` events go, repeatedly.

  `indptr` [U + 1] and the column `item` [E] are the log; user 0 and item 0 are padding and never
  stay. With `most_popular` above 0 that many items stay, those with the most events, of equal ones
  the lower number, and only users go. A pass over the events a round, `rows` of them in memory.
  """
  users, items = np.ones(len(indptr) - 1, np.bool_), np.ones(num_items + 1, np.bool_)
  users[0] = items[0] = False
  if most_popular:
    count = np.zeros(len(items), np.int64)
    for start, stop in blocks(indptr, rows):
      count += np.bincount(columns.read("item", indptr[start], indptr[stop]), minlength=len(items))
    ranked = 1 + np.argsort(-count[1:], kind="stable")
    items[ranked[most_popular:]] = False
  while True:
    user_counts = np.zeros(len(users), np.int64)
    item_counts = np.zeros(len(items), np.int64)
    for start, stop in blocks(indptr, rows):
      user = np.repeat(np.arange(start, stop), np.diff(indptr[start : stop + 1]))
      values = columns.read("item", indptr[start], indptr[stop])
      stays = users[user] & items[values]
      user_counts += np.bincount(user[stays], minlength=len(users))
      item_counts += np.bincount(values[stays], minlength=len(items))
    next_users = users & (user_counts >= least)
    next_items = items if most_popular else items & (item_counts >= least)
    if (next_users == users).all() and (next_items == items).all():
      return users, items
    users, items = next_users, next_items


def _late(user: np.ndarray, when: np.ndarray) -> np.ndarray:
  """True [n - 1] for rows that are later than the row of the same user behind them."""
  return (when[1:] < when[:-1]) & (user[1:] == user[:-1])


def _repeats(user: np.ndarray, when: np.ndarray | None, item: np.ndarray) -> np.ndarray:
  """True [n] for rows whose user, time and item an earlier row has; sorted by user and time."""
  keys = (item, user) if when is None else (item, when, user)
  rows = np.arange(len(user))
  if when is not None:
    tied = (user[1:] == user[:-1]) & (when[1:] == when[:-1])
    rows = np.flatnonzero(np.append(tied, False) | np.append(False, tied))
    keys = tuple(key[rows] for key in keys)
  order = np.lexsort(keys)
  same = np.ones(max(len(order) - 1, 0), np.bool_)
  for key in keys:
    same &= key[order][1:] == key[order][:-1]
  again = np.zeros(len(user), np.bool_)
  again[rows[order[1:]][same]] = True
  return again


def _encode(codes: Codes, values: np.ndarray) -> np.ndarray:
  """Codes of text, or zeros once it is plain that the column will be left out."""
  if len(codes) > MOST_CODES + 1:
    return np.zeros(len(values), np.int32)
  return codes.add(values)


def _check_times(when: np.ndarray, events: int, source: Source) -> None:
  row = int(max(np.argmin(when), np.argmax(when), key=lambda at: abs(int(when[at]))))
  if abs(int(when[row])) > LATEST_TIME:
    raise DataError(
      f"{source.place}: the time in row {events + row + 1} is {when[row]}, which is not in seconds "
      "since 1970 (milliseconds?)."
    )


def _add_counts(counts: np.ndarray, user: np.ndarray) -> np.ndarray:
  """Event counts by user with those of one more chunk."""
  more = np.bincount(user, minlength=len(counts))
  more[: len(counts)] += counts
  return more


def _check_dense(rows: Mapping[str, np.ndarray], events: int, place: str) -> None:
  """Refuses numbers so large that arrays indexed by them would not fit."""
  for kind in ("user", "item"):
    row = int(np.argmax(rows[kind]))
    if rows[kind][row] > max(LARGEST_NUMBER, 100 * (events + len(rows[kind]))):
      raise DataError(
        f"{place}: column '{kind}_id', row {events + row + 1} holds {rows[kind][row]}, too large "
        f"for {kind}s numbered from 1: set config.data.ids = 'raw'."
      )


def _finish_ids(
  source: Source, ids: Mapping[str, Codes], counts: np.ndarray, folder: Path
) -> tuple[np.ndarray, int]:
  """Adds the ids of side tables and writes the final numbering; counts by it, largest item."""
  for kind, table in (("user", source.users()), ("item", source.items())):
    if table is not None:
      column = f"{kind}_id"
      values = table[column].combine_chunks()
      ids[kind].add(checked_ids(values, False, f"{source.place} ({kind}s)", column, 1))
  for kind, codes in ids.items():
    raw, final = codes.finish()
    np.save(folder / f"{kind}_raw.npy", raw)
    np.save(folder / f"{kind}_codes.npy", final)
  ordered = np.zeros(len(ids["user"]), np.int64)
  ordered[load_array(folder / "user_codes.npy")[: len(counts)]] = counts
  return ordered, len(ids["item"]) - 1
