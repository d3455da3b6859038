"""MovieLens 100K: both copies give one log; fakes of both are made here, nothing is shipped."""

import hashlib
import io
import os
import urllib.error
import zipfile

import numpy as np
import pytest

from recjax.data.load import load
from recjax.data.sources import base, movielens
from recjax.errors import DataError

RATINGS = [(2, 1, 5, 100), (1, 3, 4, 90), (2, 2, 3, 100), (2, 4, 1, 50), (1, 2, 2, 95)]
FILMS = [  # official title, wheel title, wheel year, genres
  ("Toy Story (1995)", "Toy Story", "1995", ("Animation", "Children's")),
  ("unknown", "unkonwn", "unkonwn", ("unknown",)),
  ("Land III (1995) (V)", "Land III (1995)", "V", ("Sci-Fi",)),
  ("Café au Lait (1993) ", "Café au Lait", "1993", ("Film-Noir", "Drama")),
]
USERS = [("1", "24", "M", "writer", "85711"), ("2", "53", "F", "other", "T8H1N")]


def zipped(members):
  """A zip archive in memory."""
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w") as archive:
    for name, content in members.items():
      archive.writestr(name, content)
  return file.getvalue()


def lines(rows, separator):
  return "".join(separator.join(map(str, row)) + "\n" for row in rows)


def official(ratings=RATINGS):
  films = [
    (n, title, "01-Jan-1995", "", "", *(int(g in genres) for g in movielens.GENRES))
    for n, (title, _, _, genres) in enumerate(FILMS, start=1)
  ]
  return zipped(
    {
      "ml-100k/u.data": lines(ratings, "\t"),
      "ml-100k/u.item": lines(films, "|").encode("latin-1"),
      "ml-100k/u.user": lines(USERS, "|"),
      "../outside": "never written",
    }
  )


def wheel(ratings=RATINGS):
  films = [
    (n, title, year, " ".join(sorted(genres, key=movielens.GENRES.index)))
    for n, (_, title, year, genres) in enumerate(FILMS, start=1)
  ]
  stem = "recbole/dataset_example/ml-100k/ml-100k"
  return zipped(
    {
      f"{stem}.inter": "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
      + lines(ratings, "\t"),
      f"{stem}.item": "item_id:token\tmovie_title\trelease_year\tclass\n" + lines(films, "\t"),
      f"{stem}.user": "user_id:token\tage\tgender\toccupation\tzip\n" + lines(USERS, "\t"),
    }
  )


def offline():
  raise urllib.error.URLError("no route to host")


@pytest.fixture(autouse=True)
def known(monkeypatch):
  """The fake ratings are the expected ones; downloads fail unless a test replaces them."""
  rows = np.array(RATINGS, "<i8")
  monkeypatch.setattr(movielens, "ROW_ORDER", hashlib.sha256(rows.tobytes()).hexdigest())
  rows = np.array(sorted(RATINGS), "<i8")
  monkeypatch.setattr(movielens, "CONTENT", hashlib.sha256(rows.tobytes()).hexdigest())
  monkeypatch.setattr(movielens, "download_archive", offline)
  monkeypatch.setattr(movielens, "download_wheel", offline)


def read(cache):
  return load({"name": "movielens_100k", "cache": str(cache)})


def test_both_copies_give_one_log(tmp_path, monkeypatch, capsys):
  monkeypatch.setattr(movielens, "download_archive", official)
  one = read(tmp_path / "one")
  assert "official archive of GroupLens. MovieLens 100K, (c) GroupLens" in capsys.readouterr().out
  monkeypatch.setattr(movielens, "download_archive", offline)
  monkeypatch.setattr(movielens, "download_wheel", wheel)
  two = read(tmp_path / "two")
  said = capsys.readouterr().out
  assert "recbole==1.2.1 (official archive" in said and "no route to host" in said
  assert "no redistribution" in said
  for log in (one, two):
    assert log.indptr.tolist() == [0, 0, 2, 5]
    assert log.item.tolist() == [3, 2, 4, 1, 2]  # user 2 has a tie: file order, not item order
    assert log.time.tolist() == [40, 45, 0, 50, 50] and log.origin == 50
    assert log.columns["rating"].tolist() == [4, 2, 1, 5, 3]
    assert log.items["label"].tolist() == [
      "", "Toy Story (1995)", "unknown", "Land III (1995) (V)", "Café au Lait (1993)",
    ]
    assert log.items["genres"].tolist()[1:] == [
      "Animation|Children's", "unknown", "Sci-Fi", "Drama|Film-Noir",
    ]
    assert log.facts["names"]["items.category"] == [
      "", "Animation", "Drama", "Sci-Fi", "unknown",
    ]
    assert log.items["category"].tolist() == [0, 1, 4, 3, 2]
    assert log.users["age"].tolist() == [0, 24, 53]
    assert log.users["gender"].tolist() == [0, 2, 1]
    assert log.vocabularies["occupation"] == 3
  assert not list(tmp_path.rglob("outside"))


