"""DiffuMIN: invariances, what trains what, the sampler, ablations that meet; its parts learn."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from click_toys import LENGTH, make_batch, random_variables, schema, with_target

from recjax.data.schema import Field, Schema
from recjax.diffusion import schedules
from recjax.errors import ConfigError
from recjax.models.ranking import diffumin
from recjax.models.ranking._interest_diffusion import denoising_loss, generate
from recjax.nn.interest_generators import ContrastHead, InterestDenoiser
from recjax.nn.multi_interest import normalize

SMALL = diffumin.Config(
  item_width=4, category_width=4, channels=2, keep_share=0.5, diffusion_steps=20, start_t=4,
  sampler_steps=3, denoiser_layers=1, short_layers=1, recent=LENGTH, hidden=(5,),
  generator_weight=0.5, contrast_weight=0.3, temperature=0.5, stddev=0.5,
)
OMIE = dataclasses.replace(SMALL, generator="none")
KEY = jax.random.key(3)


class Compiled:
  """A learner of which each function is compiled once a shape, and random variables for it."""

  def __init__(self, config, spec=None):
    learner = diffumin.build(config, spec or schema())
    self.learner, self.variables = learner, random_variables(learner)
    predict = learner.predict
    self._parts = jax.jit(lambda v, b: {"score": predict["score"](v, b), **predict["explain"](v, b)})
    self._slopes = jax.jit(jax.grad(self._value, has_aux=True))

  def parts(self, batch, variables=None):
    """Scores, and what explains them."""
    return self._parts(variables or self.variables, batch)

  def score(self, batch, variables=None):
    """Scores alone."""
    return self.parts(batch, variables)["score"]

  def _value(self, trained, rest, batch, weights):
    objective = self.learner.loss({**rest, **trained}, batch, KEY)
    values = {"loss": objective.loss, **{name: sum_ for name, (sum_, _) in objective.metrics.items()}}
    return sum(weights[name] * values[name] for name in LOSSES if name in values), objective

  def slopes(self, batch, of="loss", variables=None):
    """Gradients of a loss in params and tables, and the objective."""
    variables = variables or self.variables
    trained = {name: variables[name] for name in ("params", "tables")}
    weights = {name: jnp.float32(name == of) for name in LOSSES}
    return self._slopes(trained, variables, batch, weights)


LOSSES = ("loss", "generator_loss", "contrast_loss", "log_loss")


@pytest.fixture(scope="module")
def full():
  return Compiled(SMALL)


def moved(slope):
  """Names of the parts that a gradient changes."""
  parts = {**slope["params"], **slope["tables"]}
  return {name for name, part in parts.items() if any(map(np.any, jax.tree.leaves(part)))}


def test_padding_and_order_of_the_history_are_irrelevant(full):
  batch = make_batch()
  expected = full.score(batch)
  shuffled = np.random.default_rng(0).permutation(LENGTH)
  fields = ("hist_item", "hist_cat", "hist_mask")
  permuted = {**batch, **{name: batch[name][:, shuffled] for name in fields}}
  np.testing.assert_allclose(full.score(permuted), expected, atol=1e-5)
  dirty = {
    **batch,
    "hist_item": jnp.where(batch["hist_mask"], batch["hist_item"], 7),
    "hist_cat": jnp.where(batch["hist_mask"], batch["hist_cat"], 2),
  }
  parts = full.parts(dirty)
  np.testing.assert_allclose(parts["score"], expected, atol=1e-5)
  shares = np.asarray(parts["shares"])
  assert shares.sum() > 0 and not np.any(shares[~np.asarray(batch["hist_mask"])])
  product = jnp.einsum("bkd,bjd->bkj", parts["channels"], parts["channels"])
  np.testing.assert_allclose(product, np.broadcast_to(np.eye(2), product.shape), atol=1e-5)


def test_scores_repeat_and_do_not_depend_on_the_batch_unless_noise_is_served(full):
  batch, other = make_batch(), make_batch(seed=1)
  expected = full.score(batch)
  np.testing.assert_array_equal(full.score(batch), expected)
  mates = {name: value.at[1].set(batch[name][1]) for name, value in other.items()}
  np.testing.assert_allclose(full.score(mates)[1], expected[1], atol=1e-5)
  noisy = Compiled(dataclasses.replace(SMALL, serve_noise=True))
  served = noisy.parts(batch)
  np.testing.assert_array_equal(noisy.score(batch), served["score"])
  assert np.abs(served["generated"] - full.parts(batch)["generated"]).max() > 1e-5


def test_the_short_term_part_sees_the_newest_behaviours_only():
  made = Compiled(dataclasses.replace(OMIE, recent=2, r_times_v=False))
  # A tower that reads the short-term part alone: the last 8 of v, W v + b, r and s.
  dense = made.variables["params"]["tower"]["dense_0"]
  dense["kernel"] = 50.0 * dense["kernel"].at[:-8].set(0.0)
  batch = {**make_batch(rows=1), "hist_mask": jnp.array([[1, 1, 0, 1, 1, 0]], bool)}
  score = lambda *items: made.score({**batch, "hist_item": jnp.array([items])})
  expected = score(1, 2, 9, 3, 4, 9)
  np.testing.assert_allclose(score(7, 8, 6, 3, 4, 5), expected, atol=1e-6)
  assert not np.allclose(score(1, 2, 9, 7, 4, 9), expected, atol=1e-4)


def test_many_candidates_equal_one_at_a_time(full):
  batch = make_batch(candidates=3)
  many = full.parts(batch)
  assert many["score"].shape == (3, 3) and many["interests"].shape == (3, 3, 2, 8)
  assert many["shares"].shape == (3, 3, LENGTH, 2)
  for c in range(3):
    alone = full.parts(with_target(batch, batch["target_item"][:, c]))
    for name, array in many.items():
      np.testing.assert_allclose(alone[name], array[:, c], atol=1e-5, err_msg=name)


def test_an_empty_history_has_no_interests_and_finite_gradients(full):
  batch = make_batch()
  batch = {**batch, "hist_mask": batch["hist_mask"].at[0].set(False)}
  parts = full.parts(batch)
  assert not np.any(parts["interests"][0]) and not np.any(parts["generated"][0])
  slopes, objective = full.slopes(batch)
  dead = objective.metrics["dead_channels"]
  assert dead[1] == 6 and dead[0] >= 2
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))


def test_what_trains_what(full):
  extractor, batch = {"channels", "denoiser", "item", "category"}, make_batch()
  trains = lambda made, name: moved(made.slopes(batch, name)[0])
  assert trains(full, "generator_loss") == {"denoiser"}
  assert trains(full, "contrast_loss") == extractor | {"head_interest", "head_generated"}
  assert trains(full, "log_loss") == extractor | {"tower", "short"}
  cut = Compiled(dataclasses.replace(SMALL, stop_grad_sampler=True))
  assert "denoiser" not in trains(cut, "log_loss") | trains(cut, "contrast_loss")
  assert trains(cut, "generator_loss") == {"denoiser"}


def test_objective_is_the_weighted_sum_of_its_parts(full):
  batch = {**make_batch(), "weight": jnp.array([1.0, 1.0, 0.0])}
  _, objective = full.slopes(batch)
  parts = {name: value for name, (value, _) in objective.metrics.items()}
  total = parts["log_loss"] + 0.5 * parts["generator_loss"] + 0.3 * parts["contrast_loss"]
  np.testing.assert_allclose(objective.loss, total, rtol=1e-6)
  assert objective.weight == 2.0 and min(parts["generator_loss"], parts["contrast_loss"]) > 0
  # A row of padding is in no loss, in no statistic and nobody's negative.
  other = {name: value.at[2].set(value[0]) for name, value in batch.items() if name != "weight"}
  _, again = full.slopes({**batch, **other})
  np.testing.assert_allclose(again.loss, objective.loss, rtol=1e-5)


def test_without_generated_interests_it_is_the_extractor_alone(full):
  """Zero weights for r* give the scores and the log loss of generator="none"."""
  omie, count = Compiled(OMIE), SMALL.channels * 8
  shorter = lambda tree: jax.tree.map(lambda leaf: leaf[:-count] if leaf.ndim else leaf, tree)
  tower, stats = (full.variables[name]["tower"] for name in ("params", "batch_stats"))
  kernel = tower["dense_0"]["kernel"]
  silent = {**tower, "dense_0": {**tower["dense_0"], "kernel": kernel.at[-count:].set(0.0)}}
  less = {**tower, "dense_0": {**tower["dense_0"], "kernel": kernel[:-count]}}
  less["norm"] = shorter(tower["norm"])
  params = full.variables["params"]
  whole = {**full.variables, "params": {**params, "tower": silent}}
  cut = {
    **full.variables,
    "params": {**{name: params[name] for name in omie.variables["params"]}, "tower": less},
    "batch_stats": {"tower": {**stats, "norm": shorter(stats["norm"])}},
  }
  batch = make_batch()
  np.testing.assert_allclose(full.score(batch, whole), omie.score(batch, cut), atol=1e-6)
  losses = [m.slopes(batch, variables=v)[1] for m, v in ((full, whole), (omie, cut))]
  np.testing.assert_allclose(
    losses[0].metrics["log_loss"][0], losses[1].metrics["log_loss"][0], rtol=1e-6
  )
  np.testing.assert_allclose(losses[1].loss, losses[1].metrics["log_loss"][0])


@pytest.mark.parametrize(
  "changes",
  [{"routing": "soft"}, {"orthogonal": False}, {"channels": 1}],
  ids=lambda changes: next(iter(changes)),
)
def test_other_extractors_give_finite_losses(changes):
  made = Compiled(dataclasses.replace(OMIE, **changes))
  objective = jax.jit(made.learner.loss)(made.variables, make_batch(), KEY)
  assert np.isfinite(objective.loss)
  assert ("overlap" in objective.metrics) == (changes != {"channels": 1})


def test_the_autoencoder_learns_by_its_own_loss():
  made = Compiled(dataclasses.replace(SMALL, generator="vae", contrast_weight=0.0))
  slope, objective = made.slopes(make_batch(), "generator_loss")
  assert moved(slope) == {"autoencoder"}
  assert {"autoencoder", "item"} <= moved(made.slopes(make_batch(), "log_loss")[0])
  assert "contrast_loss" not in objective.metrics and "cosine_generated" in objective.metrics


def test_compact_ids_give_the_same_loss_and_row_gradients(full):
  batch = make_batch()
  compact, tables, rows = dict(batch), {}, {}
  for name, table in full.variables["tables"].items():
    fields = full.learner.schema.indexing(name)
    rows[name] = np.unique(np.concatenate([[0], *[np.ravel(batch[f]) for f in fields]]))
    compact |= {f: jnp.asarray(np.searchsorted(rows[name], batch[f])) for f in fields}
    # Rows behind the compact ones are never read; with them the compiled function serves again.
    tables[name] = jnp.full_like(table, 7.0).at[: len(rows[name])].set(table[rows[name]])
  slope, objective = full.slopes(batch)
  part_slope, part = full.slopes(compact, variables={**full.variables, "tables": tables})
  np.testing.assert_allclose(part.loss, objective.loss, rtol=1e-5)
  for name, used in rows.items():
    some, whole = part_slope["tables"][name], slope["tables"][name][used]
    np.testing.assert_allclose(some[: len(used)], whole, atol=1e-5)


def test_items_of_several_categories():
  spec = schema()
  several = {"hist_cat": Field("ids", (LENGTH, 2), "category"),
             "target_cat": Field("ids", (2,), "category")}
  spec = Schema({**spec.fields, **several}, spec.vocabularies)
  config = dataclasses.replace(OMIE, item_width=0)
  made = Compiled(config, spec)
  assert set(made.variables["tables"]) == {"category"}
  batch = make_batch()
  pair = lambda ids: jnp.stack([ids, jnp.where(ids > 0, 1 + ids % 5, 0)], axis=-1)
  batch = {**batch, "hist_cat": pair(batch["hist_cat"]), "target_cat": pair(batch["target_cat"])}
  assert made.parts(batch)["interests"].shape == (3, 2, 8)
  swapped = {**batch, "target_cat": batch["target_cat"][:, ::-1]}
  assert not np.allclose(made.score(batch), made.score(swapped))


def test_channels_start_as_the_candidate_with_other_weights():
  kernel = np.asarray(diffumin.weighings(KEY, (3, 6))).reshape(3, 2, 3)
  weights = np.einsum("dkd->dk", kernel)
  assert (weights > 0).all() and len(np.unique(weights)) == 6
  assert np.count_nonzero(kernel) == 6


def test_a_perfect_denoiser_gives_the_interests_back():
  config = diffumin.Config()
  interests = normalize(jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 5)), jnp.float32))
  schedule = schedules.linear()
  times, seen = diffumin._times(config), []
  np.testing.assert_array_equal(times, np.arange(9, -1, -1))

  def perfect(noised, time, context, channels):
    jax.debug.callback(lambda x, t: seen.append((np.asarray(x), int(t[0, 0]))), noised, time)
    return context

  made = generate(perfect, schedule, interests, interests, times)
  np.testing.assert_allclose(made, interests, atol=1e-6)
  jax.effects_barrier()
  assert [t for _, t in seen] == list(range(9, -1, -1))
  # It begins at sqrt(.998105) x_0, the mean at t = 9.
  np.testing.assert_allclose(seen[0][0], np.sqrt(0.998105) * interests, atol=1e-6)
  varied = generate(perfect, schedule, interests, interests, times, KEY)
  np.testing.assert_allclose(varied, interests, atol=1e-6)  # the last step has no noise


def test_mistakes_are_named():
  def build(**changes):
    diffumin.build(dataclasses.replace(SMALL, **changes), schema())

  for name in ("routing", "filter_order", "denominator", "generator", "schedule", "norm"):
    with pytest.raises(ConfigError, match=f"Unknown {name} 'other'"):
      build(**{name: "other"})
  for changes, message in (
    ({"heads": 3}, "heads=3 does not divide 8, the width of an item"),
    ({"channels": 9}, "channels=9 is above 8, an item's width"),
    ({"sampler_steps": 6}, "sampler_steps=6, start_t=4 and diffusion_steps=20 need"),
    ({"start_t": 20}, "need sampler_steps <= start_t"),
    ({"item_width": 0, "category_width": 0}, "item_width or category_width must be above 0"),
  ):
    with pytest.raises(ConfigError, match=message):
      build(**changes)


def descend(value, params, steps, rate):
  """Params after `steps` of Adam on value(params, key)."""
  optimizer = optax.adam(rate)

  def step(carry, key):
    params, state = carry
    slope = jax.grad(value)(params, key)
    with jax.numpy_dtype_promotion("standard"):  # optax itself mixes dtypes
      update, state = optimizer.update(slope, state)
    return (optax.apply_updates(params, update), state), None

  run = jax.jit(lambda carry, keys: jax.lax.scan(step, carry, keys)[0][0])
  return run((params, optimizer.init(params)), jax.random.split(jax.random.key(1), steps))


def test_the_denoiser_learns_a_mixture_on_the_sphere():
  """Eight directions in 24 dimensions: better than no change at t = 99, and samples come nearer."""
  width, schedule = 24, schedules.linear()
  directions = normalize(jax.random.normal(jax.random.key(0), (8, width)))
  network = InterestDenoiser(layers=2, heads=2)

  def mixture(key, count):
    which, spread = jax.random.split(key)
    centre = directions[jax.random.randint(which, (count,), 0, 8)]
    return normalize(centre + 0.05 * jax.random.normal(spread, centre.shape))[:, None]

  zero = jnp.zeros((64, 1, width))
  params = jax.jit(network.init)(KEY, zero, jnp.zeros((64, 1), jnp.int32), zero, zero)
  denoise = lambda params: diffumin.denoiser(network, params["params"], schedule)

  def value(params, key):
    return denoising_loss(denoise(params), schedule, mixture(key, 64), zero, key).mean()

  @jax.jit
  def judge(params):
    start, channels = mixture(jax.random.key(7), 256), jnp.zeros((256, 1, width))
    time = jnp.full((256, 1), 99)
    noise = jax.random.normal(jax.random.key(8), start.shape)
    noised = schedules.add_noise(schedule.log_snr(time), start, noise)
    made = denoise(params)(noised, time, start, channels)
    times = np.arange(99, -1, -10)
    sampled = generate(denoise(params), schedule, start, channels, times, KEY)
    error = lambda x: jnp.mean(jnp.sum(jnp.square(x - start), axis=-1))
    nearest = lambda x: (normalize(x)[:, 0] @ directions.T).max(1).mean()
    return error(made), error(noised), nearest(sampled), nearest(noised)

  made, noised, sampled, before = judge(descend(value, params, 500, 2e-3))
  assert made <= 0.5 * noised and sampled >= before


def test_the_calibrator_finds_its_own_user():
  """Of 256 users, by interests and noisy copies of them: chance is 0.4 %."""
  width, head = 8, ContrastHead()
  interests = normalize(jax.random.normal(KEY, (256, 1, width)))
  valid = jnp.ones((256, 1), bool)
  params = [jax.jit(head.init)(jax.random.key(i), interests) for i in range(2)]

  def pairs(params, key):
    copies = normalize(interests + 0.1 * jax.random.normal(key, interests.shape))
    left, right = (head.apply(p, x) for p, x in zip(params, (interests, copies), strict=True))
    return diffumin.contrast(left, right, valid, 0.05)

  found = jax.jit(lambda params: pairs(params, jax.random.key(9))[1].mean())
  before = found(params)
  params = descend(lambda params, key: pairs(params, key)[0].mean(), params, 300, 3e-3)
  assert before < 0.5 and found(params) > 0.9
