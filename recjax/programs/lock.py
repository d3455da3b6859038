"""One run a workdir: the second process that would write there is refused.

The lock is an advisory one on `<workdir>/.lock`. The system lets go of it when the process ends,
however it ends, so that no stale lock is ever in the way; the file stays, and says who held it last.
"""

import contextlib
import errno
import fcntl
import logging
import os
import pathlib
import socket
from collections.abc import Iterator

import jax

from recjax.errors import RecjaxError, writing
from recjax.train import hosts

log = logging.getLogger("recjax")

# What file systems answer that know no locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class InUse(RecjaxError):
  """Another process writes in this workdir."""


@contextlib.contextmanager
def locked(workdir: pathlib.Path) -> Iterator[None]:
  """Makes the workdir and holds it as long as the context is open; InUse where another process does.

  Of several processes of one run the first holds it for all.
  """
  with contextlib.ExitStack() as held:
    holder = None
    if jax.process_index() == 0:
      with writing(workdir):
        workdir.mkdir(parents=True, exist_ok=True)
        file = held.enter_context(open(workdir / ".lock", "a+", errors="replace"))
        holder = _take(file, workdir)
    if hosts.any_of(holder is not None):
      raise InUse(
        f"{workdir} is in use by {holder or 'another run'}: wait until that ends, or take another "
        "workdir."
      )
    yield


def _take(file, workdir: pathlib.Path) -> str | None:
  """Locks the file and signs it; where another process has it, who that is."""
  try:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    file.seek(0)
    return file.read().strip() or "another process"
  except OSError as error:
    if error.errno not in _NO_LOCKS:
      raise
    log.warning(
      "%s cannot be locked (%s): see to it that no other process runs there.", workdir, error.strerror
    )
    return None
  file.truncate(0)
  file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
  file.flush()
  return None
