"""Bytes of collectives in HLO text written by hand, and in compiled programs of known traffic."""

import jax
import jax.numpy as jnp
import pytest
from collectives import Collective, collectives, sent_by_kind

HAND = """HloModule step, is_scheduled=true, replica_count=1, num_partitions=8

%add (x: f32[], y: f32[]) -> f32[] {
  %x = f32[] parameter(0)
  ROOT %sum = f32[] add(%x, %y)
}

%body (c: (s32[], f32[4])) -> (s32[], f32[4]) {
  %c = (s32[], f32[4]{0}) parameter(0)
  %v = f32[4]{0} get-tuple-element(%c), index=1
  %go = f32[4]{0} collective-permute(%v), channel_id=4, source_target_pairs={{0,1},{1,0}}
  ROOT %t = (s32[], f32[4]{0}) tuple(%v, %go)
}

%test (c: (s32[], f32[4])) -> pred[] {
  %c = (s32[], f32[4]{0}) parameter(0)
  ROOT %p = pred[] constant(true)
}

ENTRY %main (p: f32[4], q: bf16[2,3]) -> f32[4] {
  %p = f32[4]{0} parameter(0)
  %q = bf16[2,3]{1,0} parameter(1)
  %r = (f32[], f32[10,2]{1,0:T(8,128)}, /*index=2*/f32[4]{0}) all-reduce(%a, %b, %p), \
replica_groups={{0,1,2,3},{4,5,6,7}}, to_apply=%add
  %alone = f32[4]{0} all-reduce(%p), replica_groups={{0},{1},{2},{3},{4},{5},{6},{7}}, to_apply=%add
  %gs = (bf16[2,3]{1,0}, bf16[16,3]{1,0}) all-gather-start(%q), replica_groups={}, dimensions={0}
  %gd = bf16[16,3]{1,0} all-gather-done(%gs)
  %rs = s8[6]{0} reduce-scatter(%s), replica_groups=[4,2]<=[2,4]T(1,0), to_apply=%add
  %a2a = pred[16]{0} all-to-all(%m), \
replica_groups=mesh['axis_0'=2,'axis_1'=1,'axis_2'=4], device_ids=([4,2]T(1,0)) {'axis_0','axis_2'}
  %ar = (f32[4]{0}, f32[4]{0}) all-reduce-start(%p, %p), \
replica_groups=mesh['axis_0'=8] {'axis_0':(2)4}, to_apply=%add
  %ard = (f32[4]{0}, f32[4]{0}) all-reduce-done(%ar)
  %w = (s32[], f32[4]{0}) while(%i), condition=%test, body=%body, \
backend_config={"known_trip_count":{"n":"5"}}
  %stay = f32[4]{0} collective-permute(%p), source_target_pairs={{0,0},{1,1}}
  ROOT %out = f32[4]{0} get-tuple-element(%w), index=1
}
"""


def test_every_notation_of_a_hand_written_module():
  found = collectives(HAND)
  assert found == [
    Collective("all-reduce", 4 + 80 + 16, 4, 1, True),
    Collective("all-reduce", 16, 1, 1, True),
    Collective("all-gather", 96, 8, 1, True),
    Collective("reduce-scatter", 12, 2, 1, True),
    Collective("all-to-all", 16, 8, 1, True),
    Collective("all-reduce", 32, 4, 1, True),
    Collective("collective-permute", 16, 1, 1, True),
    Collective("collective-permute", 16, 8, 5, True),
  ]
  assert sent_by_kind(found) == pytest.approx({
    "all-reduce": 1.5 * 100 + 1.5 * 32, "all-gather": 84, "collective-permute": 80,
    "all-to-all": 14, "reduce-scatter": 6,
  })


def test_a_loop_of_unknown_length_counts_once_and_says_so():
  text = HAND.replace('"known_trip_count":{"n":"5"}', "")
  assert collectives(text)[-1] == Collective("collective-permute", 16, 8, 1, False)


@pytest.mark.parametrize(
  "text",
  ["", HAND.replace("replica_groups={}", "replica_groups=all"), HAND.replace("s8[6]", "odd[6]")],
  ids=["empty", "groups", "element"],
)
def test_what_cannot_be_read_is_refused(text):
  with pytest.raises(ValueError):
    collectives(text)


def test_compiled_programs_of_known_traffic():
  """A sum and a gather of 6 floats a device over 4 devices, and both three times in a loop."""
  mesh = jax.make_mesh((4, 2), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)

  def both(x):
    return jax.lax.psum(x, "data"), jax.lax.all_gather(x, "data", tiled=True)

  def loop(x):
    more = lambda _, x: x + both(x)[0] + both(x)[1].sum()
    return jax.lax.fori_loop(0, 3, more, x)

  for function, outputs, times in ((both, (jax.P(), jax.P()), 1), (loop, jax.P("data"), 3)):
    mapped = jax.shard_map(
      function, mesh=mesh, in_specs=jax.P("data"), out_specs=outputs, check_vma=False
    )
    text = jax.jit(mapped).lower(jnp.zeros(24)).compile().as_text()
    sent = sent_by_kind(collectives(text))
    assert sent == pytest.approx({"all-reduce": times * 2 * 18, "all-gather": times * 72})
