"""What a finished run wrote is what it is later read as: checksums in the report, and of the report."""

import json
import pathlib
import zlib
from collections.abc import Mapping
from typing import Any

from recjax.errors import RecjaxError
from recjax.train.writers import plain, read_json

_BLOCK = 1 << 24


def sealed(report: Mapping[str, Any], workdir: pathlib.Path) -> dict[str, Any]:
  """The report with the checksums of the figures and the export beside it, and its own."""
  written = [*workdir.glob("cases_*.npz"), *workdir.glob("*.safetensors"), *workdir.glob("export/*")]
  files = {str(path.relative_to(workdir)): checksum(path) for path in sorted(written)}
  report = plain({**report, "files": files})
  return {**report, "checksum": _own(report)}


def read_report(workdir: pathlib.Path) -> dict[str, Any]:
  """The report of a finished run; RecjaxError where it or a file it names is not as it was written."""
  path = workdir / "report.json"
  report = read_json(path)
  if not isinstance(report, dict) or report.get("status") != "finished":
    raise _changed(path, path)
  if "files" not in report and "checksum" not in report:
    return report  # by a version that wrote none
  if report.get("checksum") != _own({k: v for k, v in report.items() if k != "checksum"}):
    raise _changed(path, path)
  for name, expected in report["files"].items():
    if not (workdir / name).is_file() or checksum(workdir / name) != expected:
      raise _changed(workdir / name, path)
  return report


def checksum(path: pathlib.Path) -> int:
  """CRC-32 of a file's content."""
  value = 0
  with open(path, "rb") as file:
    while block := file.read(_BLOCK):
      value = zlib.crc32(block, value)
  return value


def _own(report: Mapping[str, Any]) -> int:
  return zlib.crc32(json.dumps(report, sort_keys=True).encode())


def _changed(path: pathlib.Path, report: pathlib.Path) -> RecjaxError:
  return RecjaxError(
    f"{path} is damaged (it is not what the finished run wrote); delete {report}, and the same command "
    "makes it anew from the last checkpoint."
  )
