"""Strict configs: every key has one home, a frozen dataclass whose comments explain it.

An experiment file returns an ml_collections ConfigDict made by `experiment`, with every key of every
part filled in, so that any of them can be overridden on the command line. `resolve` turns it, once,
into the frozen `Config` that the rest of the library reads; unknown keys and wrong types stop there.
"""

import collections.abc
import contextlib
import dataclasses
import hashlib
import importlib.machinery
import importlib.util
import json
import pathlib
import re
import types
import typing
from collections.abc import Mapping
from typing import Any

from ml_collections import config_dict

from recjax import ranges, registry
from recjax.errors import ConfigError
from recjax.ranges import Above0, Bytes, Count, Positive, Rate, Share, Weight


@dataclasses.dataclass(frozen=True)
class Train:
  """How long to train, and what happens along the way. All intervals count steps."""

  batch_size: Positive = 128
  # Exactly one of the two is above 0; an epoch shows every row once.
  steps: Count = 0
  epochs: Weight = 0.0
  log_every: Positive = 50
  # Evaluation on the validation part; 0 = only at the end.
  evaluate_every: Count = 200
  # Saving; 0 = whenever the validation part was evaluated, and at the end.
  checkpoint_every: Count = 0
  # Stop after this many evaluations without a better `select_metric`; 0 = never.
  patience: Count = 0
  # Validation value that chooses the variables to keep; higher is better.
  select_metric: str = "ndcg@10"
  # Gradients of this many equal parts of a batch are summed before the step.
  micro_batches: Positive = 1
  # resident = columns live on the device; streaming = gathered by the host; auto = by size.
  feed: str = "auto"
  # Auto takes the resident feed up to this many bytes of columns.
  resident_bytes: Bytes = 2 << 30
  # Worker processes of the streaming feed; the batches do not depend on it.
  workers: Count = 0


@dataclasses.dataclass(frozen=True)
class Optimizer:
  """Dense optimizer, from optax."""

  name: str = "adam"  # adam | adamw | sgd
  learning_rate: Weight = 1e-3
  b1: Rate = 0.9
  b2: Rate = 0.999
  weight_decay: Weight = 0.0  # adamw only
  clip_norm: Weight = 0.0  # global norm; 0 = no clipping
  warmup_steps: Count = 0  # linear from 0
  schedule: str = "constant"  # constant | cosine | linear, to 0 at the last step


@dataclasses.dataclass(frozen=True)
class Tables:
  """How embedding tables learn."""

  # dense = like any parameter, by `Optimizer`; rows = only the rows of a batch, by what follows.
  training: str = "dense"
  optimizer: str = "adagrad"  # adagrad (one accumulator a row) | lazy_adam
  learning_rate: Weight = 0.05
  eps: Above0 = 1e-8
  b1: Rate = 0.9  # lazy_adam
  b2: Rate = 0.999  # lazy_adam
  initial_accumulator: Weight = 0.0  # adagrad
  # Of tables trained by rows: float32 | bfloat16, which takes half the memory and is rounded by chance.
  dtype: str = "float32"
  # Rows are padded to a multiple of this, so that they can be cut along mesh.model.
  row_multiple: Positive = 8


@dataclasses.dataclass(frozen=True)
class Mesh:
  """Devices as a grid ('data', 'model'): batches are cut along data, table rows along model."""

  data: Count = 0  # 0 = all devices that `model` leaves
  model: Positive = 1
  # Ordered (regular expression over the variable's path, axis of dimension 0); first match wins.
  rules: tuple[tuple[str, str], ...] = (("^tables/", "model"), (".*", ""))

  def __post_init__(self):
    for pattern, _ in self.rules:
      try:
        re.compile(pattern)
      except re.error as error:
        raise ConfigError(
          f"config.mesh.rules: {pattern!r} is no regular expression: {error}."
        ) from None


@dataclasses.dataclass(frozen=True)
class Split:
  """Which events are for training, validation and test."""

  # leave_one_out | leave_last_out | global_time | user_disjoint | users_by_time | few_shot | given
  name: str = "leave_one_out"
  # global_time: quantiles of all event times where validation and test begin; users_by_time: of the
  # times of users' last events.
  validation_from: Share = 0.8
  test_from: Share = 0.9
  # user_disjoint: shares of users held out, and the share of their events that is history; of a
  # share of 1 all but the last.
  validation_users: Share = 0.1
  test_users: Share = 0.1
  history_share: Share = 0.8
  # few_shot: events a user to train on; the rest is test.
  shots: Positive = 20
  column: str = "split"  # given: the event column that says train, valid or test
  seed: Count = 0  # user_disjoint


