"""Mutated configs of all experiments, and what recjax makes of them without compiling anything.

`cases` draws a config with one mistake (or two) in it, `attempt` builds all that a run builds before
its first step, and `judge` says whether the answer is one that people can work with.
"""

import copy
import functools
import math
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from recjax import registry
from recjax.config import Config, read_config_file, resolve, to_json
from recjax.errors import RecjaxError
from recjax.programs.assemble import Parts, assemble
from recjax.programs.train import total_steps
from recjax.train.checkpoint import abstract_like
from recjax.train.feeds import make_feed
from recjax.train.step import Updater, over_seeds

ROOT = pathlib.Path(__file__).parents[2]
KINDS = (
  "unknown key", "missing key", "wrong type", "out of range", "unknown name", "combination", "two",
)
# Data in the place of what an experiment reads: the same kind, made up, as small as it can be.
LOG = {"name": "planted", "num_users": 40, "num_items": 120}
SMALL = {
  "planted": {"num_users": 40, "num_train": 300, "num_validation": 60, "num_test": 60},
  "tastes": {
    "train_users": 8, "validation_users": 2, "unseen_users": 2, "pairs": 16, "samples": 200,
  },
  "planted_feed": {"num_products": 40, "num_videos": 30, "new_videos": 12, "num_users": 40},
}
# Keys that any number, or any text, can be right for.
SIGNED = ("noise", "text_scale", "user_scale")
ENVIRONMENT = ("folder", "cache", "proof", "initialize", "stages")
# Keys whose values are at most 1, and those that cannot be 0.
AT_MOST_1 = (
  "dropout", "token_dropout", "user_dropout", "blank_prompt", "alpha", "b1", "b2", "keep_share",
  "validation_from", "test_from", "validation_users", "test_users", "history_share", "follow", "part",
  "negative_keep_rate", "held_out", "swap",
)
ABOVE_0 = (
  "width", "batch_size", "length", "heads", "log_every", "micro_batches", "seeds",
  "row_multiple", "groups", "expansion", "latent_width", "window", "kernel", "temperature", "tau",
  "block_size", "bins", "repeats", "chunk", "pairs", "channels", "patch", "strength",
  "stride",
)
GENERATORS_OWN = ("data", "length")  # 0 stands for the planted generator's own
WRONG = ("abc", None, (), (1, 2), {}, {"a": {"b": 1}}, True, 1.5, 3, "", "1e3x", (("x",),), -1)
NUMBERS = (
  -1, 0, 1, 2, 3, 7, 2**31, 10**12, 2**70, -1.0, 0.0, 0.5, 1.0, 2.0, 1e300, math.nan, math.inf,
  -math.inf,
)


class Case(NamedTuple):
  """A mutated config.

  Attributes:
    base: the experiment it comes from.
    kind: one of KINDS.
    changes: (path, value) of what was changed; a value of `GONE` was taken away.
    tree: the config as plain types.
    refusal: whether it must be refused; None where it is not known.
    names: words of which a refusal must have one.
  """

  base: str
  kind: str
  changes: tuple
  tree: dict[str, Any]
  refusal: bool | None
  names: tuple[str, ...]


class _Gone:
  def __repr__(self) -> str:
    return "nothing"


GONE = _Gone()


@functools.cache
def bases() -> dict[str, dict[str, Any]]:
  """The configs of all experiments and their `:tiny`, on small data that need no file."""
  found = {}
  for path in sorted((ROOT / "experiments").glob("*.py")):
    if not isinstance(read_config_file(str(path)), Config):
      continue  # of a program that runs no experiment
    for suffix in ("", ":tiny"):
      name = f"{path.stem}{suffix}"
      tree = to_json(read_config_file(f"{path}{suffix}"))
      if tree["data"]["name"] not in SMALL:
        tree["data"] = dict(LOG)
      data = tree["data"]
      data |= {k: v for k, v in SMALL[data["name"]].items() if k in data or data["name"] == "planted"}
      tree["proof"] = {}
      tree["view"] |= {k: 3 for k in ("validation_samples", "test_samples") if k in tree["view"]}
      found[name] = to_json(resolve(tree))
  return found


def leaves(tree: Any, path: tuple = ()) -> Iterator[tuple[tuple, Any]]:
  """(path, value) of everything in a tree that is no mapping."""
  if not isinstance(tree, dict):
    yield path, tree
    return
  for key, value in tree.items():
    yield from leaves(value, (*path, key))


def nodes(tree: dict, path: tuple = ()) -> Iterator[tuple]:
  """Paths of all mappings whose keys are fixed."""
  yield path
  for key, value in tree.items():
    if isinstance(value, dict) and key not in ENVIRONMENT:
      yield from nodes(value, (*path, key))


