"""Shared fixtures: eight CPU devices, a compilation cache, and the optional real data."""

import os
from pathlib import Path

# Before JAX starts: eight forced CPU devices, so that "one device equals many" is real.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
os.environ.setdefault("MPLBACKEND", "Agg")

import hypothesis
import jax
import pytest

ROOT = Path(__file__).resolve().parents[1]

# The first example of a property compiles, so times say nothing.
hypothesis.settings.register_profile("project", deadline=None)
hypothesis.settings.load_profile("project")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_compilation_cache_dir", str(ROOT / ".jax_cache"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _shared(name: str) -> Path:
    folder = ROOT.parent / "shared" / name
    if not folder.is_dir():
        pytest.skip(f"the optional folder {name!r} beside the project is absent")
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with real photographs and generated images; not part of the project."""
    return _shared("data")


@pytest.fixture(scope="session")
def parity() -> Path:
    """Folder with the reference arrays of the published model."""
    return _shared("parity")
