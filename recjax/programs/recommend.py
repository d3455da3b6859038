"""Recommendations from a finished run for a history given on the command line."""

import pathlib

from recjax.errors import ConfigError
from recjax.serve.recommender import Recommendation, Recommender


def recommend(workdir: pathlib.Path, history: str, k: int) -> list[Recommendation]:
  """Prints and returns the k best items for a history "label or id|label or id|...", oldest first."""
  if not history.strip("| "):
    raise ConfigError('Say whose recommendations: --history="Toy Story (1995)|Heat (1995)" or ids.')
  recommender = Recommender.load(workdir)
  items = [recommender.find(part) for part in history.split("|") if part.strip()]
  print("history: " + " | ".join(recommender.label(i) for i in items))
  answers = recommender.recommend([items], k)[0]
  for rank, answer in enumerate(answers, 1):
    print(f"{rank:3d}. {answer.label}  [item {answer.item}]  {answer.score:.3f}")
  return answers
