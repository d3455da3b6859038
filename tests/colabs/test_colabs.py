"""Notebooks: made from their scripts, and running from the first cell to the last."""

import base64
import importlib.util
import os
import pathlib

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).parents[2]
SCRIPTS = sorted(p for p in (ROOT / "colabs").glob("*.py") if p.name != "make.py")
NOTEBOOKS = sorted((ROOT / "colabs").glob("*.ipynb"))


def name(path):
  return path.stem


def content(notebook):
  return [(cell.cell_type, cell.source) for cell in notebook.cells]


def make():
  """The module colabs/make.py, which is no package."""
  spec = importlib.util.spec_from_file_location("make_colabs", ROOT / "colabs" / "make.py")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_every_notebook_has_a_script():
  assert SCRIPTS and [p.stem for p in SCRIPTS] == [p.stem for p in NOTEBOOKS]


@pytest.mark.parametrize("script", SCRIPTS, ids=name)
def test_notebook_is_up_to_date(script):
  """What is in the repository is what `python colabs/make.py` writes; outputs do not matter."""
  stored = nbformat.read(script.with_suffix(".ipynb"), as_version=4)
  assert content(stored) == content(make().notebook(script))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=name)
def test_notebook_runs_anywhere(path, tmp_path, monkeypatch):
  """Every cell runs in an empty folder, and each that calls plt.show() leaves a figure."""
  monkeypatch.setenv("RECJAX_COLAB_TINY", "1")
  monkeypatch.setenv("RECJAX_CACHE_DIR", str(tmp_path / "cache"))
  monkeypatch.setenv("JAX_PLATFORMS", "cpu")
  monkeypatch.setenv("JAX_NUM_CPU_DEVICES", "1")
  # Nearly all of the time goes into compilation, and there is next to nothing to compute.
  monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")
  path_entries = [str(ROOT), os.environ.get("PYTHONPATH", "")]
  monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, path_entries)))
  notebook = nbformat.read(path, as_version=4)
  client = NotebookClient(notebook, timeout=240, resources={"metadata": {"path": str(tmp_path)}})
  client.execute()
  shown = [cell for cell in notebook.cells if "plt.show()" in cell.source]
  assert shown
  for cell in shown:
    figures = [o.data["image/png"] for o in cell.outputs if "image/png" in o.get("data", {})]
    assert len(figures) == cell.source.count("plt.show()")
    for figure in figures:
      assert len(base64.b64decode(figure)) > 5_000
