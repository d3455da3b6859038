"""Who asks for huge pages, and that a process asks once, as the same process."""

import os
import pathlib
import sys

import pytest

from recjax import huge_pages


@pytest.mark.parametrize(
  ("kernel", "environment", "asks"),
  [
    ("always [madvise] never\n", {}, True),
    ("[always] madvise never\n", {}, False),  # it gives them anyway
    ("always madvise [never]\n", {}, False),  # it gives them to nobody
    ("always [madvise] never\n", {"GLIBC_TUNABLES": ""}, False),
    ("always [madvise] never\n", {"GLIBC_TUNABLES": "glibc.malloc.check=3"}, False),
  ],
)
def test_asks_only_where_it_matters_and_nobody_has_decided(kernel, environment, asks):
  assert huge_pages.wanted(kernel, environment) is asks


def test_restart_keeps_arguments_and_environment_and_does_not_loop(monkeypatch, tmp_path):
  kernel = tmp_path / "enabled"
  kernel.write_text("always [madvise] never\n")
  monkeypatch.setattr(huge_pages, "_KERNEL", kernel)
  monkeypatch.setattr(sys, "orig_argv", ["python", "-m", "recjax.main", "--config=a b"])
  monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
  monkeypatch.setenv("KEPT", "yes")
  calls = []

  def execve(path, arguments, environment):
    calls.append((path, arguments))
    assert environment["KEPT"] == "yes"
    for name, value in environment.items():
      monkeypatch.setenv(name, value)

  monkeypatch.setattr(os, "execve", execve)
  huge_pages.restart_with_huge_pages()
  huge_pages.restart_with_huge_pages()  # what the new process does
  assert calls == [(sys.executable, [sys.executable, "-m", "recjax.main", "--config=a b"])]


def test_other_systems_are_left_alone(monkeypatch):
  monkeypatch.setattr(huge_pages, "_KERNEL", pathlib.Path("/no/such/file"))
  calls = []
  monkeypatch.setattr(os, "execve", lambda *arguments: calls.append(arguments))
  huge_pages.restart_with_huge_pages()
  assert not calls
