r"""The whole method on real photographs, full-size network, beside untrained and trivial baselines.

python benchmarks/real_photos.py --data DATA --work DIR

DATA holds MANIFEST.csv, photos/ and generated/: 256x256 windows of photographs with EXIF and of
generated images. Everything is written into DIR, results.json and results.md last. Started again,
it continues; finished steps are skipped. `--tiny` checks the script itself in minutes: a few images
and a narrow network, whose numbers mean nothing.
"""

import argparse
import dataclasses
import json
import logging
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from real_data import CONDITIONS, Item, Plan, make_plan, place, read_manifest
from real_report import draw, write_report
from real_runs import TINY, Settings, Steps, detectors, make_runs
from real_scores import CUES, Comparison, TrivialScore, at_threshold, cues, fit_trivial
from tqdm import tqdm

from data_pipelines.errors import UserError
from data_pipelines.files import read_json, write_json
from data_pipelines.images import decode_image
from data_pipelines.records import open_records
from exif_jax.detection.detectors import load_detector
from exif_jax.training.curves import training_curves

SCORED_TOGETHER = 32

_log = logging.getLogger("real_photos")


def put_files(plan: Plan, data: Path, work: Path) -> dict[str, dict[str, list[Path]]]:
    """Lays out the images of both conditions; returns the files for binary training and test."""
    files: dict[str, dict[str, list[Path]]] = {}
    for condition in CONDITIONS:
        _log.info("files of the %s condition ...", condition)
        place(plan.pretext, data, work / f"photos_{condition}", condition, keep_exif=True)
        files[condition] = {}
        for use, items in (("binary", plan.binary), ("test", plan.test)):
            folder = work / f"{'labelled' if use == 'binary' else 'test'}_{condition}"
            files[condition][use] = [
                path
                for item in items
                for path in place(
                    [item],
                    data,
                    folder / ("1_fake" if item.label else "0_real"),
                    condition,
                    keep_exif=False,
                )
            ]
    return files


def score(detector: Path, files: Sequence[Path]) -> dict[str, Any]:
    """Scores and stored threshold of a detector on files."""
    loaded = load_detector(detector)
    scores: list[float] = []
    for start in tqdm(range(0, len(files), SCORED_TOGETHER), desc=detector.name, disable=None):
        images = [decode_image(path) for path in files[start : start + SCORED_TOGETHER]]
        scores += loaded.score(images).tolist()
    facts = {k: loaded.facts.get(k) for k in ("num_components", "threshold_details", "step")}
    return {"scores": scores, "threshold": loaded.threshold, **facts}


def pretext_rows(work: Path) -> list[dict[str, Any]]:
    """Validation of every tag, unseen cameras: chance, untrained, trained.

    Chance is what naming one class always gives: where the held-out photos have one class only (no
    unseen camera has a known model), there is nothing to measure, and it is None.
    """
    lines = {
        name: [
            line
            for line in map(
                json.loads, (work / f"pretext_{name}" / "metrics.jsonl").read_text().splitlines()
            )
            if line["split"] == "validation"
        ]
        for name in ("untrained", "trained")
    }
    records = open_records(work / "records_original")
    labels = records.labels("validation")
    rows = []
    for column, target in enumerate(records.targets):
        categorical = target.kind == "categorical"
        key = f"{'balanced_accuracy' if categorical else 'concordance'}/{target.name}"
        values = [line[key] for line in lines["trained"] if key in line]
        if not values:
            continue
        present = len(np.unique(labels[np.isfinite(labels[:, column]), column]))
        rows.append(
            {
                "tag": target.name,
                "metric": key.partition("/")[0],
                "count": lines["trained"][-1][f"count/{target.name}"],
                "classes_present": present if categorical else None,
                "chance": 0.5 if not categorical else 1 / present if present > 1 else None,
                "untrained": lines["untrained"][-1].get(key),
                "trained_last": values[-1],
                "trained_best": max(values),
            }
        )
    return rows


def compare(
    condition: str,
    test: Sequence[Item],
    scored: dict[str, dict[str, Any]],
    trivial: dict[str, TrivialScore],
    test_cues: Sequence[dict[str, float]],
) -> dict[str, Any]:
    """All numbers of one condition: every detector, every cue, and the differences that matter."""
    trivial_scores = {cue: rule.score(test_cues) for cue, rule in trivial.items()}
    comparison = Comparison(test, trivial["residual"], trivial_scores["residual"])
    areas = {f"cue: {cue}": comparison.areas(values) for cue, values in trivial_scores.items()}
    decisions = {}
    for name, result in scored.items():
        values = np.array(result["scores"])
        areas[name] = comparison.areas(values)
        decisions[name] = {
            "threshold": result["threshold"],
            **at_threshold(values, comparison.labels, result["threshold"]),
            **{key: result[key] for key in ("num_components", "threshold_details", "step")},
        }
    pairs = [
        (f"{kind}_trained_{condition}", f"{kind}_untrained_{condition}")
        for kind in ("one_class", "binary")
    ]
    pairs += [(name, "cue: residual") for name in scored]
    pairs.append(("binary_trained_equalised", "binary_alone_equalised"))
    return {
        "condition": condition,
        "auroc": {name: comparison.summary(values) for name, values in areas.items()},
        "decisions": decisions,
        "cues": {cue: dataclasses.asdict(rule) for cue, rule in trivial.items()},
        "differences": {
            f"{a} - {b}": comparison.summary({k: areas[a][k] - areas[b][k] for k in areas[a]})
            for a, b in pairs
            if a in areas and b in areas
        },
    }