def test_second_time_needs_no_network(tmp_path, monkeypatch):
  monkeypatch.setattr(movielens, "download_wheel", wheel)
  read(tmp_path)
  monkeypatch.setattr(movielens, "download_wheel", offline)
  assert read(tmp_path).num_events == 5
  assert load({"name": "movielens_100k", "cache": str(tmp_path), "core": 1}).num_events == 5
  assert not list((tmp_path / "downloads").glob(".*"))


def test_no_way_works(tmp_path):
  with pytest.raises(DataError, match=r"could not be fetched \(official archive.*no route.*wheel"):
    read(tmp_path)
  assert not (tmp_path / "downloads").exists()


def test_other_content_is_refused(tmp_path, monkeypatch):
  changed = [(2, 1, 4, 100), *RATINGS[1:]]
  monkeypatch.setattr(movielens, "download_archive", lambda: official(changed))
  monkeypatch.setattr(movielens, "download_wheel", wheel)
  with pytest.raises(DataError, match=r"official archive.*not those of MovieLens 100K \(SHA-256"):
    read(tmp_path)


def test_another_row_order_is_told(tmp_path, monkeypatch):
  monkeypatch.setattr(movielens, "download_archive", lambda: official(RATINGS[::-1]))
  log = read(tmp_path)
  assert "rows in another order" in log.facts["way"]
  assert log.item.tolist() == [3, 2, 4, 2, 1]


@pytest.mark.parametrize(
  "archive, message",
  [
    (b"<html>", "ml-100k.zip is no zip archive"),
    (official()[:200], "ml-100k.zip is no zip archive"),
    (zipped({"ml-100k/u.data": "1\t2"}), "There is no item named 'ml-100k/u.item'"),
    (official([(1, 2, 3)]), "u.data: line 1 has 3 fields, expected 4"),
    (official([(1, 2, "x", 3)]), "u.data holds something that is no number"),
  ],
)
def test_malformed_archives(archive, message):
  with pytest.raises(DataError, match=message):
    movielens.read_archive(archive)


def test_oversized_members_are_not_read(monkeypatch):
  monkeypatch.setattr(movielens, "LARGEST_ARCHIVE", 50)
  with pytest.raises(DataError, match="is larger than any file"):
    movielens.read_archive(official())


def floor(log, weight):
  """Leave-one-out NDCG@10 of `weight` times last-item transitions plus popularity."""
  size, gains = log.num_items + 1, []
  histories = [log.item[a:b] for a, b in zip(log.indptr[1:-1], log.indptr[2:], strict=True)]
  moves, popular = np.zeros((size, size)), np.zeros(size)
  for history in histories:
    np.add.at(moves, (history[:-2], history[1:-1]), 1)
    np.add.at(popular, history[:-1], 1)
  for history in histories:
    score = weight * moves[history[-2]] + 0.5 * popular / popular.max()
    score[0] = -1
    score[history[:-1]] = -1
    rank = int((score > score[history[-1]]).sum())
    gains.append(1 / np.log2(rank + 2) if rank < 10 else 0.0)
  return float(np.mean(gains))


def check_real(log):
  assert (log.num_users, log.num_items, log.num_events) == (943, 1682, 100_000)
  assert log.facts["cleaned"] == {"repeated_events": 0}
  labels = log.items["label"].tolist()
  assert labels[1] == "Toy Story (1995)" and labels[267] == "unknown"
  assert labels[1412].endswith("(1995) (V)") and labels[543] == "Misérables, Les (1995)"
  assert log.vocabularies["category"] == 20 and log.vocabularies["occupation"] == 22
  assert floor(log, 1.0) == pytest.approx(0.0793, abs=5e-4)
  assert floor(log, 0.0) == pytest.approx(0.0450, abs=5e-4)


def test_real_where_cached(monkeypatch):
  monkeypatch.undo()
  if not list(base.cache_root().glob("downloads/movielens_100k-*/about.json")):
    pytest.skip("MovieLens 100K is not in the cache: load it once, or run the network tests")
  check_real(load({"name": "movielens_100k"}))


@pytest.mark.network
def test_real_download(tmp_path, monkeypatch):
  monkeypatch.undo()
  try:
    log = read(tmp_path)
  except DataError as error:
    pytest.skip(f"neither server can be reached: {error}")
  check_real(log)
  assert os.listdir(tmp_path / "downloads") == [f"movielens_100k-{movielens.CONTENT[:16]}"]
