"""The recommender of an export made by hand: exact answers, names, mistakes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax.config import read_config_file, to_json
from recjax.data.schema import Field, Schema
from recjax.errors import RecjaxError
from recjax.serve.export import read_export, write_export
from recjax.serve.recommender import Recommender
from recjax.serve.variety import vary

CATEGORIES = ["", "horror", "comedy", "drama", "comedy", "horror"]
LABELS = ["", "Alien (1979)", "Brazil (1985)", "Casablanca (1942)", "Dogma (1999)", "Alien (1979)"]


@pytest.fixture
def workdir(tmp_path):
  """A transition table over five items: after 1 comes 2 (twice) or 3 (once); 4 is most popular."""
  config = to_json(read_config_file("experiments/counts.py:tiny,kind=transition"))
  schema = Schema(
    {"hist_item": Field("ids", (3,), "item"), "hist_mask": Field("mask", (3,))},
    {"item": 6, "user": 2},
  )
  from logs import log

  from recjax.data.splits import Split
  from recjax.models.retrieval import counts

  histories = [[1, 2], [1, 2], [1, 3], [4, 4, 4, 4, 4]]
  events = log(histories, num_items=5)
  split = Split(events.indptr[:-1], events.indptr[1:], None, None, {})
  learner = counts.build(counts.Config(kind="transition"), schema)
  variables = learner.fit(events, split)
  items = {"label": LABELS, "category": CATEGORIES}
  write_export(tmp_path / "export", variables, config, schema, items)
  return tmp_path


def test_answers_exactly_and_never_from_the_history(workdir):
  recommender = Recommender.load(workdir)
  first, unknown_user = recommender.recommend([[5, 1], []], k=10)
  assert [r.item for r in first] == [2, 3, 4]
  assert first[0].label == "Brazil (1985)"
  # A = 2 after item 1; popularity 2 of at most 5, times one half.
  assert first[0].score == pytest.approx(2 + 0.5 * 2 / 5)
  assert [r.item for r in unknown_user] == [4, 1, 2, 3, 5]


def test_lists_trade_scores_for_variety(workdir):
  recommender = Recommender.load(workdir)
  plain = recommender.recommend([[]], k=3)[0]  # by popularity: 4 and 2 are comedies, 1 is horror
  assert [r.item for r in plain] == [4, 1, 2]
  # After 4, of 0.5, items 1, 2, 3, 5 score 0.3, 0.2, 0.1, 0 and all but 2 gain: too little to matter.
  assert [r.item for r in recommender.recommend([[]], k=5, variety=0.05)[0]] == [4, 1, 2, 3, 5]
  varied = recommender.recommend([[]], k=4, variety=0.2)[0]
  assert [r.item for r in varied] == [4, 1, 3, 2]
  assert [r.score for r in varied] == pytest.approx([0.5, 0.3, 0.1, 0.2])
  export = read_export(workdir / "export")
  write_export(
    workdir / "export", export.variables, to_json(export.config), export.schema, {"label": LABELS}
  )
  with pytest.raises(RecjaxError, match="cannot be varied: the items of this run have no categories"):
    Recommender.load(workdir).recommend([[1]], variety=0.1)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 8), st.integers(1, 8), st.floats(0, 3), st.integers(0, 2**31))
def test_variety_equals_a_plain_greedy_choice(count, k, weight, seed):
  rng = np.random.default_rng(seed)
  k = min(k, count)
  scores = np.sort(rng.normal(size=(2, count)))[:, ::-1].copy()
  scores[1, count // 2 :] = -np.inf
  categories = rng.integers(0, 3, (2, count))
  found = vary(scores, categories, k, weight)
  for row in range(2):
    chosen: list[int] = []
    for _ in range(min(k, int(np.isfinite(scores[row]).sum()))):
      worth = {
        i: scores[row, i] + weight * sum(categories[row, i] != categories[row, j] for j in chosen)
        for i in range(count) if i not in chosen and np.isfinite(scores[row, i])
      }
      chosen.append(max(worth, key=worth.get))
    assert found[row, : len(chosen)].tolist() == chosen
    assert len(set(found[row].tolist())) == k


def test_only_the_newest_of_a_long_history_counts_but_all_are_left_out(workdir):
  recommender = Recommender.load(workdir)
  answers = recommender.recommend([[2, 3, 4, 5, 1]], k=3)[0]
  assert answers == []


def test_items_are_found_by_label_or_id_and_mistakes_named(workdir):
  recommender = Recommender.load(workdir)
  assert recommender.find("Casablanca (1942)") == 3
  assert recommender.find(" 4 ") == 4
  assert recommender.find("Alien (1979)") == 1  # the first of two with one label
  with pytest.raises(RecjaxError, match=r"'Casablanka'. Did you mean 'Casablanca \(1942\)'"):
    recommender.find("Casablanka")
  with pytest.raises(RecjaxError, match="Item 9 is not in the catalogue of items 1 to 5"):
    recommender.find("9")
  with pytest.raises(RecjaxError, match="Item 0 is not"):
    recommender.recommend([[0]])


def test_an_export_survives_the_disk(workdir):
  export = read_export(workdir / "export")
  assert export.items["label"] == LABELS
  assert export.schema.fields["hist_item"] == Field("ids", (3,), "item")
  assert export.config.model.kind == "transition"
  weights = export.variables["statistics"]["weight"]
  assert sorted(np.asarray(weights)[np.asarray(weights) > 0].tolist()) == [1.0, 2.0, 4.0]


def test_what_is_no_export_says_what_is_missing(tmp_path):
  with pytest.raises(RecjaxError, match=r"variables.safetensors is missing"):
    Recommender.load(tmp_path)
