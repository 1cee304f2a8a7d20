"""The TPU's compiler, where it is installed, without a TPU."""

import importlib.util
import json
import subprocess
import sys

import pytest

from exif_jax.planning.topologies import environment, parse

CODE = """
import json
from exif_jax.config import OneClassConfig
from exif_jax.planning.costs import compiled_cost
from exif_jax.planning.programs import planned
from exif_jax.planning.topologies import open_topology, parse
topology = open_topology(parse("v5e:4x4"))
config = OneClassConfig(pca=8, num_components="2", precision="float32")
cost = compiled_cost(planned(config, topology, None).programs[0])
chip, devices = topology.chip.name, len(topology.devices)
print(json.dumps([chip, devices, topology.hosts, cost.program.devices, cost.flops]))
"""


def test_compiles_for_a_tpu_that_is_not_there():
    if importlib.util.find_spec("libtpu") is None:
        pytest.skip("libtpu is not installed: pip install 'exif-jax[tpu]'")
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        env=environment(parse("v5e:4x4")),
        capture_output=True,
        text=True,
        check=True,
    )
    *facts, flops = json.loads(done.stdout.splitlines()[-1])
    assert facts == ["TPU v5e", 16, 4, 16] and flops > 0
