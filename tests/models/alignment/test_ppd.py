"""PPD on a small host: the untouched base, dead and live gradients, tokens, mixtures, what may move."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys

from recjax.config import Optimizer, Train, resolve
from recjax.data.schema import Field, Schema
from recjax.diffusion import small_host
from recjax.errors import ConfigError
from recjax.models.alignment import ppd
from recjax.models.alignment._users import UserBranch, drop_tokens, with_null
from recjax.nn.decoupled_attention import Extra
from recjax.train.mesh import make_mesh
from recjax.train.step import Updater

HOST = small_host.Config(width=16, blocks=1, heads=2)
# No randomness but time and noise.
PLAIN = ppd.Config(
  host=HOST, strength=32.0, token_dropout=0.0, user_dropout=0.0, blank_prompt=0.0, null="zero"
)
ROWS, TOKENS, USERS = 6, 3, 5
SHAPE = (2, 2, 4)


def schema():
  fields = {
    "winner": Field("vector", SHAPE), "loser": Field("vector", SHAPE),
    "text_prompt": Field("vector", (4,)),
    "user_id": Field("id", (), "user"), "user_token": Field("vector", (TOKENS, 8)),
    "user_mask": Field("mask", (TOKENS,)), "support_text_prompt": Field("vector", (TOKENS, 4)),
    "support_winner": Field("vector", (TOKENS, *SHAPE)),
    "support_loser": Field("vector", (TOKENS, *SHAPE)),
  }
  return Schema(fields, {"user": USERS})


def a_batch(rows=ROWS, seed=0):
  rng = np.random.default_rng(seed)
  batch = {
    name: rng.standard_normal((rows, *field.shape)).astype(np.float32)
    for name, field in schema().fields.items()
  }
  batch["user_id"] = rng.integers(1, USERS, rows).astype(np.int32)
  batch["user_mask"] = np.ones((rows, TOKENS), bool)
  return {name: jnp.asarray(x) for name, x in batch.items()}


def start(config, seed=0):
  """A learner and its variables, whose host predicts something."""
  learner = ppd.build(config, schema())
  init = jax.jit(lambda key: learner.init(key, {}, a_batch()))
  variables = jax.device_get(init(jax.random.key(seed)))
  return learner, {**variables, "host": shaken(variables["host"], 0.1)}


def shaken(tree, deviation):
  """The tree with noise on every array."""
  rng = np.random.default_rng(7)
  noise = lambda x: (deviation * rng.standard_normal(x.shape)).astype(np.float32)
  return jax.tree.map(lambda x: x + noise(x), tree)


def stirred(variables):
  """The variables with value maps that are no longer zero."""
  branch = variables["params"]["branch"]
  branch = {n: shaken(x, 0.3) if n.endswith("_value") else x for n, x in branch.items()}
  return {**variables, "params": {**variables["params"], "branch": branch}}


def sloped(learner):
  """(variables, batch) -> (objective, gradient of its loss by the params), compiled."""

  @jax.jit
  def run(variables, batch):
    def value(params):
      objective = learner.loss({**variables, "params": params}, batch, jax.random.key(1))
      return objective.loss, objective

    (_, objective), gradient = jax.value_and_grad(value, has_aux=True)(variables["params"])
    return objective, gradient

  return run


@pytest.fixture(scope="module")
def plain():
  return start(PLAIN)


@pytest.fixture(scope="module")
def slopes(plain):
  return sloped(plain[0])


@pytest.fixture(scope="module")
def predict():
  """(host params, noised, text, extra) -> predicted noise of the small host."""
  host = small_host.build(HOST, SHAPE, {"prompt": (4,)})
  run = jax.jit(host.predict_noise)
  time = jnp.full((ROWS,), 300)
  return lambda params, batch, extra: run(
    params, batch["winner"], time, {"prompt": batch["text_prompt"]}, extra
  )


def test_it_starts_as_the_base_and_moves_values_first(plain, slopes, predict):
  learner, variables = plain
  batch = a_batch()
  objective, gradient = slopes(variables, batch)
  assert float(objective.loss / objective.weight) == pytest.approx(np.log(2), abs=1e-6)
  accuracy, weight = objective.metrics["accuracy"]
  assert float(accuracy / weight) == 0.5
  for name, slope in gradient["branch"].items():
    assert np.any(slope["kernel"]) == name.endswith("_value"), name
  extra = learner.predict["encode_user"](variables, batch)
  untouched = predict(variables["host"], batch, None)
  np.testing.assert_array_equal(predict(variables["host"], batch, extra), untouched)
  # Keys move as soon as values are there.
  _, later = slopes(stirred(variables), batch)
  assert all(np.abs(slope["kernel"]).max() > 1e-6 for slope in later["branch"].values())


def test_one_token_never_moves_its_keys(plain, slopes):
  _, variables = plain
  batch = a_batch()
  batch["user_mask"] = batch["user_mask"].at[:, 1:].set(False)
  _, gradient = slopes(stirred(variables), batch)
  for name, slope in gradient["branch"].items():
    if name.endswith("_key"):
      assert np.abs(slope["kernel"]).max() < 1e-6
    else:
      assert np.abs(slope["kernel"]).max() > 1e-4


@pytest.mark.parametrize("how", ["zero tokens", "dropped"])
def test_a_user_of_zeros_has_loss_ln_2_and_no_gradient(how, plain, slopes):
  _, variables = plain
  batch = a_batch()
  if how == "dropped":
    slopes = sloped(ppd.build(dataclasses.replace(PLAIN, user_dropout=1.0), schema()))
  else:
    batch["user_token"] = jnp.zeros_like(batch["user_token"])
  objective, gradient = slopes(stirred(variables), batch)
  assert float(objective.loss / objective.weight) == pytest.approx(np.log(2), abs=1e-6)
  for slope in jax.tree.leaves(gradient):
    assert not np.any(slope)


def test_order_and_masks_of_tokens(plain, predict):
  learner, variables = plain
  variables, batch = stirred(variables), a_batch()
  noise = lambda batch: predict(
    variables["host"], batch, learner.predict["encode_user"](variables, batch)
  )
  got, base = noise(batch), predict(variables["host"], batch, None)
  assert np.abs(got - base).max() > 0.01
  turned = {**batch, "user_token": batch["user_token"][:, ::-1]}
  np.testing.assert_allclose(noise(turned), got, atol=2e-6)
  masked = {**batch, "user_mask": batch["user_mask"].at[:, 0].set(False)}
  shorter = {n: x[:, 1:] if n in ("user_token", "user_mask") else x for n, x in batch.items()}
  np.testing.assert_allclose(noise(masked), noise(shorter), atol=2e-6)
  none = {**batch, "user_mask": jnp.zeros_like(batch["user_mask"])}
  np.testing.assert_array_equal(noise(none), base)


def test_places_of_tokens_matter_where_they_are_told(plain):
  tokens, mask = a_batch()["user_token"], jnp.ones((ROWS, TOKENS), bool)
  module = UserBranch({"block_0": 16}, projection=12, positions=True)
  variables = jax.jit(module.init)(jax.random.key(0), tokens, mask)
  assert variables["params"]["block_0_key"]["kernel"].shape == (12, 16)
  extra = jax.jit(lambda t: module.apply(variables, t, mask).key["block_0"])
  assert np.abs(extra(tokens) - extra(tokens[:, ::-1])[:, ::-1]).max() > 1e-3


def test_swapping_pairs_mirrors_them(plain, slopes):
  variables, batch = stirred(plain[1]), a_batch()
  swapped = {**batch, "winner": batch["loser"], "loser": batch["winner"]}
  one, other = (slopes(variables, b)[0] for b in (batch, swapped))
  assert float(one.loss) != float(other.loss)
  assert float(one.loss + other.loss) >= 2 * np.log(2) * ROWS
  assert one.metrics["accuracy"][0] + other.metrics["accuracy"][0] == ROWS
  np.testing.assert_allclose(
    one.metrics["winner_margin"][0], other.metrics["loser_margin"][0], rtol=1e-4
  )


def test_loss_is_that_of_the_formula(plain, slopes):
  """The whole objective again in NumPy, from the network's own predictions."""
  learner, variables = plain
  variables, batch = stirred(variables), a_batch()
  objective, _ = slopes(variables, batch)
  time_key, noise_key = jax.random.split(jax.random.split(jax.random.key(1), 3)[2])
  host = small_host.build(HOST, SHAPE, {"prompt": (4,)})
  predict = jax.jit(host.predict_noise)
  time = host.schedule.draw(time_key, (ROWS,))
  noise = np.asarray(jax.random.normal(noise_key, (ROWS, *SHAPE)))
  signal = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))[np.asarray(time)].reshape(-1, 1, 1, 1)
  extra, total = learner.predict["encode_user"](variables, batch), 0.0

  def error(start, extra):
    noised = np.sqrt(signal) * np.asarray(start) + np.sqrt(1 - signal) * noise
    text = {"prompt": batch["text_prompt"]}
    guess = predict(variables["host"], jnp.asarray(noised, jnp.float32), time, text, extra)
    return np.square(noise - np.asarray(guess)).sum((1, 2, 3))

  w, l = (error(batch[n], extra) - error(batch[n], None) for n in ("winner", "loser"))
  total = np.logaddexp(0, 2.0 * (w - l)).sum()  # strength 2 for sums over 16 dimensions
  assert float(objective.loss) == pytest.approx(total, rel=2e-4)
  bins = sum(float(objective.metrics[f"accuracy_signal_{i}"][1]) for i in range(4))
  assert bins == ROWS


