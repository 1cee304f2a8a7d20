"""Names of topologies: what is known, and one clear message for what is not."""

import importlib.util

import pytest

from data_pipelines.errors import UserError
from exif_jax.planning import topologies
from exif_jax.planning.topologies import environment, open_topology, parse


@pytest.fixture
def libtpu(monkeypatch):
    """As if it was installed; nothing here loads it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())


def test_names_are_taken_apart(libtpu):
    assert parse("v5e:16x16").shape == (16, 16) and parse("V5P:2x2x1").kind == "v5p"
    assert parse("cpu:8").shape == (8,) and parse("gpu").shape == ()


@pytest.mark.parametrize(
    "name",
    ["", "v5e", "v5e:16", "v5e:0x4", "v5e:2x2x2", "v5p:4x4", "v9:2x2", "cpu", "cpu:0", "a b"],
)
def test_an_unknown_name_lists_the_known_ones(libtpu, name):
    with pytest.raises(UserError, match=r"no such topology.*v5e, v5p, v6e.*v5e:16x16.*cpu:8"):
        parse(name)


def test_without_the_tpu_compiler_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"libtpu.*pip install 'exif-jax\[tpu\]'"):
        parse("v6e:4x4")
    assert parse("cpu:2").kind == "cpu"


def test_the_environment_of_a_topology(libtpu, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--a=1 --xla_force_host_platform_device_count=3")
    cpu, tpu = environment(parse("cpu:16")), environment(parse("v5e:2x2"))
    assert cpu["JAX_NUM_CPU_DEVICES"] == "16" and cpu["XLA_FLAGS"] == "--a=1"
    assert tpu["JAX_PLATFORMS"] == "cpu" and tpu["TPU_SKIP_MDS_QUERY"] == "1"
    assert "JAX_PLATFORMS" not in environment(parse("gpu"))


def test_the_cpus_share_the_memory_of_this_machine():
    topology = open_topology(parse("cpu:8"))
    assert (len(topology.devices), topology.hosts, topology.chip) == (8, 1, None)
    assert 8 * topology.hbm_bytes > 2**28


def test_a_shape_that_the_compiler_refuses_is_unknown(libtpu, monkeypatch):
    from jax.experimental import topologies as of_jax

    def refuse(**_):
        raise RuntimeError("INVALID_ARGUMENT: not divisible by 2x2x1\nmore")

    monkeypatch.setattr(of_jax, "get_topology_desc", refuse)
    with pytest.raises(UserError, match=r"v5e:3x5: no such topology \(INVALID.*2x2x1\); known are"):
        open_topology(parse("v5e:3x5"))


def test_gpus_that_are_not_there_are_one_message(monkeypatch):
    with pytest.raises(UserError, match="JAX sees 0 GPUs here"):
        open_topology(topologies.Name("gpu", "gpu", ()))
