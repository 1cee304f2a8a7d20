"""Names of hardware, such as v5e:16x16, and the devices that programs are compiled for.

What libtpu and JAX read of the environment must be there before JAX is imported: `environment`
gives it for a process of its own, in which `open_topology` is called.
"""

import importlib.metadata
import importlib.util
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from data_pipelines.errors import UserError
from exif_jax.chips import TPUS, Chip, chip_of

if TYPE_CHECKING:  # this module is read before the environment is set
    import jax

EXAMPLES: Final = (
    "v5e:2x2, v5e:4x4, v5e:16x16, v5p:2x2x1, v5p:8x8x4, v6e:4x4, v6e:16x16, cpu:8, gpu"
)
_NAME = re.compile(r"(?P<kind>[a-z0-9]+)(?::(?P<shape>\d{1,4}(?:x\d{1,4})*))?")
_MOST_CPU_DEVICES = 1024
_FORCED_DEVICES = re.compile(r"--xla_force_host_platform_device_count=\S*")


@dataclass(frozen=True)
class Name:
    """A topology's name, taken apart.

    Attributes:
        text: as given.
        kind: a key of `TPUS`, `cpu` or `gpu`.
        shape: chips in each direction; for cpu and gpu the number of devices, or nothing.
    """

    text: str
    kind: str
    shape: tuple[int, ...]

    @property
    def is_tpu(self) -> bool:
        """Whether libtpu compiles for it."""
        return self.kind in TPUS


@dataclass(frozen=True)
class Topology:
    """Hardware to compile for.

    Attributes:
        name: of it.
        devices: of all processes; TPUs are not there.
        host_devices: of one process, in a topology of their own: the compiler does not take some
            devices of a larger one.
        hosts: processes that the devices are divided over.
        hbm_bytes: memory of one device.
        chip: published figures of one device; None: not known.
        compiler: that compiles for it, with its version.
        can_run: whether the devices are there.
    """

    name: str
    devices: "Sequence[jax.Device]"
    host_devices: "Sequence[jax.Device]"
    hosts: int
    hbm_bytes: int
    chip: Chip | None
    compiler: str
    can_run: bool


def parse(text: str) -> Name:
    """Takes a topology's name apart, and checks that something can compile for it.

    Raises:
        UserError: an unknown name (known ones are listed), or libtpu is missing.
    """
    match = _NAME.fullmatch(text.lower())
    kind = match["kind"] if match else ""
    shape = tuple(map(int, match["shape"].split("x"))) if match and match["shape"] else ()
    name = Name(text, kind, shape)
    directions = 3 if kind == "v5p" else 2
    if (
        (name.is_tpu and (len(shape) != directions or 0 in shape))
        or (kind == "cpu" and (len(shape) != 1 or not 1 <= shape[0] <= _MOST_CPU_DEVICES))
        or (kind == "gpu" and (len(shape) > 1 or 0 in shape))
        or (kind not in (*TPUS, "cpu", "gpu"))
    ):
        raise _unknown(text)
    if name.is_tpu and importlib.util.find_spec("libtpu") is None:
        raise UserError(
            f"--topology={text}: the TPU compiler (libtpu) is not installed: pip install "
            "'exif-jax[tpu]'. No TPU is needed. cpu:8 works without it"
        )
    return name


def environment(name: Name) -> dict[str, str]:
    """Variables of a process that compiles for it."""
    variables = {**os.environ, "JAX_PLATFORMS": "cpu"}
    if name.kind == "gpu":
        del variables["JAX_PLATFORMS"]  # JAX finds GPUs by itself
    # Devices forced upon the CPU are ours to number.
    flags = _FORCED_DEVICES.sub("", variables.pop("XLA_FLAGS", "")).strip()
    if flags:
        variables["XLA_FLAGS"] = flags
    if name.kind == "cpu":
        variables["JAX_NUM_CPU_DEVICES"] = str(name.shape[0])
    if name.is_tpu:
        # Otherwise libtpu asks the network where it is, complains that it is on no TPU's host, and
        # lets only one process compile. The type says nothing here: the topology's name does.
        variables |= {
            "TPU_SKIP_MDS_QUERY": "1",
            "TPU_WORKER_HOSTNAMES": "localhost",
            "TPU_ACCELERATOR_TYPE": "v5litepod-16",
            "TPU_MIN_LOG_LEVEL": "3",
            "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        }
    return variables


def open_topology(name: Name) -> Topology:
    """Its devices; called in a process with its `environment`.

    Raises:
        UserError: the compiler does not know such a shape, or there are no such devices.
    """
    import jax

    if name.is_tpu:
        return _tpu(name)
    compiler = f"XLA of jaxlib {importlib.metadata.version('jaxlib')}"
    if name.kind == "cpu":
        devices = jax.devices("cpu")
        # All of them share this machine's memory, of which nothing else is known.
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // len(devices)
        return Topology(name.text, devices, devices, 1, memory, None, compiler, True)
    try:
        devices = jax.devices("gpu")
    except RuntimeError:
        devices = []
    wanted = name.shape[0] if name.shape else len(devices)
    if not devices or wanted > len(devices):
        raise UserError(
            f"--topology={name.text}: JAX sees {len(devices)} GPUs here, and compiles for GPUs "
            "only where they are; for TPUs it compiles without one"
        )
    devices = devices[:wanted]
    memory = (devices[0].memory_stats() or {}).get("bytes_limit", 0)
    chip = chip_of(devices[0].device_kind)
    return Topology(name.text, devices, devices, 1, memory, chip, compiler, True)


def _tpu(name: Name) -> Topology:
    import jax

    devices = _tpu_devices(name, name.shape)
    hosts = len({device.process_index for device in devices})
    alone = devices if hosts == 1 else _tpu_devices(name, (2, 2, 1)[: len(name.shape)])
    assert len(alone) * hosts == len(devices)
    chip, version = TPUS[name.kind], importlib.metadata.version("libtpu")
    compiler = f"libtpu {version}, jax {jax.__version__}"
    return Topology(name.text, devices, alone, hosts, chip.hbm_bytes, chip, compiler, False)


def _tpu_devices(name: Name, shape: tuple[int, ...]) -> "Sequence[jax.Device]":
    from jax.experimental import topologies

    wanted = f"{name.kind}:{'x'.join(map(str, shape))}"
    try:
        found = topologies.get_topology_desc(platform="tpu", topology_name=wanted)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        raise _unknown(name.text, str(error).splitlines()[0]) from error
    devices: Sequence[jax.Device] = found.devices
    return devices


def _unknown(text: str, why: str = "") -> UserError:
    reason = f" ({why})" if why else ""
    return UserError(
        f"--topology={text}: no such topology{reason}; known are KIND:SHAPE with the kinds "
        f"{', '.join(TPUS)} (TPUs), cpu and gpu, such as {EXAMPLES}"
    )