def test_ten_steps_leave_the_host_alone():
  """Bitwise, and the optimizer has moments of the branch only."""
  config = dataclasses.replace(PLAIN, null="learned", user_dropout=0.3, token_dropout=0.2)
  learner = ppd.build(config, schema())
  setting = toys.config(
    train=Train(batch_size=ROWS, steps=10), optimizer=Optimizer(learning_rate=1e-2, clip_norm=1.0),
    mesh=toys.Mesh(data=8),
  )
  made = Updater(learner, setting, schema(), make_mesh(setting.mesh), 10)
  first = jax.device_get(jax.jit(made.create)(np.uint32(0)))
  # A host that predicts nothing yet would hide the branch.
  host = shaken(first.variables["host"], 0.1)
  first = state = dataclasses.replace(first, variables={**first.variables, "host": host})
  step = jax.jit(made.update)
  for number in range(10):
    state = step(state, a_batch(seed=number))
  assert int(state.step) == 10
  jax.tree.map(np.testing.assert_array_equal, state.variables["host"], first.variables["host"])
  moved = jax.tree.map(
    lambda a, b: bool(np.any(a != b)), state.variables["params"], first.variables["params"]
  )
  assert all(jax.tree.leaves(moved))
  shapes = sorted(x.shape for x in jax.tree.leaves(first.variables["params"]))
  for moments in (state.optimizer[1][0].mu, state.optimizer[1][0].nu):
    assert sorted(x.shape for x in jax.tree.leaves(moments)) == shapes


