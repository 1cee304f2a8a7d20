r"""Which density of few photographs holds up on cameras that it has not seen.

python benchmarks/few_photos.py --data DATA --work DIR

DIR is the work directory of real_photos.py, of which this needs the extractors, the records and the
test images, nothing more; DATA as there. Mixtures of every kind are fitted to the features of the
photographs for training, whole cameras are kept for the held-out likelihood, others set the
threshold, others again are tested against generated images. The tables and the plot go to
results/few_photos beside this file (`--out`). Started again, it continues: features and finished
rows are kept in DIR/few_photos.
"""

import argparse
import dataclasses
import itertools
import logging
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from few_photos_report import draw, report
from real_data import Plan, make_plan, place, read_manifest
from real_runs import Settings
from real_scores import Comparison, at_threshold, cues, fit_trivial
from sklearn.mixture import GaussianMixture as SklearnMixture
from speed_report import describe_machine
from tqdm import tqdm

from data_pipelines.errors import UserError
from data_pipelines.files import read_json, write_json, write_text
from data_pipelines.images import decode_image
from data_pipelines.photo_sources import open_photos
from data_pipelines.splits import split_groups
from exif_jax import gmm
from exif_jax.detection.detectors import project
from exif_jax.detection.features import FeatureFunctions, Params, feature_functions, limit_patches
from exif_jax.detection.thresholds import quantile_threshold
from exif_jax.models.patches import grid_patches
from exif_jax.models.trained import load_extractor
from exif_jax.stages.one_class import principal_projection
from exif_jax.training.mapping import data_mesh, replicate, shard

CONDITION = "equalised"
PATCHES = 8  # of each window, as in real_photos.py
FALSE_POSITIVES = 0.05
_log = logging.getLogger("few_photos")

_TOGETHER = 32  # images whose features are computed at once

# Without a projection all candidates are densities of the same numbers, so that their held-out
# likelihoods can be compared; behind different projections they cannot.
WHOLE = (
    ("full", 0, "none", (1, 2, 5)),
    ("full", 0, "ledoit_wolf", (1, 5)),
    ("tied", 0, "none", (5,)),
    ("diag", 0, "none", (1, 5)),
    ("spherical", 0, "none", (5,)),
    *(("low_rank", rank, "none", (1, 2, 5)) for rank in (8, 32, 128)),
)
PROJECTED = (("full", 0, "none", (1, 5)), ("diag", 0, "none", (1,)))
PROJECTIONS = (16, 64, 256)


@dataclasses.dataclass(frozen=True)
class Features:
    """Features [n, T] of every use; `turned` has one for each patch put first, [n, P, T]."""

    fit: np.ndarray
    cameras: np.ndarray
    held: np.ndarray
    test: np.ndarray
    turned: np.ndarray
    turned_held: np.ndarray


def turned_features(
    functions: FeatureFunctions, params: Params, images: Iterable[np.ndarray], total: int
) -> np.ndarray:
    """The feature of an image is the output of its first patch: one for each patch put first.

    Args:
        functions: of the extractor.
        params: replicated.
        images: uint8 [256, 256, 3].
        total: their number, for the progress bar.

    Returns:
        [n, PATCHES, T]; [:, 0] is the image's feature as the project defines it.
    """
    result = []
    stream: Iterator[np.ndarray] = iter(tqdm(images, total=total, desc="features", disable=None))
    while part := list(itertools.islice(stream, _TOGETHER)):
        patches = np.stack([limit_patches(grid_patches(image), PATCHES) for image in part])
        padded = np.zeros((_TOGETHER, *patches.shape[1:]), np.uint8)
        padded[: len(part)] = patches
        flat = shard(padded.reshape(-1, *patches.shape[2:]), functions.mesh)
        tokens = np.asarray(functions.encode(params, flat)).reshape(_TOGETHER, PATCHES, -1)
        mask = shard(np.ones((_TOGETHER, PATCHES), bool), functions.mesh)
        mixed = [
            np.asarray(functions.mix(params, shard(np.roll(tokens, -k, 1), functions.mesh), mask))
            for k in range(PATCHES)
        ]
        result.append(np.stack(mixed, axis=1)[: len(part)])
    return np.concatenate(result)


