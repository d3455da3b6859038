"""Traffic and memory of a training step on 1 to 8 devices, and what a v5e-256 pod would do.

    python benchmarks/sharding.py

Nothing is trained: steps are compiled for fake CPU devices, each number of them in a process of its
own, and bytes are read from the compiled program: those of collectives from its text
(`collectives.py`), those of tables and working memory from its memory analysis. Three programs, each
with two sizes of tables: SASRec with sampled softmax by rows, two towers with softmax over the batch by
rows, and that SASRec with dense tables. The pod's table is computed, from the same readings of programs
compiled for 256 devices and from the vendor's figures of a chip. Writes docs/results/sharding.json.
"""

import argparse
import json
import math
import os
import subprocess
import sys
from typing import Any, NamedTuple

from collectives import collectives, sent_by_kind

SHARE_LIMIT, TRAFFIC_LIMIT, MEMORY_LIMIT = 0.02, 1.01, 1.02
LENGTH, WIDTH = 50, 64
# Google's figures of a v5e chip: https://cloud.google.com/tpu/docs/v5e
CHIPS, FLOPS, MEMORY_RATE, MEMORY = 256, 197e12, 819e9, 16e9
# 1,600 Gbit/s over the four links of a chip; a ring along one axis of the torus uses two of them.
LINK_RATE = 1600e9 / 8 / 2
# Only the machine code of the host gets slower by these; what is read here stays as it is.
QUICK_CODE = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


class Program(NamedTuple):
  """A training step to compile: who learns, how tables are trained, items of two sizes."""

  learner: str  # sasrec | two_towers
  training: str
  rows: tuple[int, int]


PROGRAMS = {
  "SASRec, by rows": Program("sasrec", "rows", (1_000_000, 16_000_000)),
  "two towers, by rows": Program("two_towers", "rows", (1_000_000, 16_000_000)),
  "SASRec, dense": Program("sasrec", "dense", (1_000_000, 16_000_000)),
}


def measure(program: Program, rows: int, mesh: tuple[int, int], batch_size: int) -> dict[str, Any]:
  """Compiles one step for a mesh (data, model) of this process's devices; what each of them gets."""
  import jax
  import numpy as np

  from recjax.config import Config, Mesh, Optimizer, Tables, Train
  from recjax.train.mesh import batch_sharding, bytes_of, make_mesh
  from recjax.train.step import Updater

  learner, schema = LEARNERS[program.learner](rows)
  config = Config(
    name="sharding", data=None, view=None, model=None, evaluate={},
    train=Train(batch_size=batch_size, steps=1), optimizer=Optimizer(),
    tables=Tables(training=program.training), mesh=Mesh(*mesh),
  )
  devices = make_mesh(config.mesh)
  updater = Updater(learner, config, schema, devices, 1)
  state = jax.eval_shape(updater.create, np.uint32(0))
  shardings = updater.shardings(state, 1)
  batch = jax.eval_shape(lambda: jax.tree.map(jax.numpy.asarray, schema.example(batch_size)))
  batch_shardings = jax.tree.map(lambda _: batch_sharding(devices), batch)
  step = jax.jit(
    updater.update, donate_argnums=0, in_shardings=(shardings, batch_shardings),
    out_shardings=shardings,
  )
  compiled = step.lower(state, batch).compile(QUICK_CODE)

  def per_device(tree, places):
    shards = jax.tree.map(
      lambda a, s: jax.ShapeDtypeStruct(s.shard_shape(a.shape), a.dtype), tree, places
    )
    return bytes_of(shards)

  is_table = lambda path: "tables" in (text := jax.tree_util.keystr(path)) or ".rows" in text
  rest = jax.tree_util.tree_map_with_path(lambda p, a: None if is_table(p) else a, state)
  rest_shardings = jax.tree_util.tree_map_with_path(
    lambda p, s: None if is_table(p) else s, shardings
  )
  memory = compiled.memory_analysis()
  others = per_device(rest, rest_shardings) + per_device(batch, batch_shardings)
  found = collectives(compiled.as_text())
  if any(c.sent and not c.counted for c in found):
    raise ValueError("A collective runs in a loop of unknown length.")
  cost = compiled.cost_analysis()
  return {
    "tables": memory.argument_size_in_bytes - others, "working": memory.temp_size_in_bytes,
    "sent": sum(c.sent for c in found), "by_kind": sent_by_kind(found),
    "flops": cost["flops"], "touched": cost["bytes accessed"],
  }


