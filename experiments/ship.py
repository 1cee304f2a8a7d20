"""Makes the two detectors that are shipped, from all windows, with what `unseen.py` found.

    .venv/bin/python experiments/ship.py --data DATA --work DIR

DIR is that of a finished `unseen.py`: its held-out scores set the thresholds, the calibration and
the numbers of the model cards; the networks are trained anew on all windows. Writes
exif_jax/shipped/{binary,one_class}. The same data give the same files on the same machine.
"""

import csv
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from held_out import Fold
from photos import Item, log, make_items, start
from scipy.special import expit, logit
from unseen import AUGMENTED, CONDITIONS, PREPARE, SEEDS, Prepared, Trained, cross_validate, summed
from unseen import describe as describe_windows
from unseen_models import (
    ALPHA,
    DIRECTIONS,
    DROPOUT,
    FEATURES,
    GAUSSIANS,
    HIDDEN,
    LINEAR,
    Tail,
    fit_class,
    fit_directions,
    fit_mixture,
    train_binary,
)
from unseen_models import features as features_of
from unseen_report import render

from data_pipelines.errors import UserError
from data_pipelines.files import write_text
from exif_jax.config import ResidualCovarianceEncoder
from exif_jax.detection.calibration import fit_calibration, group_threshold, rate_above, spread
from exif_jax.detection.detectors import save_detector
from exif_jax.detection.shipped import FOLDER
from exif_jax.models.trained import LoadedExtractor

# Promised for a camera that nobody has seen; 170 of them can promise 1 %, at half the detections.
PHOTOS_CALLED_GENERATED = 0.02
GENERATED_CALLED_PHOTO = 0.10  # for a generator; 22 of them can promise no less than 1 in 23
CELLS = (4, 8, 16)
# Means over 2x2 cells of whole photographs (dev/full) vary as those of two independent ones.
ALIKE = 2
TRAINED_RANGE = {"jpeg_quality": [50, 98], "smallest_side": 128}
STABILITY = ["jpeg:85", "resize:0.9"]
NAMES = {"binary": "binary", "one_class": "one-class"}  # of a folder; in the results


def experiment(data: Path, work: Path, tiny: bool) -> None:
    """Trains on everything and writes the two folders."""
    if not (work / "results.json").exists():
        raise UserError(f"{work}: has no results.json; let experiments/unseen.py finish there")
    results = json.loads((work / "results.json").read_text())
    items = make_items(data)[:: 12 if tiny else 1]
    everything = describe_windows(items, data, work, CONDITIONS[: 2 if tiny else None])
    kept = summed(cross_validate(everything, work / "scores", 1 if tiny else SEEDS, tiny))
    out = work / "shipped" if tiny else FOLDER
    trained = Trained(Prepared(everything, Fold(np.arange(len(items)), np.zeros(0, int)), tiny), 0)
    for kind, make in (("binary", ship_binary), ("one_class", ship_one_class)):
        make(out / kind, trained, items, kept[NAMES[kind]]["none"][0], results)
        write_text(out / kind / "card.md", card(kind, out / kind, data, items, results))
        log.info("%s", out / kind)


def facts_of(items: Sequence[Item]) -> dict[str, Any]:
    """What it was trained on."""
    photos, generated = ([i for i in items if i.label == label] for label in (0, 1))
    return {
        "photographs": len({i.source for i in photos}),
        "photograph_windows": len(photos),
        "cameras": len({i.kind for i in photos}),
        "generated": len({i.source for i in generated}),
        "generated_windows": len(generated),
        "generators": len({i.kind for i in generated}),
        "prepared": PREPARE,
        "augmented_versions": AUGMENTED,
    }


def thresholds(scores: np.ndarray, items: Sequence[Item]) -> tuple[float, float, dict[str, Any]]:
    """Below: photo; above: generated; and what both promise, from held-out scores."""
    labels = np.array([item.label for item in items])
    kinds = np.array([item.kind for item in items])
    photos, generated = labels == 0, labels == 1
    above = group_threshold(scores[photos], kinds[photos], PHOTOS_CALLED_GENERATED)
    below = -group_threshold(-scores[generated], kinds[generated], GENERATED_CALLED_PHOTO)
    below = min(below, above)
    rates = {
        "photos_called_generated": rate_above(scores[photos], kinds[photos], above),
        "generated_called_photo": rate_above(-scores[generated], kinds[generated], -below),
    }
    return below, above, {k: r._asdict() for k, r in rates.items()}


