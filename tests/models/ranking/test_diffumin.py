"""DiffuMIN: invariances, what trains what, the sampler, ablations that meet; its parts learn."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_din import LENGTH, make_batch, schema, with_target

from recjax.data.schema import Field, Schema
from recjax.diffusion import schedules
from recjax.errors import ConfigError
from recjax.models.ranking import diffumin
from recjax.models.ranking._interest_diffusion import denoising_loss, generate
from recjax.nn.interest_generators import InterestDenoiser
from recjax.nn.multi_interest import normalize

SMALL = diffumin.Config(
  item_width=4, category_width=4, channels=2, keep_share=0.5, diffusion_steps=20, start_t=4,
  sampler_steps=3, denoiser_layers=1, short_layers=1, recent=LENGTH, hidden=(5,),
  generator_weight=0.5, contrast_weight=0.3, temperature=0.5, stddev=0.5,
)
OMIE = dataclasses.replace(SMALL, generator="none")
KEY = jax.random.key(3)


def start(config, spec=None):
  """Learner with compiled functions, and random variables in which no weight is small."""
  learner = diffumin.build(config, spec or schema())
  rng, sizes = np.random.default_rng(0), learner.schema.vocabularies
  draw = lambda *shape: jnp.asarray(0.4 * rng.normal(size=shape), jnp.float32)
  tables = {
    name: draw(sizes[t.vocabulary], t.width).at[0].set(0) for name, t in learner.tables.items()
  }
  shapes = jax.eval_shape(learner.init, jax.random.key(0), tables, learner.schema.example())
  variables = {
    "params": jax.tree.map(lambda leaf: draw(*leaf.shape), shapes["params"]), "tables": tables,
    "batch_stats": jax.tree.map(
      lambda leaf: jnp.asarray(rng.uniform(0.5, 2, leaf.shape), jnp.float32), shapes["batch_stats"]
    ),
  }
  jitted = {name: jax.jit(f) for name, f in learner.predict.items()}
  return learner._replace(loss=jax.jit(learner.loss), predict=jitted), variables


@pytest.fixture(scope="module")
def full():
  return start(SMALL)


def test_padding_and_order_of_the_history_are_irrelevant(full):
  learner, variables = full
  score, batch = learner.predict["score"], make_batch()
  expected = score(variables, batch)
  shuffled = np.random.default_rng(0).permutation(LENGTH)
  fields = ("hist_item", "hist_cat", "hist_mask")
  permuted = {**batch, **{name: batch[name][:, shuffled] for name in fields}}
  np.testing.assert_allclose(score(variables, permuted), expected, atol=1e-5)
  dirty = {
    **batch,
    "hist_item": jnp.where(batch["hist_mask"], batch["hist_item"], 7),
    "hist_cat": jnp.where(batch["hist_mask"], batch["hist_cat"], 2),
  }
  np.testing.assert_allclose(score(variables, dirty), expected, atol=1e-5)
  shares = learner.predict["explain"](variables, dirty)["shares"]
  assert shares.sum() > 0 and not np.any(np.asarray(shares)[~np.asarray(batch["hist_mask"])])


def test_length_of_padding_is_irrelevant_unless_asked_for():
  batch = make_batch()
  pad = lambda name: jnp.pad(batch[name], ((0, 0), (0, 4)))
  longer = {**batch, **{name: pad(name) for name in ("hist_item", "hist_cat", "hist_mask")}}
  for denominator, same in (("real", True), ("length", False)):
    learner, variables = start(dataclasses.replace(OMIE, denominator=denominator))
    one, other = (learner.predict["score"](variables, b) for b in (batch, longer))
    assert np.allclose(one, other, atol=1e-5) == same


def test_the_short_term_part_sees_the_newest_behaviours_only():
  learner, variables = start(dataclasses.replace(OMIE, recent=2, r_times_v=False))
  # A tower that reads the short-term part alone: the last 8 of v, W v + b, r and s.
  dense = variables["params"]["tower"]["dense_0"]
  dense["kernel"] = dense["kernel"].at[:-8].set(0.0)
  batch = {**make_batch(rows=1), "hist_mask": jnp.array([[1, 1, 0, 1, 1, 0]], bool)}
  batch["hist_item"] = jnp.array([[1, 2, 9, 3, 4, 9]])
  score = lambda items: learner.predict["score"](variables, {**batch, "hist_item": jnp.array([items])})
  expected = score([1, 2, 9, 3, 4, 9])
  np.testing.assert_allclose(score([7, 8, 6, 3, 4, 5]), expected, atol=1e-6)
  assert not np.allclose(score([1, 2, 9, 7, 4, 9]), expected, atol=1e-4)


def test_many_candidates_equal_one_at_a_time(full):
  learner, variables = full
  batch = make_batch(candidates=3)
  many = learner.predict["score"](variables, batch)
  parts = learner.predict["explain"](variables, batch)
  assert many.shape == (3, 3) and parts["interests"].shape == (3, 3, 2, 8)
  assert parts["shares"].shape == (3, 3, LENGTH, 2)
  for c in range(3):
    one = with_target(batch, batch["target_item"][:, c])
    np.testing.assert_allclose(learner.predict["score"](variables, one), many[:, c], atol=1e-5)
    alone = learner.predict["explain"](variables, one)
    for name, array in parts.items():
      np.testing.assert_allclose(alone[name], array[:, c], atol=1e-5, err_msg=name)


def test_scores_repeat_and_do_not_depend_on_the_batch_unless_noise_is_served(full):
  learner, variables = full
  batch = make_batch()
  expected = learner.predict["score"](variables, batch)
  np.testing.assert_array_equal(learner.predict["score"](variables, batch), expected)
  alone = {name: value[1:2] for name, value in batch.items()}
  np.testing.assert_allclose(learner.predict["score"](variables, alone), expected[1:2], atol=1e-5)
  noisy, _ = start(dataclasses.replace(SMALL, serve_noise=True))
  served = noisy.predict["score"](variables, batch)
  assert np.abs(served - expected).max() > 1e-4
  np.testing.assert_array_equal(noisy.predict["score"](variables, batch), served)


def test_an_empty_history_has_no_interests_and_finite_gradients(full):
  learner, variables = full
  batch = make_batch()
  batch = {**batch, "hist_mask": batch["hist_mask"].at[0].set(False)}
  parts = learner.predict["explain"](variables, batch)
  assert not np.any(parts["interests"][0]) and not np.any(parts["generated"][0])
  objective = learner.loss(variables, batch, KEY)
  dead = objective.metrics["dead_channels"]
  assert dead[1] == 6 and dead[0] >= 2
  slope = gradients(learner, variables, batch, lambda objective: objective.loss)
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


def gradients(learner, variables, batch, of):
  """Gradients of a function of the objective in params and tables."""
  trained = {name: variables[name] for name in ("params", "tables")}
  value = lambda trained: of(learner.loss({**variables, **trained}, batch, KEY))
  return jax.jit(jax.grad(value))(trained)


def moved(slope):
  """Names of the parts that a gradient changes."""
  parts = {**slope["params"], **slope["tables"]}
  return {name for name, part in parts.items() if any(map(np.any, jax.tree.leaves(part)))}


def test_what_trains_what(full):
  learner, variables = full
  batch = make_batch(rows=4)
  of = lambda name: gradients(learner, variables, batch, lambda o: o.metrics[name][0])
  assert moved(of("generator_loss")) == {"denoiser"}
  extractor = {"channels", "denoiser", "item", "category"}
  assert moved(of("contrast_loss")) == extractor | {"head_interest", "head_generated"}
  assert moved(of("log_loss")) == extractor | {"tower", "short_0"}
  cut, _ = start(dataclasses.replace(SMALL, stop_grad_sampler=True))
  of_cut = lambda name: gradients(cut, variables, batch, lambda o: o.metrics[name][0])
  assert "denoiser" not in moved(of_cut("log_loss")) | moved(of_cut("contrast_loss"))
  assert moved(of_cut("generator_loss")) == {"denoiser"}


def test_objective_is_the_weighted_sum_of_its_parts(full):
  learner, variables = full
  batch = {**make_batch(rows=4), "weight": jnp.array([1.0, 1.0, 1.0, 0.0])}
  objective = learner.loss(variables, batch, KEY)
  parts = {name: value for name, (value, _) in objective.metrics.items()}
  total = parts["log_loss"] + 0.5 * parts["generator_loss"] + 0.3 * parts["contrast_loss"]
  np.testing.assert_allclose(objective.loss, total, rtol=1e-6)
  assert objective.weight == 3.0 and min(parts["generator_loss"], parts["contrast_loss"]) > 0
  # A row of padding is in no loss, no statistic and nobody's negative. Its noise is its own.
  other = {name: value.at[3].set(value[0]) for name, value in batch.items() if name != "weight"}
  again = learner.loss(variables, {**batch, **other}, KEY)
  np.testing.assert_allclose(again.loss, objective.loss, rtol=1e-5)


def test_without_generated_interests_it_is_the_extractor_alone(full):
  """Zero weights for r* and no auxiliary losses: scores and loss of generator="none"."""
  _, variables = full
  config = dataclasses.replace(SMALL, generator_weight=0.0, contrast_weight=0.0)
  silent, _ = start(config)
  omie, _ = start(OMIE)
  count = config.channels * 8
  kernel = variables["params"]["tower"]["dense_0"]["kernel"]
  tower = {**variables["params"]["tower"], "dense_0": {
    **variables["params"]["tower"]["dense_0"], "kernel": kernel.at[-count:].set(0.0)
  }}
  whole = {**variables, "params": {**variables["params"], "tower": tower}}
  whole["params"] = {n: p for n, p in whole["params"].items() if not n.startswith("head")}
  cut = {
    **whole["params"], "tower": {
      **tower,
      "dense_0": {**tower["dense_0"], "kernel": kernel[:-count]},
      "norm": jax.tree.map(lambda leaf: leaf[:-count], tower["norm"]),
    },
  }
  del cut["denoiser"]
  stats = whole["batch_stats"]["tower"]
  stats = {**stats, "norm": jax.tree.map(lambda leaf: leaf[:-count], stats["norm"])}
  less = {**whole, "params": cut, "batch_stats": {"tower": stats}}
  batch = make_batch(rows=4)
  np.testing.assert_allclose(
    silent.predict["score"](whole, batch), omie.predict["score"](less, batch), atol=1e-6
  )
  losses = [silent.loss(whole, batch, KEY), omie.loss(less, batch, KEY)]
  np.testing.assert_allclose(losses[0].loss, losses[1].loss, rtol=1e-6)
  assert losses[0].metrics.keys() - losses[1].metrics.keys() == {"cosine_generated"}


@pytest.mark.parametrize(
  "changes",
  [
    {"generator": "vae"}, {"routing": "soft"}, {"orthogonal": False}, {"channels": 1},
    {"contrast_weight": 0.0},
  ],
  ids=lambda changes: next(iter(changes)),
)
def test_ablations_give_finite_losses_and_scores(changes):
  learner, variables = start(dataclasses.replace(SMALL, **changes))
  batch = make_batch(rows=4)
  objective = learner.loss(variables, batch, KEY)
  assert np.isfinite(objective.loss)
  assert np.isfinite(learner.predict["score"](variables, batch)).all()
  assert ("contrast_loss" in objective.metrics) == (changes != {"contrast_weight": 0.0})
  assert ("overlap" in objective.metrics) == (changes != {"channels": 1})
  if "generator" in changes:
    slope = gradients(learner, variables, batch, lambda o: o.metrics["generator_loss"][0])
    assert moved(slope) == {"autoencoder"}


def test_compact_ids_give_the_same_loss_and_row_gradients(full):
  learner, variables = full
  batch = make_batch()
  compact, rows = dict(batch), {}
  for vocabulary, table in (("item", "item"), ("category", "category")):
    fields = learner.schema.indexing(vocabulary)
    used = np.unique(np.concatenate([[0], *[np.ravel(batch[f]) for f in fields]]))
    compact |= {f: jnp.asarray(np.searchsorted(used, batch[f])) for f in fields}
    rows[table] = used
  value = jax.jit(jax.value_and_grad(
    lambda tables, batch: learner.loss({**variables, "tables": tables}, batch, KEY).loss
  ))
  whole, slope = value(variables["tables"], batch)
  small = {name: table[rows[name]] for name, table in variables["tables"].items()}
  part, part_slope = value(small, compact)
  np.testing.assert_allclose(part, whole, rtol=1e-5)
  for name in rows:
    np.testing.assert_allclose(part_slope[name], slope[name][rows[name]], atol=1e-5)


def test_items_of_several_categories():
  spec = schema()
  several = {"hist_cat": Field("ids", (LENGTH, 2), "category"),
             "target_cat": Field("ids", (2,), "category")}
  spec = Schema({**spec.fields, **several}, spec.vocabularies)
  config = dataclasses.replace(OMIE, item_width=0)
  learner, variables = start(config, spec)
  assert set(variables["tables"]) == {"category"}
  batch = make_batch()
  pair = lambda ids: jnp.stack([ids, jnp.where(ids > 0, 1 + ids % 5, 0)], axis=-1)
  batch = {**batch, "hist_cat": pair(batch["hist_cat"]), "target_cat": pair(batch["target_cat"])}
  parts = learner.predict["explain"](variables, batch)
  assert parts["interests"].shape == (3, 2, 8)
  swapped = {**batch, "target_cat": batch["target_cat"][:, ::-1]}
  assert not np.allclose(*(learner.predict["score"](variables, b) for b in (batch, swapped)))


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
    ({"channels": 9}, "channels=9 is not within 1 and 8"),
    ({"keep_share": 0.0}, "keep_share=0.0 is not above 0"),
    ({"sampler_steps": 6}, "sampler_steps=6, start_t=4 and diffusion_steps=20 need"),
    ({"start_t": 20}, "need 1 <= sampler_steps <= start_t"),
    ({"temperature": 0.0}, "temperature=0.0 is not above 0"),
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
  params = network.init(KEY, zero, jnp.zeros((64, 1), jnp.int32), zero, zero)
  denoise = lambda params: lambda *inputs: network.apply(params, *inputs)

  def value(params, key):
    start, channels = mixture(key, 64), jnp.zeros((64, 1, width))
    return denoising_loss(denoise(params), schedule, start, channels, key).mean()

  params = descend(value, params, 500, 2e-3)
  start, channels = mixture(jax.random.key(7), 256), jnp.zeros((256, 1, width))
  time = jnp.full((256, 1), 99)
  noise = jax.random.normal(jax.random.key(8), start.shape)
  noised = schedules.add_noise(schedule.log_snr(time), start, noise)
  made = denoise(params)(noised, time, start, channels)
  error = lambda x: jnp.mean(jnp.sum(jnp.square(x - start), axis=-1))
  assert error(made) <= 0.5 * error(noised)
  nearest = lambda x: (normalize(x)[:, 0] @ directions.T).max(1).mean()
  times = np.arange(99, -1, -10)
  sampled = generate(denoise(params), schedule, start, channels, times, KEY)
  assert nearest(sampled) >= nearest(noised)


def test_the_calibrator_finds_its_own_user():
  """Of 256 users, by interests and noisy copies of them: chance is 0.4 %."""
  width, head = 8, diffumin.Head()
  interests = normalize(jax.random.normal(KEY, (256, 1, width)))
  valid = jnp.ones((256, 1), bool)
  params = [head.init(jax.random.key(i), interests) for i in range(2)]

  def pairs(params, key):
    copies = normalize(interests + 0.1 * jax.random.normal(key, interests.shape))
    left, right = (head.apply(p, x) for p, x in zip(params, (interests, copies), strict=True))
    return diffumin.contrast(left, right, valid, 0.05)

  before = pairs(params, jax.random.key(9))[1].mean()
  params = descend(lambda params, key: pairs(params, key)[0].mean(), params, 300, 3e-3)
  assert before < 0.5 and pairs(params, jax.random.key(9))[1].mean() > 0.9
