r"""Does the method work on real photographs: the whole of it, beside untrained and trivial ones?

python experiments/real_photos.py --data DATA --work DIR

DATA holds MANIFEST.csv, photos/ and generated/: 256x256 windows of photographs with EXIF and of
generated images. The public commands do everything, with the full-size network; this file lays out
the images, starts the commands and compares the scores. DIR/results.md and .json are written last.
Started again, it continues: commands that finished say so. `--tiny` checks the script in minutes: a
few images and a narrow network, whose numbers mean nothing.
"""

import argparse
import csv
import dataclasses
import json
import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from comparison import CALIPER, FEWEST_SOURCES, PARTS, Comparison, cell, rates, table
from photos import CONDITIONS, EQUAL_QUALITY, SEED, UNSEEN_GENERATORS, Plan, lay_out, make_plan

from data_pipelines.errors import UserError
from data_pipelines.files import read_json, write_json, write_text
from data_pipelines.records import open_records

ROOT = Path(__file__).resolve().parents[1]
# Detector: its stage, the pretext extractor it uses, the condition of the images it is made from.
DETECTORS = {
    f"{stage}_{teacher}_{condition}": (stage, teacher, condition)
    for stage, teacher, condition in (
        *(("one_class", t, c) for c in CONDITIONS for t in ("trained", "untrained")),
        ("binary", "trained", "equalised"),
        ("binary", "untrained", "equalised"),
        ("binary", "trained", "original"),
    )
}
_log = logging.getLogger("real_photos")


# Stage -> what decides its results; all else is as in configs/.
_GRADIENT = {"batch_size": 16, "data.patches": 4, "optimizer.learning_rate": 3e-4, "log_every": 5}
SETTINGS: dict[str, dict[str, Any]] = {
    "pretext": {**_GRADIENT, "steps": 500, "eval_every": 100, "checkpoint_every": 100},
    "one_class": {"data.patches": 8, "pca": 64, "num_components": "1,2,5"},
    "binary": {**_GRADIENT, "steps": 100, "eval_every": 25, "checkpoint_every": 25},
}
_FEW = {"batch_size": 4, "data.patches": 2, "steps": 2, "eval_every": 1, "checkpoint_every": 1}
TINY: dict[str, dict[str, Any]] = {
    "pretext": {**_FEW, "model.width": 8},
    "one_class": {"data.patches": 2, "pca": 4, "num_components": "1,2"},
    "binary": _FEW,
}


def run(work: Path, name: str, *words: object) -> None:
    """Runs `python WORDS` from the repository's root, its output in DIR/logs/NAME.log.

    Raises:
        UserError: it failed.
    """
    _log.info("%s ...", name)
    log = work / "logs" / f"{name}.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("a") as out:
        done = subprocess.run([sys.executable, *map(str, words)], cwd=ROOT, stdout=out, stderr=out)
    if done.returncode:
        tail = log.read_text(errors="replace")[-3000:]
        raise UserError(f"{name} ended with status {done.returncode}; the end of {log}:\n{tail}")


def make_runs(work: Path, settings: dict[str, dict[str, Any]]) -> None:
    """Prepares records, trains every extractor and detector and scores the test images."""

    def train(name: str, stage: str, **fields: Any) -> None:
        config = {"seed": SEED, **settings[stage], **fields}
        words = [f"--config.{field}={value}" for field, value in config.items()]
        words = ["train.py", f"--config=configs/{stage}.py", *words, f"--workdir={work / name}"]
        run(work, name, *words)

    for condition in CONDITIONS:
        run(
            work,
            f"records_{condition}",
            *("-m", "exif_jax.cli", "prepare", work / f"photos_{condition}"),
            *("--out", work / f"records_{condition}"),
            *("--split-by", "camera", "--validation-fraction", 0.2, "--seed", SEED),
        )
    photos = {"data.photos": work / "records_original"}
    train("pretext_trained", "pretext", **photos)
    train("pretext_untrained", "pretext", **photos, steps=0)
    for name, (stage, teacher, condition) in DETECTORS.items():
        data: dict[str, Any] = {"data.photos": work / f"records_{condition}"}
        if stage == "binary":
            images = work / f"labelled_{condition}"
            data = {"data.images": images, "data.validation_fraction": 0.2}
        train(name, stage, extractor=work / f"pretext_{teacher}", **data)
    for condition in CONDITIONS:
        out = work / f"evaluation_{condition}"
        # What was learnt from the original files is also asked about equalised ones.
        tested = [n for n in DETECTORS if n.endswith(condition) or n == "binary_trained_original"]
        if not (out / "results.json").exists():
            run(
                work,
                out.name,
                *("eval.py", "--config=configs/evaluation.py", "--config.perturbations=none"),
                f"--config.detectors={','.join(str(work / n / 'detector') for n in tested)}",
                f"--config.data.images={work / f'test_{condition}'}",
                f"--workdir={out}",
            )


