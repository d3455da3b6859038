"""Strengths against worked numbers, a plain ascent, scikit-learn, and what must not change them."""

import arenas
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from sklearn.linear_model import LogisticRegression

from recjax.errors import ConfigError, DataError
from recjax.evaluate import bradley_terry as bt
from recjax.evaluate import tie_models, votes


def swapped(cast, flip):
  """The same votes, told from the other side where `flip` [V]."""
  return cast._replace(
    a=np.where(flip, cast.b, cast.a), b=np.where(flip, cast.a, cast.b),
    y=np.where(flip, 1 - cast.y, cast.y), x=np.where(flip[:, None], -cast.x, cast.x),
  )


def loss(cast, parameters, ridge=0.0, covariate_ridge=0.0):
  """The definition, vote by vote."""
  size, total = len(cast.models), 0.0
  for a, b, y, w, x in zip(cast.a, cast.b, cast.y, cast.weight, cast.x, strict=True):
    e = parameters[a] - parameters[b] + x @ parameters[size:]
    total += w * (np.logaddexp(0, e) - y * e)
  strengths, rest = parameters[:size], parameters[size:]
  return total + ridge / 2 * strengths @ strengths + covariate_ridge / 2 * rest @ rest


def ascent(cast, steps=6000):
  """Maximum by plain gradient steps over single votes."""
  size = len(cast.models)
  parameters = np.zeros(size + cast.x.shape[1])
  design = np.zeros((len(cast.y), len(parameters)))
  for row, (a, b, x) in enumerate(zip(cast.a, cast.b, cast.x, strict=True)):
    design[row, a], design[row, b], design[row, size:] = 1, -1, x
  for _ in range(steps):
    slope = design.T @ (cast.weight * (cast.y - special.expit(design @ parameters)))
    parameters += 4 / len(cast.y) * slope
  return parameters


def test_worked_strengths():
  fit = bt.fit(arenas.table(arenas.WINS))
  np.testing.assert_allclose(fit.strength, [0.572140, 0.135540, -0.223026, -0.484654], atol=1e-6)
  assert fit.loss == pytest.approx(55.9376327, abs=1e-7)
  np.testing.assert_allclose(
    1000 + bt.ELO * fit.strength, [1099.390879, 1023.545688, 961.256479, 915.806954], atol=1e-6
  )
  assert special.expit(fit.strength[0] - fit.strength[1]) == pytest.approx(0.6074486, abs=1e-7)
  assert bt.ELO == pytest.approx(173.7177928)


def test_worked_ties():
  fit = bt.fit(arenas.table(arenas.WINS, arenas.TIES))
  np.testing.assert_allclose(fit.strength, [0.509996, 0.130738, -0.199808, -0.440926], atol=1e-6)
  assert fit.loss == pytest.approx(66.6820811, abs=1e-7)


@pytest.mark.parametrize(
  ("kind", "strength", "tie", "value"),
  [
    ("davidson", [0.605155, 0.155046, -0.237069, -0.523131], 0.3657197, 98.1176781),
    ("rao_kupper", [0.545387, 0.148224, -0.214566, -0.479045], 1.3798821, 97.9166235),
  ],
)
def test_worked_models_of_ties(kind, strength, tie, value):
  fit = tie_models.fit(arenas.table(arenas.WINS, arenas.TIES), kind)
  np.testing.assert_allclose(fit.strength, strength, atol=1e-6)
  assert fit.tie == pytest.approx(tie, abs=1e-6)
  assert fit.loss == pytest.approx(value, abs=1e-6)


def test_models_of_ties_minimise_their_definitions():
  cast = arenas.table(arenas.WINS, arenas.TIES)

  def value(kind, strength, tie):
    total = 0.0
    for a, b, y in zip(cast.a, cast.b, cast.y, strict=True):
      p, q = np.exp(strength[a]), np.exp(strength[b])
      if kind == "davidson":
        whole = p + q + tie * np.sqrt(p * q)
        chance = {1.0: p / whole, 0.0: q / whole, 0.5: tie * np.sqrt(p * q) / whole}
      else:
        chance = {1.0: p / (p + tie * q), 0.0: q / (q + tie * p)}
        chance[0.5] = 1 - chance[1.0] - chance[0.0]
      total -= np.log(chance[y])
    return total

  for kind in tie_models.KINDS:
    fit = tie_models.fit(cast, kind)
    assert value(kind, fit.strength, fit.tie) == pytest.approx(fit.loss)
    for i in range(4):
      for step in (-1e-3, 1e-3):
        assert value(kind, fit.strength + step * np.eye(4)[i], fit.tie) > fit.loss
        assert value(kind, fit.strength, fit.tie + step) > fit.loss


