# %% [markdown]
# # Functions from few points: neural processes and interests that move
#
# A neural process learns, from many functions, what a few points say about a new one, and how sure
# one may be. The first half of this notebook does that for curves, with the blocks of
# `recjax.nn.neural_process` alone. The second half does it for people: IDNP (Du et al., WSDM 2023)
# sees a user's interest as a function of time.
#
# Install recjax first, from a checkout: `pip install -e '.[colab]'`. Everything here is made up by
# programs, nothing is fetched. It takes a few minutes on two CPU cores; with the environment variable
# `RECJAX_COLAB_TINY` set it only shows that it runs.

# %%
import os
import pathlib

import flax.linen as nn
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from absl import flags

from recjax import registry
from recjax.config import experiment, resolve
from recjax.data.sources import planted_functions
from recjax.nn import neural_process as process
from recjax.programs import start
from recjax.programs.assemble import assemble
from recjax.programs.train import train
from recjax.serve.export import read_export
from recjax.train.writers import read_metrics

if not flags.FLAGS.is_parsed():
  flags.FLAGS.mark_as_parsed()
start.runtime()

TINY = bool(os.environ.get("RECJAX_COLAB_TINY"))

# %% [markdown]
# ## Curves
#
# The functions are sine curves of random height, phase and speed. Of each, 20 points are known, of
# which 1 to 8, drawn anew each time, are the contexts.
#
# - The deterministic path attends from a moment to the contexts; their codes are times relative to
#   that moment.
# - The latent path sums up the contexts as one Gaussian for the whole curve: the prior. With all
#   points it gives the posterior, from which training draws z. Predictions draw z from the prior.

# %%
POINTS, LATENT = 20, 8


class Curves(nn.Module):
  """What the contexts say about a curve: mean and deviation at every asked time."""

  width: int = 32

  @nn.compact
  def __call__(self, x, y, mask, asked, noise, posterior):
    """x, y, mask [B, N] and asked [B, T]; returns mean, deviation [B, T] and both Gaussians."""
    code, seen = process.TimeCode(self.width), y[..., None]
    codes = code(x[:, None] - asked[..., None])
    tokens = process.ContextTokens(self.width)(seen, codes)
    pairs = jnp.broadcast_to(mask[:, None], codes.shape[:3])
    path = process.AttentivePath(self.width)
    now = code(jnp.zeros_like(asked))
    r, _ = path(now, seen[..., :0], codes, tokens, pairs)
    tokens = process.ContextTokens(self.width)(seen, code(x)[:, None])
    latent = process.LatentPath(LATENT)
    of_contexts = latent(process.summarise(tokens, mask[:, None]))
    of_all = latent(process.summarise(tokens, jnp.ones_like(mask)[:, None]))
    mean, deviation = of_all if posterior else of_contexts
    z = jnp.broadcast_to(mean + deviation * noise, (*asked.shape, LATENT))
    hidden = nn.relu(nn.Dense(64)(jnp.concatenate([r, z, code(asked)], axis=-1)))
    out = nn.Dense(2)(hidden)
    return out[..., 0], 0.05 + 0.95 * nn.softplus(out[..., 1]), of_contexts, of_all


def draw(random, *shape):
  """Points of new curves and a mask of contexts, each [*shape, POINTS]."""
  height, phase, speed = random.uniform(size=(3, *shape, 1))
  x = random.uniform(size=(*shape, POINTS))
  y = (0.5 + height) * np.sin(2 * np.pi * ((0.7 + speed) * x + phase))
  known = random.integers(1, 9, size=(*shape, 1))
  return x.astype(np.float32), y.astype(np.float32), np.arange(POINTS) < known


curves = Curves()
STEPS = 40 if TINY else 3000
optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(2e-3))


def loss(params, points, noise):
  x, y, mask = points
  mean, deviation, prior, posterior = curves.apply(params, x, y, mask, x, noise, True)
  misfit = 0.5 * ((y - mean) / deviation) ** 2 + jnp.log(deviation)
  return jnp.mean(misfit) + jnp.mean(process.gaussian_kl(*posterior, *prior)) / POINTS


@jax.jit
def fit(key, points, noises):
  """One step for each of the batches [STEPS, 32, ...]; parameters and the loss of every step."""
  x, y, mask = (values[0] for values in points)
  params = curves.init(key, x, y, mask, x, noises[0], True)

  def step(carry, batch):
    params, state = carry
    value, slope = jax.value_and_grad(loss)(params, *batch)
    update, state = optimizer.update(slope, state)
    return (optax.apply_updates(params, update), state), value

  (params, _), values = jax.lax.scan(step, (params, optimizer.init(params)), (points, noises))
  return params, values


random = np.random.default_rng(0)
noises = random.standard_normal((STEPS, 32, 1, LATENT), np.float32)
params, values = fit(jax.random.key(1), draw(random, STEPS, 32), noises)
values = np.asarray(values)
print(f"loss: {values[:10].mean():.2f} at first, {values[-10:].mean():.2f} now")

# %% [markdown]
# One curve, seen at more and more of its points. A line is the mean for one draw of z; the band is
# two deviations wide on either side, over draws and what remains open for each of them. It should be
# narrow near the points and narrow everywhere once they tell the curve.

# %%
grid = np.linspace(0, 1, 100, dtype=np.float32)[None]
truth = draw(np.random.default_rng(7), 1)
order = np.argsort(truth[0][0])
noises = random.standard_normal((30, 1, 1, LATENT), np.float32)


@jax.jit
def believe(params, mask):
  """Mean and deviation [30, 100] over the grid, one row for each draw of z."""
  ask = lambda noise: curves.apply(params, *truth[:2], mask, grid, noise, False)[:2]
  mean, deviation = jax.vmap(ask)(noises)
  return mean[:, 0], deviation[:, 0]