def pretext_rows(work: Path) -> list[tuple[str, ...]]:
    """Validation of every tag, unseen cameras: chance, untrained, trained.

    Chance is what naming one class always gives: where the held-out photos have one class only (no
    unseen camera has a known model), there is nothing to measure.
    """
    validation: dict[str, list[dict[str, float]]] = {}
    for name in ("untrained", "trained"):
        lines = (work / f"pretext_{name}" / "metrics.jsonl").read_text().splitlines()
        validation[name] = [x for x in map(json.loads, lines) if x["split"] == "validation"]
    records = open_records(work / "records_original")
    source = records.source("validation")
    labels = np.stack([records.decode(source[i])["targets"] for i in range(len(source))])
    rows = []
    for target, column in zip(records.targets, labels.T, strict=True):
        ranked = target.kind == "ranked"
        metric = "concordance" if ranked else "balanced_accuracy"
        key = f"{metric}/{target.name}"
        values = [line[key] for line in validation["trained"] if key in line]
        if not values:
            continue
        present = len(np.unique(column[np.isfinite(column)]))
        chance = 0.5 if ranked else 1 / present if present > 1 else float("nan")
        count = validation["trained"][-1][f"count/{target.name}"]
        untrained = validation["untrained"][-1].get(key, float("nan"))
        numbers = (chance, untrained, values[-1], max(values))
        shown = (f"{x:.3f}".replace("nan", "n/a") for x in numbers)
        rows.append((target.name, metric.replace("_", " "), f"{count:.0f}", *shown))
    return rows


def read_scores(work: Path, condition: str, files: Sequence[Path]) -> dict[str, np.ndarray]:
    """Detector -> scores of the test files, from the table that eval.py wrote."""
    by_path: dict[str, dict[str, float]] = {}
    with (work / f"evaluation_{condition}" / "scores.csv").open(newline="") as file:
        for line in csv.DictReader(file):
            by_path.setdefault(line["detector"], {})[line["path"]] = float(line["score"])
    return {name: np.array([of[str(path)] for path in files]) for name, of in by_path.items()}


def compare(work: Path, condition: str, comparison: Comparison, files: Sequence[Path]) -> Any:
    """All numbers of one condition: every detector, every cue, and the differences that matter."""
    scores = read_scores(work, condition, files)
    areas = {f"cue: {cue}": comparison.areas(x) for cue, x in comparison.trivial.items()}
    areas |= {name: comparison.areas(x) for name, x in scores.items()}
    decisions = {}
    for row in read_json(work / f"evaluation_{condition}" / "results.json"):
        name, threshold = row["detector"], row["threshold"]
        fpr, tpr = rates(scores[name], comparison.labels, threshold)
        decisions[name] = {
            **{key: row[key] for key in ("threshold", "accuracy", "tpr_at_fpr_5pct")},
            **{"false_positive_rate": fpr, "true_positive_rate": tpr},
        }
    names = ("one_class", "binary")
    pairs = [(f"{n}_trained_{condition}", f"{n}_untrained_{condition}") for n in names]
    pairs += [(name, "cue: residual") for name in scores]
    return {
        "condition": condition,
        "sizes": comparison.sizes,
        "training_auroc": comparison.training_auroc,
        "auroc": {name: comparison.summary(values) for name, values in areas.items()},
        "decisions": decisions,
        "differences": {
            f"{a} - {b}": comparison.summary({k: areas[a][k] - areas[b][k] for k in areas[a]})
            for a, b in pairs
            if a in areas and b in areas
        },
    }


def counts(plan: Plan) -> list[tuple[object, ...]]:
    """Sizes of every part of the plan."""
    rows: list[tuple[object, ...]] = []
    for use, items in dataclasses.asdict(plan).items():
        for label, name in enumerate(("photographs", "generated")):
            chosen = [item for item in items if item["label"] == label]
            distinct = (len({item[key] for item in chosen}) for key in ("source", "kind"))
            if chosen:
                rows.append((f"{use} {name}", len(chosen), *distinct))
    return rows