def change(tree: dict, path: tuple, value: Any) -> dict:
  """A copy of the tree with a value put (or, `GONE`, taken away) at a path."""
  tree = copy.deepcopy(tree)
  node = tree
  for key in path[:-1]:
    if not isinstance(node.get(key), dict):
      node[key] = {}
    node = node[key]
  if value is GONE:
    node.pop(path[-1], None)
  else:
    node[path[-1]] = value
  return tree


def cases(kinds: tuple[str, ...] = KINDS) -> st.SearchStrategy[Case]:
  """Mutated configs."""
  return _cases(tuple(sorted(bases())), kinds)


@st.composite
def _cases(draw: Any, names: tuple[str, ...], kinds: tuple[str, ...]) -> Case:
  base = draw(st.sampled_from(names))
  kind = draw(st.sampled_from(kinds))
  tree = bases()[base]
  if kind == "two":
    first = mutate(draw, tree, draw(st.sampled_from(KINDS[:-1])))
    second = mutate(draw, tree, draw(st.sampled_from(KINDS[:-1])))
    for path, value in second[0]:
      first[0].append((path, value))
    refusal = True if first[1] and second[1] and first[0][0][0] != second[0][0][0] else None
    changes, names = first[0], (*first[2], *second[2])
  else:
    changes, refusal, names = mutate(draw, tree, kind)
  for path, value in changes:
    tree = change(tree, path, value)
  return Case(base, kind, tuple(changes), tree, refusal, tuple(names))


def mutate(draw: Any, tree: dict, kind: str) -> tuple[list, bool | None, tuple[str, ...]]:
  """(changes, whether they must be refused, words of which the refusal must have one)."""
  own = [(p, v) for p, v in leaves(tree) if not set(p) & set(ENVIRONMENT) and p != ("name",)]
  if kind == "unknown key":
    node = draw(st.sampled_from(list(nodes(tree))))
    known = tree
    for key in node:
      known = known[key]
    key = misspelled(draw, draw(st.sampled_from([*known, "key"])))
    value = draw(st.sampled_from((0, "x", None, {}, (1,))))
    return [((*node, key), value)], key not in known, (repr(key),)
  if kind == "missing key":
    path = draw(st.sampled_from([*nodes(tree)][1:] + [p for p, _ in own]))
    if draw(st.booleans()):
      path = draw(st.sampled_from([p for p, _ in own if p[-1] == "name"]))
    needed = path[-1] == "name" and path[0] in ("data", "view", "model") and "host" not in path
    needed |= path in (("data",), ("view",), ("model",), ("evaluate",))
    return [(path, GONE)], needed or None, (path[-1], path[0])
  if kind == "wrong type":
    path, old = draw(st.sampled_from(own))
    value = draw(st.sampled_from([v for v in WRONG if not fits(old, v)]))
    return [(path, value)], True, (path[-1], repr(value))
  if kind == "out of range":
    path, old = draw(st.sampled_from([(p, v) for p, v in own if is_number(v)]))
    value = draw(st.sampled_from([v for v in NUMBERS if fits(old, v)]))
    return [(path, value)], impossible(path, old, value), (path[-1], repr(value))
  if kind == "unknown name":
    path, old = draw(st.sampled_from([(p, v) for p, v in own if isinstance(v, str) and v]))
    value = misspelled(draw, old)
    names = (value, path[-1])
    return [(path, value)], True if path[-1] == "name" else None, names
  return combination(draw, tree)


