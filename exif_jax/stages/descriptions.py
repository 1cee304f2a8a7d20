"""What the stages do differently with an encoder whose description of an image is fixed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import jax
from jax import Array

from data_pipelines.errors import UserError
from data_pipelines.perturbations import NO_PERTURBATION, parse_perturbation
from data_pipelines.records import PREPARE_FILE
from exif_jax.config import LabelledConfig, RecordsConfig
from exif_jax.detection.descriptions import Describer, Descriptions
from exif_jax.models.extractor import Extractor, FixedExtractor, Intermediates, apply
from exif_jax.models.patches import normalise, random_patches
from exif_jax.training.step import Batch, Params

_FOLDER = "descriptions"


def preparation(text: str, trained: str = NO_PERTURBATION.name) -> str:
    """The name of `config.data.prepare`; without a text that of the extractor's training.

    Raises:
        UserError: no perturbation.
    """
    try:
        return parse_perturbation(text).name if text else trained
    except UserError as error:
        raise UserError(f"config.data.prepare: {error}") from error


def descriptions_folder(given: str, data: Path, workdir: Path | None) -> Path:
    """Where descriptions are kept: as given, beside prepared records, or in the workdir.

    Raises:
        UserError: nothing of this is there.
    """
    if given:
        return Path(given)
    if (data / PREPARE_FILE).is_file():
        return data / _FOLDER
    if workdir is None:
        raise UserError("config.data.descriptions is not set, and there is no workdir")
    return workdir / _FOLDER


def training_describer(
    extractor: Extractor,
    data: RecordsConfig | LabelledConfig,
    prepare: str,
    source: Path,
    workdir: Path | None,
) -> Describer | None:
    """What describes the images of a gradient stage; None: it trains on patches of the images.

    Args:
        extractor: the network.
        data: of the configuration.
        prepare: from `preparation`.
        source: directory of the records or images.
        workdir: of the run, if it has one.

    Raises:
        UserError: a field does not fit the extractor.
    """
    if data.versions < 0:
        raise UserError(f"config.data.versions = {data.versions} must not be less than zero")
    if isinstance(extractor, FixedExtractor):
        folder = descriptions_folder(data.descriptions, source, workdir)
        return Describer(extractor, folder, prepare, data.threads)
    for name, value, unset in (
        ("versions", data.versions, 0),
        ("prepare", prepare, NO_PERTURBATION.name),
    ):
        if value != unset:
            raise UserError(
                f"config.data.{name} = {value}: only for encoders with a fixed description, such "
                f"as residual_covariance; {type(extractor).__name__} is trained on random patches"
            )
    return None


def standardised(extractor: Extractor, params: Params, described: Descriptions | None) -> Params:
    """Initial parameters {"extractor", ...} for data like what is described."""
    if described is None:
        return params
    assert isinstance(extractor, FixedExtractor)
    return params | {"extractor": extractor.standardise(params["extractor"], described.sample())}


def network_of(
    extractor: Extractor, batch: Batch, keys: Array, patches: int
) -> Callable[[Params], tuple[Array, Intermediates]]:
    """Parameters -> features and intermediates of one batch.

    Of random patches of its images, or of their descriptions, if the batch has these instead. What
    is drawn, patches or what dropout leaves out, depends on the example's key alone, and is the
    same for all parameters.
    """
    if "description" in batch:

        def learn(params: Params) -> tuple[Array, Intermediates]:
            def of_one(row_S: Array, key: Array) -> tuple[Array, Intermediates]:
                options: Any = {"train": True, "rngs": {"dropout": key}}
                result = apply(extractor, params, row_S[None], method="learn", **options)
                return cast(tuple[Array, Intermediates], jax.tree.map(lambda x: x[0], result))

            return jax.vmap(of_one)(batch["description"], keys)

        return learn
    x = normalise(random_patches(keys, batch["image"], batch["size"], patches))
    return lambda params: apply(extractor, params, x)
