"""The view of a feed of videos: rows are pictures with words, or impressions; cases are users."""

import dataclasses

import numpy as np

from recjax.data import watch_time
from recjax.data.schema import Field, Schema
from recjax.data.video_feed import VideoFeed
from recjax.data.views.rows import FeedCases, Rows, View
from recjax.errors import ConfigError, DataError
from recjax.ranges import Count, Positive
from recjax.registry import unknown

ROWS = ("pairs", "impressions")
LABELS = ("half", "ratio", "seconds", "quantile")


@dataclasses.dataclass(frozen=True)
class Config:
  """Settings of the view."""

  name: str = "feed"
  rows: str = "pairs"  # pairs = a product's picture and words; impressions = who was shown what
  # half = watched to the half; ratio = min(w / d, 1); seconds = w, as a share of the longest;
  # quantile = place among videos of like duration (D2Q)
  label: str = "ratio"
  bins: Positive = 20  # of durations, for quantiles
  correct_slots: bool = False  # divide labels by the chance of their slot, as lists at random show it
  most: Positive = 10  # what a label is multiplied with at most
  held_out: float = 0.1  # share of products for validation, and as much again for the test
  validation_users: float = 0.2  # share of users; the others are the test
  seed: Count = 0  # of who and what is held out

  def __post_init__(self):
    for name, known in (("rows", ROWS), ("label", LABELS)):
      if getattr(self, name) not in known:
        raise ConfigError(unknown(f"value of config.view.{name}", getattr(self, name), known))
    for name in ("held_out", "validation_users"):
      if not 0 < getattr(self, name) < 0.5:
        raise ConfigError(
          f"config.view.{name} is a share above 0 and below 0.5, not {getattr(self, name)}."
        )


def build(config: Config, data: VideoFeed, split: None) -> View:
  """Rows of picture [B, M] and words [B, W], or of user_id, video_id, duration, slot and label [B].

  Cases are users with what they did.
  """
  del split
  if not isinstance(data, VideoFeed):
    raise DataError("The view 'feed' needs a feed of videos, such as the source 'planted_feed'.")
  rng = np.random.default_rng(config.seed)
  product = 1 + rng.permutation(data.vocabularies["product"] - 1).astype(np.int32)
  user = 1 + rng.permutation(data.vocabularies["user"] - 1).astype(np.int32)
  held = max(2, round(config.held_out * len(product)))
  cut = max(1, round(config.validation_users * len(user)))
  if 2 * held >= len(product):
    raise DataError(f"{len(product)} products are too few to hold out {held} twice.")
  if config.rows == "pairs":
    train = _pairs(data, product[2 * held :])
  else:
    train = _impressions(data, labels(config, data))
  parts = [
    _cases(data, np.sort(user[:cut]), product[:held]),
    _cases(data, np.sort(user[cut:]), product[held : 2 * held]),
  ]
  return View(train, *parts, {}, {"train_rows": train.count})


def labels(config: Config, data: VideoFeed) -> np.ndarray:
  """Labels float32 of the log; divided by the chances of slots they may be above 1."""
  log = data.log
  seconds, duration = log["seconds"].astype(np.float64), data.videos["duration"][log["video"]]
  label = {
    "half": lambda: watch_time.watched_half(seconds, duration),
    "ratio": lambda: watch_time.watch_ratio(seconds, duration),
    "seconds": lambda: seconds / seconds.max(),
    "quantile": lambda: watch_time.duration_quantiles(seconds, duration, config.bins),
  }[config.label]()
  if config.correct_slots:
    at_random, slot = log["random"], log["slot"]
    if not at_random.any():
      raise DataError(f"{data.name} has no lists in random order, which tell the chances of slots.")
    chances = watch_time.slot_chances(label[at_random], slot[at_random], int(slot.max()))
    label = label * watch_time.inverse_chances(chances, slot, config.most)
  return label.astype(np.float32)


def _pairs(data: VideoFeed, product: np.ndarray) -> Rows:
  fields = {
    "picture": Field("vector_int8", data.products["picture"].shape[1:]),
    "words": Field("tokens", data.products["words"].shape[1:]),
  }
  return _rows(data, fields, {"which": product, **data.products})


def _rows(data: VideoFeed, fields: dict[str, Field], columns: dict[str, np.ndarray]) -> Rows:
  """Rows `which` of the columns that are fields."""

  def gather(xp, columns, index):
    row = columns["which"][index]
    return {name: columns[name][row] for name in fields}

  return Rows(len(columns["which"]), columns, gather, Schema(fields, data.vocabularies))


def _impressions(data: VideoFeed, label: np.ndarray) -> Rows:
  log = data.log
  columns = {
    "user_id": log["user"], "video_id": log["video"], "slot": log["slot"], "label": label,
    "duration": data.videos["duration"][log["video"]],
  }
  fields = {
    "user_id": Field("id", (), "user"), "video_id": Field("id", (), "video"), "slot": Field("id"),
    "label": Field("label"), "duration": Field("float"),
  }
  which = np.arange(len(label), dtype=np.int32)
  return _rows(data, fields, {"which": which, **columns})


def _cases(data: VideoFeed, user: np.ndarray, product: np.ndarray) -> FeedCases:
  length = data.actions["product"].shape[1:]
  everyone = np.arange(data.vocabularies["user"], dtype=np.int32)
  of_users = {
    "user_id": Field("id", (), "user"), "action_product": Field("ids", length, "product"),
    "action_kind": Field("ids", length), "action_age": Field("float", length),
  }
  actions = {f"action_{name}": column for name, column in data.actions.items()}
  videos, frames = np.arange(data.vocabularies["video"], dtype=np.int32), data.videos["frames"]
  of_videos = {
    "video_id": Field("id", (), "video"), "duration": Field("float"),
    "frames": Field("vector_int8", frames.shape[1:]),
  }
  columns = {name: data.videos[name] for name in ("duration", "frames")}
  log = data.log
  shown = np.bincount(log["video"], minlength=len(videos))
  slot = np.bincount(log["video"], log["slot"], len(videos)) / np.where(shown, shown, np.nan)
  return FeedCases(
    rows=_rows(data, of_users, {"which": user, "user_id": everyone, **actions}),
    user=user,
    videos=_rows(data, of_videos, {"which": videos, "video_id": videos, **columns}),
    products=_pairs(data, np.arange(data.vocabularies["product"], dtype=np.int32)),
    pairs=_pairs(data, product),
    truth=data.truth, known=data.videos["known"], duration=data.videos["duration"], slot=slot,
  )
