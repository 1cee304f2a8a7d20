"""Model directories: `model.safetensors` with every array, one JSON file with everything else.

Nothing is pickled, and a directory needs nothing outside itself.
"""

import glob
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from exif_jax.errors import UserError

FORMAT_VERSION = 1
ARRAYS = "model.safetensors"
Tree = dict[str, Any]


def write_bytes(path: Path, data: bytes) -> None:
    """Writes a file so that it is, at any moment, either the old or the new one."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically, see `write_bytes`."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """Reads a JSON file.

    Raises:
        UserError: the file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise UserError(f"{path}: missing") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from error


@contextmanager
def replacing_directory(path: Path) -> Iterator[Path]:
    """An empty directory to fill, which takes the place of `path` once the block ends well.

    What an earlier writer of the same directory left half-made when it was killed is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for suffix in (".tmp", ".old"):
        for leftover in path.parent.glob(f".{glob.escape(path.name)}.*{suffix}"):
            shutil.rmtree(leftover, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o755)
        if path.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".old", dir=path.parent))
            path.replace(old)
            temporary.replace(path)
            shutil.rmtree(old)
        else:
            temporary.replace(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def flatten(tree: Tree, prefix: str = "") -> dict[str, np.ndarray]:
    """Nested dict of arrays -> {"outer/inner": array}."""
    flat: dict[str, np.ndarray] = {}
    for name, value in tree.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}/")
        else:
            flat[prefix + name] = np.asarray(value, order="C")
    return flat


def unflatten(flat: dict[str, np.ndarray]) -> Tree:
    """The inverse of `flatten`."""
    tree: Tree = {}
    for name, value in flat.items():
        *parents, leaf = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    return tree


def save_model(directory: Path, description: str, arrays: Tree, facts: dict[str, Any]) -> None:
    """Writes a model directory atomically, in place of an older one.

    Args:
        directory: to write.
        description: name of the JSON file, `extractor.json` or `detector.json`.
        arrays: nested dict of arrays.
        facts: JSON-serialisable; the format and library versions are added.
    """
    versions = {name: version(name) for name in ("exif-jax", "jax", "flax")}
    with replacing_directory(directory) as temporary:
        save_file(flatten(arrays), temporary / ARRAYS)
        write_json(
            temporary / description,
            {"format_version": FORMAT_VERSION, **facts, "versions": versions},
        )


def load_model(directory: Path, description: str) -> tuple[Tree, dict[str, Any]]:
    """Reads a model directory: nested arrays and facts.

    Raises:
        UserError: a file is missing or damaged, or was written by a newer version.
    """
    for name in (description, ARRAYS):
        if not (directory / name).is_file():
            raise UserError(
                f"{directory}: {name} is missing, so this is no complete "
                f"{description.removesuffix('.json')} directory; write it again or copy all of it"
            )
    facts = read_json(directory / description)
    if not isinstance(facts, dict) or not isinstance(facts.get("format_version"), int):
        raise UserError(f"{directory / description}: has no format_version; was it edited?")
    if facts["format_version"] > FORMAT_VERSION:
        made_by = facts.get("versions", {}).get("exif-jax", "a newer version")
        raise UserError(
            f"{directory}: format {facts['format_version']} was written by exif-jax {made_by}; "
            f"this version reads up to {FORMAT_VERSION}: upgrade exif-jax"
        )
    try:
        return unflatten(load_file(directory / ARRAYS)), facts
    except (OSError, SafetensorError) as error:
        raise UserError(f"{directory / ARRAYS}: damaged ({error})") from error