def test_models_of_ties_need_ties():
  with pytest.raises(DataError, match="needs votes that are ties"):
    tie_models.fit(arenas.table(arenas.WINS), "davidson")
  with pytest.raises(ConfigError, match="Did you mean 'davidson'"):
    tie_models.fit(arenas.table(arenas.WINS, arenas.TIES), "davidsson")
  with pytest.raises(ConfigError, match="take no covariates"):
    tie_models.fit(arenas.random(0, covariates=1), "davidson")


def test_worked_music_boards():
  """The penalty of scikit-learn's C = 1 is the ridge of 1."""
  cast = arenas.table(arenas.MUSIC_WINS, arenas.MUSIC_TIES)
  ridge, plain = bt.fit(cast, ridge=1.0), bt.fit(cast)
  np.testing.assert_allclose(ridge.strength, [0.853999, -0.281848, -0.572151], atol=1e-6)
  np.testing.assert_allclose(
    1000 + bt.ELO * ridge.strength, [1148.354763, 951.037995, 900.607242], atol=1e-5
  )
  np.testing.assert_allclose(
    1000 + bt.ELO * plain.strength, [1177.146403, 941.808799, 881.044798], atol=1e-5
  )
  anchored = 1000 + bt.ELO * (plain.strength - plain.strength[2])
  np.testing.assert_allclose(anchored, [1296.101610, 1060.764002, 1000], atol=1e-5)


def test_two_models_have_their_log_odds():
  fit = bt.fit(arenas.table([[0, 30], [10, 0]]))
  assert bt.ELO * (fit.strength[0] - fit.strength[1]) == pytest.approx(190.8485019)


@pytest.mark.parametrize("covariates", [0, 2])
def test_same_as_plain_gradient_ascent(covariates):
  cast = arenas.random(1, covariates=covariates)
  np.testing.assert_allclose(bt.fit(cast).parameters, ascent(cast), atol=1e-7)


@pytest.mark.parametrize("ridge", [0.25, 1.0])
def test_same_as_scikit_learn(ridge):
  """Ties as two rows of half a vote, which scikit-learn needs, are half a win."""
  cast = arenas.random(2, covariates=2)
  design = np.zeros((len(cast.y), 7))
  design[np.arange(len(cast.y)), cast.a] = 1
  design[np.arange(len(cast.y)), cast.b] = -1
  design[:, 5:] = cast.x
  both = np.concatenate([design, design])
  outcome = np.repeat([1, 0], len(cast.y))
  weight = np.concatenate([cast.y, 1 - cast.y])
  theirs = LogisticRegression(C=1 / ridge, fit_intercept=False, tol=1e-12, max_iter=1000)
  theirs.fit(both[weight > 0], outcome[weight > 0], sample_weight=weight[weight > 0])
  ours = bt.fit(cast, ridge=ridge, covariate_ridge=ridge)
  np.testing.assert_allclose(ours.parameters, theirs.coef_[0], atol=1e-6)


def test_ties_are_two_half_votes():
  cast = arenas.random(3, covariates=1)
  tie = cast.y == 0.5
  twice = lambda column: np.concatenate([column, column[tie]])
  half = votes.make(
    cast.models, twice(cast.a), twice(cast.b),
    np.concatenate([np.where(tie, 1.0, cast.y), np.zeros(tie.sum())]),
    weight=np.concatenate([np.where(tie, 0.5, 1.0), np.full(tie.sum(), 0.5)]),
    x=twice(cast.x), covariates=cast.covariates,
  )
  one, other = bt.fit(cast), bt.fit(half)
  np.testing.assert_allclose(one.parameters, other.parameters, atol=1e-9)
  np.testing.assert_allclose(one.information, other.information, atol=1e-9)
  assert one.loss == pytest.approx(other.loss)


@given(seed=st.integers(0, 10**6), covariates=st.integers(0, 2))
@settings(max_examples=15, deadline=None)
def test_what_changes_nothing(seed, covariates):
  """Order of votes, sides, names, and casting every vote twice; votes of weight 0."""
  rng = np.random.default_rng(seed)
  cast = arenas.random(seed, covariates=covariates)
  fit = bt.fit(cast)
  assert fit.strength.mean() == pytest.approx(0, abs=1e-12)
  close = lambda other, order=slice(None): np.testing.assert_allclose(
    other.parameters, np.concatenate([fit.strength[order], fit.coefficients]), atol=1e-8
  )
  close(bt.fit(swapped(cast, rng.random(len(cast.y)) < 0.5)))
  order = rng.permutation(len(cast.y))
  pick = lambda which: cast._replace(
    **{name: getattr(cast, name)[which] for name in ("a", "b", "y", "weight", "x")}
  )
  close(bt.fit(pick(order)))
  twice = bt.fit(pick(np.concatenate([order, order])))
  close(twice)
  assert twice.loss == pytest.approx(2 * fit.loss)
  np.testing.assert_allclose(twice.information, 2 * fit.information, atol=1e-9)
  place = rng.permutation(5)
  new = np.argsort(place)
  close(bt.fit(cast._replace(a=new[cast.a], b=new[cast.b])), place)
  weight = np.append(np.ones(len(cast.y)), 0.0)
  padded = votes.make(
    cast.models, np.append(cast.a, 0), np.append(cast.b, 1), np.append(cast.y, 1.0), weight=weight,
    x=np.vstack([cast.x, np.full((1, covariates), 1e6)]), covariates=cast.covariates,
  )
  close(bt.fit(padded))