@dataclasses.dataclass(frozen=True)
class Config:
  """A whole experiment. `data`, `view`, `model` and `evaluate` belong to the module they name."""

  name: str
  data: Any
  view: Any
  model: Any
  evaluate: Mapping[str, Any]
  split: Split = Split()
  train: Train = Train()
  optimizer: Optimizer = Optimizer()
  tables: Tables = Tables()
  mesh: Mesh = Mesh()
  # First seed; `seeds` of them are trained in one program.
  seed: Count = 0
  seeds: Positive = 1
  # Variables to start from: path here -> "stage:path there".
  initialize: Mapping[str, str] = dataclasses.field(default_factory=dict)
  # Experiments to run before this one: name -> "experiments/file.py:arguments".
  stages: Mapping[str, str] = dataclasses.field(default_factory=dict)
  # What --mode=prove runs; see recjax/programs/prove.py.
  proof: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  # Go on in a workdir that another config began.
  allow_config_change: bool = False


_PARTS = {"split": Split, "train": Train, "optimizer": Optimizer, "tables": Tables, "mesh": Mesh}
_MODULES = {"view": "view", "model": "model"}
# Keys that do not change what is computed: a run may go on when they differ.
_FREE = ("allow_config_change", "proof", "data.folder", "data.cache", "train.workers")


def experiment(
  name: str, *, data: Mapping, view: Mapping, model: Mapping, evaluate: Mapping, **rest: Any
) -> config_dict.ConfigDict:
  """An experiment with every key filled in, for `get_config` to return.

  Each part is a dict of what differs from its defaults; `data`, `view` and `model` say their `name`,
  and `evaluate` maps evaluator names to their settings. Unknown keys raise ConfigError.
  """
  if rest.get("proof"):
    rest["proof"] = {"run": "", **rest["proof"]}
  raw = {"name": name, "data": data, "view": view, "model": model, "evaluate": evaluate, **rest}
  whole = _plain(_typed_config(raw))
  whole["initialize"] = config_dict.ConfigDict(whole["initialize"])
  return config_dict.ConfigDict(whole)


def settings(program: str, **raw: Any) -> config_dict.ConfigDict:
  """Settings of a registered program that runs no experiment, for `get_config` to return."""
  return config_dict.ConfigDict(_plain(_program_config({"program": program, **raw})))


def resolve(config: Mapping[str, Any]) -> Config:
  """The frozen, typed form of a ConfigDict or plain dict; raises ConfigError on any surprise.

  One that names a `program` becomes that program's own Config.
  """
  raw = _plain(config)
  return _program_config(raw) if "program" in _mapping(raw, "A config") else _typed_config(raw)


def read_config_file(reference: str) -> Config:
  """The config of "path/file.py:arguments", resolved."""
  path, _, arg = reference.partition(":")
  if not pathlib.Path(path).is_file():
    raise ConfigError(f"There is no config file {path!r}.")
  name = pathlib.Path(path).stem
  loader = importlib.machinery.SourceFileLoader(name, path)
  try:
    loader.get_code(name)
  except (SyntaxError, ValueError) as error:
    raise ConfigError(f"{path} is no Python file: {error}.") from None
  module = importlib.util.module_from_spec(importlib.util.spec_from_loader(name, loader))
  loader.exec_module(module)
  if not hasattr(module, "get_config"):
    raise ConfigError(f"{path} has no function get_config, so it is no config file.")
  return resolve(module.get_config(arg or None))


def to_json(config: Config) -> dict[str, Any]:
  """The config as plain JSON types; `resolve` reads it back."""
  return json.loads(json.dumps(_plain(config)))


def essential(config: Config) -> dict[str, Any]:
  """The config as plain JSON types, without the keys that do not change what is computed."""
  plain = to_json(config)
  for path in _FREE:
    *parents, leaf = path.split(".")
    node = plain
    for parent in parents:
      node = node.get(parent, {})
    node.pop(leaf, None)
  return plain


