"""Virtual environments of the peers, made once and kept."""

import pathlib
import subprocess
import sys
import venv

FOLDER = pathlib.Path(".venv-peers")
REQUIREMENTS = {
  # RecBole reads names that NumPy 2 and pandas 3 no longer have.
  "recbole": (
    "torch==2.13.0", "recbole==1.2.1", "numpy<2", "pandas<2.3", "scipy<1.15", "setuptools<81"
  ),
  "faiss": ("faiss-cpu==1.15.1", "numpy"),
  "ranx": ("ranx==0.3.21",),
  "fuxictr": ("torch==2.13.0", "fuxictr==2.3.10"),
  "torch": ("torch==2.13.0", "numpy"),
  "rectools": ("torch==2.13.0", "rectools[torch]==0.19.0"),
}


def python_of(peer: str, folder: pathlib.Path = FOLDER) -> str:
  """The Python of a peer's environment, which is made where it is missing; about a GiB each."""
  home = pathlib.Path(folder).absolute() / peer
  python, done = home / "bin" / "python", home / "installed"
  if not done.exists():
    print(f"Installing {peer} into {home}", flush=True)
    venv.create(home, with_pip=True, clear=True)
    subprocess.run(
      [python, "-m", "pip", "install", "-q", *REQUIREMENTS[peer]], check=True, stdout=sys.stderr
    )
    done.write_text("\n".join(REQUIREMENTS[peer]) + "\n")
  return str(python)
