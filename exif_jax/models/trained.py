"""Trained extractors on disk and in use: build, save, load, call."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array

from data_pipelines.errors import UserError
from data_pipelines.fingerprints import Fingerprint
from data_pipelines.images import PATCH
from data_pipelines.object_storage import path_of
from data_pipelines.perturbations import NO_PERTURBATION, parse_perturbation
from data_pipelines.targets import Target, targets_from_json, targets_to_json
from exif_jax.config import EncoderConfig, encoder_from_json, flat, to_json
from exif_jax.models.extractor import Extractor, Params, apply, extractor_shapes
from exif_jax.models.patches import normalise
from exif_jax.models.storage import Tree, flatten, load_model, save_model

DESCRIPTION = "extractor.json"


def check_parameters(directory: Path, params: Params, extractor: Extractor) -> None:
    """Raises a UserError that lists the arrays that are missing, unknown or misshaped."""
    shapes, _ = extractor_shapes(extractor)
    wanted = {
        "/".join(str(k.key) for k in path): leaf.shape
        for path, leaf in jax.tree_util.tree_flatten_with_path(shapes)[0]
    }
    check_shapes(directory, params, wanted)


def check_shapes(directory: Path, arrays: Tree, wanted: dict[str, tuple[int, ...]]) -> None:
    """Raises a UserError that lists the arrays that are missing, unknown or misshaped."""
    given = {name: array.shape for name, array in flatten(arrays).items()}
    problems = [
        f"{name} is {given.get(name, 'missing')}, expected {wanted.get(name, 'nothing')}"
        for name in sorted(wanted | given)
        if wanted.get(name) != given.get(name)
    ]
    if problems:
        raise UserError(f"{directory}: the arrays do not fit the model: {'; '.join(problems)}")


@dataclasses.dataclass(frozen=True)
class LoadedExtractor:
    """A trained extractor: `extractor(patches)`.

    Attributes:
        module: the Flax module.
        params: its parameters.
        model: the configuration that builds it.
        heads: parameters of the pretext heads; empty if there are none.
        targets: what the heads predict.
        source: the directory it was read from.
        prepare: perturbation that every image went through in training, and goes through in use.
    """

    module: Extractor
    params: Params
    model: EncoderConfig
    heads: Params
    targets: tuple[Target, ...]
    source: Path
    prepare: str = NO_PERTURBATION.name

    def __call__(self, patches: np.ndarray | Array) -> tuple[Array, dict[str, Array]]:
        """Features of images given by their patches.

        Args:
            patches: uint8 [B, N, 64, 64, 3].

        Returns:
            Features float32 [B, F] and the intermediates; of the published network, channels last:
            F = 528, f1 [B, N, 32, 32, 32], f2 [B, N, 16, 16, 32], f3 and f4 [B, N, 8, 8, 32],
            f5 [B, N, 528].

        Raises:
            ValueError: patches of another shape or type.
        """
        if patches.ndim != 5 or patches.shape[2:] != (PATCH, PATCH, 3):
            raise ValueError(f"patches must be [B, N, {PATCH}, {PATCH}, 3], not {patches.shape}")
        if patches.dtype != np.uint8:
            raise ValueError(f"patches must be uint8 (0..255), not {patches.dtype}")
        return _apply(self.module, self.params, patches)

    def digest(self) -> bytes:
        """SHA-256 of its parameters and of how images are prepared."""
        digest = hashlib.sha256(b"".join(x.tobytes() for x in flatten(self.params).values()))
        if self.prepare != NO_PERTURBATION.name:
            digest.update(self.prepare.encode())
        return digest.digest()

    def fingerprint(self) -> Fingerprint:
        """What a run that reads this extractor computes with."""
        return Fingerprint(flat(to_json(self.model)), digests={"parameters": self.digest().hex()})


@jax.jit(static_argnums=0)
def _apply(module: Extractor, params: Params, patches: Array) -> tuple[Array, dict[str, Array]]:
    features, intermediates = apply(module, params, normalise(patches))
    return features, intermediates


def save_extractor(
    directory: Path,
    params: Params,
    model: EncoderConfig,
    targets: tuple[Target, ...],
    facts: dict[str, Any],
) -> None:
    """Writes an extractor directory.

    Args:
        directory: to write, atomically.
        params: {"extractor", "heads"}.
        model: the configuration that builds the network.
        targets: what the heads predict.
        facts: anything else worth keeping, JSON-serialisable.
    """
    save_model(
        directory,
        DESCRIPTION,
        params,
        {"model": to_json(model), "targets": targets_to_json(targets), **facts},
    )


def find_extractor(path: Path) -> Path:
    """The model directory that a path stands for: itself, or a run's extractor/ or detector/.

    Raises:
        UserError: there is none.
    """
    for directory in (path, path / "extractor", path / "detector"):
        if any((directory / name).is_file() for name in (DESCRIPTION, "detector.json")):
            return directory
    raise UserError(
        f"{path}: no extractor here; give the workdir of a pretext run that has reached its first "
        "checkpoint, or a directory written by `exif-jax convert`"
    )


def load_extractor(path: str | Path) -> LoadedExtractor:
    """Loads an extractor from a pretext run, a converted checkpoint or a detector.

    Args:
        path: local, gs:// or s3://: workdir of a run, its extractor/ or detector/, or the output
            of `exif-jax convert`.

    Raises:
        UserError: nothing there, or damaged, incomplete or written by a newer version.
    """
    directory = find_extractor(path_of(path))
    is_extractor = (directory / DESCRIPTION).is_file()
    arrays, facts = load_model(directory, DESCRIPTION if is_extractor else "detector.json")
    return build_extractor(directory, arrays, facts)


def build_extractor(directory: Path, arrays: Tree, facts: dict[str, Any]) -> LoadedExtractor:
    """The extractor in what `load_model` read of a directory.

    Raises:
        UserError: damaged or incomplete.
    """
    try:
        model = encoder_from_json(facts["model"])
        prepare = parse_perturbation(str(facts.get("prepare", NO_PERTURBATION.name))).name
    except UserError as error:
        raise UserError(f"{directory}: {error}") from error
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(
            f"{directory}: the description of its model is damaged ({error}); copy the directory "
            "again"
        ) from error
    params = arrays.get("extractor", {})
    try:
        module = model.build()
        extractor_shapes(module)
    except Exception as error:  # networks of any kind, from fields of any type
        raise UserError(
            f"{directory}: the description of its model is damaged ({error}); copy the directory "
            "again"
        ) from error
    check_parameters(directory, params, module)
    return LoadedExtractor(
        module,
        params,
        model,
        arrays.get("heads", {}),
        targets_from_json(facts["targets"]) if "targets" in facts else (),
        directory,
        prepare,
    )