def combination(draw: Any, tree: dict) -> tuple[list, bool | None, tuple[str, ...]]:
  """Settings that are each fine and do not go together."""
  pick = lambda *values: draw(st.sampled_from(values))
  kind = pick(
    "heads", "steps", "no steps", "evaluate", "mesh", "micro", "rows", "foreign model",
    "foreign view", "foreign evaluator", "data", "split", "length", "batch", "metric", "cutoffs",
    "rules", "core", "generator", "columns", "weights",
  )
  model, changes, refusal, names = tree["model"], [], None, ()
  if kind == "heads" and "heads" in model:
    changes = [(("model", "heads"), pick(3, 5, 7, 64)), (("model", "width"), pick(16, 20, 8))]
    names = ("heads",)
  elif kind in ("steps", "no steps"):
    both = kind == "steps"
    changes = [(("train", "steps"), 5 * both), (("train", "epochs"), 1.0 * both)]
    refusal, names = None if model["name"] == "counts" else True, ("steps",)
  elif kind == "evaluate":
    changes, refusal, names = [(("evaluate",), {})], True, ("evaluate",)
  elif kind == "mesh":
    changes = [(("mesh", "data"), pick(3, 5, 9)), (("mesh", "model"), pick(1, 2, 3))]
    refusal, names = True, ("mesh",)
  elif kind == "micro":
    changes = [(("train", "micro_batches"), pick(3, 5, 2)), (("train", "batch_size"), pick(64, 40))]
    names = ("micro_batches", "batch_size", "mesh")
  elif kind == "rows":
    changes = [
      (("tables", "training"), pick("rows", "cols")),
      (("tables", "optimizer"), pick("adagrad", "lazy_adam", "adamw")),
      (("mesh", "model"), pick(1, 2, 4)), (("tables", "row_multiple"), pick(1, 3, 8)),
    ]
    names = ("table", "mesh", "rows")
  elif kind == "foreign model":
    changes = [(("model",), {"name": pick(*registry.MODULES["model"])})]
    names = (
      "lacks", "reads", "needs", "view", "divi", "counts", "has no", "heads", "steps", "vectors",
    )
  elif kind == "foreign view":
    changes = [(("view",), {"name": pick(*registry.MODULES["view"])})]
    names = ("needs", "lacks", "view", "Of rows")
  elif kind == "foreign evaluator":
    changes = [(("evaluate",), {pick(*registry.MODULES["evaluator"]): {}})]
    names = ("Evaluator", "cases", "sampled_ranking", "target", "ranking")
  elif kind == "data":
    name = pick("planted", "tastes", "csv", "folder", "tfds", "emoji", "nowhere", "./nowhere")
    changes = [(("data",), {"name": name, **SMALL.get(name, {})})]
    names = ("data", "needs", "lacks", "exist", "path", "is no", "builder", "vectors")
  elif kind == "split":
    name = pick(
      "leave_one_out", "leave_last_out", "global_time", "user_disjoint", "users_by_time", "few_shot",
      "few_shots", "given",
    )
    changes = [
      (("split", "name"), name), (("split", "validation_users"), pick(0.0, 0.01, 0.5, 0.6)),
      (("split", "test_from"), pick(0.1, 0.9, 1.0)), (("split", "shots"), pick(1, 2, 500)),
      (("split", "history_share"), pick(0.0, 0.5, 1.0)),
    ]
    names = ("split", "column", "few_shot", "global_time", "user_disjoint", "cases", "shots", "events")
  elif kind == "length" and "length" in tree["view"]:
    changes, names = [(("view", "length"), pick(1, 2, 3, 200))], ("length", "events", "targets")
  elif kind == "batch":
    changes = [(("train", "batch_size"), pick(1, 3, 8, 100_000)), (("train", "feed"), pick(
      "resident", "streaming", "auto", "fast"))]
    names = ("batch_size", "feed", "groups", "B")
  elif kind == "metric":
    changes = [(("train", "select_metric"), pick("ndcg@11", "", "auk"))]
  elif kind == "cutoffs":
    changes = [(("evaluate",), {"full_ranking": {"cutoffs": pick((0,), (1, 500), (), (-1,))}})]
    names = ("cutoffs", "Evaluator", "catalogue", "ranks", "items")
  elif kind == "rules":
    rules = pick(((".*", "rows"),), (("(", ""),), (("^nothing$", ""),), (("a", "b", "c"),), ((),))
    changes, refusal, names = [(("mesh", "rules"), rules)], True, ("rules",)
    refusal = None if model["name"] == "counts" else True
  elif kind == "core":
    changes = [(("data", "core"), pick(2, 30, 1000)), (("data", "most_popular"), pick(0, 1, 5))]
    names = ("core", "item", "events", "cases", "unseen", "negative")
  elif kind == "generator":
    changes = [(("data", "generator"), pick("markov", "count", "multi", "two_signals", "latents", "x"))]
    names = ("generator", "needs", "data", "lacks", "items", "category")
  elif kind == "weights":
    changes = [(("model", "stddev"), pick(-1.0, math.nan)), (("optimizer", "weight_decay"), 0.1)]
    refusal, names = True, ("stddev", "weight_decay")
  else:
    changes = [(("train", "seeds"), 2)]
    refusal, names = True, ("seeds",)
  return changes or [(("seeds",), 2)], refusal, names


def misspelled(draw: Any, word: str) -> str:
  """A word with a typing error."""
  how = draw(st.sampled_from(("drop", "double", "swap", "case", "append")))
  at = draw(st.integers(0, max(len(word) - 2, 0)))
  if how == "drop" and len(word) > 1:
    return word[:at] + word[at + 1 :]
  if how == "double":
    return word[: at + 1] + word[at:]
  if how == "swap" and len(word) > 1 and word[at] != word[at + 1]:
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
  return word.swapcase() if how == "case" and word.swapcase() != word else word + "s"