figure, axes = plt.subplots(1, 3, figsize=(12, 3.2), sharey=True, layout="constrained")
for axis, known in zip(axes, (1, 3, 8), strict=True):
  mean, deviation = jax.device_get(believe(params, np.arange(POINTS)[None] < known))
  middle = mean.mean(0)
  spread = 2 * np.sqrt(mean.var(0) + (deviation**2).mean(0))
  axis.fill_between(grid[0], middle - spread, middle + spread, alpha=0.2)
  axis.plot(grid[0], mean[:8].T, color="tab:blue", linewidth=0.7)
  axis.plot(truth[0][0][order], truth[1][0][order], ":", color="0.4", label="truth")
  axis.plot(truth[0][0, :known], truth[1][0, :known], "o", color="tab:red", label="known")
  axis.set(xlabel="time", title=f"{known} known", ylim=(-2.5, 2.5))
axes[0].legend(loc="lower left")
plt.show()

# %% [markdown]
# ## Interests that move
#
# The same for people. Everybody's topic moves through 8 topics with time, each at a speed and from a
# phase of their own (`recjax.data.sources.planted_functions`). A user comes in five sessions; what
# will they want when they come back? The last session alone tells little: the best possible list of
# 8 items holds the answer in 30 of 100 cases. All five sessions together tell the speed: 84 of 100.

# %%
config = resolve(
  experiment(
    "neural_process",
    data={
      "name": "planted", "generator": "interest_functions", "num_users": 1_500 if TINY else 60_000,
    },
    split={"name": "user_disjoint", "history_share": 0.96},
    view={
      "name": "interest_functions", "length": 21, "unit": planted_functions.UNIT, "pause": 1000,
    },
    model={
      "name": "idnp", "width": 16 if TINY else 32, "window": 4, "dilations": (1,),
      "contexts_max": 20, "least_before": 8, "user_embedding": "zero", "dropout": 0.0,
    },
    evaluate={"full_ranking": {"cutoffs": (8,), "keep_seen": True, "beyond_accuracy": False}},
    train={
      "batch_size": 32 if TINY else 128, "steps": 40 if TINY else 800, "log_every": 20,
      "evaluate_every": 40 if TINY else 200, "select_metric": "hr@8",
    },
    optimizer={"learning_rate": 3e-3, "clip_norm": 5.0},
  )
)
workdir = pathlib.Path("runs") / ("neural_process_tiny" if TINY else "neural_process")
report = train(config, workdir)
bounds = report["data"]["bayes_hr"]
print(f"hit rate of lists of 8: {report['test']['metrics']['hr@8']['mean']:.3f}")
print(f"best possible from the last session: {bounds['sessions_1']:.2f}")
print(f"best possible from all five: {bounds['sessions_5']:.2f}")

# %% [markdown]
# How the two Gaussians come apart while the model learns: the distance says how much the answer
# would still change what is believed of the user.

# %%
lines = [line for line in read_metrics(workdir) if line["kind"] == "train"]
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3), layout="constrained")
steps = [line["step"] for line in lines]
left.plot(steps, [line["likelihood_loss"] for line in lines], marker=".")
left.axhline(np.log(64), color="0.6", linestyle=":", label="guessing")
left.set(xlabel="step", ylabel="nats", title="Loss of the next item")
left.legend()
right.plot(steps, [line["w2"] for line in lines], marker=".")
right.set(xlabel="step", title="Squared Wasserstein distance, posterior to prior")
plt.show()

# %% [markdown]
# ## One user over time
#
# The model is asked about one user at many moments after the last session. A line is the score of a
# topic (the mean of its items), with a band of one deviation over draws of z. Below: the best scored
# topic at each moment, and the topic of the item that the user took next.

# %%
parts = assemble(config)
export = read_export(workdir / "export")
learner = registry.resolve("model", "idnp").build(export.config.model, export.schema)
variables = jax.device_put(export.variables)
cases = parts.view.test
one = cases.rows.gather(np, cases.rows.columns, np.zeros(60, np.int32))
last = float(one["hist_time"][0, -1])
moments = np.linspace(last, last + 0.5, 60).astype(np.float32)
items = np.arange(1, 65)
uncertainty = jax.jit(learner.predict["uncertainty"])
mean, deviation = uncertainty(variables, {**one, "query_time": moments}, items, jax.random.key(0))
by_topic = lambda values: np.asarray(values).reshape(60, 8, 8).mean(2)
mean, deviation = by_topic(mean), by_topic(deviation)

figure, (above, below) = plt.subplots(
  2, 1, figsize=(10, 5), height_ratios=(3, 1), sharex=True, layout="constrained"
)
for topic in range(8):
  (line,) = above.plot(moments, mean[:, topic], label=f"topic {topic + 1}")
  above.fill_between(
    moments, mean[:, topic] - deviation[:, topic], mean[:, topic] + deviation[:, topic],
    color=line.get_color(), alpha=0.15,
  )
above.set(ylabel="score", title="Interest after the last session")
above.legend(ncols=4, fontsize=8)
below.plot(moments, mean.argmax(1) + 1, "s", markersize=3, label="best scored topic")
asked = float(cases.rows.gather(np, cases.rows.columns, np.zeros(1, np.int32))["query_time"][0])
below.plot([asked], [(cases.targets[0, 0] - 1) // 8 + 1], "o", color="tab:red", label="taken next")
below.set(xlabel="time", ylabel="topic", ylim=(0.5, 8.5))
below.legend(fontsize=8)
plt.show()