def features(plan: Plan, data: Path, work: Path, extractor: str) -> Features:
    """Features of the trained or the untrained extractor, computed once."""
    path = work / "few_photos" / f"{extractor}.npz"
    if not path.exists():
        loaded = load_extractor(work / f"pretext_{extractor}")
        functions = feature_functions(loaded.module, data_mesh())
        params = replicate(loaded.params, functions.mesh)
        photos = open_photos(work / f"records_{CONDITION}")
        held = np.array([photo.heldout for photo in photos])
        kinds = {Path(item.path).stem: item.kind for item in plan.pretext}
        names = [Path(photo.path.partition("#")[0]).stem for photo in photos]
        test = [decode_image(file) for file in test_files(plan, data, work)]
        photo_features = turned_features(
            functions, params, (photo.read() for photo in photos), len(photos)
        )
        test_features = turned_features(functions, params, test, len(test))
        path.parent.mkdir(exist_ok=True)
        part = path.with_suffix(".part.npz")
        np.savez(
            part,
            fit=photo_features[~held, 0],
            cameras=np.array([kinds[name] for name in names])[~held],
            held=photo_features[held, 0],
            test=test_features[:, 0],
            turned=photo_features[~held],
            turned_held=photo_features[held],
        )
        part.replace(path)
    with np.load(path, allow_pickle=False) as saved:
        return Features(**saved)


def test_files(plan: Plan, data: Path, work: Path) -> list[Path]:
    """The files of the test images, in the plan's order."""
    folder = work / f"test_{CONDITION}"
    return [
        place(
            [item],
            data,
            folder / ("1_fake" if item.label else "0_real"),
            CONDITION,
            keep_exif=False,
        )[0]
        for item in plan.test
    ]


def judge(
    work: Path, extractor: str, pca: int, of: Features, comparison: Comparison
) -> list[dict[str, Any]]:
    """Fits the candidates behind one projection; rows of likelihood, AUROC and error rates.

    Finished rows are kept in DIR/few_photos/rows.
    """
    projection = principal_projection(of.fit, pca)
    x, held, test = (project(part, projection) for part in (of.fit, of.held, of.test))
    apart = np.array(split_groups(list(map(str, of.cameras)), 0.25, 1))
    rows = []
    for kind, rank, shrinkage, sizes in PROJECTED if pca else WHOLE:
        for size in sizes:
            name = f"{extractor}_{pca}_{kind}_{rank}_{shrinkage}_{size}"
            path = work / "few_photos" / "rows" / f"{name}.json"
            if not path.exists():
                _log.info("%s", name)
                path.parent.mkdir(exist_ok=True)
                structure = gmm.Structure(kind, rank, shrinkage)
                row = judged(
                    structure, size, x, apart, held, test, comparison, extractor == "trained"
                )
                write_json(path, {"extractor": extractor, "pca": pca, **row})
                jax.clear_caches()  # hundreds of compiled programs exhaust a process's memory maps
            rows.append(read_json(path))
    return rows


def judged(
    structure: gmm.Structure,
    size: int,
    x: np.ndarray,
    apart: np.ndarray,
    held: np.ndarray,
    test: np.ndarray,
    comparison: Comparison,
    in_float32: bool,
) -> dict[str, Any]:
    """One mixture: the likelihood of cameras kept apart, then, fitted to all rows, its scores."""
    (candidate,) = gmm.compare(
        jax.random.key(0),
        x[~apart],
        size,
        covariance_type=structure.covariance_type,
        rank=structure.rank,
        shrinkage=structure.shrinkage,
        heldout=x[apart],
    )
    fit = gmm.fit_candidate(jax.random.key(0), x, candidate)
    scores = -np.asarray(gmm.log_density(fit.gmm, test))
    rule = quantile_threshold(gmm.log_density(fit.gmm, held), FALSE_POSITIVES)
    summary = comparison.summary(comparison.areas(scores))
    single = {}
    if in_float32:
        rows = np.concatenate([held, test])
        single = {"float32": single_precision(x, rows, candidate, fit, held)}
    return {
        "covariances": candidate.name,
        "components": size,
        "rows_per_parameter": fit.rows_per_parameter,
        "fitted": candidate.log_likelihood,
        "heldout": candidate.heldout_log_likelihood,
        **{part: summary[part] for part in ("all", "matched pairs")},
        **at_threshold(scores, comparison.labels, -rule.threshold),
        **single,
    }


