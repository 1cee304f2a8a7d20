"""Pretext stage: learn features of photographs from their EXIF tags."""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.sharding import Mesh

from data_pipelines.errors import UserError
from data_pipelines.fingerprints import fingerprint_of_records
from data_pipelines.photo_sources import record_images
from data_pipelines.pipeline import record_batches
from data_pipelines.records import Records, open_records
from data_pipelines.staging import staged
from exif_jax.config import PretextConfig, check_not_negative, check_positive, check_set
from exif_jax.detection.descriptions import Describer, Descriptions
from exif_jax.evaluation.evaluators import Context, build_evaluators
from exif_jax.losses import Rows
from exif_jax.models.extractor import Extractor, apply, extractor_shapes, init_extractor
from exif_jax.models.heads import PretextHeads
from exif_jax.models.trained import save_extractor
from exif_jax.objectives import (
    ImageObjective,
    Objective,
    TagObjective,
    build_objectives,
    head_sizes,
    labels_of,
)
from exif_jax.stages.descriptions import (
    network_of,
    preparation,
    standardised,
    training_describer,
)
from exif_jax.training.accumulation import SplitLoss
from exif_jax.training.loop import Stage, fit
from exif_jax.training.mapping import AXIS, check_divides, data_mesh
from exif_jax.training.optimizers import make_optimizer
from exif_jax.training.preemption import Watch
from exif_jax.training.profiling import parse_steps
from exif_jax.training.runs import open_run
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

_HALF = 2**16  # so that both halves of a 32-bit integer are exact in float32


def objective_losses(
    outputs: dict[str, Array],
    labels: Sequence[Array],
    groups_B: Array,
    objectives: Sequence[Objective],
) -> Metrics:
    """This device's part of the unweighted loss of every objective (method section 4).

    Args:
        outputs: of `PretextHeads`, [B, size] each, for the rows of this device.
        labels: [B] each, NaN where unknown.
        groups_B: int [B]; photos of one group are not compared.
        objectives: what the labels are of.

    Returns:
        {objective: scalar}; the sum over devices is the mean over the global batch's valid examples
        or pairs, 0 where there is none.
    """
    first = lax.axis_index(AXIS) * groups_B.shape[0]

    def mean_part(objective: Objective, rows: Rows, batch: Rows) -> Array:
        part, _ = masked_mean_part(*objective.loss(rows, batch, first))
        return part

    by_tag: Any = (0, 0, None)  # all but the groups
    parts: Metrics = {}
    for alike in _alike(objectives):
        names = [objectives[i].name for i in alike]
        scores = jnp.stack([outputs[name] for name in names])
        values = jnp.stack([labels[i] for i in alike])
        # If an objective reads nothing of the whole batch, XLA drops this.
        rows, batch = Rows(scores, values, groups_B), Rows(*whole_batch(scores, values, groups_B))
        of_one = partial(mean_part, objectives[alike[0]])
        if len(alike) == 1:
            of_first = [x._replace(scores=x.scores[0], values=x.values[0]) for x in (rows, batch)]
            parts[names[0]] = of_one(*of_first)
        else:
            means = jax.vmap(of_one, in_axes=(Rows(*by_tag), Rows(*by_tag)))(rows, batch)
            parts |= dict(zip(names, means, strict=True))
    return parts


@jax.custom_vjp
def whole_batch(scores_TBS: Array, values_TB: Array, groups_B: Array) -> tuple[Array, ...]:
    """The arguments for the rows of all devices, by one collective; only scores have gradients."""
    # In three, each would wait for the network anew. Integers are halved: floats hold 24 bits.
    high, low = jnp.divmod(groups_B, _HALF)
    dtype = jnp.result_type(scores_TBS, values_TB)
    columns = [*jnp.moveaxis(scores_TBS, 1, 2).reshape(-1, len(groups_B)), *values_TB, high, low]
    packed = jnp.stack([column.astype(dtype) for column in columns], axis=-1)
    whole = jnp.moveaxis(lax.all_gather(packed, AXIS, tiled=True), -1, 0)
    tags, _, size = scores_TBS.shape
    scores = jnp.moveaxis(whole[: tags * size].reshape(tags, size, -1), 1, 2)
    halves = whole[-2:].astype(groups_B.dtype)
    return (
        scores.astype(scores_TBS.dtype),
        whole[tags * size : -2].astype(values_TB.dtype),
        halves[0] * _HALF + halves[1],
    )


