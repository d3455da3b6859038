"""The base of alignment methods: its loss, its prompts, and that it learns what prompts mean."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax.data.schema import Field, Schema
from recjax.diffusion import small_host
from recjax.models.alignment import text_to_image

HOST = small_host.Config(width=16, blocks=1, heads=2)
SHAPE = (2, 2, 4)
FIELDS = {"sample": Field("vector", SHAPE), "text_prompt": Field("vector", (4,))}


def learner_of(blank_prompt):
  config = text_to_image.Config(host=HOST, blank_prompt=blank_prompt)
  return text_to_image.build(config, Schema(FIELDS, {}))


@pytest.fixture(scope="module")
def batch():
  """Two prompts, each with samples around a mean of its own."""
  rng = np.random.default_rng(0)
  prompt = np.eye(4, dtype=np.float32)[rng.integers(2, size=64)]
  mean = rng.normal(size=(4, *SHAPE)).astype(np.float32) * 2
  sample = np.einsum("bp,phwc->bhwc", prompt, mean) + 0.1 * rng.normal(size=(64, *SHAPE))
  return {"sample": jnp.asarray(sample, jnp.float32), "text_prompt": jnp.asarray(prompt)}


@pytest.fixture(scope="module")
def trained(batch):
  """(losses of 150 steps, params) of a base that is told its prompts."""
  learner = learner_of(0.0)
  optimizer = optax.adam(1e-2)

  def step(carry, key):
    params, state = carry
    mean = lambda p: learner.loss({"params": p}, batch, key).loss / 64
    value, slope = jax.value_and_grad(mean)(params)
    update, state = optimizer.update(slope, state)
    return (optax.apply_updates(params, update), state), value

  def fit(key):
    params = learner.init(key, {}, batch)["params"]
    carry = params, optimizer.init(params)
    (params, _), values = jax.lax.scan(step, carry, jax.random.split(key, 150))
    return values, params

  return jax.jit(fit)(jax.random.key(0))


def test_an_untrained_base_predicts_nothing_and_a_trained_one_most(trained):
  values = np.asarray(trained[0])
  assert values[0] == pytest.approx(1.0, abs=0.15)  # the variance of the noise
  assert values[-20:].mean() < 0.4


def test_the_loss_is_that_of_its_share_of_blank_prompts(batch, trained):
  """Blank prompts are zeros: with all of them blank the prompt cannot matter, else it does."""
  other = {**batch, "text_prompt": batch["text_prompt"][:, ::-1]}
  values = {}
  for rate in (0.0, 1.0):
    learner = learner_of(rate)
    value = jax.jit(
      lambda b, learner=learner: learner.loss({"params": trained[1]}, b, jax.random.key(1))
    )
    objective = value(batch)
    values[rate] = float(objective.loss), float(value(other).loss)
    explained, weight = objective.metrics["explained"]
    assert float(explained / weight) == pytest.approx(1 - float(objective.loss / weight), rel=1e-4)
  assert values[1.0][0] == values[1.0][1]
  assert values[0.0][1] > 1.2 * values[0.0][0]


def test_the_error_of_evaluation_is_that_of_training_without_blanks(batch, trained):
  """Both are unbiased over times and noises: means over 50 keys agree."""
  learner, variables = learner_of(0.0), {"params": trained[1]}
  keys = jax.random.split(jax.random.key(2), 50)
  both = jax.jit(
    lambda keys: jax.lax.map(
      lambda key: (
        learner.predict["denoising_error"](variables, batch, key).mean(),
        learner.loss(variables, batch, key).loss / 64,
      ),
      keys,
    )
  )
  evaluated, training = (np.asarray(values).mean() for values in both(keys))
  assert evaluated == pytest.approx(training, rel=0.1)
