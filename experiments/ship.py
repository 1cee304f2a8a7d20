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
from comparison import table
from held_out import Fold
from photos import Item, log, make_items, start
from scipy.special import expit
from unseen import AUGMENTED, CONDITIONS, PREPARE, SEEDS, Data, Prepared, Trained, cross_validate
from unseen import describe as describe_windows
from unseen_models import DIRECTIONS, DROPOUT, FEATURES, GAUSSIANS, HIDDEN, Tail
from unseen_models import features as features_of

from data_pipelines.errors import UserError
from data_pipelines.files import write_text
from exif_jax.config import ResidualCovarianceEncoder
from exif_jax.detection.calibration import fit_calibration, group_threshold, rate_above, spread
from exif_jax.detection.detectors import save_detector
from exif_jax.detection.shipped import FOLDER
from exif_jax.models.trained import LoadedExtractor
from unseen_models import fit_directions, fit_mixture, train_binary

PHOTOS_CALLED_GENERATED = 0.01  # promised for a camera that nobody has seen
GENERATED_CALLED_PHOTO = 0.10  # for a generator; thirty of them can promise no less than 1 in 31
CELLS = (2, 4, 8, 16, 32, 64, 128)
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
    kept = cross_validate(everything, work / "scores", 1 if tiny else SEEDS, tiny)
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


def ship_binary(
    folder: Path, trained: Trained, items: Sequence[Item], held_out: np.ndarray, results: Any
) -> None:
    """Trains the binary detector on all windows."""
    reduction, rows = trained.of.both
    params = train_binary(
        rows, trained.of.labels, trained.teacher("EXIF"), Tail(), 0, trained.steps
    )
    labels = np.array([item.label for item in items])
    below, above, rates = thresholds(held_out, items)
    line = fit_calibration(held_out, labels)
    variances = spread(held_out, np.array([item.source for item in items]), labels)
    verdicts = {
        "photo_below": float(np.float32(expit(below))),
        "generated_above": float(np.float32(expit(above))),
        "rates": rates,
        "calibration": {"slope": line.slope, "intercept": line.intercept, "prior": 0.5},
        "by_cells": [{"cells": n, "slope": line.slope * variances.certainty(n)} for n in CELLS],
        "trained_range": TRAINED_RANGE,
        "stability": STABILITY,
    }
    _save(
        folder,
        "binary",
        ResidualCovarianceEncoder(FEATURES, HIDDEN, DROPOUT),
        reduction.folded(params["extractor"]["layers"]),
        {"head": params["head"]},
        verdicts,
        items,
        results,
    )


def ship_one_class(
    folder: Path, trained: Trained, items: Sequence[Item], held_out: np.ndarray, results: Any
) -> None:
    """Fits the one-class detector to all photographs."""
    reduction, rows = trained.of.of_photos
    layers = fit_directions(rows, trained.tags, trained.directions)
    tail = Tail(features=trained.directions, hidden=())
    mixture = fit_mixture(features_of(tail, {"layers": layers}, rows[0]), 0)
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
    _save(folder, "one_class", encoder, reduction.folded(layers), arrays, verdicts, items, results)


def _save(
    folder: Path,
    kind: str,
    encoder: ResidualCovarianceEncoder,
    params: dict[str, Any],
    arrays: dict[str, Any],
    verdicts: dict[str, Any],
    items: Sequence[Item],
    results: Any,
) -> None:
    row = next(r for r in results["rows"] if r["detector"] == NAMES[kind])
    extractor = LoadedExtractor(encoder.build(), params, encoder, {}, (), folder, PREPARE)
    facts = {
        "threshold_rule": "group threshold on held-out cameras, see experiments/ship.py",
        "score_of": "cells",
        "verdicts": verdicts,
        "training_data": facts_of(items),
        "cross_validation": {k: v for k, v in row.items() if k != "detector"},
    }
    if kind == "one_class":
        facts |= {"covariance_type": "full", "gaussians": GAUSSIANS, "directions": DIRECTIONS}
    save_detector(folder, kind, verdicts["generated_above"], extractor, arrays, facts)


def _percent(rate: dict[str, float]) -> str:
    return f"{rate['rate']:.1%} [{rate['low']:.1%}, {rate['high']:.1%}]"