def _forward(*rows: Array) -> tuple[tuple[Array, ...], None]:
    return whole_batch(*rows), None


def _backward(_: None, cotangents: tuple[Array, ...]) -> tuple[Array, None, None]:
    return lax.psum_scatter(cotangents[0], AXIS, scatter_dimension=1, tiled=True), None, None


whole_batch.defvjp(_forward, _backward)


def _alike(objectives: Sequence[Objective]) -> list[list[int]]:
    """Positions of objectives whose losses are one function: they are computed at once.

    One program for all ranked tags compiles sooner than one for each, and gathers all in one go.
    """
    alike: dict[Any, list[int]] = {}
    for i, objective in enumerate(objectives):
        key = dataclasses.replace(objective, name="", weight=1.0) if objective.vectorised else i
        alike.setdefault(key, []).append(i)
    return list(alike.values())


def make_loss(extractor: Extractor, objectives: Sequence[Objective], patches: int) -> SplitLoss:
    """Loss of the stage: the weighted sum over all objectives.

    Args:
        extractor: the network.
        objectives: what is learned.
        patches: random crops of each image.
    """
    heads = PretextHeads(head_sizes(objectives))

    def outputs_of(
        params: Params, frozen: Params, batch: Batch, keys: Array
    ) -> tuple[dict[str, Array], list[Array]]:
        features, _ = network_of(extractor, batch, keys, patches)(params["extractor"])
        return apply(heads, params["heads"], features), labels_of(objectives, batch)

    def reduce(
        outputs: dict[str, Array], labels: list[Array], batch: Batch
    ) -> tuple[Array, Metrics]:
        parts = objective_losses(outputs, labels, batch["group"], objectives)
        total = sum((o.weight * parts[o.name] for o in objectives), start=jnp.zeros(()))
        return total, {f"loss/{name}": part for name, part in parts.items()}

    return SplitLoss(outputs_of, reduce)


def init_params(extractor: Extractor, objectives: Sequence[Objective], key: Array) -> Params:
    """Random parameters {"extractor", "heads"}."""
    keys = jax.random.split(key)
    features = jnp.zeros((1, extractor_shapes(extractor)[1]))
    return {
        "extractor": init_extractor(extractor, keys[0]),
        "heads": jax.jit(PretextHeads(head_sizes(objectives)).init)(keys[1], features)["params"],
    }


def check(config: PretextConfig, mesh: Mesh) -> None:
    """Raises a UserError for a field out of range, or a batch that the devices cannot divide."""
    check_positive(config, "batch_size", "accumulate")
    check_positive(config, "checkpoint_every", "eval_every", "log_every")
    check_positive(config, "data.patches", "data.threads")
    check_not_negative(config, "checkpoint_minutes", "hang_minutes", "data.workers")
    check_not_negative(config, "steps", "optimizer.clip_norm", "optimizer.warmup_steps")
    check_divides(config.batch_size, mesh, "config.batch_size", config.accumulate)
    parse_steps(config.profile_steps)


def first_state(
    config: PretextConfig,
    extractor: Extractor,
    objectives: Sequence[Objective],
    described: Descriptions | None = None,
) -> TrainState:
    """The state before the first step; `described` are training images of a fixed description."""
    params = init_params(extractor, objectives, jax.random.key(config.seed))
    params = standardised(extractor, params, described)
    optimizer = make_optimizer(config.optimizer, config.steps)
    return initial_state(params, optimizer, config.optimizer.ema > 0)