def sasrec_step(rows: int):
  """SASRec of two layers over histories of 50, with sampled softmax: learner and schema."""
  from recjax.data.schema import Field, Schema
  from recjax.models.retrieval import sasrec

  schema = Schema(
    {
      "user_id": Field("id", (), "user"), "hist_item": Field("ids", (LENGTH,), "item"),
      "hist_mask": Field("mask", (LENGTH,)), "target_item": Field("ids", (LENGTH,), "item"),
    },
    {"item": rows, "user": rows},
  )
  return sasrec.build(sasrec.Config(width=WIDTH, loss="sampled_softmax"), schema), schema


def two_towers_step(rows: int):
  """A tower over the user's row and one over the item's, softmax over the items of the batch."""
  import jax
  import jax.numpy as jnp

  from recjax.data.schema import Field, Schema
  from recjax.models.learner import Learner, Objective
  from recjax.nn.tables import TableSpec, take

  fields = {"user_id": "user", "target_item": "item"}
  schema = Schema(
    {name: Field("id", (), vocabulary) for name, vocabulary in fields.items()},
    {"user": 4 * rows, "item": rows},
  )

  def init(key, tables, batch):
    make = lambda key, *shape: jax.random.normal(key, shape) * shape[0] ** -0.5
    keys = jax.random.split(key, 4)
    towers = {
      kind: {"in": make(keys[2 * i], WIDTH, 4 * WIDTH), "out": make(keys[2 * i + 1], 4 * WIDTH, WIDTH)}
      for i, kind in enumerate(fields.values())
    }
    return {"params": towers}

  def loss(variables, batch, key):
    def tower(field, kind):
      weights = variables["params"][kind]
      hidden = jax.nn.relu(take(variables["tables"][kind], batch[field]) @ weights["in"])
      return hidden @ weights["out"]

    user, item = (tower(field, kind) for field, kind in fields.items())
    logits = user @ item.T
    own = jnp.sum(user * item, -1)
    return Objective((jax.nn.logsumexp(logits, -1) - own).sum(), jnp.float32(own.size))

  specs = {kind: TableSpec(kind, WIDTH) for kind in fields.values()}
  return Learner(schema, specs, init, loss, {}), schema


LEARNERS = {"sasrec": sasrec_step, "two_towers": two_towers_step}


