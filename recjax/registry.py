"""Names to import paths, one table a kind. Adding a paper means adding one line here."""

import difflib
import importlib
from collections.abc import Iterable
from types import ModuleType

from recjax.errors import ConfigError

_LONGEST = 200  # letters of a name that are shown

MODULES = {
  "program": {
    "train": "recjax.programs.train",
    "evaluate": "recjax.programs.evaluate",
    "recommend": "recjax.programs.recommend",
    "prove": "recjax.programs.prove",
    "study": "recjax.programs.study",
    "leaderboard": "recjax.programs.leaderboard",
    "comparison": "recjax.programs.comparison",
    "encode": "recjax.programs.encode",
  },
  "model": {
    "sasrec": "recjax.models.retrieval.sasrec",
    "gru4rec": "recjax.models.retrieval.gru4rec",
    "mqsa_ted": "recjax.models.retrieval.mqsa_ted",
    "idnp": "recjax.models.retrieval.idnp",
    "comirec": "recjax.models.retrieval.comirec",
    "mind": "recjax.models.retrieval.mind",
    "desmil": "recjax.models.retrieval.desmil",
    "hcn": "recjax.models.retrieval.hcn",
    "bpr_mf": "recjax.models.retrieval.bpr_mf",
    "lightgcn": "recjax.models.retrieval.lightgcn",
    "mmhcl": "recjax.models.retrieval.mmhcl",
    "uditsr": "recjax.models.retrieval.uditsr",
    "bert4rec": "recjax.models.retrieval.bert4rec",
    "knn_embed": "recjax.models.retrieval.knn_embed",
    "counts": "recjax.models.retrieval.counts",
    "semantic_contrast": "recjax.models.retrieval.semantic_contrast",
    "two_stage": "recjax.models.retrieval.two_stage",
    "video_retrieval": "recjax.models.retrieval.video_retrieval",
    "video_tower": "recjax.models.ranking.video_tower",
    "din": "recjax.models.ranking.din",
    "dien": "recjax.models.ranking.dien",
    "sdim": "recjax.models.ranking.sdim",
    "tin": "recjax.models.ranking.tin",
    "qin": "recjax.models.ranking.qin",
    "feature_interactions": "recjax.models.ranking.feature_interactions",
    "history_search": "recjax.models.ranking.history_search",
    "diffumin": "recjax.models.ranking.diffumin",
    "muse": "recjax.models.ranking.muse",
    "fairrec": "recjax.models.ranking.fairrec",
    "text_to_image": "recjax.models.alignment.text_to_image",
    "ppd": "recjax.models.alignment.ppd",
  },
  "source": {
    "movielens_100k": "recjax.data.sources.movielens",
    "folder": "recjax.data.sources.folder",
    "csv": "recjax.data.sources.csv",
    "amazon_reviews": "recjax.data.sources.amazon_reviews",
    "tfds": "recjax.data.sources.tfds",
    "planted": "recjax.data.sources.planted",
    "tastes": "recjax.data.sources.tastes",
    "planted_feed": "recjax.data.sources.planted_feed",
    "emoji": "recjax.data.sources.emoji",
  },
  "view": {
    "next_item": "recjax.data.views.next_item",
    "prefixes": "recjax.data.views.prefixes",
    "ctr": "recjax.data.views.ctr",
    "exposures": "recjax.data.views.exposures",
    "interest_functions": "recjax.data.views.interest_functions",
    "sessions": "recjax.data.views.sessions",
    "search_and_recommendation": "recjax.data.views.search_and_recommendation",
    "table": "recjax.data.views.table",
    "item_pairs": "recjax.data.views.item_pairs",
    "feed": "recjax.data.views.feed",
    "samples": "recjax.data.views.samples",
    "sample_pairs": "recjax.data.views.sample_pairs",
  },
  "evaluator": {
    "full_ranking": "recjax.evaluate.full_ranking",
    "sampled_ranking": "recjax.evaluate.sampled_ranking",
    "list_fairness": "recjax.evaluate.list_fairness",
    "ctr": "recjax.evaluate.ctr",
    "sessions": "recjax.evaluate.sessions",
    "interests": "recjax.evaluate.interests",
    "case_values": "recjax.evaluate.case_values",
    "attribute_probe": "recjax.evaluate.attribute_probe",
    "denoising": "recjax.evaluate.denoising",
    "neighbours": "recjax.evaluate.neighbours",
    "feed": "recjax.evaluate.feed",
    "word_retrieval": "recjax.evaluate.word_retrieval",
    "personal_samples": "recjax.evaluate.personal_samples",
  },
  "trial": {
    "arena": "recjax.evaluate.trials.arena",
    "music_arena": "recjax.evaluate.trials.music_arena",
    "music_captions": "recjax.evaluate.trials.music_captions",
    "judged_pairs": "recjax.evaluate.trials.judged_pairs",
    "knn_embed": "recjax.evaluate.trials.knn_embed",
  },
  "host": {
    "small": "recjax.diffusion.small_host",
    "stage_c": "recjax.diffusion.stage_c_host",
  },
}


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
  """The sentence for a name nobody knows: the known ones, nearest first."""
  name, known = str(name), sorted(map(shown, known))
  nearest = difflib.get_close_matches(name, known, n=max(len(known), 1), cutoff=0.0)
  hint = f" Did you mean {nearest[0]!r}?" if difflib.get_close_matches(name, known, n=1) else ""
  return f"Unknown {kind} {name!r}.{hint} Known: {', '.join(nearest) or 'none'}."


def shown(name: str) -> str:
  """A name as a sentence can hold it."""
  short = name if len(name) < _LONGEST else f"{name[:_LONGEST]}..."
  return short if short.isprintable() else repr(short)


def resolve(kind: str, name: str) -> ModuleType:
  """Imports the module registered as `name` under `kind`; raises ConfigError for unknown names."""
  table = MODULES[kind]
  if name not in table:
    raise ConfigError(unknown(kind, name, table))
  return importlib.import_module(table[name])