def by_cells(
    held_out: np.ndarray, items: Sequence[Item], below: float, above: float, slope: float
) -> list[dict[str, float]]:
    """Thresholds and slope for the mean log-odds of several cells, which vary less than one's."""
    labels = np.array([item.label for item in items])
    sources = np.array([item.source for item in items])
    photos, generated = (held_out[labels == label] for label in (0, 1))
    own = [
        spread(held_out[labels == n], sources[labels == n], np.zeros((labels == n).sum()))
        for n in (0, 1)
    ]
    both = spread(held_out, sources, labels)
    rules = []
    for cells in CELLS:
        windows = cells // ALIKE
        thresholds = (
            own[1].threshold(below, float(generated.mean()), windows),
            own[0].threshold(above, float(photos.mean()), windows),
        )
        low, high = (float(np.float32(expit(x))) for x in thresholds)
        certainty = both.certainty(windows)
        rules.append(
            {
                "cells": cells,
                "photo_below": min(low, high),
                "generated_above": high,
                "slope": slope * certainty,
            }
        )
    return rules


def of_pairs(held_out: np.ndarray, items: Sequence[Item], rule: dict[str, float]) -> dict[str, Any]:
    """What a rule for two windows does to means of two held-out windows of one image."""
    windows: dict[tuple[str, str, int], list[float]] = {}
    for item, score in zip(items, held_out, strict=True):
        windows.setdefault((item.source, item.kind, item.label), []).append(score)
    pairs = [(*key, np.mean(x[:2])) for key, x in windows.items() if len(x) > 1]
    kinds, labels, means = (np.array(x) for x in list(zip(*pairs, strict=True))[1:])
    photos, generated = labels == 0, labels == 1
    above, below = (logit(rule[name]) for name in ("generated_above", "photo_below"))
    return {
        "photographs": int(photos.sum()),
        "generated": int(generated.sum()),
        "photos_called_generated": rate_above(means[photos], kinds[photos], above)._asdict(),
        "generated_called_photo": rate_above(-means[generated], kinds[generated], -below)._asdict(),
    }


def ship_binary(
    folder: Path, trained: Trained, items: Sequence[Item], held_out: np.ndarray, results: Any
) -> None:
    """Trains the binary detector on all windows."""
    reduction, rows = trained.of.both
    labels = trained.of.labels
    params = train_binary(rows, labels, trained.teacher("EXIF"), Tail(), 0, trained.steps)
    line, bias = fit_class(rows, labels, trained.class_directions)
    linear = {"kernel": line[:, None], "bias": bias.reshape(1)}
    layers = params["extractor"]["layers"] | {"linear": linear}
    kernel = np.concatenate([params["head"]["fc"]["kernel"], [[0, LINEAR]]]).astype(np.float32)
    head = {"fc": params["head"]["fc"] | {"kernel": kernel}}
    below, above, rates = thresholds(held_out, items)
    calibration = fit_calibration(held_out, labels)
    verdicts = {
        "photo_below": float(np.float32(expit(below))),
        "generated_above": float(np.float32(expit(above))),
        "rates": rates,
        "calibration": {**calibration._asdict(), "prior": 0.5},
        "by_cells": by_cells(held_out, items, below, above, calibration.slope),
        "trained_range": TRAINED_RANGE,
        "stability": STABILITY,
    }
    _save(
        folder,
        "binary",
        ResidualCovarianceEncoder(FEATURES + 1, HIDDEN, DROPOUT, linear=1),
        reduction.folded(layers),
        {"head": head},
        verdicts,
        items,
        results,
        {"pairs_of_windows": of_pairs(held_out, items, verdicts["by_cells"][0])},
    )


