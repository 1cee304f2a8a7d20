"""Loss and quality of every objective on whole photos that are not trained on."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from data_pipelines.photo_sources import record_images
from exif_jax.evaluation.evaluators.context import Context
from exif_jax.losses import Rows
from exif_jax.models.extractor import apply
from exif_jax.models.heads import PretextHeads
from exif_jax.objectives import ImageObjective, Objective, TagObjective, head_sizes
from exif_jax.training.loop import Evaluator
from exif_jax.training.shares import in_order, share
from exif_jax.training.step import Params

# The validation loss compares this many photos with all others: memory stays linear.
_COMPARED_ROWS = 1024


def objective_metrics(
    objectives: Sequence[Objective],
    outputs: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    groups: Sequence[np.ndarray],
) -> dict[str, float]:
    """Loss and quality of every objective.

    Args:
        objectives: what is learned.
        outputs: [n, size] for each.
        labels: [n] for each, NaN where unknown.
        groups: int [n] for each; those of one group are not compared.

    Returns:
        `MEASURE/NAME`, such as balanced_accuracy/Make or concordance/ISO, with `count/NAME`
        examples or pairs; `MEASURE/mean` over the objectives that have one; and `loss`, the
        weighted sum that is trained. An objective without any example or pair has no value.
    """
    result: dict[str, float] = {}
    total = 0.0
    qualities: dict[str, list[float]] = defaultdict(list)
    for objective, *photos in zip(objectives, outputs, labels, groups, strict=True):
        every = Rows(*map(jnp.asarray, photos))
        values, valid = objective.in_evaluation.loss(
            Rows(*(x[:_COMPARED_ROWS] for x in every)), every, jnp.zeros((), int)
        )
        if int(valid.sum()):
            total += objective.weight * float(values.sum() / valid.sum())
        known = np.isfinite(photos[1])
        quality, count = objective.quality(*(x[known] for x in photos))
        result[f"count/{objective.name}"] = count
        if count:
            result[f"{objective.measure}/{objective.name}"] = quality
            qualities[objective.measure].append(quality)
    means = {f"{measure}/mean": float(np.mean(q)) for measure, q in qualities.items()}
    return {"loss": total, **result, **means}


def heldout_tags(context: Context, argument: str) -> Evaluator:
    """Validation split of the records; outputs are averaged over each photo's windows.

    Labels that come from images are those of windows, which are then counted one by one.
    """
    sizes = head_sizes(context.objectives)
    heads = jax.jit(partial(apply, PretextHeads(sizes)))
    records, objectives = context.records, context.objectives
    source, columns = records.source("validation"), records.columns("validation")
    _, first, photo = np.unique(columns.photo, return_index=True, return_inverse=True)
    windows = np.bincount(photo)
    tags = [o for o in objectives if isinstance(o, TagObjective)]
    from_images = [o for o in objectives if isinstance(o, ImageObjective)]
    labels_PT = records.labels("validation", {o.name: o.encode for o in tags})
    label_images = [jax.jit(o.labels) for o in from_images]
    described = None
    if context.describer is not None:  # then nothing is learned from images
        described = context.describer.windows(record_images(records, "validation"))

    def evaluate(params: Params) -> dict[str, float]:
        own = share(len(source))
        seen: list[list[float]] = [[] for _ in from_images]

        def images() -> Iterator[np.ndarray]:
            hidden = True if jax.process_index() else None
            for index in tqdm(own, desc="validation", leave=False, disable=hidden):
                image = records.decode(source[index])["image"]
                size = np.array([image.shape[:2]], np.int32)
                for labels, label in zip(seen, label_images, strict=True):
                    labels.append(float(label(image[None], size)[0]))
                yield image

        if described is None:
            features = context.features(params, images())
        else:
            features = context.described_features(params, described.rows(own))
        scores = [np.zeros((0, size)) for _, size in sizes]
        if own:
            found = heads(params["heads"], features)
            scores = [np.asarray(found[name]) for name, _ in sizes]
        _, *rest = in_order(own, *scores, *(np.array(x, np.float32) for x in seen))
        outputs = {name: x for (name, _), x in zip(sizes, rest, strict=False)}
        rows = {}
        for column, tag in enumerate(tags):
            sums = np.zeros((len(first), tag.size), np.float32)
            np.add.at(sums, photo, outputs[tag.name])
            labels_P, groups_P = labels_PT[first, column], columns.group[first]
            rows[tag.name] = (sums / windows[:, None], labels_P, groups_P)
        for objective, labels in zip(from_images, rest[len(sizes) :], strict=True):
            rows[objective.name] = (outputs[objective.name], labels, columns.group)
        return objective_metrics(objectives, *zip(*(rows[o.name] for o in objectives), strict=True))

    return evaluate