def single_precision(
    x: np.ndarray, z: np.ndarray, candidate: gmm.Candidate, double: gmm.Fit, held: np.ndarray
) -> dict[str, Any]:
    """The same fit in float32: differences of log-densities and of verdicts on rows z."""
    with jax.enable_x64(False):
        single = gmm.fit_candidate(jax.random.key(0), x.astype(np.float32), candidate)
        ours, ours_held = (
            np.asarray(gmm.log_density(single.gmm, v.astype(np.float32)), np.float64)
            for v in (z, held)
        )
    reference, reference_held = (np.asarray(gmm.log_density(double.gmm, v)) for v in (z, held))
    relative = np.abs(ours - reference) / np.abs(reference)
    verdicts = [
        values < quantile_threshold(calibration, FALSE_POSITIVES).threshold
        for values, calibration in ((ours, ours_held), (reference, reference_held))
    ]
    return {
        "iterations": [len(double.history), len(single.history)],
        "median_difference": float(np.median(np.abs(ours - reference))),
        "deviation_of_log_density": float(reference.std()),
        "median_relative": float(np.median(relative)),
        "rows_over_1e-3": float((relative > 1e-3).mean()),
        "largest_relative": float(relative.max()),
        "same_verdicts": float((verdicts[0] == verdicts[1]).mean()),
        "scikit_learn": sklearn_float32(x, candidate),
    }


def sklearn_float32(x: np.ndarray, candidate: gmm.Candidate) -> str:
    """What scikit-learn says of the same data in float32: `fits`, `raises` or `n/a`."""
    if candidate.covariance_type == "low_rank" or candidate.shrinkage != "none":
        return "n/a"
    model = SklearnMixture(
        candidate.num_components,
        covariance_type=candidate.covariance_type,
        random_state=0,
        max_iter=20,
        tol=1e6,  # one iteration is enough to see
    )
    try:
        model.fit(x.astype(np.float32))
    except ValueError:
        return "raises"
    return "fits"


def many_rows(of: Features) -> list[dict[str, Any]]:
    """Float32 against float64 where full covariances are well posed: every patch put first."""
    x, z = (part.reshape(-1, part.shape[-1]) for part in (of.turned, of.turned_held))
    rows = []
    for kind, rank in (("full", 0), ("tied", 0), ("diag", 0), ("low_rank", 32)):
        candidate = gmm.Candidate.of(gmm.Structure(kind, rank), 5, x.shape[1])
        fit = gmm.fit_candidate(jax.random.key(0), x.astype(np.float64), candidate)
        rows.append(
            {
                "covariances": candidate.name,
                "components": 5,
                "rows": len(x),
                "rows_per_parameter": fit.rows_per_parameter,
                **single_precision(x.astype(np.float64), z.astype(np.float64), candidate, fit, z),
            }
        )
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).parent / "results" / "few_photos"
    )
    args = parser.parse_args(argv)
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    _log.setLevel(logging.INFO)
    data, work = args.data.resolve(), args.work.resolve()
    settings = Settings()
    if not (work / "pretext_trained").is_dir():
        print(f"error: {work}: no pretext_trained; run real_photos.py first", file=sys.stderr)
        return 2
    plan = make_plan(read_manifest(data, False), data, settings.max_test_photos, settings.seed)
    files = test_files(plan, data, work)
    learnt = [
        place(
            [item],
            data,
            work / f"labelled_{CONDITION}" / ("1_fake" if item.label else "0_real"),
            CONDITION,
            keep_exif=False,
        )[0]
        for item in plan.binary
    ]
    labels = np.array([item.label for item in plan.binary])
    trivial = fit_trivial("residual", list(map(cues, learnt)), labels)
    comparison = Comparison(plan.test, trivial, trivial.score(list(map(cues, files))))
    rows: list[dict[str, Any]] = []
    by_extractor = {name: features(plan, data, work, name) for name in ("trained", "untrained")}
    with jax.enable_x64(True):
        for extractor, of in by_extractor.items():
            for pca in (0, *PROJECTIONS):
                rows += judge(work, extractor, pca, of, comparison)
        many = many_rows(by_extractor["trained"])
    of = by_extractor["trained"]
    photos = [item for item in plan.test if item.label == 0]
    cameras = {item.kind for item in photos}
    about = (
        f"Features of the extractors of real_photos.py (pretext of {settings.steps} small steps, "
        f"or none), equalised files. Fitted to {len(of.fit)} windows of {len(set(of.cameras))} "
        "cameras (for the held-out likelihood, in nats a window, to three quarters of them); "
        f"threshold for {FALSE_POSITIVES:.0%} false positives from {len(of.held)} windows of other "
        f"cameras; tested on {len(photos)} photographs of {len(cameras)} cameras again unseen and "
        f"{len(plan.test) - len(photos)} generated windows, as in results/real_photos. AUROC with "
        "95 % intervals over cameras and source images; FPR and TPR at the threshold. The test "
        "images chose nothing."
    )
    results = {
        "machine": describe_machine(),
        "about": about,
        "photographs": len(of.fit),
        "rows": rows,
        "many_rows": many,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    write_json(args.out / "results.json", results)
    write_text(args.out / "results.md", report(results))
    draw(rows, args.out / "heldout_likelihood.png")
    print(report(results))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")
