"""A planted feed of short videos, whose likings are known: after no data set, ours.

Taste space R^16. A product has three of 40 attributes, each a direction: g = their sum at length 1; its
words are the attributes. A video is near two to four products: g = their mean at length 1.

    picture     D g + backdrop B s + .3 noise: D, B fixed and random, s anew for every product and every
                video, whose frames also tremble; a quarter of it, as int8 codes. No word tells s.
    user        t ~ N(0, I); an action takes a product in proportion to exp(t g), and one of the first
                three kinds, which mean more, to exp(2 t g); ages are exponential, 14 days on average
    watching    to the half or beyond with r^-.5 sigmoid(2 t g - .5 ln(d / 20)) in slot r, then an even
                share of that half; durations are d = 20 exp(.6 N(0, 1)) seconds, whatever the video
    logging     lists of 10 by popularity exp(N(0, 1)), which says nothing of liking: the largest of its
                logarithm + Gumbel noise, best first; a share of lists is in random order. New videos
                are in none.
"""

import dataclasses

import numpy as np

from recjax.data.frozen import quantize
from recjax.data.sources.base import Common
from recjax.data.video_feed import ACTIONS, VideoFeed
from recjax.errors import ConfigError
from recjax.ranges import Count, Positive, Share, Weight

LICENCE = "made up by a program, free of rights"
WIDTH, WORDS, SLOTS, STRONG = 16, 3, 10, 3
USUAL_SECONDS = 20.0
_SCALE = 4.0  # pictures are stored as a fourth, so that few values are cut
_WORLD, _PRODUCTS, _VIDEOS, _USERS, _LOG = range(5)  # separate streams of randomness from one seed


@dataclasses.dataclass(frozen=True)
class Config(Common):
  """Keys of `config.data` for planted feeds."""

  name: str = "planted_feed"
  seed: Count = 0
  num_products: Positive = 1000
  num_videos: Positive = 600
  new_videos: Positive = 200  # of these, shown to nobody before the test
  num_users: Positive = 1500
  attributes: Positive = 40
  actions: Positive = 15  # of each user
  lists: Positive = 4  # of 10 slots, shown to each user
  random_lists: Share = 0.1
  size: Positive = 16  # of pictures, height and width
  frames: Positive = 4
  backdrop: Weight = 1.5  # of pictures, beside what products show, whose deviation is 1

  def __post_init__(self):
    super().__post_init__()
    if self.num_videos - self.new_videos < SLOTS or self.num_products < 4 or self.attributes < WORDS:
      raise ConfigError(
        f"config.data: a feed has at least {SLOTS} videos that are not new, 4 products and {WORDS} "
        f"attributes, not {self.num_videos - self.new_videos}, {self.num_products} and "
        f"{self.attributes}."
      )


def open_source(config: Config) -> VideoFeed:
  """The feed of a seed."""
  stream = lambda part: np.random.default_rng([config.seed, part])
  rng = stream(_WORLD)
  attribute = _unit(rng.normal(size=(config.attributes, WIDTH)))
  pixels = 3 * config.size**2
  shown, backdrop = rng.normal(size=(WIDTH, pixels)), rng.normal(size=(WIDTH, pixels))

  def pictures(rng, latent, style):
    values = latent @ shown + config.backdrop * style @ backdrop / np.sqrt(WIDTH)
    return quantize((values + 0.3 * rng.normal(size=values.shape)) / _SCALE)

  rng = stream(_PRODUCTS)
  own = np.argsort(rng.random((config.num_products, config.attributes)), axis=1)[:, :WORDS]
  product = _unit(attribute[own].sum(axis=1))
  picture = pictures(rng, product, rng.normal(size=product.shape))

  rng, videos = stream(_VIDEOS), config.num_videos
  near = rng.integers(config.num_products, size=(videos, 4))
  with_ = np.arange(4) < rng.integers(2, 4, size=(videos, 1), endpoint=True)
  latent = _unit((product[near] * with_[:, :, None]).sum(axis=1))
  moved = (videos, config.frames, WIDTH)
  frames = pictures(
    rng, latent[:, None] + 0.1 * rng.normal(size=moved),
    rng.normal(size=(videos, 1, WIDTH)) + 0.3 * rng.normal(size=moved),
  )
  duration = USUAL_SECONDS * np.exp(0.6 * rng.normal(size=videos))
  known = rng.permutation(videos) >= config.new_videos

  taste, actions = _users(stream(_USERS), config, product)
  liking = 2 * taste @ latent.T
  log = _log(stream(_LOG), config, liking, duration, known)
  grow = lambda x: np.pad(x, ((1, 0),) + ((0, 0),) * (x.ndim - 1))

  def truth(user):
    return grow(_sigmoid(liking[np.asarray(user) - 1]).T).T.astype(np.float32)

  sizes = {
    "user": config.num_users, "video": videos, "product": config.num_products,
    "word": config.attributes,
  }
  return VideoFeed(
    "planted_feed",
    {"picture": grow(picture), "words": grow(own + 1).astype(np.int32)},
    {"frames": grow(frames), "duration": grow(duration).astype(np.float32), "known": grow(known)},
    {name: grow(column) for name, column in actions.items()},
    log, truth, {name: size + 1 for name, size in sizes.items()},
    {"way": f"planted, seed {config.seed}", "licence": LICENCE, "impressions": len(log["user"]),
     "new_videos": config.new_videos},
  )


def _users(rng, config, product):
  """Tastes [U, WIDTH], and what users did."""
  users, count = config.num_users, config.actions
  taste = rng.normal(size=(users, WIDTH))
  liking = taste @ product.T
  kind = rng.integers(1, len(ACTIONS), size=(users, count), endpoint=True).astype(np.int32)
  taken = np.empty((users, count), np.int32)
  for step in range(count):
    sharp = np.where(kind[:, step] <= STRONG, 2.0, 1.0)[:, None]
    # The largest of x + Gumbel noise is a draw in proportion to exp(x).
    taken[:, step] = 1 + np.argmax(sharp * liking + rng.gumbel(size=liking.shape), axis=1)
  age = rng.exponential(14.0, size=(users, count)).astype(np.float32)
  return taste, {"product": taken, "kind": kind, "age": age}


def _log(rng, config, liking, duration, known):
  """Impressions of known videos, user by user."""
  lists, old = config.num_users * config.lists, np.flatnonzero(known)
  popular = rng.normal(size=len(old))
  at_random = rng.random(lists) < config.random_lists
  order = np.where(at_random[:, None], 0.0, popular) + rng.gumbel(size=(lists, len(old)))
  video = old[np.argsort(-order, axis=1)[:, :SLOTS]]
  user = np.repeat(np.arange(config.num_users), config.lists)[:, None]
  slot = np.arange(1, SLOTS + 1)
  logit = liking[user, video] - 0.5 * np.log(duration[video] / USUAL_SECONDS)
  half = rng.random(video.shape) < slot**-0.5 * _sigmoid(logit)
  share = (half + rng.random(video.shape)) / 2
  columns = {
    "user": user + 1, "video": video + 1, "slot": slot, "seconds": share * duration[video],
    "random": at_random[:, None],
  }
  kinds = {"seconds": np.float32, "random": np.bool_}
  return {
    name: np.broadcast_to(column, video.shape).reshape(-1).astype(kinds.get(name, np.int32))
    for name, column in columns.items()
  }


def _unit(vectors):
  return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _sigmoid(x):
  return 1.0 / (1.0 + np.exp(-x))
