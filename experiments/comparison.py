"""Lists of any systems beside each other; see docs/comparison.md.

    python -m recjax.main --mode=evaluate --config=experiments/comparison.py --workdir=runs/compared

with --config.lists='("mine=a.parquet","theirs=b.run")' and --config.relevance=right.qrels.
"""

from recjax.config import parse_arg, settings


def get_config(arg=None):
  """The settings; no switches."""
  parse_arg(arg)
  return settings("comparison", name="comparison")