def ship_one_class(
    folder: Path, trained: Trained, items: Sequence[Item], held_out: np.ndarray, results: Any
) -> None:
    """Fits the one-class detector to all photographs."""
    reduction, rows = trained.of.of_photos
    layers = fit_directions(rows, trained.tags, trained.directions)
    tail = Tail(features=trained.directions, hidden=())
    known = features_of(tail, {"layers": layers}, rows.reshape(-1, rows.shape[-1]))
    mixture = fit_mixture(known, 0)
    labels = np.array([item.label for item in items])
    below, above, rates = thresholds(held_out, items)
    verdicts = {
        "photo_below": float(np.float32(below)),
        "generated_above": float(np.float32(above)),
        "rates": rates,
        "trained_range": TRAINED_RANGE,
        "stability": STABILITY,
    }
    size = trained.directions
    arrays = {
        "projection": {"mean": np.zeros(size), "matrix": np.eye(size)},
        "gmm": mixture.to_arrays(),
        "calibration": {"log_density": np.sort(-held_out[labels == 0])},
    }
    encoder = ResidualCovarianceEncoder(size)
    _save(
        folder, "one_class", encoder, reduction.folded(layers), arrays, verdicts, items, results, {}
    )


def _save(
    folder: Path,
    kind: str,
    encoder: ResidualCovarianceEncoder,
    params: dict[str, Any],
    arrays: dict[str, Any],
    verdicts: dict[str, Any],
    items: Sequence[Item],
    results: Any,
    measured: dict[str, Any],
) -> None:
    row = next(r for r in results["rows"] if r["detector"] == NAMES[kind])
    extractor = LoadedExtractor(encoder.build(), params, encoder, {}, (), folder, PREPARE)
    facts = {
        "threshold_rule": "group threshold on held-out cameras, see experiments/ship.py",
        "score_of": "cells",
        "verdicts": verdicts,
        "training_data": facts_of(items),
        "cross_validation": {k: v for k, v in row.items() if k != "detector"},
        **measured,
    }
    if kind == "one_class":
        facts |= {"covariance_type": "full", "gaussians": GAUSSIANS, "directions": DIRECTIONS}
    save_detector(folder, kind, verdicts["generated_above"], extractor, arrays, facts)


def card(kind: str, folder: Path, data: Path, items: Sequence[Item], results: Any) -> str:
    """The model card, in Markdown."""
    facts = json.loads((folder / "detector.json").read_text())
    name = NAMES[kind]
    with (data / "MANIFEST.csv").open(newline="", encoding="utf-8") as file:
        origin = {row["path"]: (row["source_repo"], row["licence"]) for row in csv.DictReader(file)}
    used = [item for item in items if kind == "binary" or not item.label]
    counts = Counter((*origin[i.path], "generated" if i.label else "photo") for i in used)
    licences = Counter(origin[item.path][1] for item in used).most_common()
    worst = sorted(results["cameras"], key=lambda row: row[name])[:10]
    return render(
        "card.md",
        kind=kind,
        hidden=HIDDEN,
        alpha=ALPHA,
        directions=DIRECTIONS,
        gaussians=GAUSSIANS,
        data=facts["training_data"],
        licences=", ".join(f"{licence} {n}" for licence, n in licences),
        facts=results["facts"],
        rows=[r for r in results["rows"] if r["detector"].split(",")[0] == name],
        gains=[r for r in results["gains"] if r["detector"] == name],
        perturbed=[r for r in results["perturbed"] if r["detector"] == name],
        promises=[r for r in results["promises"] if r["detector"] == name],
        generators=[
            {k: r[k] for k in ("generator", "windows", "source images", name)}
            for r in results["generators"]
        ],
        cameras=[{k: r[k] for k in ("camera", "windows", name)} for r in worst],
        pairs=facts.get("pairs_of_windows"),
        verdicts=facts["verdicts"],
        promised=(PHOTOS_CALLED_GENERATED, GENERATED_CALLED_PHOTO),
        percent=lambda r: f"{r['rate']:.1%} [{r['low']:.1%}, {r['high']:.1%}]",
        sha256=facts["sha256"]["model.safetensors"],
        repositories=[
            {"repository": repository, "licence as found": licence, "class": c, "windows": n}
            for (repository, licence, c), n in sorted(counts.items())
        ],
    )


if __name__ == "__main__":
    start(__doc__, experiment)
