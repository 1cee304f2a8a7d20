"""Binary stage: tell photographs from generated images, held close to the pretext features."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.sharding import Mesh

from data_pipelines.errors import UserError
from data_pipelines.fingerprints import fingerprint_of_files
from data_pipelines.labelled import LabelledImage, find_test_sets, labelled_images
from data_pipelines.object_storage import path_of
from data_pipelines.photo_sources import ImageSource
from data_pipelines.pipeline import labelled_batches
from data_pipelines.skipped import SkippedRow
from data_pipelines.splits import split_groups
from exif_jax import metrics
from exif_jax.config import BinaryConfig, check_not_negative, check_positive, check_set
from exif_jax.detection.descriptions import Describer, Descriptions
from exif_jax.detection.detectors import save_detector
from exif_jax.detection.kinds import Binary
from exif_jax.evaluation.labelled_features import LabelledFeatures
from exif_jax.losses import feature_distance
from exif_jax.models.extractor import Extractor, apply, extractor_shapes, init_extractor
from exif_jax.models.heads import BinaryHead
from exif_jax.models.trained import LoadedExtractor, load_extractor
from exif_jax.stages.descriptions import (
    network_of,
    preparation,
    standardised,
    training_describer,
)
from exif_jax.training.accumulation import SplitLoss
from exif_jax.training.loop import Evaluator, Stage, fit
from exif_jax.training.mapping import check_divides, data_mesh
from exif_jax.training.optimizers import make_optimizer
from exif_jax.training.preemption import Watch
from exif_jax.training.profiling import parse_steps
from exif_jax.training.runs import open_run
from exif_jax.training.shares import in_order
from exif_jax.training.step import (
    Batch,
    MappedStep,
    Metrics,
    Params,
    TrainState,
    initial_state,
    map_train_step,
    masked_mean_part,
)
from exif_jax.training.trackers import check_trackers

_CLASSES = ("photographs", "generated images")


def make_loss(extractor: Extractor, alpha: float, patches: int) -> SplitLoss:
    """Cross-entropy + alpha * distance to the teacher's features (method section 6).

    The frozen parameters are the teacher's extractor. Examples with `valid` 0 do not count.
    """

    def outputs_of(
        params: Params, frozen: Params, batch: Batch, keys: Array
    ) -> tuple[dict[str, Array], Array]:
        network = network_of(extractor, batch, keys, patches)
        features, intermediates = network(params["extractor"])
        _, teacher = network(frozen)
        logits = apply(BinaryHead(), params["head"], features)
        entropy = optax.softmax_cross_entropy_with_integer_labels(logits, batch["label"])
        right = (logits.argmax(axis=-1) == batch["label"]).astype(jnp.float32)
        distance = feature_distance(intermediates, teacher)
        return {"cross_entropy": entropy, "distance": distance}, right

    def reduce(losses: dict[str, Array], right: Array, batch: Batch) -> tuple[Array, Metrics]:
        parts = {**losses, "accuracy": right}
        valid = batch["valid"]
        means = {name: masked_mean_part(part * valid, valid)[0] for name, part in parts.items()}
        return means["cross_entropy"] + alpha * means["distance"], means

    return SplitLoss(outputs_of, reduce)


def init_params(extractor: Extractor, key: Array) -> Params:
    """Random parameters {"extractor", "head"}."""
    keys = jax.random.split(key)
    features = jnp.zeros((1, extractor_shapes(extractor)[1]))
    return {
        "extractor": init_extractor(extractor, keys[0]),
        "head": BinaryHead().init(keys[1], features)["params"],
    }


def _split(
    images: Sequence[LabelledImage], fraction: float, seed: int
) -> tuple[list[LabelledImage], list[LabelledImage]]:
    """Training and validation images: `fraction` of each class, groups undivided."""
    train: list[LabelledImage] = []
    validation: list[LabelledImage] = []
    for label, name in enumerate(_CLASSES):
        of_class = [image for image in images if image.label == label]
        held = split_groups([image.group for image in of_class], fraction, seed)
        train += [image for image, out in zip(of_class, held, strict=True) if not out]
        validation += [image for image, out in zip(of_class, held, strict=True) if out]
        if all(held) or not any(held):
            raise UserError(
                f"config.data.images: {len(of_class)} {name} are too few to keep "
                f"config.data.validation_fraction = {fraction} of them for validation"
            )
    return train, validation


def _evaluator(validation: LabelledFeatures, threshold: float) -> Evaluator:
    """How well the held out images are told apart."""

    def evaluate(params: Params) -> dict[str, float]:
        features, own = validation(params["extractor"])
        positions, scores = in_order(own, Binary().score(features, params))
        truth = np.array([validation.images[i].label for i in positions])
        right = np.clip(np.where(truth == 1, scores, 1 - scores), 1e-12, 1)
        return {
            "loss": float(-np.log(right).mean()),
            "accuracy": metrics.accuracy(scores, truth, threshold),
            "auroc": metrics.auroc(scores, truth),
            "average_precision": metrics.average_precision(scores, truth),
            "false_positive_rate": float((scores[truth == 0] > threshold).mean()),
            "count/photographs": int((truth == 0).sum()),
            "count/generated": int((truth == 1).sum()),
        }

    return evaluate


def first_state(
    config: BinaryConfig, extractor: Extractor, described: Descriptions | None = None
) -> TrainState:
    """The state before the first step; `described` are training images of a fixed description."""
    params = init_params(extractor, jax.random.key(config.seed))
    # By constants of its own, of both classes: what the teacher has never seen, it would cut off.
    params = standardised(extractor, params, described)
    optimizer = make_optimizer(config.optimizer, config.steps)
    return initial_state(params, optimizer, config.optimizer.ema > 0)


def mapped_step(config: BinaryConfig, extractor: Extractor, mesh: Mesh) -> MappedStep:
    """The training step, mapped over the devices; nothing is compiled before it is called."""
    loss_fn = make_loss(extractor, config.alpha, config.data.patches)
    optimizer = make_optimizer(config.optimizer, config.steps)
    return map_train_step(loss_fn, optimizer, mesh, config.optimizer.ema, config.accumulate)


def check(config: BinaryConfig, mesh: Mesh) -> None:
    """Raises a UserError for a field out of range, or a batch that the devices cannot divide."""
    check_positive(config, "batch_size", "accumulate")
    check_positive(config, "checkpoint_every", "eval_every", "log_every")
    check_positive(config, "data.patches", "data.threads")
    check_not_negative(config, "checkpoint_minutes", "hang_minutes", "data.workers")
    check_not_negative(config, "steps", "alpha", "optimizer.clip_norm", "optimizer.warmup_steps")
    check_divides(config.batch_size, mesh, "config.batch_size", config.accumulate)
    parse_steps(config.profile_steps)
    make_optimizer(config.optimizer, config.steps)


def _check(config: BinaryConfig) -> None:
    check_set("extractor", config.extractor)
    check_set("data.images", config.data.images)
    check_trackers(config.trackers)
    check(config, data_mesh())


def build(config: BinaryConfig, workdir: Path | None = None) -> Stage:
    """The stage, ready for `fit` or for a loop of one's own.

    Args:
        config: of the run.
        workdir: the best detector is exported to workdir/detector; None: nowhere.

    Raises:
        UserError: the configuration, the images or the extractor do not fit.
    """
    _check(config)
    teacher, describer = _teacher(config, workdir)
    return _build(config, workdir, teacher, describer, *_images(config))


def _teacher(
    config: BinaryConfig, workdir: Path | None
) -> tuple[LoadedExtractor, Describer | None]:
    """The extractor, which gets the run's preparation of images, and what describes these."""
    loaded = load_extractor(config.extractor)
    prepare = preparation(config.data.prepare, loaded.prepare)
    teacher = dataclasses.replace(loaded, prepare=prepare)
    return teacher, training_describer(
        teacher.module, config.data, prepare, path_of(config.data.images), workdir
    )


