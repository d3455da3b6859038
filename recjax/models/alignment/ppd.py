"""Personalized Preference Fine-tuning of Diffusion Models. Dang, Singh, Zhou, Ermon and Song,
CVPR 2025, arXiv 2501.06655.

    Z' = softmax(Q K^T / sqrt(d)) V + scale softmax(Q K'^T / sqrt(d)) V',   K' = u W_k, V' = u W_v
    m_w = mean (e - e_theta(x_t, c, u, t))^2 on the winner of a pair, m_l on the loser,
    r_w, r_l the same without u;   loss = -log sigmoid(-strength ((m_w - m_l) - (r_w - r_l)))

The user u is a few tokens made of past comparisons of that user, never of the pair itself. W_k and W_v,
one pair of matrices an attention site, are all that is trained, with what encodes u if that is learned;
the text-to-image network stays as it is, is its own reference without u, and lives in the collection
`host`. Both samples of a pair share time and noise. `losses.diffusion_preference` is the loss,
`nn.decoupled_attention` the branch, `_users` the tokens.

`objective="sft"` descends on m_w alone, and `encoder="constant"` gives every user the same learned
tokens, which makes the loss plain Diffusion-DPO; both are baselines of the paper.

Where we depart from the paper, and why:
- The paper's text was not available to us in full; equations are those of its abstract, of IP-Adapter
  and of Diffusion-DPO. Strength, drop-out rates and initial values are ours.
- A user who is dropped becomes a learned null user (null="learned"), or has no tokens (null="zero"), as
  published. With bias-free maps and a frozen network the latter has loss ln 2 and no gradient: it only
  makes the step smaller. Single tokens are dropped by mask, since a zero token still takes its share.
- W_v starts at zero, so the first step sees the untouched network; W_k moves from the second step on.
- The host's variables are stored with the run's, not as a reference to a file.
- `shift` in the metrics, the squared norm of what the user changes in the predicted noise relative to
  the prediction itself, stands for the norm of the branch within the network, which hosts do not show.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from recjax.data.schema import Schema
from recjax.diffusion import small_host
from recjax.diffusion.host import Host
from recjax.diffusion.schedules import add_noise
from recjax.errors import ConfigError
from recjax.losses.diffusion_preference import diffusion_dpo, noise_error
from recjax.models.alignment import _host
from recjax.models.alignment._users import PairEncoder, UserBranch, drop_tokens, with_null
from recjax.models.learner import Batch, Learner, Objective
from recjax.nn.decoupled_attention import Extra
from recjax.ranges import Above0, Count, Positive, Rate, Share
from recjax.registry import unknown

ENCODERS = {  # what each reads of a batch
  "tokens": ("user_token", "user_mask"),
  "pairs": ("support_winner", "support_loser", "user_mask"),
  "one_hot": ("user_id",),
  "constant": (),
}
OBJECTIVES = ("dpo", "sft")
NULLS = ("learned", "zero")
_PARTS = 4  # of the way from noise to sample, for accuracy by time


@dataclasses.dataclass(frozen=True)
class Config:
  """What can be chosen."""

  name: str = "ppd"
  # The frozen network, by name in the registry; its sizes are those of the stage it comes from.
  host: Any = dataclasses.field(default=small_host.Config(), metadata={"module": "host"})
  # tokens (of the batch) | pairs (a learned encoder of past pairs) | one_hot (of user_id) | constant.
  encoder: str = "tokens"
  user_width: Positive = 32  # of tokens that are learned (pairs, constant)
  encoder_hidden: Positive = 128  # of the learned encoder
  objective: str = "dpo"  # dpo | sft
  # Of errors averaged over dimensions; 2500 is half of Diffusion-DPO's beta of 5000. For errors summed
  # over d dimensions with strength s it is s d.
  strength: Above0 = 2500.0
  sites: tuple[str, ...] = ()  # attention sites with a branch; none named = all
  projection: Count = 0  # width of a shared layer norm and linear map of tokens; 0 = none
  token_positions: bool = False  # with a projection: tell tokens apart by their place
  token_dropout: Rate = 0.1  # share of tokens that are not seen
  user_dropout: Rate = 0.1  # share of users who are replaced by the null user
  null: str = "learned"  # learned | zero: the null user, who is also anyone without history
  null_tokens: Positive = 1  # of the learned null user
  blank_prompt: Share = 0.1  # share of prompts that are left blank


class Personal(nn.Module):
  """Batch to the branch of its users: encoder, dropout, null user, keys and values."""

  config: Config
  sites: Mapping[str, int]
  width: int  # of tokens
  users: int  # size of the vocabulary of users, for one_hot

  @nn.compact
  def __call__(self, batch: Batch, *, train: bool) -> Extra:
    """Keys, values and mask for every row."""
    config = self.config
    tokens, mask = self._tokens(batch)
    absent = jnp.zeros(mask.shape[:1], bool)
    if train:
      token_key, user_key = jax.random.split(self.make_rng("dropout"))
      mask = drop_tokens(mask, token_key, config.token_dropout)
      absent = jax.random.bernoulli(user_key, config.user_dropout, absent.shape)
    null = None
    if config.null == "learned":
      shape = (config.null_tokens, self.width)
      null = self.param("null", nn.initializers.normal(1.0), shape, jnp.float32)
    tokens, mask = with_null(tokens, mask, null, absent)
    branch = UserBranch(self.sites, config.projection, config.token_positions, name="branch")
    return branch(tokens, mask)

  def _tokens(self, batch: Batch) -> tuple[jax.Array, jax.Array]:
    """Tokens [B, L, D] and mask [B, L] of the users themselves."""
    if self.config.encoder == "tokens":
      return batch["user_token"], batch["user_mask"]
    if self.config.encoder == "pairs":
      encoder = PairEncoder(self.width, self.config.encoder_hidden, name="encoder")
      return encoder(batch), batch["user_mask"]
    if self.config.encoder == "one_hot":
      tokens = jax.nn.one_hot(batch["user_id"], self.users)[:, None, :]
      return tokens, (batch["user_id"] != 0)[:, None]
    rows = next(iter(batch.values())).shape[0]
    return jnp.zeros((rows, 0, self.width)), jnp.zeros((rows, 0), bool)


def build(
  config: Config, schema: Schema, counts: Mapping[str, np.ndarray] | None = None
) -> Learner:
  """The learner; reads winner, loser [B, H, W, C], the prompts text_* and what the encoder needs.

  Raises:
    ConfigError: for unknown options, sites or missing fields.
  """
  del counts
  _check(config)
  _host.require(schema, "winner", "loser", *ENCODERS[config.encoder])
  host = _host.host_of(config.host, schema, "winner")
  for site in config.sites:
    if site not in host.sites:
      raise ConfigError(unknown("attention site", site, host.sites))
  sites = {site: host.sites[site] for site in config.sites or host.sites}
  users = schema.vocabularies.get("user", 0)
  width = {"one_hot": users}.get(config.encoder, config.user_width)
  if config.encoder == "tokens":
    width = schema.fields["user_token"].shape[-1]
  module = Personal(config, sites, width, users)

  def init(key, tables, batch):
    host_key, key = jax.random.split(key)
    return {"params": module.init(key, batch, train=False)["params"], "host": host.init(host_key)}

  def encode_user(variables, batch):
    """What the users of a batch add to the host; computed once, it serves any number of samples."""
    return module.apply({"params": variables["params"]}, batch, train=False)

  def generate(variables, batch, noise, extra=None, **how):
    """Samples for the prompts of a batch; see `_host.generate`.

    `extra` comes from `encode_user`; scaled by `_replace(scale=...)` it steers more or less, and a
    tuple of extras whose scales add up to 1 mixes users.
    """
    return _host.generate(host, variables["host"], batch, noise, extra, **how)

  def loss(variables, batch, key):
    user_key, blank_key, key = jax.random.split(key, 3)
    extra = module.apply(
      {"params": variables["params"]}, batch, train=True, rngs={"dropout": user_key}
    )
    text = _host.blanked(host, _host.text_of(batch), blank_key, config.blank_prompt)
    return pair_objective(config, host, variables["host"], batch, text, extra, key)

  return Learner(schema, {}, init, loss, {"encode_user": encode_user, "generate": generate})


def pair_objective(
  config: Config, host: Host, params: Any, batch: Batch, text: Any, extra: Extra, key: jax.Array
) -> Objective:
  """The objective of pairs winner, loser [B, H, W, C] for users who add `extra` to the host."""
  rows = batch["winner"].shape[0]
  time_key, noise_key = jax.random.split(key)
  time = host.schedule.draw(time_key, (rows,))
  ratio = host.schedule.log_snr(time)
  noise = jax.random.normal(noise_key, batch["winner"].shape)
  twice = lambda tree: jax.tree.map(lambda x: jnp.concatenate([x, x]), tree)
  noised = add_noise(twice(ratio), jnp.concatenate([batch["winner"], batch["loser"]]), twice(noise))

  text = twice(text)
  both = Extra(twice(extra.key), twice(extra.value), twice(extra.mask), extra.scale)
  policy = host.predict_noise(params, noised, twice(time), text, both)
  reference = jax.lax.stop_gradient(host.predict_noise(params, noised, twice(time), text, None))
  winner, loser = jnp.split(noise_error(twice(noise), policy), 2)
  reference_winner, reference_loser = jnp.split(noise_error(twice(noise), reference), 2)
  value, inside = diffusion_dpo(winner, loser, reference_winner, reference_loser, config.strength)

  weight = jnp.float32(rows)
  total = jnp.sum(value if config.objective == "dpo" else winner)
  ordered = 0.5 * (1.0 + jnp.sign(inside))
  metrics = {
    "accuracy": (jnp.sum(ordered), weight),
    "winner_margin": (jnp.sum(reference_winner - winner), weight),
    "loser_margin": (jnp.sum(reference_loser - loser), weight),
    "shift": (jnp.sum(jnp.square(policy - reference)), jnp.sum(jnp.square(reference))),
  }
  part = jnp.minimum((jax.nn.sigmoid(ratio) * _PARTS).astype(jnp.int32), _PARTS - 1)
  for number in range(_PARTS):
    among = (part == number).astype(jnp.float32)
    metrics[f"accuracy_signal_{number}"] = (jnp.sum(ordered * among), jnp.sum(among))
  return Objective(total, weight, metrics)


def _check(config: Config) -> None:
  """Raises ConfigError for options that cannot work."""
  for kind, name, known in (
    ("encoder", config.encoder, ENCODERS),
    ("objective", config.objective, OBJECTIVES),
    ("null", config.null, NULLS),
  ):
    if name not in known:
      raise ConfigError(unknown(kind, name, known))
  if config.encoder == "constant" and config.null != "learned":
    raise ConfigError("encoder=constant gives everyone the null user, who must be null=learned.")
  if config.token_positions and not config.projection:
    raise ConfigError("token_positions are added after a projection: set projection above 0.")
