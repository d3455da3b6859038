"""A leaderboard from a file of votes: leaderboard.json, leaderboard.md and a picture a board.

    python -m recjax.main --mode=leaderboard --config=experiments/leaderboard.py \\
        --config.votes=votes.jsonl --workdir=runs/board
"""

import collections
import dataclasses
import logging
import pathlib
import re
from typing import Any

import numpy as np

from recjax.data import vote_table
from recjax.data.vote_table import BOTH_BAD, LEFT, RIGHT, TIE, VoteTable
from recjax.errors import ConfigError, DataError, writing
from recjax.evaluate import arena, board_report
from recjax.evaluate import votes as vote_arrays
from recjax.evaluate.trials import arena as planted
from recjax.programs.lock import locked
from recjax.programs.runs import versions
from recjax.ranges import Count, Positive, Rate, Weight
from recjax.registry import unknown
from recjax.train.writers import write_json

log = logging.getLogger("recjax")

RULES = ("half", "drop")


@dataclasses.dataclass(frozen=True)
class Config:
  """Keys of a leaderboard; docs/arena.md explains them."""

  program: str
  name: str
  # The file of votes, JSON lines or Parquet; "planted" = made up, with a bias towards style.
  votes: str = ""
  # Its columns; `user` and `board` are read where they are named. Each value of `board` gets a
  # leaderboard of its own.
  model_a: str = "model_a"
  model_b: str = "model_b"
  winner: str = "winner"
  user: str = ""
  board: str = ""
  # Counts of style, from the columns NAME_a and NAME_b; see recjax/data/answer_style.py for those
  # that are taken from an answer's text.
  covariates: tuple[str, ...] = ()
  # Take the mean away from covariates, too, as Search Arena's code does.
  center_covariates: bool = False
  # Cut counts to whole numbers first, as that code does.
  truncate: bool = False
  # half = "both bad" is a tie; drop = such votes count for nothing.
  both_bad: str = "half"
  # Models whose battles are left out.
  leave_out: tuple[str, ...] = ()
  # sandwich | cluster (by user) | model | bootstrap (percentiles) | bootstrap_deviation.
  intervals: str = "sandwich"
  confidence: Rate = 0.95
  # A bootstrap: what it resamples (vote | cluster), how often, from which seed.
  by: str = "vote"
  rounds: Positive = 1000
  seed: Count = 0
  # Penalties, ridge / 2 times the squared norm.
  ridge: Weight = 0.0
  covariate_ridge: Weight = 0.0
  # The model that has the rating `center`; empty: the mean of all models has it.
  anchor: str = ""
  center: float = 1000.0
  # A board with fewer votes is not made; a model with fewer is left off it.
  minimum_battles: Count = 0
  minimum_votes: Count = 0

  def __post_init__(self):
    for key, known in (
      ("both_bad", RULES), ("intervals", arena.INTERVALS), ("by", ("vote", "cluster")),
    ):
      if getattr(self, key) not in known:
        raise ConfigError(unknown(f"value of config.{key}", getattr(self, key), known))
    if "cluster" in (self.intervals, self.by) and not self.user and self.votes != "planted":
      raise ConfigError("Intervals by user need to know who voted: set config.user to that column.")
    if not self.confidence:
      raise ConfigError("config.confidence is above 0 and below 1, not 0.")


def leaderboard(config: Config, workdir: pathlib.Path) -> dict[str, Any]:
  """Reads the votes; writes the leaderboard into the workdir and returns it."""
  if not config.votes:
    raise ConfigError("Say which votes: --config.votes=FILE, JSON lines or Parquet.")
  table = _read(config)
  outside = set(config.leave_out) - set(table.models)
  if outside:
    raise DataError(unknown("model in config.leave_out", min(outside), table.models))
  boards, skipped = {}, {}
  for number, name in enumerate(table.boards):
    rows = np.flatnonzero(table.board == number)
    made = _board(config, table, rows)
    if isinstance(made, str):
      skipped[name] = made
      continue
    boards[name] = made
  if not boards:
    raise DataError(f"No board of {config.votes} has enough votes: {next(iter(skipped.values()))}.")
  result = {
    "name": config.name,
    "votes": config.votes,
    "battles_without_vote": table.without_vote,
    "settings": dataclasses.asdict(config),
    "boards": boards,
    "skipped": skipped,
    "versions": versions(),
  }
  with locked(workdir):
    write_json(workdir / "leaderboard.json", result)
    pages = [
      f"# {config.name}\n", f"Votes: `{config.votes}`, {table.without_vote} battles without one.\n"
    ]
    taken = set()
    for name, report in boards.items():
      pages.append(board_report.markdown(report, name))
      suffix = re.sub(r"[^\w.-]+", "_", name)
      while suffix in taken:
        suffix += "_"
      taken.add(suffix)
      path = workdir / (f"leaderboard_{suffix}.svg" if suffix else "leaderboard.svg")
      with writing(path):
        path.write_text(board_report.picture(report, name or config.name))
    pages += [f"- No board {name!r}: {reason}.\n" for name, reason in skipped.items()]
    with writing(workdir / "leaderboard.md"):
      (workdir / "leaderboard.md").write_text("\n".join(pages))
  for name, report in boards.items():
    log.info("Board %s: %d votes", name or config.name, report["facts"]["votes"])
    for row in report["models"]:
      log.info(
        "%3d. %-30s %6.0f  [%.0f, %.0f]  %d votes",
        row["rank"], row["model"], row["rating"], row["low"], row["high"], row["votes"],
      )
  log.info("Written: %s", workdir / "leaderboard.md")
  return result


