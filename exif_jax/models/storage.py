"""Model directories: `model.safetensors` with every array, one JSON file with everything else.

Nothing is pickled, and a directory needs nothing outside itself. The JSON has the SHA-256 of the
arrays, so that a damaged copy is noticed.
"""

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from data_pipelines.errors import UserError
from data_pipelines.files import read_json, replacing_directory, write_json
from data_pipelines.storage import check_path, is_uri

FORMAT_VERSION = 1
ARRAYS = "model.safetensors"
Tree = dict[str, Any]


def flatten(tree: Tree) -> dict[str, np.ndarray]:
    """Nested dict of arrays -> {"outer/inner": array}."""
    return {k: np.asarray(x, order="C") for k, x in flatten_dict(tree, sep="/").items()}


def unflatten(flat: dict[str, np.ndarray]) -> Tree:
    """The inverse of `flatten`."""
    tree: Tree = unflatten_dict(flat, sep="/")
    return tree


def save_model(directory: Path, description: str, arrays: Tree, facts: dict[str, Any]) -> None:
    """Writes a model directory atomically, in place of an older one.

    Args:
        directory: to write.
        description: name of the JSON file, `extractor.json` or `detector.json`.
        arrays: nested dict of arrays.
        facts: JSON-serialisable; the format, library versions and hash are added.
    """
    check_path(directory)
    versions = {name: version(name) for name in ("exif-jax", "jax", "flax")}
    with replacing_directory(directory) as temporary:
        save_file(flatten(arrays), temporary / ARRAYS)
        write_json(
            temporary / description,
            {
                "format_version": FORMAT_VERSION,
                **facts,
                "versions": versions,
                "sha256": {ARRAYS: sha256(temporary / ARRAYS)},
            },
        )


def load_model(directory: Path, description: str) -> tuple[Tree, dict[str, Any]]:
    """Reads a model directory: nested arrays and facts.

    Raises:
        UserError: a file is missing or damaged, or was written by a newer version.
    """
    check_path(directory)
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
        versions = facts.get("versions")
        made_by = versions.get("exif-jax") if isinstance(versions, dict) else None
        raise UserError(
            f"{directory}: format {facts['format_version']} was written by exif-jax "
            f"{made_by or '(newer)'}; "
            f"this version reads up to {FORMAT_VERSION}: upgrade exif-jax"
        )
    try:
        with _on_disk(directory / ARRAYS) as path:
            _check_hash(directory / ARRAYS, sha256(path), facts)
            return unflatten(load_file(path)), facts
    except UserError:
        raise
    except (OSError, SafetensorError, LookupError, TypeError, ValueError) as error:
        # The last three: types that NumPy has not, and names of which one is in another.
        raise UserError(
            f"{directory / ARRAYS}: damaged ({error}); copy the directory again"
        ) from error


def sha256(path: Path) -> str:
    """Of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _on_disk(path: Path) -> Iterator[Path]:
    """A file, or a local copy of one in object storage: arrays read from memory lose their order.

    Digests of parameters go by it.
    """
    if not is_uri(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(path.read_bytes())
        yield copy


def _check_hash(path: Path, found: str, facts: dict[str, Any]) -> None:
    """Refuses arrays that are not those the JSON file was written with; old ones tell no hash."""
    hashes = facts.get("sha256")
    stated = hashes.get(ARRAYS) if isinstance(hashes, dict) else None
    if stated is not None and stated != found:
        raise UserError(
            f"{path}: damaged, or of another model: its SHA-256 is not the one that the JSON file "
            "beside it states; copy the directory again"
        )
