"""Pretext stage: learn features of photographs from their EXIF tags."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from tqdm import tqdm

from data_pipelines.images import PATCH
from data_pipelines.pipeline import record_batches
from data_pipelines.records import Records, open_records
from data_pipelines.targets import Target
from exif_jax import losses
from exif_jax.config import (
    PretextConfig,
    check_choice,
    check_not_negative,
    check_positive,
    check_set,
)
from exif_jax.detection.features import extract_features, feature_functions
from exif_jax.metrics import balanced_accuracy, concordance
from exif_jax.models.heads import PretextHeads
from exif_jax.models.layers import apply
from exif_jax.models.patches import normalise, random_patches
from exif_jax.models.published import Extractor
from exif_jax.models.trained import build_extractor, save_extractor
from exif_jax.training.loop import Stage, fit
from exif_jax.training.mapping import (
    AXIS,
    check_divides,
    data_mesh,
    example_keys,
    replicate,
)
from exif_jax.training.runs import open_run
from exif_jax.training.step import (
    Batch,
    LossFn,
    Metrics,
    Params,
    initial_state,
    make_optimizer,
    map_train_step,
    masked_mean_part,
)

# The validation loss compares this many photos with all others: memory stays linear.
_VALIDATION_ROWS = 1024


def pretext_losses(
    outputs: dict[str, Array],
    labels_BT: Array,
    groups_B: Array,
    targets: tuple[Target, ...],
    pairing: losses.Pairing,
    kind: losses.PairLoss,
) -> Metrics:
    """This device's part of the loss of every target (method section 4).

    Args:
        outputs: of `PretextHeads`, for the rows of this device.
        labels_BT: [B, targets] of the rows here: tag values and class indices, NaN where missing.
        groups_B: int [B]; photos of one group are not compared.
        targets: what the columns mean.
        pairing: which pairs of the global batch are compared.
        kind: loss of a pair.

    Returns:
        {target: scalar}; the sum over devices is the mean over the global batch's valid examples
        or pairs, 0 where there is none.
    """
    first = lax.axis_index(AXIS) * labels_BT.shape[0]
    parts = {}
    for column, target in enumerate(targets):
        out, labels = outputs[target.name], labels_BT[:, column]
        if target.kind == "categorical":
            values, valid = losses.classification_loss(out, labels)
        else:
            own = losses.Ranked(out, labels, groups_B)
            batch = losses.Ranked(*(lax.all_gather(x, AXIS, tiled=True) for x in own))
            values, valid = losses.ranking_loss(own, batch, first, pairing, kind)
        parts[target.name], _ = masked_mean_part(values, valid)
    return parts


def make_loss(extractor: Extractor, targets: tuple[Target, ...], config: PretextConfig) -> LossFn:
    """Loss of the stage: the sum over all targets, with equal weight."""
    heads = PretextHeads(targets)
    pairing = cast(losses.Pairing, config.ranking)
    kind = cast(losses.PairLoss, config.pair_loss)

    def loss_fn(params: Params, frozen: Params, batch: Batch, key: Array) -> tuple[Array, Metrics]:
        keys = example_keys(key, batch["image"].shape[0])
        patches = random_patches(keys, batch["image"], batch["size"], config.data.patches)
        features, _ = apply(extractor, params["extractor"], normalise(patches))
        outputs = apply(heads, params["heads"], features)
        parts = pretext_losses(outputs, batch["targets"], batch["group"], targets, pairing, kind)
        return sum(parts.values(), start=jnp.zeros(())), {f"loss/{k}": v for k, v in parts.items()}

    return loss_fn


def init_params(extractor: Extractor, targets: tuple[Target, ...], key: Array) -> Params:
    """Random parameters {"extractor", "heads"}."""
    keys = jax.random.split(key)
    patches = jnp.zeros((1, 1, PATCH, PATCH, 3))
    features = jnp.zeros((1, extractor.feature_size))
    return {
        "extractor": jax.jit(extractor.init)(keys[0], patches)["params"],
        "heads": jax.jit(PretextHeads(targets).init)(keys[1], features)["params"],
    }


def validation_metrics(
    outputs: dict[str, np.ndarray],
    labels_PT: np.ndarray,
    groups_P: np.ndarray,
    targets: tuple[Target, ...],
) -> dict[str, float]:
    """Loss and quality of every target over whole photos, one row a photo.

    Args:
        outputs: of `PretextHeads`, averaged over each photo's windows.
        labels_PT: [photos, targets], NaN where missing.
        groups_P: [photos]; photos of one group are not compared.
        targets: what the columns mean.

    Returns:
        `balanced_accuracy/TAG` (mean recall over the classes present) or `concordance/TAG`
        (fraction of comparable pairs ranked right), with `count/TAG` photos or pairs, their means
        over tags, and `loss`. A tag without any photo or pair has no value.
    """
    result: dict[str, float] = {}
    total = 0.0
    qualities: dict[str, list[float]] = {"balanced_accuracy": [], "concordance": []}
    for column, target in enumerate(targets):
        labels, known = labels_PT[:, column], np.isfinite(labels_PT[:, column])
        out = outputs[target.name]
        if target.kind == "categorical":
            name = "balanced_accuracy"
            values, valid = losses.classification_loss(jnp.asarray(out), jnp.asarray(labels))
            predicted = out[known].argmax(axis=-1)
            quality, count = balanced_accuracy(predicted, labels[known].astype(int), target.size)
        else:
            name = "concordance"
            photos = losses.Ranked(*map(jnp.asarray, (out, labels, groups_P)))
            values, valid = losses.ranking_loss(
                losses.Ranked(*(x[:_VALIDATION_ROWS] for x in photos)),
                photos,
                jnp.zeros((), int),
                "all_pairs",
            )
            quality, count = concordance(out[known], labels[known], groups_P[known])
        if int(valid.sum()):
            total += float(values.sum() / valid.sum())
        result[f"count/{target.name}"] = count
        if count:
            result[f"{name}/{target.name}"] = quality
            qualities[name].append(quality)
    for name, values_of_tags in qualities.items():
        if values_of_tags:
            result[f"{name}/mean"] = float(np.mean(values_of_tags))
    return {"loss": total, **result}


def _evaluator(
    extractor: Extractor, targets: tuple[Target, ...], records: Records
) -> Callable[[Params], dict[str, float]]:
    """Validation on whole held-out photos: outputs averaged over each photo's windows."""
    functions = feature_functions(extractor, data_mesh(jax.local_devices()))
    heads = jax.jit(partial(apply, PretextHeads(targets)))
    source, columns = records.source("validation"), records.columns("validation")
    labels = records.labels("validation")

    def evaluate(params: Params) -> dict[str, float]:
        rows = tqdm(range(len(source)), desc="validation", leave=False, disable=None)
        images = (records.decode(source[index])["image"] for index in rows)
        local = replicate(params, functions.mesh)
        features = extract_features(functions, local["extractor"], images)
        _, first, photo = np.unique(columns.photo, return_index=True, return_inverse=True)
        windows = np.bincount(photo)
        outputs = {}
        for name, out in heads(local["heads"], features).items():
            sums = np.zeros((len(first), *out.shape[1:]), np.float32)
            np.add.at(sums, photo, np.asarray(out))
            outputs[name] = sums / windows.reshape(-1, *(1,) * (sums.ndim - 1))
        return validation_metrics(outputs, labels[first], columns.group[first], targets)

    return evaluate