def _read(config: Config) -> VoteTable:
  if config.votes == "planted":
    for name in config.covariates:
      if name != "style":
        raise ConfigError(unknown("covariate of planted votes", name, ("style",)))
    made = planted.table(config.seed)
    return made._replace(counts=made.counts[:, :, : len(config.covariates)])
  columns = vote_table.Columns(
    config.model_a, config.model_b, config.winner, config.user, config.board
  )
  return vote_table.read(pathlib.Path(config.votes), columns, config.covariates)


def _board(config: Config, table: VoteTable, rows: np.ndarray) -> dict[str, Any] | str:
  """The report of the votes in `rows`, or why there is no board."""
  away = np.isin(table.models, config.leave_out)
  kept = rows[~(away[table.a[rows]] | away[table.b[rows]])]
  left_out = len(rows) - len(kept)
  bad = table.outcome[kept] == BOTH_BAD
  both = np.concatenate([table.a[kept], table.b[kept]])
  called_bad = np.bincount(both, np.tile(bad, 2), len(table.models))
  all_votes = np.bincount(both, minlength=len(table.models))
  if config.both_bad == "drop":
    kept = kept[~bad]
  if len(kept) < max(config.minimum_battles, 1):
    return f"it has {len(kept)} votes, and config.minimum_battles asks for {config.minimum_battles}"
  # Models without a vote are not on the board.
  present, code = np.unique(np.concatenate([table.a[kept], table.b[kept]]), return_inverse=True)
  counts = table.counts[kept]
  if config.truncate:
    counts = np.trunc(counts)
  outcome = table.outcome[kept]
  votes = vote_arrays.make(
    [table.models[i] for i in present],
    code[: len(kept)],
    code[len(kept):],
    np.where(outcome == LEFT, 1.0, np.where(outcome == RIGHT, 0.0, 0.5)),
    x=vote_arrays.relative_difference(counts[:, 0], counts[:, 1]),
    covariates=config.covariates,
    cluster=None if table.user is None else table.user[kept],
  )
  board = arena.leaderboard(
    votes, intervals=config.intervals, by=config.by, rounds=config.rounds, seed=config.seed,
    confidence=config.confidence, ridge=config.ridge, covariate_ridge=config.covariate_ridge,
    center_covariates=config.center_covariates, anchor=config.anchor, center=config.center,
  )
  share = called_bad[present] / np.maximum(all_votes[present], 1)
  report = board_report.as_json(board, share, config.minimum_votes, config.confidence)
  sides = collections.Counter(outcome.tolist())
  facts = {
    "votes": len(kept),
    "left": sides[LEFT],
    "right": sides[RIGHT],
    "ties": sides[TIE],
    "both_bad": sides[BOTH_BAD],
    "both_bad_dropped": int(bad.sum()) if config.both_bad == "drop" else 0,
    "of_models_left_out": left_out,
    "users": None if votes.cluster is None else len(np.unique(votes.cluster)),
  }
  return {**report, "facts": facts, "notes": _notes(config, report, facts)}


def _notes(config: Config, report: dict[str, Any], facts: dict[str, Any]) -> list[str]:
  """What a reader of the table has to know."""
  gauge = f"{config.anchor or 'their mean'} is at {config.center:g}"
  notes = [
    f"{facts['votes']:,} votes: {facts['left']:,} for the left side, {facts['right']:,} for the right, "
    f"{facts['ties']:,} ties, {facts['both_bad']:,} both bad; {facts['both_bad_dropped']:,} both bad "
    f"and {facts['of_models_left_out']:,} of models left out count for nothing.",
    f"Ratings: 400 points are odds of ten to one; {gauge}. Intervals: {config.intervals}, of "
    "strengths around their mean; whether two models differ is in `pairs` of leaderboard.json.",
    "Ranks left open: by Holm-corrected tests of all pairs.",
  ]
  if config.ridge:
    notes.append(f"A ridge of {config.ridge:g} draws ratings towards each other.")
  if report["covariates"]:
    notes.append("Covariates: an association at equal strength, not an effect.")
  if report["constant_covariates"]:
    notes.append(f"Left out, the same in all votes: {', '.join(report['constant_covariates'])}.")
  if report["hidden"]:
    hidden = ", ".join(f"{name} ({votes})" for name, votes in report["hidden"].items())
    notes.append(f"Not shown, with fewer than {config.minimum_votes} votes: {hidden}.")
  if report["undefined_resamples"]:
    notes.append(f"{report['undefined_resamples']} resamples had no finite strengths and are left out.")
  return notes
