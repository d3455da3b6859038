"""MUSE (Wu et al., 2025, arXiv 2512.07216) on planted clicks that given vectors tell.

    python -m recjax.main --config=experiments/muse.py --workdir=runs/muse
    python -m recjax.main --config=experiments/muse.py:glyphs --workdir=runs/muse_glyphs

The first form is G-MM: clicks grow with the number of behaviours in the target's category, but there
are 20,032 items for 16,000 rows, so that ids tell little, and the category is in the items' vectors.
`:warm` has few items, each with a part of its own in the clicks, so that ids and vectors both tell.
`:glyphs` has pictures of signs: an encoder is trained by contrast first (`:pretrain`, as a stage) and
searched with; `:random` has random projections of the same pictures instead. `:ids` is DIN, `:paper`
takes the authors' widths. One epoch: more over-fit ids of which each is seen a few times. `:tiny` takes
a minute. Expected: see docs/results.md. `--mode=prove` runs all arms.
"""

from recjax.config import experiment, parse_arg

_CHANNELS, _WIDTH = (8, 16, 64), 16


def get_config(arg=None):
  """The experiment; switches: tiny, warm, glyphs, random, pretrain, ids, paper."""
  arg = parse_arg(
    arg, tiny=False, warm=False, glyphs=False, random=False, pretrain=False, ids=False, paper=False
  )
  if arg.pretrain:
    return pretrain(arg.tiny)
  model = {"name": "muse", "category_width": 0}
  if arg.ids:
    model = {"name": "din", "category_width": 0, "normalize": "softmax"}
  elif arg.paper:
    model |= {"keep": 50, "recent": 50, "hidden": (256, 128, 64), "stddev": 0.001}
  stage = {}
  if arg.glyphs:
    model |= {"encoder_channels": _CHANNELS, "encoder_width": _WIDTH}
    stage = {
      "stages": {"encoder": f"experiments/muse.py:pretrain{',tiny' * arg.tiny}"},
      "initialize": {"encoder/params": "encoder:params/encoder"},
    }
  return experiment(
    "muse",
    data=_data(arg.tiny, arg.warm, "glyphs" if arg.glyphs else "random" if arg.random else "none"),
    view={"name": "table"},
    model=model,
    evaluate={"ctr": {}},
    train={
      "batch_size": 64 if arg.tiny else 256, "epochs": 1.0, "log_every": 20, "evaluate_every": 0,
      "select_metric": "auc",
    },
    optimizer={"learning_rate": 2e-3, "clip_norm": 5.0},
    proof=PROOF,
    **stage,
  )


def _data(tiny, warm=False, pictures="none"):
  """Planted clicks: G-MM, and its form with few items or with pictures."""
  rows = (4_000, 500, 1_000) if tiny else (16_000, 2_000, 5_000)
  sizes = dict(zip(("num_train", "num_validation", "num_test"), rows, strict=True))
  data = {"name": "planted", "generator": "vectors", "pictures": pictures, "stored": "int8", **sizes}
  if warm:
    data |= {"num_items": 1984, "item_bias": 1.0}
  if pictures != "none":
    data |= {"num_items": 6400, "length": 20}
  return data


def pretrain(tiny):
  """The encoder of the pictures, by contrast of pairs of one category."""
  return experiment(
    "muse_encoder",
    data=_data(tiny, pictures="glyphs"),
    # With 20 held-out items of a category ten neighbours can all be of it.
    view={"name": "item_pairs", "held_out": 0.2},
    model={"name": "semantic_contrast", "channels": _CHANNELS, "width": _WIDTH},
    evaluate={"neighbours": {}},
    train={
      "batch_size": 256, "steps": 60 if tiny else 600, "log_every": 20 if tiny else 100,
      "evaluate_every": 0, "select_metric": "precision@10",
    },
    optimizer={"learning_rate": 5e-3, "clip_norm": 5.0},
  )


_PLAIN = ("model.tiers=0", "model.similar=False")
_VECTORS_ALONE = ("model.item_width=0",)
PROOF = {
  "title": "MUSE where vectors tell what ids cannot",
  "note": "G-MM has 20,032 items for 16,000 rows, each item in a category that only its given vector "
  "tells; the probability of a click is known, and so is the best AUC. Every arm has one epoch. In "
  "warm, 1,984 items each have a part of their own in the logit. In pictures, signs at random places "
  "stand for categories; the encoder is trained by contrast on pairs and frozen.",
  "worlds": {
    "G-MM": {
      "config": "experiments/muse.py", "seeds": 3, "metrics": ("auc", "logloss"), "reference": "MUSE",
      "arms": (
        "ids only", "search only", "MUSE", "no SimTier", "no SA-TA", "search by ids",
        "vectors only", "no long part", "no short part",
      ),
    },
    "warm": {
      "config": "experiments/muse.py:warm", "seeds": 3, "metrics": ("auc", "logloss"),
      "reference": "MUSE", "arms": ("ids only", "vectors only", "MUSE"),
      "set": ("train.epochs=4.0", "train.evaluate_every=62"),
    },
    "pictures": {
      "config": "experiments/muse.py:glyphs", "seeds": 3, "metrics": ("auc", "logloss"),
      "reference": "learned vectors", "arms": ("learned vectors", "random projection"),
    },
    "encoder": {
      "config": "experiments/muse.py:pretrain", "seeds": 3,
      "metrics": ("precision@10", "chance@10"), "reference": "untrained",
      "arms": ("untrained", "contrast", "contrast without bank", "contrast without triplet"),
    },
  },
  "arms": {
    "MUSE": {},
    "search only": {"set": _PLAIN},
    "no SimTier": {"set": _PLAIN[:1]},
    "no SA-TA": {"set": _PLAIN[1:]},
    "search by ids": {"set": ("model.search=ids",)},
    "vectors only": {"set": _VECTORS_ALONE},
    "no long part": {"set": ("model.keep=0",)},
    "no short part": {"set": ("model.recent=0",)},
    "ids only": {"config": "experiments/muse.py:ids"},
    "learned vectors": {},
    "random projection": {"config": "experiments/muse.py:random"},
    "untrained": {"set": ("train.steps=1", "optimizer.learning_rate=0.0")},
    "contrast": {},
    "contrast without bank": {"set": ("model.bank=0",)},
    "contrast without triplet": {"set": ("model.triplet_weight=0.0",)},
  },
  "claims": (
    {"name": "(a) vectors tell what ids cannot", "world": "G-MM", "metric": "auc",
     "better": "MUSE", "worse": "ids only", "margin": 0.15},
    {"name": "(a) and the search alone does not bring it", "world": "G-MM", "metric": "auc",
     "better": "MUSE", "worse": "search only", "margin": 0.15},
    {"name": "(a) and comes near the truth", "world": "G-MM", "metric": "auc",
     "better": "MUSE", "worse": "fact:bayes_auc", "margin": -0.09},
    {"name": "(b) ids and vectors are better than ids", "world": "warm", "metric": "auc",
     "better": "MUSE", "worse": "ids only", "margin": 0.01},
    {"name": "(b) and than vectors", "world": "warm", "metric": "auc",
     "better": "MUSE", "worse": "vectors only", "margin": 0.01},
    {"name": "(d) contrast brings the pictures of a sign together", "world": "encoder",
     "metric": "precision@10", "better": "contrast", "at_least": 0.8},
    {"name": "(d) and the search with it beats random projections", "world": "pictures",
     "metric": "auc", "better": "learned vectors", "worse": "random projection", "margin": 0.1},
  ),
}