def fingerprint(config: Config) -> str:
  """Sixteen hex digits over all keys that change what is computed."""
  text = json.dumps(essential(config), sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def parse_arg(arg: str | None, **switches: Any) -> types.SimpleNamespace:
  """Reads the text after `file.py:` into typed switches: "tiny,seed=1" with tiny=False, seed=0.

  A bare word sets a boolean switch; an unknown switch raises ConfigError listing the known ones.
  """
  values = dict(switches)
  for part in filter(None, (p.strip() for p in (arg or "").split(","))):
    key, _, text = part.partition("=")
    if key not in switches:
      raise ConfigError(registry.unknown("config switch", key, switches))
    default = switches[key]
    if isinstance(default, bool):
      if text not in ("", "true", "false", "True", "False"):
        raise ConfigError(f"Config switch {key!r} is true or false, not {text!r}.")
      values[key] = text in ("", "true", "True")
    else:
      values[key] = _cast(type(default), text, f"config switch {key!r}")
  return types.SimpleNamespace(**values)


def _typed_config(raw: Mapping[str, Any]) -> Config:
  known = {f.name for f in dataclasses.fields(Config)}
  for key in _mapping(raw, "A config"):
    if key not in known:
      raise ConfigError(registry.unknown("config key", key, known))
  for key in ("name", "data", "view", "model", "evaluate"):
    if key not in raw:
      raise ConfigError(f"The config lacks the key {key!r}.")
  parts = dict(raw)
  for key, cls in _PARTS.items():
    parts[key] = typed(cls, raw.get(key, {}), f"config.{key}")
  for key, kind in _MODULES.items():
    parts[key] = _module_config(kind, raw[key], f"config.{key}")
  parts["data"] = data_config(raw["data"])
  parts["evaluate"] = {
    name: typed(registry.resolve("evaluator", name).Config, value, f"config.evaluate.{name}")
    for name, value in _mapping(raw["evaluate"], "config.evaluate").items()
  }
  if not parts["evaluate"]:
    known = registry.MODULES["evaluator"]
    raise ConfigError(f"config.evaluate names no evaluator; known: {', '.join(sorted(known))}.")
  return typed(Config, parts, "config")


def data_config(value: Any) -> Any:
  """The config of the source that `name` means; a name that is no source is a folder of data.

  So that `--config.data.name=...` can name another kind of source, keys that only other sources know
  are let go where they still hold that source's default. Touches no data.
  """
  value = _named(value, "config.data", "data set")
  sources = registry.MODULES["source"]
  own = registry.resolve("source", value["name"] if value["name"] in sources else "folder").Config
  known = {f.name for f in dataclasses.fields(own)}
  elsewhere = {
    (f.name, f.default)
    for source in sources
    for f in dataclasses.fields(registry.resolve("source", source).Config)
  }
  kept = {
    k: v for k, v in value.items()
    if k in known or not isinstance(v, typing.Hashable) or (k, v) not in elsewhere
  }
  return typed(own, kept, "config.data")


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
  """The mapping that a value must be; raises ConfigError otherwise."""
  if not isinstance(value, Mapping):
    raise ConfigError(f"{where} holds keys and values, not {value!r}.")
  return value


def _named(value: Any, where: str, kind: str) -> Mapping[str, Any]:
  """Settings, as plain types, that say by their `name` whose they are."""
  value = _mapping(_plain(value), where)
  if "name" not in value:
    raise ConfigError(f"{where} lacks the key 'name': which {kind} is meant?")
  return {**value, "name": _cast(str, value["name"], f"{where}.name")}


def _program_config(raw: Mapping[str, Any]) -> Any:
  """The Config of the program that the config names."""
  module = registry.resolve("program", _cast(str, raw["program"], "config.program"))
  own = getattr(module, "Config", Config)
  if "program" not in {f.name for f in dataclasses.fields(own)}:
    raise ConfigError(f"The program {raw['program']!r} runs experiments, which do not name it.")
  return typed(own, raw, "config")


def _module_config(kind: str, value: Any, where: str) -> Any:
  value = _named(value, where, kind)
  return typed(registry.resolve(kind, value["name"]).Config, value, where)


def explain_flags(argv: list[str], error: Exception) -> str:
  """One sentence for flags that absl or ml_collections refused with `error`."""
  settings = [flag.lstrip("-").partition("=")[::2] for flag in argv[1:]]
  reference = dict(settings).get("config")
  try:
    config = read_config_file(reference) if reference else None
  except ConfigError as mistake:
    return str(mistake)
  for name, _ in settings:
    node = config
    for key in name.split(".")[1:] if name.startswith("config.") else ():
      known = node if isinstance(node, Mapping) else getattr(node, "__dict__", {})
      if key not in known:
        return registry.unknown(f"config key in {name!r}:", key, known)
      node = known[key]
  # What the libraries say may go over several lines.
  return " ".join(str(error).split()) or f"A flag cannot be read: {type(error).__name__}."


def typed(cls: type, mapping: Any, where: str) -> Any:
  """A frozen dataclass `cls` from a mapping.

  Unknown keys, wrong types and numbers outside of what a field can be (`recjax.ranges`) raise
  ConfigError. A field with `metadata={"module": kind}` holds the config of a registered module of
  that kind.
  """
  if isinstance(mapping, cls):
    return mapping
  if dataclasses.is_dataclass(mapping):
    mapping = _plain(mapping)
  hints = typing.get_type_hints(cls, include_extras=True)
  for key in _mapping(mapping, where):
    if key not in hints:
      raise ConfigError(registry.unknown(f"key of {where}", key, hints))
  modules = {f.name: f.metadata["module"] for f in dataclasses.fields(cls) if "module" in f.metadata}
  values = {}
  for key, value in mapping.items():
    if key in modules:
      values[key] = _module_config(modules[key], value, f"{where}.{key}")
    else:
      values[key] = _cast(hints[key], value, f"{where}.{key}")
  missing = [
    f.name for f in dataclasses.fields(cls)
    if f.name not in values
    and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
  ]
  if missing:
    raise ConfigError(f"{where} lacks the key {missing[0]!r}.")
  return cls(**values)


def _cast(hint: Any, value: Any, where: str) -> Any:
  """`value` as the annotated type; text is parsed, an int may stand for a float, nothing else."""
  if dataclasses.is_dataclass(hint):
    return typed(hint, value, where)
  origin, inner = typing.get_origin(hint), typing.get_args(hint)
  if origin is typing.Annotated:
    return _cast_number(*inner, value, where)
  if hint in ranges.ANY:
    return _cast_number(hint, ranges.ANY[hint], value, where)
  if origin is tuple:
    if not isinstance(value, (tuple, list)):
      raise ConfigError(f"{where} is a tuple, not {value!r}.")
    variadic = inner[1:] == (Ellipsis,)
    if not variadic and len(value) != len(inner):
      raise ConfigError(f"{where} is a tuple of {len(inner)} values, not {value!r}.")
    return tuple(
      _cast(inner[0] if variadic else inner[i], v, f"{where}[{i}]") for i, v in enumerate(value)
    )
  if origin is collections.abc.Mapping:
    return {
      _cast(inner[0], k, f"a key of {where}"): _cast(inner[1], v, f"{where}[{k!r}]")
      for k, v in _mapping(value, where).items()
    }
  if hint is Any or isinstance(value, hint):
    return value
  raise ConfigError(f"{where} is of type {hint.__name__}, not {value!r}.")


def _cast_number(hint: type, range_: ranges.Range, value: Any, where: str) -> int | float:
  """`value` as an int or float within a range."""
  number = value
  if isinstance(value, str):
    with contextlib.suppress(ValueError):
      number = hint(value)
  whole = isinstance(number, int) and not isinstance(number, bool)
  if not whole and not (hint is float and isinstance(number, float)):
    raise ConfigError(f"{where} is of type {hint.__name__}, not {value!r}.")
  if not range_.holds(number):
    raise ConfigError(f"{where} is {range_}, not {value!r}.")
  return hint(number)


def _plain(value: Any) -> Any:
  """Dataclasses and ConfigDicts as plain dicts, recursively; tuples stay."""
  if isinstance(value, config_dict.ConfigDict):
    return _plain(value.to_dict())
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
  if isinstance(value, Mapping):
    return {k: _plain(v) for k, v in value.items()}
  if isinstance(value, (tuple, list)):
    return tuple(_plain(v) for v in value)
  return value