def meshes(devices: int) -> list[tuple[int, int]]:
  """Grids (data, model): all along one axis, and from 4 devices on two along data."""
  grids = [(devices, 1), (1, devices)] + ([(2, devices // 2)] if devices > 2 else [])
  return list(dict.fromkeys(grids))


def measured_apart(devices: int, jobs: list[tuple]) -> list[dict[str, Any]]:
  """`measure` of several jobs in a process with so many devices."""
  environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
  command = [sys.executable, __file__, "--jobs", json.dumps(jobs)]
  output = subprocess.run(
    command, check=True, stdout=subprocess.PIPE, text=True, env=environment
  ).stdout
  return json.loads(output.strip().split("\n")[-1])


def claims(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
  """What must hold of runs, each what `measure` gave with its program, size (0, 1) and mesh."""
  by = {(r["program"], r["size"], *r["mesh"]): r for r in runs}
  by_rows = {key: r for key, r in by.items() if PROGRAMS[key[0]].training == "rows"}
  share = max(
    abs(r["tables"] * r["mesh"][1] / by[key[0], key[1], 1, 1]["tables"] - 1) for key, r in by.items()
  )
  large = {key: r for key, r in by_rows.items() if key[1] == 1}
  ratio = lambda what: max(
    r[what] / max(by[key[0], 0, *r["mesh"]][what], 1) for key, r in large.items()
  )
  traffic, working = ratio("sent"), ratio("working")
  return [
    {"name": "cut", "passed": share <= SHARE_LIMIT,
     "text": f"tables and their state of a device, times mesh.model, differ from those of one device "
     f"by at most {share:.2%}, limit {SHARE_LIMIT:.0%}"},
    {"name": "traffic follows the batch", "passed": traffic <= TRAFFIC_LIMIT,
     "text": f"by rows, bytes sent with 16 times the rows are at most {traffic:.3f} of those before, "
     f"limit {TRAFFIC_LIMIT}"},
    {"name": "working memory follows the batch", "passed": working <= MEMORY_LIMIT,
     "text": f"by rows, so is working memory: at most {working:.3f}, limit {MEMORY_LIMIT}"},
  ]


def pod_row(name: str, mesh: tuple[int, int], batch: int, small: dict, large: dict) -> list[str]:
  """A line of the pod's table: what the slowest resource allows, computed."""
  # The analysis counts a table that is indexed as read whole; a small one makes that negligible.
  times = {
    "arithmetic": small["flops"] / FLOPS, "memory": small["touched"] / MEMORY_RATE,
    "links": large["sent"] / LINK_RATE,
  }
  held = large["tables"] + large["working"]
  slowest = max(times, key=times.get)
  return [
    name, f"{mesh[0]} × {mesh[1]}", f"{batch:,}", *(f"{1e3 * t:.2f}" for t in times.values()),
    slowest, f"{batch / times[slowest]:,.0f}", f"{held / 1e9:.1f}", "yes" if held < MEMORY else "no",
  ]


def main() -> None:
  """Compiles every program for every mesh, prints lines, writes the result file."""
  parser = argparse.ArgumentParser()
  parser.add_argument("--devices", default="1,2,4,8")
  parser.add_argument("--batch", type=int, default=512)
  parser.add_argument("--pod_batch", type=int, default=16_384, help="0: no table of the pod")
  parser.add_argument("--jobs", help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  if arguments.jobs:
    jobs = json.loads(arguments.jobs)
    print(json.dumps([measure(PROGRAMS[n], r, tuple(mesh), b) for n, r, mesh, b in jobs]))
    return
  from store import store

  runs = []
  for devices in (int(d) for d in arguments.devices.split(",")):
    places = [(name, size, mesh) for name in PROGRAMS for size in (0, 1) for mesh in meshes(devices)]
    jobs = [(n, PROGRAMS[n].rows[s], mesh, arguments.batch) for n, s, mesh in places]
    for (name, size, mesh), found in zip(places, measured_apart(devices, jobs), strict=True):
      runs.append({"program": name, "size": size, "mesh": mesh, **found})
      print(f"{name:20} {PROGRAMS[name].rows[size]:>12,} rows  {mesh[0]} x {mesh[1]}  tables "
            f"{found['tables'] / 2**20:8.1f} MiB  sent {found['sent'] / 2**20:8.2f} MiB", flush=True)
  held = claims(runs)
  columns = ["program", "items", "data × model", "MiB of tables", "MiB of working memory", "MiB sent"]
  kinds = sorted({kind for run in runs for kind in run["by_kind"]})
  cell = lambda value: f"{value / 2**20:,.2f}" if value else "0"
  tables = [{
    "caption": f"Each device in a step, batch {arguments.batch}",
    "columns": [*columns, *(f"by {kind}" for kind in kinds)],
    "rows": [
      [run["program"], f"{PROGRAMS[run['program']].rows[run['size']]:,}",
       f"{run['mesh'][0]} × {run['mesh'][1]}",
       *(cell(run[what]) for what in ("tables", "working", "sent")),
       *(cell(run["by_kind"].get(kind, 0)) for kind in kinds)]
      for run in runs
    ],
  }]
  if arguments.pod_batch:
    side = math.isqrt(CHIPS)
    grids = [(CHIPS, 1), (CHIPS // 4, 4), (side, side)]
    by_rows = [name for name, program in PROGRAMS.items() if program.training == "rows"]
    places = [(name, mesh) for name in by_rows for mesh in grids]
    jobs = [
      (name, rows, mesh, arguments.pod_batch)
      for name, mesh in places for rows in (PROGRAMS[name].rows)
    ]
    found = measured_apart(CHIPS, jobs)
    tables.append({
      "caption": "A v5e-256 pod, computed, not measured: 197 TFLOP/s (bfloat16), 819 GB/s and 16 GB of "
      "memory, 1,600 Gbit/s of links a chip are the vendor's figures; half of the links serve a ring",
      "columns": ["program", "data × model", "batch", "ms of arithmetic", "ms of memory", "ms of links",
                  "slowest", "examples/s at most", "GB a chip", "fits"],
      "rows": [
        pod_row(name, mesh, arguments.pod_batch, *found[2 * i : 2 * i + 2])
        for i, (name, mesh) in enumerate(places)
      ],
    })
    runs += [{"program": job[0], "items": job[1], "mesh": job[2], **f} for job, f in zip(
      jobs, found, strict=True)]
  store({
    "name": "sharding",
    "page": "performance",
    "title": "Several devices: what a step sends and holds",
    "command": "python benchmarks/sharding.py",
    "note": "Read from programs compiled for fake CPU devices; float32, width 64. Bytes sent are those "
    "of ring algorithms, by one device in one step. Rows that a batch indexes several times have a "
    "gradient for each, which the CPU's compiler sums across devices one by one; one that adds them "
    "first sends less. Along `model` only tables are cut: the rest is computed by every device of it. "
    "In the pod's table a step takes as long as its slowest resource, as if the others overlapped with "
    "it and arithmetic were of bfloat16; the items are 16,000,000, the users of the towers 64,000,000.",
    "tables": tables,
    "claims": held,
    "runs": runs,
  })


if __name__ == "__main__":
  main()
