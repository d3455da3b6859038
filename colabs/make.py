"""Makes every notebook of this folder from its percent script: `python colabs/make.py`.

The script is what people edit. A notebook is made without outputs and with numbered cells, so that
the same script always gives the same file.
"""

import pathlib

import jupytext
import nbformat

FOLDER = pathlib.Path(__file__).parent


def scripts() -> list[pathlib.Path]:
  """The percent scripts, sorted by name."""
  return sorted(path for path in FOLDER.glob("*.py") if path.name != "make.py")


def notebook(script: pathlib.Path) -> nbformat.NotebookNode:
  """The notebook of a script, without outputs."""
  cells = jupytext.read(script, fmt="py:percent").cells
  for number, cell in enumerate(cells):
    cell["id"] = f"cell-{number}"
    cell["metadata"] = {}
  kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
  return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def main() -> None:
  """Writes all notebooks."""
  for script in scripts():
    nbformat.write(notebook(script), script.with_suffix(".ipynb"))
    print(script.with_suffix(".ipynb"))


if __name__ == "__main__":
  main()