@given(seed=st.integers(0, 10**6), ridge=st.sampled_from([0.0, 0.5]))
@settings(max_examples=10, deadline=None)
def test_the_maximum_is_one(seed, ridge):
  """The loss is the definition's, its gradient 0, its curvature the information."""
  cast = arenas.random(seed, size=4, count=80, covariates=1)
  fit = bt.fit(cast, ridge=ridge, covariate_ridge=ridge)
  assert loss(cast, fit.parameters) == pytest.approx(fit.loss)
  at = lambda move: loss(cast, fit.parameters + move, ridge, ridge)
  for i, unit in enumerate(np.eye(5)):
    assert (at(1e-4 * unit) - at(-1e-4 * unit)) / 2e-4 == pytest.approx(0, abs=1e-6)
    bend = (at(1e-3 * unit) + at(-1e-3 * unit) - 2 * at(0 * unit)) / 1e-6
    assert bend == pytest.approx(fit.information[i, i], rel=1e-3)


def test_nothing_but_ties_is_all_equal():
  cast = arenas.table(np.zeros((3, 3), int), np.array([[0, 4, 1], [4, 0, 2], [1, 2, 0]]))
  fit = bt.fit(cast)
  np.testing.assert_allclose(fit.strength, 0, atol=1e-12)
  assert fit.loss == pytest.approx(7 * np.log(2))


def test_ties_pull_together():
  gaps = []
  for more in (0, 5, 50):
    ties = arenas.TIES.copy()
    ties[0, 3] += more
    fit = bt.fit(arenas.table(arenas.WINS, ties))
    gaps.append(fit.strength[0] - fit.strength[3])
  assert gaps[0] > gaps[1] > gaps[2] > 0


def test_many_weightings_at_once():
  cast = arenas.random(5, covariates=1)
  cells = bt.add_up(cast)
  weights = np.random.default_rng(0).integers(0, 4, (len(cast.y), 3)).astype(float)
  both = [bt.totals(cells, w) for w in weights.T]
  found, _ = bt.solve(
    cells, *(np.stack(column, axis=1) for column in zip(*both, strict=True)), np.zeros(6), np.zeros(6)
  )
  for column, weight in zip(found.T, weights.T, strict=True):
    alone = votes.make(
      cast.models, cast.a, cast.b, cast.y, weight=weight, x=cast.x, covariates=cast.covariates
    )
    np.testing.assert_allclose(column, bt.fit(alone).parameters, atol=1e-8)


def test_models_that_never_met_are_named():
  wins = np.zeros((5, 5), int)
  wins[0, 1] = wins[1, 0] = wins[1, 2] = wins[2, 1] = 3
  wins[3, 4] = wins[4, 3] = 2
  with pytest.raises(DataError, match="No vote compares 'm3', 'm4' with 'm0', 'm1', 'm2'"):
    bt.fit(arenas.table(wins))
  assert np.isfinite(bt.fit(arenas.table(wins), ridge=1.0).parameters).all()


def test_a_model_that_always_wins_is_named():
  wins = arenas.WINS.copy()
  wins[1:, 0] = 0
  with pytest.raises(DataError, match="'m0' won every vote against 'm1', 'm2', 'm3'"):
    bt.fit(arenas.table(wins))
  ties = np.zeros_like(wins)
  ties[0, 2] = ties[2, 0] = 1
  assert np.isfinite(bt.fit(arenas.table(wins, ties)).parameters).all()  # one tie is enough
  wins = arenas.WINS.copy()
  wins[3] = 0
  with pytest.raises(DataError, match="'m0', 'm1', 'm2' won every vote against 'm3'"):
    bt.fit(arenas.table(wins))
  assert bt.fit(arenas.table(wins), ridge=1.0).strength[3] > -10


