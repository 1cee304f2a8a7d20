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
rows = {}
for pca, memory in ((8, 8.0), (512, 10000.0)):
    config = OneClassConfig(pca=pca, num_components="2", precision="float32", memory_gib=memory)
    program = planned(config, topology, None).programs[0]
    cost = compiled_cost(program)
    rows[pca] = [type(cost).__name__, getattr(cost, "flops", 0), program.devices]
print(json.dumps([len(topology.devices), topology.hosts, topology.chip.name, rows]))
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
    devices, hosts, name, rows = json.loads(done.stdout.splitlines()[-1])
    assert (devices, hosts, name) == (16, 4, "TPU v5e")
    assert rows["8"][0] == "Cost" and rows["8"][1] > 0 and rows["8"][2] == 4
    assert rows["512"][0] == "Cost"
