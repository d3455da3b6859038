"""User fairness: worked cases, loops over all pairs, limits, the sampled estimate, and errors."""

import math

import numpy as np
import pytest
from fairness_twins import csr, gini
from hypothesis import given, settings
from hypothesis import strategies as st

from recjax.errors import ConfigError, DataError
from recjax.evaluate import user_fairness as module
from recjax.evaluate import user_similarity
from recjax.evaluate.item_exposure import Undefined
from recjax.evaluate.item_rows import rows_matrix
from recjax.evaluate.user_fairness import puf, sampled_puf, user_fairness
from recjax.evaluate.user_similarity import Blended, Similarity, jensen_shannon

HISTORIES = [[1, 2, 3], [2, 3, 4], [9]]
few = settings(max_examples=40, deadline=None)


def alike(histories, kind="jaccard", num_items=40):
  return Similarity(rows_matrix(*csr(histories), num_items), kind)


def random_histories(users, seed, num_items=20):
  rng = np.random.default_rng(seed)
  return [(rng.permutation(num_items)[: rng.integers(0, 9)] + 1).tolist() for _ in range(users)]


def slow_similarity(one, other, kind):
  """Jaccard or cosine of two histories."""
  common = len(set(one) & set(other))
  if kind == "jaccard":
    return common / max(len(set(one) | set(other)), 1)
  return common / math.sqrt(len(one) * len(other)) if one and other else 0.0


def slow_puf(effectiveness, similarity):
  """Mean over pairs; similarity(u, v)."""
  users = range(len(effectiveness))
  return np.mean([
    similarity(u, v) * abs(effectiveness[u] - effectiveness[v]) for u in users for v in users if u < v
  ])


def test_worked_case():
  effectiveness = np.array([1, 0.5, 0])
  assert puf(effectiveness, alike(HISTORIES)) == pytest.approx(1 / 12)
  assert puf(effectiveness, alike(HISTORIES, "cosine")) == pytest.approx(1 / 9)
  assert puf(effectiveness, alike(HISTORIES), "sim_weighted_mean") == pytest.approx(0.5)
  lists = np.array([[1, 2], [3, 4], [5, 6]])
  found = user_fairness(
    lists, relevant=csr([[1, 2], [3], [9]]), histories=csr(HISTORIES), num_items=9, k=2
  )
  expected = {"PUF-Prec": 1 / 12, "PUF-Prec-Cos": 1 / 9, "SD-P": 0.4082483, "Gini-P": 0.4444444}
  assert {n: found[n] for n in expected} == pytest.approx(expected, abs=6e-8)


def test_worked_divergences():
  pairs = [
    ([0.5, 0.5, 0], [0, 0.5, 0.5], 0.5), ([1, 0], [0, 1], 1), ([0.7, 0.3], [0.4, 0.6], 0.0666537),
    ([0.2, 0.8], [0.2, 0.8], 0),
  ]
  for one, other, expected in pairs:
    assert jensen_shannon(np.array(one), np.array(other)) == pytest.approx(expected, abs=6e-8)


@pytest.mark.parametrize("kind", user_similarity.SIMILARITIES)
@pytest.mark.parametrize("terms", [1, 50, 10**6])
def test_all_pairs_equal_their_loop(kind, terms, monkeypatch):
  monkeypatch.setattr(user_similarity, "_TERMS", terms)
  histories = random_histories(17, 1)
  effectiveness = np.random.default_rng(2).random((2, 17))
  slow = lambda u, v: slow_similarity(histories[u], histories[v], kind)
  found = puf(effectiveness, alike(histories, kind))
  assert found == pytest.approx([slow_puf(row, slow) for row in effectiveness])
  users, others = np.array([0, 3, 5, 16]), np.array([1, 2, 16, 5])
  pairs = [slow(u, v) for u, v in zip(users, others, strict=True)]
  np.testing.assert_allclose(alike(histories, kind).of(users, others), pairs)