def run(config: PretextConfig, workdir: Path) -> None:
    """Trains the extractor, or continues to, and exports it to workdir/extractor.

    Raises:
        UserError: the configuration, the records or the workdir do not fit.
    """
    check_set("data.photos", config.data.photos)
    check_positive(config, "batch_size", "checkpoint_every", "eval_every", "log_every")
    check_positive(config, "data.patches", "data.threads")
    check_not_negative(config, "steps", "optimizer.clip_norm", "optimizer.warmup_steps")
    check_choice("ranking", config.ranking, get_args(losses.Pairing))
    check_choice("pair_loss", config.pair_loss, get_args(losses.PairLoss))
    mesh = data_mesh()
    check_divides(config.batch_size, mesh, "config.batch_size")
    extractor = build_extractor(config.model)
    optimizer = make_optimizer(config.optimizer, config.steps)
    records = open_records(Path(config.data.photos))
    targets = records.targets
    open_run(workdir, config, "pretext")

    def export(params: Params, step: int, numbers: dict[str, float]) -> None:
        if jax.process_index() == 0:
            save_extractor(
                workdir / "extractor",
                params,
                config.model,
                targets,
                {"kind": "pretext", "step": step, "validation": numbers},
            )

    stage = Stage(
        state=initial_state(
            init_params(extractor, targets, jax.random.key(config.seed)), optimizer
        ),
        frozen={},
        step=map_train_step(make_loss(extractor, targets, config), optimizer, mesh),
        mesh=mesh,
        data=record_batches(
            records,
            "train",
            config.batch_size,
            config.seed,
            config.data.threads,
            jax.process_index(),
            jax.process_count(),
        ),
        evaluate=_evaluator(extractor, targets, records),
        export=export,
        keep_best=False,
    )
    fit(stage, config, workdir)
