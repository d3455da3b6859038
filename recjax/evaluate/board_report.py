"""A leaderboard as JSON types, Markdown and a picture."""

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np
from scipy import stats

from recjax.evaluate import bradley_terry as bt
from recjax.evaluate.arena import Board
from recjax.evaluate.markdown import table


def as_json(
  board: Board, both_bad: np.ndarray, hidden_below: int = 0, confidence: float = 0.95
) -> dict[str, Any]:
  """A board, best model first; models with fewer than `hidden_below` votes stand apart.

  both_bad: [M] share of a model's votes that called both sides bad.
  """
  fit, models = board.fit, board.fit.votes.models
  order = sorted(range(len(models)), key=lambda i: (-board.rating[i], models[i]))
  shown = [i for i in order if board.votes[i] >= hidden_below]
  z = stats.norm.isf((1 - confidence) / 2)
  interval = lambda middle, error: [float(bt.ELO * (middle + side * z * error)) for side in (-1, 1)]
  return {
    "models": [
      {
        "model": models[i],
        "rank": int(board.rank[i]),
        "best_rank": int(board.best_rank[i]),
        "worst_rank": int(board.worst_rank[i]),
        "rating": float(board.rating[i]),
        "low": float(board.low[i]),
        "high": float(board.high[i]),
        "votes": int(board.votes[i]),
        "win_rate": float(board.win_rate[i]),
        "expected_win_rate": float(board.expected_win_rate[i]),
        "both_bad": float(both_bad[i]),
      }
      for i in shown
    ],
    "hidden": {models[i]: int(board.votes[i]) for i in order if i not in shown},
    "covariates": [
      {
        "covariate": name,
        "coefficient": float(fit.coefficients[f]),
        "low": float(board.coefficient_low[f]),
        "high": float(board.coefficient_high[f]),
        "inflation": float(board.inflation[f]),
      }
      for f, name in enumerate(fit.votes.covariates)
    ],
    "constant_covariates": list(board.constant),
    "pairs": [
      {
        "model": models[i],
        "other": models[j],
        "difference": float(bt.ELO * difference),
        "interval": interval(difference, error),
        "p": float(p),
        "p_holm": float(holm),
      }
      for i, j, difference, error, p, holm in zip(*board.pairs, strict=True)
    ],
    "condition": board.condition,
    "undefined_resamples": board.undefined,
    "loss": fit.loss,
    "confidence": confidence,
  }


def markdown(report: Mapping[str, Any], name: str = "") -> str:
  """The tables of a board."""
  lines = [f"## {name}", ""] if name else []
  lines += table(
    ("rank", "model", "rating", "interval", "ranks left open", "votes", "win rate",
     "at equal style" if report["covariates"] else "expected", "both bad"),
    [
      (
        row["rank"], row["model"], f"{row['rating']:.0f}",
        f"{row['low']:.0f} to {row['high']:.0f}", 
        f"{row['best_rank']} to {row['worst_rank']}", f"{row['votes']:,}", _share(row["win_rate"]),
        _share(row["expected_win_rate"]), _share(row["both_bad"]),
      )
      for row in report["models"]
    ],
  )
  if report["covariates"]:
    lines += table(
      ("covariate", "log-odds a deviation", "interval", "variance inflation"),
      [
        (
          row["covariate"], f"{row['coefficient']:+.3f}",
          f"{row['low']:+.3f} to {row['high']:+.3f}", f"{row['inflation']:.1f}",
        )
        for row in report["covariates"]
      ],
    )
  for sentence in report["notes"]:
    lines.append(f"- {sentence}")
  return "\n".join(lines) + "\n"


def _share(value: float) -> str:
  return "–" if np.isnan(value) else f"{value:.3f}"


def picture(report: Mapping[str, Any], name: str = "") -> str:
  """Ratings with their intervals as SVG text, best model on top."""
  rows = report["models"]
  low, high = min(row["low"] for row in rows), max(row["high"] for row in rows)
  step = next(s for s in (10, 20, 50, 100, 200, 500, 1000, 10**9) if (high - low) / s <= 10)
  first, last = step * np.floor(low / step), step * np.ceil(high / step)
  left = 16 + 7 * max(len(row["model"]) for row in rows)
  width, top, gap = 480, 40, 22
  place = lambda points: left + width * (points - first) / max(last - first, 1)
  bottom = top + gap * len(rows)
  parts = [
    f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 40}" height="{bottom + 32}" '
    'font-family="sans-serif" font-size="12">',
    '<rect width="100%" height="100%" fill="white"/>',
    f'<text x="{left}" y="20" font-size="14">{escape(name or "Leaderboard")}</text>',
  ]
  for points in np.arange(first, last + step / 2, step):
    x = place(points)
    parts.append(f'<line x1="{x:.1f}" y1="{top - 8}" x2="{x:.1f}" y2="{bottom}" stroke="#ddd"/>')
    parts.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{points:.0f}</text>')
  for number, row in enumerate(rows):
    y = top + gap * number + 6
    parts.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{escape(row["model"])}</text>')
    parts.append(
      f'<line x1="{place(row["low"]):.1f}" y1="{y}" x2="{place(row["high"]):.1f}" y2="{y}" '
      'stroke="#4472a8" stroke-width="3"/>'
    )
    parts.append(f'<circle cx="{place(row["rating"]):.1f}" cy="{y}" r="4" fill="#1d3557"/>')
  return "\n".join([*parts, "</svg>"]) + "\n"