def _images(config: BinaryConfig) -> tuple[list[LabelledImage], list[LabelledImage]]:
    test_sets = find_test_sets(path_of(config.data.images), config.data.layout)
    images = labelled_images(test_sets, bursts=True)
    return _split(images, config.data.validation_fraction, config.seed)


def _build(
    config: BinaryConfig,
    workdir: Path | None,
    teacher: LoadedExtractor,
    describer: Describer | None,
    train: Sequence[LabelledImage],
    validation: Sequence[LabelledImage],
) -> Stage:
    extractor, mesh, data = teacher.module, data_mesh(), config.data

    def export(params: Params, step: int, numbers: dict[str, float]) -> None:
        if workdir is None or jax.process_index() != 0:
            return
        facts = {
            "threshold_rule": "probability of `generated`, set beforehand",
            "step": step,
            "validation": numbers,
            "alpha": config.alpha,
            "training_data": {
                "images": config.data.images,
                "photographs": sum(image.label == 0 for image in train),
                "generated": sum(image.label == 1 for image in train),
            },
        }
        save_detector(
            workdir / "detector",
            "binary",
            config.threshold,
            dataclasses.replace(teacher, params=params["extractor"]),
            {"head": params["head"]},
            facts,
        )

    described = None
    if describer is not None:
        sources = [ImageSource.of_file(image.path) for image in train]
        described = describer.windows(sources, data.versions, config.seed)
    unread: dict[str, SkippedRow] = {}
    held_out = LabelledFeatures(extractor, validation, describer, unread)
    return Stage(
        state=first_state(config, extractor, described),
        frozen=teacher.params,
        step=mapped_step(config, extractor, mesh),
        mesh=mesh,
        data=labelled_batches(
            train,
            data.augmentation,
            config.batch_size,
            config.seed,
            data.threads,
            jax.process_index(),
            jax.process_count(),
            None if described is None else described.draw,
            data.workers,
        ),
        evaluators=[_evaluator(held_out, config.threshold)],
        export=export,
        keep_best=True,
        unread=unread,
        undivided=mapped_step(dataclasses.replace(config, accumulate=1), extractor, mesh),
    )


def run(config: BinaryConfig, workdir: Path, watch: Watch | None = None) -> None:
    """Trains a binary detector, or continues to; workdir/detector is the best by validation loss.

    Raises:
        UserError: the configuration, the images, the extractor or the workdir do not fit.
    """
    _check(config)
    teacher, describer = _teacher(config, workdir)
    train, validation = _images(config)
    by_class = {
        name: [image.path for image in (*train, *validation) if image.label == label]
        for label, name in enumerate(_CLASSES)
    }
    open_run(
        workdir,
        config,
        "binary",
        lambda: {
            "data.images": fingerprint_of_files(path_of(config.data.images), by_class),
            "extractor": teacher.fingerprint(),
        },
    )
    fit(_build(config, workdir, teacher, describer, train, validation), config, workdir, watch)