def mapped_step(
    config: PretextConfig, extractor: Extractor, objectives: Sequence[Objective], mesh: Mesh
) -> MappedStep:
    """The training step, mapped over the devices; nothing is compiled before it is called."""
    loss_fn = make_loss(extractor, objectives, config.data.patches)
    optimizer = make_optimizer(config.optimizer, config.steps)
    return map_train_step(loss_fn, optimizer, mesh, config.optimizer.ema, config.accumulate)


def open_data(config: PretextConfig) -> tuple[Records, tuple[Objective, ...]]:
    """The records of a configuration, and what is learned from them.

    Raises:
        UserError: a field, the records or the objectives do not fit.
    """
    check_set("data.photos", config.data.photos)
    check_trackers(config.trackers)
    check(config, data_mesh())
    records = open_records(staged(config.data.photos, config.data.cache))
    return records, build_objectives(records.targets, config)


def build(config: PretextConfig, workdir: Path | None = None) -> Stage:
    """The stage, ready for `fit` or for a loop of one's own.

    Args:
        config: of the run.
        workdir: the extractor is exported to workdir/extractor; None: nowhere.

    Raises:
        UserError: the configuration or the records do not fit.
    """
    records, objectives = open_data(config)
    return _build(
        config, workdir, records, objectives, _describer(config, objectives, records, workdir)
    )


def _describer(
    config: PretextConfig, objectives: Sequence[Objective], records: Records, workdir: Path | None
) -> Describer | None:
    extractor, data = config.model.build(), config.data
    prepare = preparation(data.prepare)
    describer = training_describer(extractor, data, prepare, records.directory, workdir)
    for objective in objectives:
        if describer is not None and isinstance(objective, ImageObjective):
            raise UserError(
                f"config.objectives.extra: the labels of {objective.name} come from images, of "
                "which an encoder with a fixed description sees none in training"
            )
    return describer


def _build(
    config: PretextConfig,
    workdir: Path | None,
    records: Records,
    objectives: tuple[Objective, ...],
    describer: Describer | None,
) -> Stage:
    extractor, data = config.model.build(), config.data
    prepare = preparation(data.prepare)
    mesh = data_mesh()

    def export(params: Params, step: int, numbers: dict[str, float]) -> None:
        if workdir is not None and jax.process_index() == 0:
            save_extractor(
                workdir / "extractor",
                params,
                config.model,
                tuple(objective.target for objective in objectives),
                {"kind": "pretext", "step": step, "validation": numbers, "prepare": prepare},
            )

    described = None
    if describer is not None:
        photos = record_images(records, "train")
        described = describer.windows(photos, data.versions, config.seed)
    context = Context(extractor, objectives, records, describer)
    return Stage(
        state=first_state(config, extractor, objectives, described),
        frozen={},
        step=mapped_step(config, extractor, objectives, mesh),
        mesh=mesh,
        data=record_batches(
            records,
            "train",
            config.batch_size,
            config.seed,
            data.threads,
            jax.process_index(),
            jax.process_count(),
            labels=records.labels(
                "train", {o.name: o.encode for o in objectives if isinstance(o, TagObjective)}
            ),
            describe=None if described is None else described.draw,
            workers=data.workers,
        ),
        evaluators=build_evaluators(config.evaluators, context),
        export=export,
        keep_best=False,
        unread=context.unread,
        undivided=mapped_step(
            dataclasses.replace(config, accumulate=1), extractor, objectives, mesh
        ),
    )


def run(config: PretextConfig, workdir: Path, watch: Watch | None = None) -> None:
    """Trains the extractor, or continues to, and exports it to workdir/extractor.

    Raises:
        UserError: the configuration, the records or the workdir do not fit.
    """
    records, objectives = open_data(config)
    make_optimizer(config.optimizer, config.steps)
    describer = _describer(config, objectives, records, workdir)
    open_run(workdir, config, "pretext", lambda: {"data.photos": fingerprint_of_records(records)})
    fit(_build(config, workdir, records, objectives, describer), config, workdir, watch)