def card(kind: str, folder: Path, data: Path, items: Sequence[Item], results: Any) -> str:
    """The model card, in Markdown."""
    facts = json.loads((folder / "detector.json").read_text())
    name, verdicts, trained = NAMES[kind], facts["verdicts"], facts["training_data"]
    with (data / "MANIFEST.csv").open(newline="", encoding="utf-8") as file:
        origin = {row["path"]: (row["source_repo"], row["licence"]) for row in csv.DictReader(file)}
    used = [item for item in items if kind == "binary" or not item.label]
    counts = Counter((*origin[item.path], "generated" if item.label else "photo") for item in used)
    licences = Counter(origin[item.path][1] for item in used)
    rows = [
        {"repository": r, "licence as found": licence, "class": c, "windows": n}
        for (r, licence, c), n in sorted(counts.items())
    ]
    of_kind = [r for r in results["rows"] if r["detector"].split(",")[0] == name]
    gains = [r for r in results["gains"] if r["detector"] == name]
    perturbed = [r for r in results["perturbed"] if r["detector"] == name]
    promised = [
        {**r, "promised": f"{r['promised']:.0%}"}
        for r in results["promises"]
        if r["detector"] == name
    ]
    generators = [
        {k: r[k] for k in ("generator", "windows", "source images", name)}
        for r in results["generators"]
    ]
    worst = sorted(results["cameras"], key=lambda r: r[name])[:10]
    cameras = [{k: r[k] for k in ("camera", "windows", name)} for r in worst]
    how = {
        "binary": f"""A perceptron (hidden layers of {HIDDEN[0]} and {HIDDEN[1]} units) on the fixed
residual-covariance description of a window, trained on photographs and generated images, and held
close (weight 0.05) to the features of a network of the same form that learned the EXIF tags of the
photographs. Score: the probability of `generated`; of a picture the mean log-odds of its cells.""",
        "one_class": f"""{trained_directions(facts)} linear directions of the fixed residual-covariance
description of a window, found by partial least squares on the EXIF tags of photographs, and
{GAUSSIANS} Gaussians on them. **No generated image was used**, neither to fit nor to set the upper
threshold. Score: minus the log-density in nats; of a picture the mean over its cells.""",
    }[kind]
    return f"""# Model card: the shipped detector `{kind}`

{how}

## For what, and what not

It says how much the fine structure of a picture resembles that of photographs straight from a
camera. It is meant as one piece of evidence among several. It is **not** proof, not for accusing
anybody, not for moderation without a human, and not for pictures that were drawn, rendered, scanned
or heavily edited: it knows only photographs and the generators below. A generated picture that was
photographed from a screen is a photograph to it; a photograph that was denoised, upscaled or
retouched by a network may be called generated.

## Data

{trained["photographs"]} photographs ({trained["photograph_windows"]} windows of 256x256) of
{trained["cameras"]} camera models{
        f", {trained['generated']} images ({trained['generated_windows']} windows) of {trained['generators']} generators"
        if kind == "binary"
        else ""
    }, from public repositories. Every window was written as JPEG 90, beside
{
        trained["augmented_versions"]
    } augmented versions (JPEG 50 to 98, WebP, AVIF, resizing by 0.5 to 1.5,
blur, crops off the 8x8 grid, two in a row). **The licences of the images differ, and most are not
stated**: {", ".join(f"{k} {n}" for k, n in licences.most_common())} (windows). The images are not
part of this package; the weights are numbers computed from them. What that means for you depends on
where and for what you use them. The list of repositories is at the end.

## What it reaches

Cross-validation on the same windows, whole cameras, repositories and generators held out, both
classes JPEG 90, single windows of 256x256; means over {
        results["facts"]["seeds"]
    } seeds, 95 % intervals
by bootstrap over cameras and source images. Choices were made on these windows too, which flatters. The
rows after the first are controls and simpler forms.

{table(of_kind)}

{table(gains)}

Perturbed test images (AUROC):

{table(perturbed)}

Verdicts: `generated` above {verdicts["generated_above"]:.6g}, `photo` below
{
        verdicts[
            "photo_below"
        ]:.6g}, `unsure` between. On held-out windows, each camera and generator counting
once: photographs called generated {
        _percent(verdicts["rates"]["photos_called_generated"])
    } (promised:
at most {PHOTOS_CALLED_GENERATED:.0%} for a camera that nobody has seen), generated images called
photographs {_percent(verdicts["rates"]["generated_called_photo"])} (at most
{GENERATED_CALLED_PHOTO:.0%} for a new generator). These are of single windows before the
check of stability, which turns further verdicts into `unsure`; a larger picture is judged by the mean
of its cells at the same thresholds. Thresholds from five folds' cameras, measured on the sixth:

{table(promised)}

By generator (AUROC against all photographs; no interval where there are few images):

{table(generators)}

The worst cameras (AUROC of their windows against all generated ones):

{table(cameras)}

## Known failures

- Generators and cameras above with low numbers. New generators may be worse than any of them.
- Photographs that went through strong denoising, beautifying or a computational night mode look
  more like generated images; old and small cameras, too.
- Resizing and strong compression erase what it looks for: see the perturbed rows.
- Flat, black, saturated or tiny pictures hold nothing to judge; it says `unsure`.
- Photographs here lean to objects, buildings and night scenes, generated images to
  illustrations; equal compression and matched sharpness do not remove that.

## Where it came from

`experiments/unseen.py` and `experiments/ship.py` make it again from the same data, on the same
machine bit for bit. SHA-256 of the weights: `{facts["sha256"]["model.safetensors"]}`.

{table(rows)}
"""


def trained_directions(facts: dict[str, Any]) -> int:
    """How many directions the one-class detector has."""
    return int(facts["model"]["features"])


if __name__ == "__main__":
    start(__doc__, experiment)