def test_mixing_one_token_users_mixes_their_tokens(predict):
  """With one token a user, adding outputs is the same as adding inputs."""
  learner, variables = start(dataclasses.replace(PLAIN, encoder="one_hot"))
  variables, batch = stirred(variables), a_batch()
  user = lambda number: learner.predict["encode_user"](
    variables, {**batch, "user_id": jnp.full((ROWS,), number)}
  )
  mixed = (user(1)._replace(scale=0.25), user(2)._replace(scale=0.75))
  blend = lambda a, b: jax.tree.map(lambda x, y: 0.25 * x + 0.75 * y, a, b)
  inputs = Extra(blend(user(1).key, user(2).key), blend(user(1).value, user(2).value), user(1).mask)
  got = predict(variables["host"], batch, mixed)
  np.testing.assert_allclose(got, predict(variables["host"], batch, inputs), atol=2e-6)
  alone = (user(1)._replace(scale=1.0), user(2)._replace(scale=0.0))
  np.testing.assert_allclose(
    predict(variables["host"], batch, alone), predict(variables["host"], batch, user(1)), atol=2e-6
  )


def test_generation_starts_from_the_base_and_the_user_can_be_left_out(plain):
  learner, variables = plain
  batch, noise = a_batch(), jax.random.normal(jax.random.key(2), (ROWS, *SHAPE))
  make = jax.jit(
    lambda variables, extra, **how: learner.predict["generate"](
      variables, batch, noise, extra, steps=3, **how
    ),
    static_argnames=("text_scale", "user_scale", "limit"),
  )
  base, guided = make(variables, None), make(variables, None, text_scale=3.0)
  assert np.isfinite(base).all() and np.abs(base - guided).max() > 1e-3
  bounded = make(variables, None, limit=0.5)
  assert np.abs(bounded).max() <= 0.5 < np.abs(base).max()
  fresh = learner.predict["encode_user"](variables, batch)
  np.testing.assert_array_equal(make(variables, fresh), base)
  changed = stirred(variables)
  extra = learner.predict["encode_user"](changed, batch)
  assert np.abs(make(changed, extra) - base).max() > 1e-3
  np.testing.assert_allclose(make(changed, extra._replace(scale=0.0)), base, atol=1e-5)
  np.testing.assert_allclose(
    make(changed, extra, text_scale=3.0, user_scale=0.0), guided, rtol=1e-4, atol=1e-4
  )