@pytest.mark.parametrize("terms", [1, 10**6])
def test_blended_similarity_equals_its_loop(terms, monkeypatch):
  monkeypatch.setattr(user_similarity, "_TERMS", terms)
  histories = random_histories(9, 4)
  features = np.random.default_rng(3).integers(0, 2, (20, 4)).astype(float)
  matrix = rows_matrix(*csr(histories), 20)

  def kinds(history):
    rows = [features[i - 1] / features[i - 1].sum() for i in history if features[i - 1].any()]
    return np.mean(rows, axis=0) if rows else np.full(4, 0.25)

  def slow(u, v, gamma):
    a, b = kinds(histories[u]), kinds(histories[v])
    entropy = lambda p: -sum(x * math.log2(x) for x in p if x > 0)
    apart = entropy((a + b) / 2) - (entropy(a) + entropy(b)) / 2
    return gamma * slow_similarity(histories[u], histories[v], "jaccard") + (1 - gamma) * (1 - apart)

  effectiveness = np.random.default_rng(2).random(9)
  found = {}
  for gamma in (0.0, 0.3, 1.0):
    blended = Blended(matrix, features, gamma)
    found[gamma] = float(puf(effectiveness, blended))
    expected = slow_puf(effectiveness, lambda u, v, gamma=gamma: slow(u, v, gamma))
    assert found[gamma] == pytest.approx(expected)
    assert blended.of(np.array([2]), np.array([7])) == pytest.approx(slow(2, 7, gamma))
  assert found[0.3] == pytest.approx(0.3 * found[1.0] + 0.7 * found[0.0])  # linear in gamma
  assert found[1.0] == pytest.approx(float(puf(effectiveness, Similarity(matrix))))


@few
@given(st.integers(2, 12), st.integers(0, 999), st.floats(-3, 3), st.floats(-1, 1))
def test_invariants(users, seed, factor, shift):
  rng = np.random.default_rng(seed)
  histories, effectiveness = random_histories(users, seed), rng.random(users)
  similarity = alike(histories)
  found = puf(effectiveness, similarity)
  assert 0 <= found <= 1
  moved = puf(factor * effectiveness + shift, similarity)
  assert moved == pytest.approx(abs(factor) * found, abs=1e-12)
  order = rng.permutation(users)
  again = puf(effectiveness[order], alike([histories[u] for u in order]))
  assert again == pytest.approx(found)
  assert puf(np.full(users, 0.3), similarity) == 0  # equal service is fair
  apart = alike([[user + 1] for user in range(users)])
  assert puf(effectiveness, apart) == 0  # nobody is like anybody
  same = alike([[1, 2]] * users)  # everybody is: the mean difference
  expected = 2 * effectiveness.mean() * gini(effectiveness) * users / (users - 1)
  assert puf(effectiveness, same) == pytest.approx(expected)
  binary = (effectiveness > 0.5).astype(float)
  mean = puf(binary, similarity), np.mean(similarity.of(*np.triu_indices(users, 1)))
  assert mean[0] <= mean[1] + 1e-12


@pytest.mark.parametrize("users", [2, 10, 40])
def test_half_of_all_users_get_nothing(users):
  half = np.arange(users) % 2
  histories = [[1, 2, 3 + 2 * user, 4 + 2 * user] for user in range(users)]  # 2 of 6 in common
  found = puf(half, alike(histories, num_items=2 * users + 4))
  assert found == pytest.approx(users / 3 / (2 * (users - 1)))


