"""Huge pages for training on a CPU under Linux.

Every dispatch of a compiled program takes its temporary memory from malloc and gives it back. Mapped
and unmapped in pages of 4 KiB, some hundreds of MiB a step, that costs about a fifth of the time of
SASRec on MovieLens 1M. Most kernels give pages of 2 MiB only to programs that ask, and glibc asks only
if an environment variable said so when the process began.
"""

import os
import pathlib
import sys
from collections.abc import Mapping

_KERNEL = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
_VARIABLE = "GLIBC_TUNABLES"
# Blocks up to 1 GiB come from a heap that keeps up to 4 GiB, instead of a mapping each.
_TUNABLES = (
  f"glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold={1 << 30}:glibc.malloc.trim_threshold={1 << 32}"
)


def wanted(kernel: str, environment: Mapping[str, str]) -> bool:
  """Whether the kernel's setting, as it prints it, leaves them to programs and nobody has decided."""
  return "[madvise]" in kernel and _VARIABLE not in environment


def restart_with_huge_pages() -> None:
  """Replaces this process, same id and arguments, by one that asks for huge pages, where it must.

  GLIBC_TUNABLES in the environment, even empty, leaves everything as it is.
  """
  if _KERNEL.exists() and wanted(_KERNEL.read_text(), os.environ):
    arguments = [sys.executable, *sys.orig_argv[1:]]
    os.execve(sys.executable, arguments, {**os.environ, _VARIABLE: _TUNABLES})