def is_number(value: Any) -> bool:
  """Whether a value is an int or float."""
  return isinstance(value, (int, float)) and not isinstance(value, bool)


def fits(old: Any, value: Any) -> bool:
  """Whether a value is of the type that the old one shows."""
  if isinstance(old, bool):
    return isinstance(value, bool)
  if isinstance(old, int):
    return isinstance(value, int) and not isinstance(value, bool)
  if isinstance(old, float):
    return is_number(value)
  if isinstance(old, str):
    return isinstance(value, str)
  return isinstance(value, (tuple, list))


def impossible(path: tuple, old: Any, value: float) -> bool | None:
  """Whether no config can have this number there; None where it is not known."""
  name = path[-1]
  if not math.isfinite(value) or abs(value) > 3.5e38:
    return True
  if isinstance(old, int) and abs(value) >= 2**63:
    return True
  if isinstance(old, int) and abs(value) >= 2**31 and name != "resident_bytes":
    return True
  if value < 0 and name not in SIGNED:
    return True
  if value > 1 and name in AT_MOST_1:
    return True
  return True if value == 0 and name in ABOVE_0 and path != GENERATORS_OWN else None


def attempt(tree: dict[str, Any]) -> Config:
  """Builds all that a run builds before its first step, compiling nothing."""
  config = resolve(tree)
  parts = assemble(config)
  if parts.learner.loss is not None:
    variables = _training(parts)
    _predictions(parts, variables)
  return config


def _training(parts: Parts) -> Any:
  """Shapes of the state and of one update on a batch of rows; the variables of one seed."""
  config, rows = parts.config, parts.view.train
  steps = total_steps(config, rows.count)
  updater = Updater(parts.learner, config, rows.schema, parts.mesh, steps)
  seeds = np.arange(config.seed, config.seed + config.seeds, dtype=np.uint32)
  create = over_seeds(updater.create, config.seeds)
  state = jax.eval_shape(create, seeds if config.seeds > 1 else seeds[0])
  shardings = updater.shardings(state, config.seeds)
  make_feed(
    config, rows, updater.update, shardings, parts.mesh, steps
  ).close()
  abstract_like(state, shardings)
  one = state if config.seeds == 1 else jax.eval_shape(updater.create, seeds[0])
  shape = lambda a: jax.ShapeDtypeStruct((config.train.batch_size, *a.shape[1:]), a.dtype)
  batch = jax.tree.map(shape, rows.gather(np, rows.columns, np.zeros(1, np.int64)))
  after = jax.eval_shape(updater.update, one, batch)
  assert jax.tree.map(lambda a: (a.shape, a.dtype), after) == jax.tree.map(
    lambda a: (a.shape, a.dtype), one
  ), "an update changes shapes"
  return one.variables


def _predictions(parts: Parts, variables: Any) -> None:
  """Shapes of what the evaluators ask for."""
  rows = parts.view.validation.rows
  batch = rows.gather(np, rows.columns, np.zeros(2, np.int64))
  batch = {name: np.asarray(x) for name, x in batch.items()}
  predict = parts.learner.predict
  if "encode_user" in predict:
    state = jax.eval_shape(predict["encode_user"], variables, batch)
    if "score_items" in predict:
      ids = jax.ShapeDtypeStruct((5,), jnp.int32)
      scores = jax.eval_shape(predict["score_items"], variables, state, ids)
      assert scores.shape == (2, 5), scores.shape
  if "score" in predict and "target_item" in batch:
    scores = jax.eval_shape(predict["score"], variables, batch)
    assert scores.shape == batch["target_item"].shape
  if "denoising_error" in predict:
    key = jax.eval_shape(lambda: jax.random.key(0))
    assert jax.eval_shape(predict["denoising_error"], variables, batch, key).shape == (2,)


def judge(case: Case) -> tuple[str, str]:
  """("accepted" | "refused" | "failed", what was said or went wrong)."""
  try:
    attempt(case.tree)
  except RecjaxError as error:
    said = str(error)
    if not said.strip() or "\n" in said or said[-1] not in ".?":
      return "failed", f"no sentence: {said!r}"
    if not any(name in said for name in case.names):
      return "failed", f"names none of {case.names}: {said}"
    return "refused", said
  except Exception as error:  # noqa: BLE001 - what this looks for
    return "failed", f"{type(error).__name__}: {error}"
  if case.refusal:
    return "failed", f"accepted, which cannot work: {case.changes}"
  return "accepted", ""
