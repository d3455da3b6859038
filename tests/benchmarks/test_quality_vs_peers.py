"""Parts of benchmarks/quality_vs_peers.py that train nothing: lists, looks, steps and the rule."""

import json

import numpy as np
import pytest
import quality_vs_peers as bench
import sasrec_peers

from recjax.config import read_config_file
from recjax.programs.prove import override

USERS = np.array([1, 2, 3, 4])


def write(folder, name, first):
  """Lists of four users that begin with these items."""
  ids = np.array([[item, *range(100, 110)] for item in first])
  scores = np.tile(-np.arange(11.0), (4, 1))
  np.savez(folder / name, user=USERS, ids=ids, scores=scores)


@pytest.fixture
def exported(tmp_path):
  path = tmp_path / "events.npz"
  np.savez(
    path, train_user=np.array([1, 1, 2, 2, 3, 3, 4]), validation_user=USERS,
    validation_item=np.array([5, 6, 7, 8]), test_user=USERS, test_item=np.array([9, 9, 9, 100]),
  )
  return path


def test_the_best_look_on_validation_gives_the_test_values(exported, tmp_path):
  folder = tmp_path / "peer"
  folder.mkdir()
  looks = [((5, 1, 1, 1), (9, 9, 9, 1)), ((5, 6, 7, 1), (9, 1, 1, 1)), ((1, 6, 7, 8), (1, 9, 1, 1))]
  for number, (validation, test) in enumerate(looks):
    write(folder, f"lists_{number:03}.npz", validation)
    write(folder, f"test_{number:03}.npz", test)
    with open(folder / "progress.jsonl", "a") as file:
      file.write(json.dumps({"number": number, "seconds": 1.0, "epochs": 5 * (number + 1)}) + "\n")
  # The second and third look hit as much; the first of them counts. User 4's answer stands second.
  found = bench.chosen(folder, exported)
  assert found["epochs"] == 10
  assert found["hr@10"] == 0.5
  assert found["ndcg@10"] == pytest.approx((1 + 1 / np.log2(3)) / 4)


def test_lists_of_other_users_are_refused(exported, tmp_path):
  write(tmp_path, "lists.npz", (5, 6, 7, 8))
  answers = sasrec_peers.answers_of(exported, "validation")
  assert sasrec_peers.values_of(tmp_path / "lists.npz", answers) == {"ndcg@10": 1.0, "hr@10": 1.0}
  with pytest.raises(AssertionError, match="other users"):
    sasrec_peers.values_of(tmp_path / "lists.npz", {**answers, 5: 1})


def test_as_many_steps_as_the_peer(exported, monkeypatch):
  assert bench.steps_of(exported, 7) == 7  # three users of two events, one batch
  monkeypatch.setattr(bench, "BATCH", 2)
  assert bench.steps_of(exported, 7) == 14


@pytest.mark.parametrize(
  ("ours", "no_worse", "same"),
  [
    ([0.10, 0.12, 0.11], True, True), ([0.20, 0.22, 0.21], True, False),
    ([0.05, 0.06, 0.07], False, False),
  ],
)
def test_the_rule(ours, no_worse, same):
  found = bench.verdict(ours, [0.10, 0.11, 0.12])
  assert found["error"] == pytest.approx(np.sqrt(2 * 0.01**2 / 3))
  assert [claim["passed"] for claim in bench.claims(found)] == [no_worse, same]


def test_the_experiment_takes_the_settings():
  config = read_config_file(str(sasrec_peers.ROOT / "experiments/sasrec.py"))
  config = override(config, tuple(bench.settings(1600, 40, 5)))
  assert (config.seeds, config.train.steps, config.train.evaluate_every) == (5, 1600, 40)
  assert (config.model.norm, config.optimizer.b2, config.view.length) == ("original", 0.98, 200)