def test_null_users():
  tokens, mask = jnp.ones((3, 2, 4)), jnp.array([[True, True], [True, False], [False, False]])
  null = jnp.full((1, 4), 9.0)
  both, shown = with_null(tokens, mask, null, jnp.array([True, False, False]))
  assert both.shape == (3, 3, 4) and np.all(both[:, 2] == 9)
  # The first was dropped, the last has no history.
  np.testing.assert_array_equal(shown, [[0, 0, 1], [1, 0, 0], [0, 0, 1]])
  same, without = with_null(tokens, mask, None, jnp.array([True, False, False]))
  np.testing.assert_array_equal(without, [[0, 0], [1, 0], [0, 0]])
  np.testing.assert_array_equal(same, tokens)
  dropped = drop_tokens(jnp.ones((2000, 4), bool), jax.random.key(0), 0.5)
  assert np.asarray(dropped).any(1).all()
  assert 0.5 < np.asarray(dropped).mean() < 0.6  # those without any token keep all


@pytest.mark.parametrize("encoder", ["pairs", "constant"])
def test_other_encoders_learn(encoder):
  config = dataclasses.replace(PLAIN, encoder=encoder, null="learned", null_tokens=2)
  learner, variables = start(config)
  variables = stirred(variables)
  _, gradient = sloped(learner)(variables, a_batch())
  part = gradient["encoder"] if encoder == "pairs" else {"null": gradient["null"]}
  assert all(np.abs(x).max() > 1e-6 for x in jax.tree.leaves(part))


def test_sft_descends_on_the_winners_error(plain):
  learner = ppd.build(dataclasses.replace(PLAIN, objective="sft"), schema())
  batch = a_batch()
  run = jax.jit(lambda b: learner.loss(plain[1], b, jax.random.key(1)).loss)
  value = lambda b: float(run(b))
  assert value(batch) == value({**batch, "loser": batch["loser"] + 1})
  assert value(batch) != value({**batch, "winner": batch["winner"] + 1})


@pytest.mark.parametrize(
  ("change", "sentence"),
  [
    ({"encoder": "token"}, "Unknown encoder 'token'. Did you mean 'tokens'"),
    ({"objective": "dop"}, "Unknown objective 'dop'"),
    ({"null": "zeros"}, "Unknown null 'zeros'. Did you mean 'zero'"),
    ({"encoder": "constant"}, "must be null=learned"),
    ({"token_positions": True}, "set projection above 0"),
    ({"sites": ("block_9",)}, "Unknown attention site 'block_9'"),
    ({"host": dataclasses.replace(HOST, schedule="cosin")}, "Unknown schedule 'cosin'"),
    ({"host": dataclasses.replace(HOST, heads=3)}, "not divisible by heads=3"),
    ({"host": dataclasses.replace(HOST, patch=4)}, "cannot be cut into patches of 4"),
  ],
)
def test_mistakes_are_named(change, sentence):
  with pytest.raises(ConfigError, match=sentence):
    ppd.build(dataclasses.replace(PLAIN, **change), schema())


def test_missing_fields_are_named():
  bare = Schema({n: f for n, f in schema().fields.items() if n != "user_token"}, {"user": USERS})
  with pytest.raises(ConfigError, match="The batch lacks 'user_token'"):
    ppd.build(PLAIN, bare)
  no_prompt = Schema({n: f for n, f in schema().fields.items() if n != "text_prompt"}, {"user": USERS})
  with pytest.raises(ConfigError, match="reads prompts of one vector"):
    ppd.build(PLAIN, no_prompt)


def test_a_host_is_a_module_of_its_own_in_the_config():
  """Its keys are checked like any other, and filled in."""
  base = {
    "name": "x", "data": {"name": "tastes"}, "view": {"name": "sample_pairs"},
    "evaluate": {"personal_samples": {}},
  }
  config = resolve({**base, "model": {"name": "ppd", "host": {"name": "small", "width": 8}}})
  assert config.model.host == small_host.Config(width=8)
  with pytest.raises(ConfigError, match="Unknown key of config.model.host 'widht'"):
    resolve({**base, "model": {"name": "ppd", "host": {"name": "small", "widht": 8}}})
  with pytest.raises(ConfigError, match="Unknown host 'smal'"):
    resolve({**base, "model": {"name": "ppd", "host": {"name": "smal"}}})