def test_cliques_that_are_served_alike_are_fair():
  histories = [[1 + user // 10] for user in range(300)]
  fair = (np.arange(300) // 10) % 2
  unfair = np.arange(300) % 2
  assert fair.std() == unfair.std()
  assert puf(fair, alike(histories)) == 0
  assert puf(unfair, alike(histories)) == pytest.approx(30 * 25 / (300 * 299 / 2))


@pytest.mark.parametrize("seed", range(100, 103))
def test_noise_does_not_hide_unfair_cliques(seed):
  rng = np.random.default_rng(seed)
  histories = []
  for user in range(300):
    row = {1 + 10 * (user // 10) + j for j in range(10)}
    row = {i if rng.random() > 0.05 else int(rng.integers(1, 301)) for i in sorted(row)}
    histories.append(sorted(row))
  similarity = alike(histories, num_items=300)
  fair, unfair = puf(np.stack([(np.arange(300) // 10) % 2, np.arange(300) % 2]), similarity)
  assert unfair > 5 * fair


def test_the_sample_is_unbiased_and_knows_its_error():
  histories, rng = random_histories(40, 5), np.random.default_rng(1)
  effectiveness, similarity = rng.random(40), alike(histories)
  exact = puf(effectiveness, similarity)
  found = [sampled_puf(effectiveness, similarity, pairs=400, seed=seed) for seed in range(200)]
  values, errors = np.array(found).T
  assert abs(values.mean() - exact) < 4 * values.std() / math.sqrt(200)
  assert errors.mean() == pytest.approx(values.std(), rel=0.15)
  inside = np.abs(values - exact) < 1.96 * errors
  assert 0.88 <= inside.mean() <= 0.99
  assert sampled_puf(effectiveness, similarity, 400, seed=7) == found[7]


def test_pairs_are_drawn_in_parts(monkeypatch):
  monkeypatch.setattr(module, "_DRAWN", 64)
  histories = random_histories(10, 5)
  effectiveness, similarity = np.random.default_rng(1).random(10), alike(histories)
  found = sampled_puf(effectiveness, similarity, pairs=1000)
  assert abs(found.value - puf(effectiveness, similarity)) < 4 * found.error


def served(users, seed, k=3, num_items=20):
  rng = np.random.default_rng(seed)
  lists = np.array([rng.permutation(num_items)[:k] + 1 for _ in range(users)])
  relevant = [(rng.permutation(num_items)[: rng.integers(1, 8)] + 1).tolist() for _ in range(users)]
  return lists, relevant


@pytest.mark.parametrize("terms", [1, 10**6])
def test_envy_equals_its_loop(terms, monkeypatch):
  monkeypatch.setattr(module, "_TERMS", terms)
  lists, relevant = served(15, 3)
  relevant[4] = [19]  # nobody shows it, so this user envies nobody
  lists[lists == 19] = 20
  lists = np.array([row if len(set(row)) == 3 else [1, 2, 3] for row in lists.tolist()])
  utility = np.array([[len(set(lists[v]) & set(r)) / 3 for v in range(15)] for r in relevant])
  envy = np.maximum(utility - np.diag(utility)[:, None], 0)
  asked = dict(relevant=csr(relevant), histories=csr([[1]] * 15), num_items=20, k=3)
  found = user_fairness(lists, **asked)
  assert found["ME"] == pytest.approx(2 * envy.sum() / (15 * 14))
  assert found["MME"] == pytest.approx(envy.max(axis=1).mean()) and envy[4].sum() == 0
  shares = [user_fairness(lists, **asked, epsilon=e)["PEU"] for e in (0, 0.1, 0.4, 0.9)]
  assert shares == pytest.approx([(envy.max(axis=1) > e).mean() for e in (0, 0.1, 0.4, 0.9)])
  assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize("features", [None, np.eye(20)[:, :4] + 0.1])
def test_difference_of_lists_equals_its_loop(features):
  lists, relevant = served(12, 6)
  histories = random_histories(12, 8)
  vectors = np.random.default_rng(0).normal(size=(20, 5))
  matrix = rows_matrix(*csr(histories), 20)
  similarity = Similarity(matrix) if features is None else Blended(matrix, features, 0.5)
  unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
  users, others = np.triu_indices(12, 1)
  values = similarity.of(users, others)
  apart = [
    np.mean([1 - unit[i - 1] @ unit[j - 1] for i in lists[u] for j in lists[v]])
    for u, v in zip(users, others, strict=True)
  ]
  keep = values >= values.mean() + values.std()
  found = user_fairness(
    lists, relevant=csr(relevant), histories=csr(histories), num_items=20, k=3,
    item_features=features, item_vectors=vectors,
  )
  assert found["UF"] == pytest.approx(math.log((values * apart)[keep].sum()))
  assert ("PUF-NDCG-Feat" in found) == (features is not None)


def test_equal_similarities_are_all_above_their_threshold():
  """Jaccard 1/3 for all pairs: mean plus deviation is 1/3 but for rounding."""
  lists, _ = served(6, 6)
  histories = [[1, 2, 3 + 2 * u, 4 + 2 * u] for u in range(6)]
  found = user_fairness(
    lists, relevant=csr([[1]] * 6), histories=csr(histories), num_items=20, k=3,
    item_vectors=np.random.default_rng(0).normal(size=(20, 5)),
  )
  assert math.isfinite(found["UF"])


def test_users_without_relevant_items_are_left_out():
  lists, relevant = served(8, 2)
  histories = random_histories(8, 2)
  relevant[3] = []
  keep = [u for u in range(8) if u != 3]
  rest = dict(num_items=20, k=3, item_features=np.eye(20))
  found = user_fairness(lists, relevant=csr(relevant), histories=csr(histories), **rest)
  without = user_fairness(
    lists[keep], relevant=csr([relevant[u] for u in keep]),
    histories=csr([histories[u] for u in keep]), **rest,
  )
  assert found == pytest.approx(without, nan_ok=True)


def test_estimates_stand_beside_their_errors():
  lists, relevant = served(30, 2)
  asked = dict(
    relevant=csr(relevant), histories=csr(random_histories(30, 2)), num_items=20, k=3, explain=True
  )
  exact, _ = user_fairness(lists, **asked)
  drawn, why = user_fairness(lists, **asked, pairs=4000)
  for name in ("PUF-Prec", "PUF-NDCG", "PUF-Prec-Cos", "PUF-NDCG-Cos"):
    assert 0 < abs(drawn[name] - exact[name]) < 4 * drawn[f"{name} error"]
  assert drawn["ME"] == exact["ME"] and set(why) == {"UF"}


def test_what_is_undefined_says_why():
  def reasons(lists, relevant, histories, **rest):
    values, why = user_fairness(
      np.array(lists), relevant=csr(relevant), histories=csr(histories), num_items=5, k=2,
      explain=True, **rest,
    )
    assert {n for n, value in values.items() if math.isnan(value)} == set(why)
    return why

  alone = reasons([[1, 2]], [[1]], [[3]])
  assert "one user makes no pair" in alone["PUF-Prec"] and "nobody to envy" in alone["ME"]
  bad = reasons([[1, 2], [1, 2]], [[5], [5]], [[3], [3]])
  assert "effectiveness of 0" in bad["Gini-P"] and "item vectors" in bad["UF"]
  vectors = np.ones((5, 2))
  same = reasons([[1, 2], [1, 2]], [[1], [1]], [[3], [3]], item_vectors=vectors)
  assert "do not differ" in same["UF"]
  apart = reasons([[1, 2], [1, 3]], [[1], [1]], [[3], [4]], item_vectors=vectors)
  assert "no two users are similar" in apart["UF"]
  vectors[0] = 0
  zero = reasons([[1, 2], [1, 3]], [[1], [1]], [[3], [3]], item_vectors=vectors)
  assert "vector of zeros" in zero["UF"]
  with pytest.raises(Undefined, match="no two users are similar"):
    puf(np.array([0, 1]), alike([[1], [2]]), "sim_weighted_mean")


def test_what_does_not_fit_is_refused():
  similarity = alike(HISTORIES)
  with pytest.raises(ConfigError, match="cosine"):
    alike(HISTORIES, "cosin")
  with pytest.raises(ConfigError, match="pair_mean"):
    puf(np.zeros(3), similarity, "pair_means")
  with pytest.raises(DataError, match=r"shape \(2,\) is not one number for each of 3 users"):
    puf(np.zeros(2), similarity)
  with pytest.raises(DataError, match="is not one number"):
    puf(np.array([0, np.nan, 1]), similarity)
  with pytest.raises(ConfigError, match="1 pairs give no standard error"):
    sampled_puf(np.zeros(3), similarity, pairs=1)
  with pytest.raises(ConfigError, match="gamma is a share"):
    Blended(similarity.histories, np.ones((40, 2)), 1.2)
  with pytest.raises(DataError, match="are not rows >= 0 of 40 items"):
    Blended(similarity.histories, np.ones((39, 2)), 0.5)
  lists = np.array([[1, 2], [2, 3]])
  asked = dict(relevant=csr([[1], [2]]), histories=csr([[1], [2]]), num_items=5, k=2)
  with pytest.raises(DataError, match="indptr of histories"):
    user_fairness(lists, **(asked | {"histories": csr([[1]])}))
  with pytest.raises(DataError, match="nobody's lists are good or bad"):
    user_fairness(lists, **(asked | {"relevant": csr([[], []])}))
  with pytest.raises(DataError, match="item_features has shape"):
    user_fairness(lists, **asked, item_features=np.ones((4, 2)))
  padded = np.pad(np.eye(5), ((1, 0), (0, 0)), constant_values=np.nan)  # the first row is not read
  own = [user_fairness(lists, **asked, item_features=f, item_vectors=f) for f in (np.eye(5), padded)]
  assert own[0] == pytest.approx(own[1], nan_ok=True)
  with pytest.raises(ConfigError, match="cannot be cut at k = 3"):
    user_fairness(lists, **(asked | {"k": 3}))
  with pytest.raises(DataError, match=r"for 2 users it is \(3,\)"):
    user_fairness(lists, **(asked | {"relevant": csr([[1]])}))