def counts(plan: Plan) -> dict[str, Any]:
    """Sizes of every part, and how far the test photographs share a source with the training."""
    result: dict[str, Any] = {}
    for use in ("pretext", "binary", "test"):
        items = getattr(plan, use)
        for label, name in enumerate(("photographs", "generated")):
            chosen = [item for item in items if item.label == label]
            if chosen:
                result[f"{use} {name}"] = {
                    "windows": len(chosen),
                    "source images": len({item.source for item in chosen}),
                    "camera models or generators": len({item.kind for item in chosen}),
                }
    repositories = {item.repository for item in plan.pretext}
    tested = [item for item in plan.test if item.label == 0]
    result["test photographs published beside training ones"] = sum(
        item.repository in repositories for item in tested
    )
    return result


def check_splits(work: Path) -> None:
    """Raises unless both conditions hold out the same photographs."""
    held = []
    for condition in CONDITIONS:
        columns = open_records(work / f"records_{condition}").columns("validation")
        held.append({path.rpartition(".")[0] for path in columns.path})
    if held[0] != held[1]:
        raise UserError("the two conditions hold out different photographs")


def benchmark(data: Path, work: Path, settings: Settings) -> None:
    """Runs everything and writes the results."""
    work.mkdir(parents=True, exist_ok=True)
    plan = make_plan(
        read_manifest(data, settings.tiny), data, settings.max_test_photos, settings.seed
    )
    state = {"settings": dataclasses.asdict(settings), "plan": dataclasses.asdict(plan)}
    if (work / "plan.json").exists() and read_json(work / "plan.json") != state:
        raise UserError(f"{work} holds results of other settings or data: choose another --work")
    write_json(work / "plan.json", state)
    files = put_files(plan, data, work)
    steps = Steps(work, data)
    make_runs(steps, settings, work)
    check_splits(work)
    conditions = []
    for condition in CONDITIONS:
        train_files, test_files = files[condition]["binary"], files[condition]["test"]
        found = steps.function(
            f"cues_{condition}",
            lambda train_files=train_files, test_files=test_files: {  # type: ignore[misc]
                "train": list(map(cues, train_files)),
                "test": list(map(cues, test_files)),
            },
        )
        labels = np.array([item.label for item in plan.binary])
        trivial = {cue: fit_trivial(cue, found["train"], labels) for cue in CUES}
        scored = {
            run.name: steps.function(
                f"scores_{run.name}_on_{condition}",
                lambda run=run, test_files=test_files: score(work / run.name, test_files),  # type: ignore[misc]
            )
            for run in detectors(settings)
            # What was learnt from the original files is also asked about equalised ones.
            if run.condition == condition or run.name == "binary_trained_original"
        }
        conditions.append(compare(condition, plan.test, scored, trivial, found["test"]))
    for path in sorted(work.glob("*/metrics.jsonl")):
        if path.parent.name != "pretext_untrained":
            training_curves(path, work / "plots" / f"{path.parent.name}_curves.png")
    results = {
        "settings": dataclasses.asdict(settings),
        "machine": f"{jax.devices()[0].device_kind}, {platform.processor() or platform.machine()}, "
        f"jax {jax.__version__}",
        "counts": counts(plan),
        "pretext": pretext_rows(work),
        "conditions": conditions,
        "steps": [
            {key: step.get(key) for key in ("name", "seconds", "command")} for step in steps.results
        ],
    }
    write_json(work / "results.json", results)
    draw(results, work / "plots" / "auroc_per_generator.png")
    write_report(results, work / "results.md")
    _log.info("%s and plots/ are written", work / "results.md")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--tiny", action="store_true", help="only check that the script runs")
    parser.add_argument(
        "--no-alpha-zero", action="store_true", help="leave out the binary detector without teacher"
    )
    defaults = Settings()
    for name in ("steps", "batch_size", "learning_rate", "binary_steps", "binary_learning_rate"):
        value = getattr(defaults, name)
        parser.add_argument(
            f"--{name.replace('_', '-')}", type=type(value), help=f"default: {value}"
        )
    args = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    _log.setLevel(logging.INFO)
    settings = TINY if args.tiny else defaults
    given = {
        k: v
        for k, v in vars(args).items()
        if v is not None and hasattr(settings, k) and k != "tiny"
    }
    settings = dataclasses.replace(settings, **given, alpha_zero=not args.no_alpha_zero)
    try:
        benchmark(args.data.resolve(), args.work.resolve(), settings)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
