"""Compiled programs, kept from one start of a command to the next."""

import hashlib
import platform
import re
import tempfile
from pathlib import Path

import jax

from data_pipelines.storage import user_cache


def keep_compiled() -> None:
    """Makes JAX keep what it compiles in the user's cache, unless a place is set already.

    JAX_COMPILATION_CACHE_DIR sets one, and JAX_ENABLE_COMPILATION_CACHE=false keeps nothing.
    Without a folder that can be written, everything is compiled anew.
    """
    if jax.config.jax_compilation_cache_dir is not None:  # type: ignore[attr-defined]
        return
    folder = user_cache() / "compiled" / _processor()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def _processor() -> str:
    """Another name for every kind of processor: a home may be shared by several kinds.

    What is compiled for one may not run on another.
    """
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.is_file() else platform.processor()
    told = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    kind = f"{platform.machine()} {told[1] if told else text}"
    return hashlib.sha256(kind.encode()).hexdigest()[:16]
