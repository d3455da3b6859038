"""Pages: links lead somewhere, and the keys, experiments and packages that they name exist."""

import pathlib
import re
import shutil

import pytest

from recjax import registry
from recjax.programs import results
from recjax.programs.runs import read_config_file

ROOT = pathlib.Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def name(path):
  return path.stem


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
  for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
    if "://" not in target:
      assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_named_experiments_resolve(page, monkeypatch):
  monkeypatch.chdir(ROOT)
  example = "experiments/mean_history.py"
  found = re.findall(r"--config=(experiments/[\w.]+(?::[\w=,./]+)?)", page.read_text())
  for reference in set(found):
    if not reference.startswith(example):
      assert read_config_file(reference.rstrip(".")).name


def test_readme_has_a_row_for_every_model():
  text = (ROOT / "README.md").read_text()
  for module in registry.MODULES["model"].values():
    assert module.replace(".", "/") + ".py" in text
  for path in (ROOT / "experiments").glob("*.py"):
    assert f"experiments/{path.name}" in text


def test_generated_pages_are_those_of_the_stored_results(monkeypatch, tmp_path):
  """Nobody wrote into them by hand, and none was forgotten."""
  copy = tmp_path / "docs" / "results"
  shutil.copytree(ROOT / "docs" / "results", copy)
  shutil.copy(ROOT / "README.md", tmp_path)
  monkeypatch.setattr(results, "FOLDER", copy)
  results.write_pages()
  for path in [*copy.parent.glob("*.md"), tmp_path / "README.md"]:
    assert path.read_text() == (ROOT / path.relative_to(tmp_path)).read_text(), path.name