def test_covariates_that_cannot_be_told_apart_are_named():
  cast = arenas.random(0, covariates=2)
  copied = cast._replace(x=np.repeat(cast.x[:, :1], 2, axis=1))
  with pytest.raises(DataError, match="'x0', 'x1' follow from the models or from one another"):
    bt.fit(copied)
  own = np.arange(5.0) ** 2
  with pytest.raises(DataError, match="'x0' follow from the models"):
    bt.fit(cast._replace(x=np.stack([own[cast.a] - own[cast.b], cast.x[:, 0]], axis=1)))
  assert np.isfinite(bt.fit(copied, covariate_ridge=1.0).parameters).all()


def test_covariates_that_separate_the_votes_are_named():
  cast = arenas.random(0, covariates=1)
  cast = cast._replace(y=(cast.y > 0.5).astype(float))
  told = cast._replace(x=2 * cast.y[:, None] - 1)
  with pytest.raises(DataError, match="With the covariates 'x0' some outcomes are told without error"):
    bt.fit(told)
  assert bt.fit(told, covariate_ridge=0.5).coefficients[0] > 1


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"b": [0, 1]}, "Vote 1 has the same model on both sides"),
    ({"a": [0, 7]}, "Vote 2 names a model without a name"),
    ({"y": [0.3, 1]}, "Vote 1 is none of 0, 1/2 and 1"),
    ({"weight": [1, -1]}, "Vote 2 has a weight that is no number above 0"),
    ({"weight": [0, 0]}, "There are no votes"),
    ({"x": [[0.0], [np.nan]], "covariates": ["l"]}, "Vote 2 has a covariate that is no finite number"),
    ({"x": [[0.0], [1.0]]}, "no name for every covariate"),
    ({"cluster": [0]}, "differ in length"),
  ],
)
def test_votes_that_cannot_be(change, message):
  base = {"a": [0, 2], "b": [1, 1], "y": [1, 0]}
  given_ = {k: np.asarray(v) if k != "covariates" else v for k, v in {**base, **change}.items()}
  with pytest.raises(DataError, match=message):
    votes.make(["p", "q", "r"], given_.pop("a"), given_.pop("b"), given_.pop("y"), **given_)


def test_penalties_are_not_negative():
  with pytest.raises(ConfigError, match="0 or more"):
    bt.fit(arenas.table(arenas.WINS), ridge=-1.0)


def test_style_of_counts():
  f = votes.relative_difference
  np.testing.assert_allclose(
    f([300, 100, 5, 0, 10, 110], [100, 300, 0, 0, 5, 105]),
    [0.4987531, -0.4987531, 0.8333333, 0, 0.3125, 0.0231481], atol=1e-7,
  )
  with pytest.raises(DataError, match="counts, which are 0 or more"):
    f([-1], [0])


def test_style_is_scaled_and_constants_are_left_out():
  x = np.array([[1.0, 0.0, 2.0], [3.0, 0.0, 2.0], [5.0, 0.0, 2.0]])
  made = votes.style(x, ("a", "b", "c"))
  assert made.covariates == ("a",) and made.constant == ("b", "c")
  np.testing.assert_allclose(made.x[:, 0], x[:, 0] / x[:, 0].std())
  np.testing.assert_allclose(made.x, votes.style(x * 7, ("a", "b", "c")).x)
  np.testing.assert_allclose(votes.style(x, ("a", "b", "c"), center=True).x.mean(axis=0), 0, atol=1e-12)


def test_centring_moves_the_estimates_when_sides_are_swapped():
  cast = arenas.random(4, covariates=1)
  cast = cast._replace(x=cast.x + 0.8)  # the left side is longer on the whole
  flip = np.random.default_rng(0).random(len(cast.y)) < 0.7
  fitted = {}
  for center in (False, True):
    for name, votes_ in (("as cast", cast), ("swapped", swapped(cast, flip))):
      made = votes.style(votes_.x, votes_.covariates, center=center)
      fit = bt.fit(votes_._replace(x=made.x))
      fitted[center, name] = np.append(fit.strength, fit.coefficients / made.deviation)
  np.testing.assert_allclose(fitted[False, "as cast"], fitted[False, "swapped"], atol=1e-8)
  assert np.abs(fitted[True, "as cast"] - fitted[True, "swapped"]).max() > 1e-3


def test_variance_inflation_is_that_of_regressions():
  rng = np.random.default_rng(0)
  a, b = rng.normal(size=(2, 500))
  x = np.stack([a, a + 0.5 * b, rng.normal(size=500)], axis=1)
  r = np.corrcoef(x.T)
  np.testing.assert_allclose(votes.variance_inflation(x), np.diag(np.linalg.inv(r)), rtol=1e-9)
  assert np.isinf(votes.variance_inflation(np.stack([a, 2 * a], axis=1))).all()
