"""Reviews and metadata of products: exact content, and a sentence for everything that is wrong."""

import gzip
import json

import pytest

from recjax.data.load import load
from recjax.data.sources import amazon_reviews
from recjax.errors import ConfigError, DataError

REVIEWS = [
  {"reviewerID": "U2", "asin": "B9", "unixReviewTime": 300, "overall": 5.0, "reviewText": "a\nb"},
  {"reviewerID": "U1", "asin": "B10", "unixReviewTime": 200, "helpful": [0, 1]},
  {"reviewerID": "U2", "asin": "B10", "unixReviewTime": 100},
  {"reviewerID": "U2", "asin": "B10", "unixReviewTime": 100},
  {"reviewerID": "U1", "asin": "B7", "unixReviewTime": 200},
]
# What Python writes: no JSON.
PRODUCTS = """{'asin': 'B10', 'title': "Bo's", 'categories': [['Toys', 'Kites'], ['Home', 'Lamps|LED']]}
{'asin': 'B7', 'related': None, 'categories': [['Toys', 'Kites']]}

{'asin': 'B9', 'title': 'no path'}
{'asin': 'B1', 'categories': [['Nobody', 'Wrote', 'About it']]}
"""


def as_lines(records):
  return "".join(json.dumps(record) + "\n" for record in records)


def read(tmp_path, reviews=None, products=PRODUCTS, ending=".json", **options):
  files = {}
  for name, text in (("reviews_Toys", reviews or as_lines(REVIEWS)), ("meta_Toys", products)):
    files[name] = tmp_path / f"{name}{ending}"
    content = text if isinstance(text, bytes) else text.encode()
    files[name].write_bytes(gzip.compress(content) if ending.endswith(".gz") else content)
  keys = {"path": str(files["reviews_Toys"]), "metadata": str(files["meta_Toys"])}
  cache = str(tmp_path / "cache")
  return load({"name": "amazon_reviews", "cache": cache, **keys, **options})


@pytest.mark.parametrize("ending", [".json", ".json.gz"])
@pytest.mark.parametrize("rows", [1, 2, 100])
def test_exact_content(tmp_path, monkeypatch, ending, rows):
  monkeypatch.setattr(amazon_reviews, "_ROWS", rows)
  log = read(tmp_path, ending=ending)
  assert log.name == "reviews_Toys"
  assert log.users["raw"].tolist() == ["", "U1", "U2"]
  # B1 has no review: it is no item, nor is its category one that an item has.
  assert log.items["raw"].tolist() == ["", "B10", "B7", "B9"]
  assert log.indptr.tolist() == [0, 0, 2, 4]
  assert log.item.tolist() == [1, 2, 1, 3]  # those of U1 at one time as in the file
  assert log.time.tolist() == [100, 100, 0, 200] and log.origin == 100
  names = log.facts["names"]["items.category"]
  assert [names[code] for code in log.items["category"]] == ["", "Lamps/LED", "Kites", ""]
  assert log.facts["cleaned"] == {
    "repeated_events": 1, "events_outside_core": 0, "users_outside_core": 0, "items_outside_core": 1,
  }
  assert log.facts["missing"] == {"items.category": 1} and log.facts["without_row"] == {"items": 0}


def test_options(tmp_path):
  first = read(tmp_path, category_path="first")
  names = first.facts["names"]["items.category"]
  assert [names[code] for code in first.items["category"]] == ["", "Kites", "Kites", ""]
  assert read(tmp_path, duplicates="keep").num_events == 5
  bare = read(tmp_path, metadata="")
  assert bare.num_items == 3 and "category" not in bare.items
  with pytest.raises(ConfigError, match="Unknown value of config.data.category_path 'lats'. Did you"):
    read(tmp_path, category_path="lats")
  with pytest.raises(ConfigError, match="config.data.path is empty: name the file of reviews"):
    read(tmp_path, path="")
  with pytest.raises(DataError, match="meta.json does not exist"):
    read(tmp_path, metadata="meta.json")


GOOD = as_lines(REVIEWS[:1])
BAD = [
  ("", GOOD + '{"reviewerID": "U1"', "row 2 is neither JSON nor a Python literal"),
  ("", GOOD + "[1]\n", "row 2 is no JSON object"),
  ("", GOOD + "\n" + '{"asin": "B1"}', "row 2 lacks the field 'reviewerID'; it has asin"),
  ("", as_lines([{**REVIEWS[0], "asin": " "}]), "field 'asin', row 1 holds ' ', which is no id"),
  ("", as_lines([{**REVIEWS[0], "asin": 7}]), "field 'asin', row 1 holds 7, which is no id"),
  ("", as_lines([{**REVIEWS[0], "asin": "B\0"}]), r"row 1 holds 'B\\x00', which is no id"),
  ("", as_lines([{**REVIEWS[0], "reviewerID": None}]), "'reviewerID', row 1 holds None"),
  ("", as_lines([{**REVIEWS[0], "unixReviewTime": "1"}]), "'unixReviewTime', row 1 holds '1', which"),
  ("", as_lines([{**REVIEWS[0], "unixReviewTime": True}]), "row 1 holds True, which is no time"),
  ("", as_lines([{**REVIEWS[0], "unixReviewTime": 10**30}]), "holds 1000000.*, which is no time"),
  ("", as_lines([{**REVIEWS[0], "unixReviewTime": 10**12}]), "the time in row 1 .* .milliseconds"),
  ("", "[" * 100_000 + "\n", "row 1 is nested too deeply"),
  ("", b"\xff\xfe\n", "cannot be read after row 0"),
  ("", "\n", "holds no rows"),
  ("meta", "{'asin': __import__('os').getcwd()}\n", "row 1 is neither JSON nor a Python literal"),
  ("meta", "{'asin': 'B9', 'categories': 'Toys'}", "field 'categories', row 1 holds 'Toys', which"),
  ("meta", "{'asin': 'B9', 'categories': [[]]}", r"field 'categories', row 1 holds \[\[\]\], which"),
  ("meta", "{'asin': 'B9', 'categories': [[3]]}", r"row 1 holds \[\[3\]\], which are no paths"),
  ("meta", "{'asin': 'B9'}", "no row has a category in the field 'categories'"),
  ("meta", PRODUCTS + "{'asin': 'B7'}", "field 'asin', row 5 holds 'B7', which an earlier row has"),
]


@pytest.mark.parametrize("kind, text, message", BAD, ids=range(len(BAD)))
def test_malformed(tmp_path, kind, text, message):
  texts = {"products": text} if kind else {"reviews": text}
  with pytest.raises(DataError, match=message) as caught:
    read(tmp_path, **texts)
  assert "\n" not in str(caught.value)
  assert ("meta_Toys.json" if kind else "reviews_Toys.json") in str(caught.value)


def test_a_cut_archive(tmp_path):
  file = tmp_path / "reviews.json.gz"
  file.write_bytes(gzip.compress(as_lines(REVIEWS * 500).encode())[:-20])
  with pytest.raises(DataError, match="reviews.json.gz cannot be read after row [0-9]+: "):
    load({"name": "amazon_reviews", "path": str(file), "cache": str(tmp_path)})