def condition_text(part: dict[str, Any]) -> list[str]:
    """The tables of one condition."""
    areas, sizes = part["auroc"], part["sizes"]
    about = "; ".join(
        f"{key}: {sizes[key]['generated']} generated windows of {sizes[key]['sources']} source "
        f"images, {sizes[key]['photographs']} photographs, {sizes[key]['pairs']} pairs"
        for key in PARTS
    )
    keys = ("threshold", "false_positive_rate", "true_positive_rate", "accuracy", "tpr_at_fpr_5pct")
    decisions = [
        (name, *(f"{row[key]:.3f}" for key in keys)) for name, row in part["decisions"].items()
    ]
    shown = [name for name in areas if name not in ("cue: file size", "cue: brightness")]
    kinds = [
        (
            *(kind, sizes[kind]["generated"], sizes[kind]["sources"]),
            "no" if kind in UNSEEN_GENERATORS else "other images of it",
            *(cell(areas[name][kind]) for name in shown),
        )
        for kind in areas["cue: residual"]
        if kind not in PARTS
    ]
    return [
        f"## Detection, {part['condition']} files",
        f"AUROC with 95 % intervals. {about}.",
        table(
            ("score", *PARTS),
            [(name, *(cell(values[key]) for key in PARTS)) for name, values in areas.items()],
        ),
        f"The sign of a trivial score comes from the training images (AUROC of the residual there: "
        f"{part['training_auroc']:.3f}); on perfectly matched pairs the residual would have 0.5.",
        table(
            ("detector", "threshold", "FPR", "TPR", "accuracy", "TPR at 5 % FPR"),
            decisions,
        ),
        "In the last column the threshold is chosen on the test photographs themselves; how each "
        "threshold and mixture was chosen is in the run's detector/detector.json.",
        table(
            ("difference of AUROC", *PARTS),
            [
                (name, *(cell(values[key], "+") for key in PARTS))
                for name, values in part["differences"].items()
            ],
        ),
        table(("generator", "n", "sources", "binary training", *shown), kinds),
    ]


def report(results: dict[str, Any]) -> str:
    """The page, in Markdown."""
    settings = results["settings"]
    warning = "**A check of the script, not a measurement: few images, narrow network.**"
    parts = [
        "# Real photographs",
        *[warning] * (settings == TINY),
        f"Machine: {results['machine']}. Settings: {json.dumps(settings)}.",
        "Photographs are divided by camera model, generated images by generator and source image. "
        "The pretext is trained once, on the original files; everything after it is made and "
        "tested separately in two conditions. *original*: files as published (photographs JPEG, "
        "most generated images PNG), so format alone can give the class away. *equalised*: both "
        f"classes decoded and written as JPEG of quality {EQUAL_QUALITY}, 4:2:0, 256x256. "
        "Intervals: bootstrap over whole cameras of the photographs and whole source images of "
        f"the generated windows; none is given under {FEWEST_SOURCES} source images. *Matched* "
        f"pairs differ by less than {CALIPER} standard deviations in the trivial score, the "
        "log-variance of a fixed high-pass residual. *untrained*: the same network with its "
        "random initial weights as extractor or teacher; the last word of a name is the condition "
        "that a detector learnt from. Cameras held out from the pretext set the one-class "
        "thresholds (5 % false positives wanted).",
        table(
            ("images", "windows", "source images", "camera models or generators"),
            results["counts"],
        ),
        "## Pretext: tags of photographs from unseen cameras",
        "Concordance: fraction of comparable pairs of photos ranked right, chance 0.5. Balanced "
        "accuracy: mean recall of the classes present; chance is what naming one of them always "
        "gives, and a tag with one class among these photos says nothing (n/a). `best` is the "
        "highest value over the checkpoints, chosen on the same photos, so too good. `n` counts "
        "pairs or photos; pairs share photos and photos cameras, so it overstates the evidence.",
        table(
            ("tag", "metric", "n", "chance", "untrained", "trained, last", "trained, best"),
            results["pretext"],
        ),
        *(text for part in results["conditions"] for text in condition_text(part)),
        f"Of the test photographs {results['beside']} were published beside training ones. What "
        "these numbers cannot say is in experiments/README.md.",
    ]
    return "\n\n".join(parts) + "\n"


def experiment(data: Path, work: Path, settings: dict[str, dict[str, Any]]) -> None:
    """Runs everything and writes the results."""
    work.mkdir(parents=True, exist_ok=True)
    plan = make_plan(data, settings is TINY)
    _log.info("laying out the files ...")
    files = {condition: lay_out(plan, data, work, condition) for condition in CONDITIONS}
    make_runs(work, settings)
    repositories = {item.repository for item in plan.pretext}
    results = {
        "settings": settings,
        "machine": f"{jax.devices()[0].device_kind}, jax {jax.__version__}",
        "counts": counts(plan),
        "beside": sum(i.label == 0 and i.repository in repositories for i in plan.test),
        "pretext": pretext_rows(work),
        "conditions": [
            compare(
                work,
                condition,
                Comparison(plan.test, of["test"], plan.binary, of["labelled"]),
                of["test"],
            )
            for condition, of in files.items()
        ],
    }
    write_json(work / "results.json", results)
    write_text(work / "results.md", report(results))
    _log.info("%s is written", work / "results.md")


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--tiny", action="store_true", help="only check that the script runs")
    args = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    _log.setLevel(logging.INFO)
    try:
        experiment(args.data.resolve(), args.work.resolve(), TINY if args.tiny else SETTINGS)
    except UserError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
