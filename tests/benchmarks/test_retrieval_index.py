"""The short version of benchmarks/retrieval_index.py, and what its claims refuse."""

import copy

import numpy as np
import pytest
import retrieval_index


def test_lists_agree_but_for_ties():
  users = np.array([[1.0, 0.0], [1.0, 1.0]], np.float32)
  items = np.array([[0, 0], [3, 0], [2, 0], [2, 7], [1, 0]], np.float32)
  left = np.array([[1, 2], [3, 1]])
  found = lambda right: retrieval_index.disagreements(users, items, left, np.array(right))
  assert found(left) == {"places": 0, "wrong": 0}
  assert found([[1, 3], [3, 1]]) == {"places": 1, "wrong": 0}  # items 2 and 3 are tied for user 0
  assert found([[1, 4], [3, 1]]) == {"places": 1, "wrong": 1}
  assert found([[1, 1], [3, 1]])["wrong"] == 2  # another product, and an item twice


def test_a_size_is_measured(tmp_path, monkeypatch):
  monkeypatch.setattr(retrieval_index, "USERS", 8)
  monkeypatch.setattr(retrieval_index, "REPEATS", 1)
  retrieval_index.write_vectors(tmp_path, 500)
  found = retrieval_index.measure(tmp_path, tmp_path / "own.npz")
  assert found["seconds"] > 0 and 0 < found["temporary"] < 1e8
  users, items = (np.load(tmp_path / f"{name}.npy").astype(np.float64) for name in ("users", "items"))
  products = users @ items[1:].T
  ids = np.load(tmp_path / "own.npz")["ids"]
  np.testing.assert_array_equal(ids, 1 + np.argsort(-products, axis=1)[:, :100])


def test_claims_refuse():
  runs = {
    retrieval_index.OURS: [{"seconds": 1.0, "above": 5e8, "temporary": 5e8}] * 3,
    retrieval_index.PEER: [{"seconds": s, "above": 1e8} for s in (0.1, 0.9, 5.0)],
  }
  verdict = lambda r, d: [claim["passed"] for claim in retrieval_index.claims(r, d)]
  fine = [{"places": 3, "wrong": 0}]
  assert verdict(runs, fine) == [True] * 4
  assert verdict(runs, [*fine, {"places": 1, "wrong": 1}]) == [True, True, False, True]
  for key, place in (("temporary", 0), ("above", 1)):
    large = copy.deepcopy(runs)
    large[retrieval_index.OURS][2] = {**large[retrieval_index.OURS][2], key: 1.1e9}
    assert verdict(large, fine) == [i != place for i in range(4)]
  slow = copy.deepcopy(runs)
  slow[retrieval_index.PEER][1]["seconds"] = 0.4
  assert verdict(slow, fine) == [True, True, True, False]


@pytest.mark.slow
@pytest.mark.network
def test_faiss_is_installed_and_agrees(tmp_path):
  retrieval_index.write_vectors(tmp_path, 5000)
  retrieval_index.measure(tmp_path, tmp_path / "own.npz")
  found = retrieval_index.measure_peer(tmp_path, tmp_path / "peer.npz", tmp_path)
  assert found["version"] == "1.15.1" and found["seconds"] > 0
  lists = [np.load(tmp_path / f"{name}.npz")["ids"] for name in ("own", "peer")]
  vectors = [np.load(tmp_path / f"{name}.npy") for name in ("users", "items")]
  assert retrieval_index.disagreements(*vectors, *lists)["wrong"] == 0
