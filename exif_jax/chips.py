"""Published figures of accelerators, by the name that a topology begins with."""

from dataclasses import dataclass
from typing import Final

_GB, _GIB, _TERA = 10**9, 2**30, 10**12


@dataclass(frozen=True)
class Chip:
    """One accelerator chip, as its maker describes it.

    Attributes:
        name: as people call it.
        flops: bfloat16 FLOP/s at the peak. float32 products are done in one pass of bfloat16 by
            default on TPUs, several where more precision is asked for: for them this is optimistic.
        hbm_bytes: of memory.
        hbm_bandwidth: bytes/s between memory and the cores.
        link_bandwidth: bytes/s that leave the chip by all of its links to other chips together.
        source: where the figures are published.
    """

    name: str
    flops: float
    hbm_bytes: int
    hbm_bandwidth: float
    link_bandwidth: float
    source: str


_CLOUD = "https://docs.cloud.google.com/tpu/docs/"

# Cloud TPU publishes the bandwidth between chips as the sum of both directions; half of it leaves.
TPUS: Final[dict[str, Chip]] = {
    "v5e": Chip("TPU v5e", 197 * _TERA, 16 * _GIB, 819 * _GB, 200 * _GB, f"{_CLOUD}v5e"),
    "v5p": Chip("TPU v5p", 459 * _TERA, 95 * _GIB, 2765 * _GB, 600 * _GB, f"{_CLOUD}v5p"),
    "v6e": Chip("TPU v6e", 918 * _TERA, 32 * _GIB, 1638 * _GB, 400 * _GB, f"{_CLOUD}v6e"),
}
"""By the first part of a topology's name."""

# Without sparsity. Memory is what the driver says is free for JAX.
GPUS: Final[dict[str, Chip]] = {
    "A100": Chip("A100 SXM 80 GB", 312 * _TERA, 80 * _GB, 2039 * _GB, 300 * _GB,
        "NVIDIA A100 data sheet"),
    "H100": Chip("H100 SXM", 989 * _TERA, 80 * _GB, 3350 * _GB, 450 * _GB,
        "NVIDIA H100 data sheet"),
    "H200": Chip("H200 SXM", 989 * _TERA, 141 * _GB, 4800 * _GB, 450 * _GB,
        "NVIDIA H200 data sheet"),
}  # fmt: skip
"""By a part of the name that the driver gives the device."""

_TPU_KINDS: Final = {"TPU v5 lite": "v5e", "TPU v5": "v5p", "TPU v6 lite": "v6e"}


def chip_of(device_kind: str) -> Chip | None:
    """The chip of a device, by the name that JAX gives its kind; None: its figures are not known.

    JAX says `TPU v5 lite`, or `TPU v5e` in other releases, and `NVIDIA H100 80GB HBM3`.
    """
    kind = device_kind.removeprefix("TPU ")
    name = _TPU_KINDS.get(device_kind, kind)
    if name in TPUS:
        return TPUS[name]
    return next((GPUS[key] for key in GPUS if key in device_kind), None)
