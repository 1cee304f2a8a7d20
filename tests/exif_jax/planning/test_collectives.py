"""Collectives are found in the text of compiled programs, with what they move."""

import pytest

from exif_jax.planning.collectives import collectives

# Shortened from what the TPU's and the CPU's compilers write.
TEXT = """\
HloModule jit_step, is_scheduled=true

%region_0.0 (psum.0: f32[], psum.1: f32[]) -> f32[] {
  ROOT %add.0 = f32[]{:T(128)} add(%psum.0, %psum.1), metadata={op_name="all-reduce(x)"}
}

%fused_computation.6 (param_0.10: f32[1024]) -> (f32[1024], f32[16384]) {
  %all-gather.5 = f32[16384]{0:T(1024)} all-gather(%param_0.10), channel_id=1, \
replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}, frontend_attributes={chain_id="0"}
}

%async_collective_fusion.10 (param_0.14: f32[1024]) -> (f32[1024], f32[16384]) {
  %all-gather.7 = f32[16384]{0:T(1024)S(1)} all-gather(%param_0.14), channel_id=1, \
replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}, frontend_attributes={chain_id="0"}
}

ENTRY %main.1 (param.0: f32[1024]) -> f32[] {
  %collective-permute-start = (f32[4,8]{1,0:T(8,128)}, f32[4,8]{1,0:T(8,128)S(1)}, u32[]{:S(2)}, \
u32[]{:S(2)}) collective-permute-start(%param.3), source_target_pairs={{0,1},{1,0}}
  %collective-permute-done = f32[4,8]{1,0} collective-permute-done(%collective-permute-start)
  %all-reduce.1 = (f32[10,10]{1,0:T(8,128)}, bf16[50]{0}, pred[]) all-reduce(%a, /*index=1*/%b, \
%c), channel_id=1, replica_groups=[1,8]<=[8], to_apply=%region_0.0
  %all-reduce-start = f32[100]{0} all-reduce-start(%d), replica_groups={}, to_apply=%region_0.0
  %all-reduce-done = f32[100]{0} all-reduce-done(%all-reduce-start)
  %all-gather-start = (f32[2]{0}, f32[16]{0}) all-gather-start(%e), replica_groups=[1,8]<=[8]
  ROOT %reduce-scatter.2 = f32[3]{0} reduce-scatter(%f), replica_groups=[2,4]<=[8], dimensions={0}
  %alone = f32[1000]{0} all-reduce(%g), replica_groups=[8,1]<=[8], to_apply=%region_0.0
}
"""


def test_counts_and_bytes_of_every_kind():
    found = {each.kind: each for each in collectives(TEXT, 8)}
    assert {kind: (each.count, each.bytes) for kind, each in found.items()} == {
        "all-gather": (2, 4 * 16384 + 4 * 16),
        "all-reduce": (3, 400 + 100 + 1 + 400 + 4000),
        "collective-permute": (1, 128),
        "reduce-scatter": (1, 12),
    }
    # Within groups of four, of eight, and alone, where nothing is sent.
    assert found["all-gather"].sent_bytes == pytest.approx(3 / 4 * 4 * 16384 + 7 / 8 * 64)
    assert found["all-reduce"].sent_bytes == pytest.approx(2 * 7 / 8 * 901)
    assert found["collective-permute"].sent_bytes == 128
    assert found["reduce-scatter"].sent_bytes == 3 * 12


def test_a_program_of_one_device_has_none():
    assert collectives("ENTRY %main { ROOT %a = f32[2]{0} add(%b, %c) }", 1) == []
