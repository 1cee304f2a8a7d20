r"""Which density of few photographs holds up on cameras that it has not seen?

python experiments/few_photos.py --data DATA --work DIR

DIR is the work directory of real_photos.py, of which this needs the extractors and the records;
DATA as there. Mixtures of every kind are fitted to the features of the photographs for training,
whole cameras are kept for the held-out likelihood, others set the threshold, others again are
tested against generated images; and every fit is done in float32 and in float64. The tables and the
plot go to DIR/few_photos. Started again, it continues: features and finished rows are kept there.
"""

import argparse
import logging
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import matplotlib as mpl
import numpy as np
from comparison import Comparison, cell, rates, table
from matplotlib.figure import Figure
from photos import Plan, lay_out, make_plan
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture as SklearnMixture
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from data_pipelines.files import read_json, write_json, write_text
from data_pipelines.images import PATCH, decode_image
from data_pipelines.photo_sources import open_photos
from data_pipelines.splits import split_groups
from exif_jax import gmm, load_extractor
from exif_jax.detection.thresholds import quantile_threshold

CONDITION = "equalised"
PATCHES = 8  # of each window, as in real_photos.py
FALSE_POSITIVES = 0.05
_TOGETHER = 32  # images whose features are computed at once
_log = logging.getLogger("few_photos")

Structure = tuple[str, int, str]
"""Covariance type, rank, shrinkage."""
# Without a projection all candidates are densities of the same numbers, so that their held-out
# likelihoods can be compared; behind different projections they cannot.
WHOLE: list[tuple[Structure, tuple[int, ...]]] = [
    (("full", 0, "none"), (1, 2, 5)),
    (("full", 0, "ledoit_wolf"), (1, 5)),
    (("tied", 0, "none"), (5,)),
    (("diag", 0, "none"), (1, 5)),
    (("spherical", 0, "none"), (5,)),
    *((("low_rank", rank, "none"), (1, 2, 5)) for rank in (8, 32, 128)),
]
PROJECTED: list[tuple[Structure, tuple[int, ...]]] = [
    (("full", 0, "none"), (1, 5)),
    (("diag", 0, "none"), (1,)),
]
PROJECTIONS = (16, 64, 256)
MANY: list[Structure] = [(kind, 0, "none") for kind in ("full", "tied", "diag")]
MANY.append(("low_rank", 32, "none"))


def turned_features(extractor: Any, images: Iterable[np.ndarray], count: int) -> np.ndarray:
    """The feature of an image is the output of its first patch: one for each patch put first.

    Args:
        extractor: from `load_extractor`.
        images: uint8 [256, 256, 3].
        count: of the images.

    Returns:
        [n, PATCHES, T]; [:, 0] is the image's feature as the project defines it.
    """

    @jax.jit
    def mix(params: Any, tokens: jax.Array) -> jax.Array:
        mask = np.ones(tokens.shape[:2], bool)
        result: jax.Array = extractor.module.apply({"params": params}, tokens, mask, method="mix")
        return result

    result, waiting = [], []
    for number, image in enumerate(tqdm(images, total=count, desc="features", disable=None), 1):
        side = len(image) // PATCH
        cells = image.reshape(side, PATCH, side, PATCH, 3).swapaxes(1, 2)
        waiting.append(cells.reshape(-1, PATCH, PATCH, 3)[:: side * side // PATCHES])
        if len(waiting) == _TOGETHER or number == count:
            _, parts = extractor(np.stack(waiting))
            mixed = [mix(extractor.params, np.roll(parts["f5"], -k, 1)) for k in range(PATCHES)]
            result.append(np.stack(mixed, axis=1))
            waiting = []
    return np.concatenate(result)


def features(plan: Plan, test: list[Path], work: Path, extractor: str) -> dict[str, np.ndarray]:
    """Features of the trained or the untrained extractor, by use, computed once.

    `fit`, `held` and `test` [n, T]; `cameras` of the first; `turned` and `turned_held` [n, P, T].
    """
    path = work / "few_photos" / f"{extractor}.npz"
    if not path.exists():
        loaded = load_extractor(work / f"pretext_{extractor}")
        photos = open_photos(work / f"records_{CONDITION}")
        held = np.array([photo.heldout for photo in photos])
        kinds = {Path(item.path).stem: item.kind for item in plan.pretext}
        names = [Path(photo.path.partition("#")[0]).stem for photo in photos]
        of_photos = turned_features(loaded, (photo.read() for photo in photos), len(photos))
        of_test = turned_features(loaded, map(decode_image, test), len(test))
        part = path.with_suffix(".part.npz")
        np.savez(
            part,
            cameras=np.array([kinds[name] for name in names])[~held],
            **{"fit": of_photos[~held, 0], "held": of_photos[held, 0], "test": of_test[:, 0]},
            **{"turned": of_photos[~held], "turned_held": of_photos[held]},
        )
        part.replace(path)
    with np.load(path, allow_pickle=False) as saved:
        return dict(saved)


def fit(x: np.ndarray, structure: Structure, size: int) -> gmm.Fit:
    """A mixture from the one start that belongs to its size."""
    kind, rank, shrinkage = structure
    key = jax.random.fold_in(jax.random.key(0), size)
    return gmm.fit(key, x, size, kind, rank=rank, shrinkage=shrinkage)


def log_density(fitted: gmm.Fit, x: np.ndarray) -> np.ndarray:
    """[n], float64."""
    return np.asarray(gmm.log_density(fitted.gmm, x), np.float64)


def name_of(structure: Structure) -> str:
    """Such as `low_rank 8` or `full ledoit_wolf`."""
    kind, rank, shrinkage = structure
    return " ".join(filter(None, (kind, str(rank or ""), shrinkage.replace("none", ""))))


def judge(
    folder: Path, extractor: str, pca: int, of: dict[str, np.ndarray], comparison: Comparison
) -> list[dict[str, Any]]:
    """Fits the candidates behind one projection; finished rows are kept in the folder."""
    projection = PCA(pca, whiten=True, svd_solver="full") if pca else StandardScaler()
    parts = [of[part].astype(np.float64) for part in ("fit", "held", "test")]
    x, held, test = map(projection.fit(parts[0]).transform, parts)
    apart = np.array(split_groups(of["cameras"].tolist(), 0.25, 1))
    rows = []
    for structure, sizes in PROJECTED if pca else WHOLE:
        for size in sizes if structure[1] < x.shape[1] else ():  # a narrow network has few columns
            name = f"{extractor}_{pca}_{name_of(structure).replace(' ', '_')}_{size}"
            path = folder / "rows" / f"{name}.json"
            if not path.exists():
                _log.info("%s", name)
                path.parent.mkdir(exist_ok=True)
                some, every = fit(x[~apart], structure, size), fit(x, structure, size)
                scores = -log_density(every, test)
                rule = quantile_threshold(log_density(every, held), FALSE_POSITIVES)
                areas = comparison.summary(comparison.areas(scores))
                row = {
                    **{"extractor": extractor, "pca": pca, "components": size, "rows": len(x)},
                    "covariances": name_of(structure),
                    "rows_per_parameter": every.rows_per_parameter,
                    "fitted": some.log_likelihood,
                    "heldout": float(log_density(some, x[apart]).mean()),
                    **{part: areas[part] for part in ("all", "matched pairs")},
                    "rates": rates(scores, comparison.labels, -rule.threshold),
                    "float32": single_precision(x, held, test, structure, every),
                }
                write_json(path, row)
                jax.clear_caches()  # hundreds of compiled programs exhaust a process's memory maps
            rows.append(read_json(path))
    return rows


def single_precision(
    x: np.ndarray, held: np.ndarray, test: np.ndarray, structure: Structure, double: gmm.Fit
) -> dict[str, Any]:
    """The same fit in float32: differences of log-densities and of verdicts."""
    z = np.concatenate([held, test])
    size = len(double.gmm.weights)
    reference = log_density(double, z)
    with jax.enable_x64(False):
        ours = log_density(fit(x.astype(np.float32), structure, size), z.astype(np.float32))
    relative = np.abs(ours - reference) / np.abs(reference)
    verdicts = [
        values < quantile_threshold(values[: len(held)], FALSE_POSITIVES).threshold
        for values in (ours, reference)
    ]
    return {
        "median_difference": float(np.median(np.abs(ours - reference))),
        "deviation_of_log_density": float(reference.std()),
        "median_relative": float(np.median(relative)),
        "rows_over_1e-3": float((relative > 1e-3).mean()),
        "same_verdicts": float((verdicts[0] == verdicts[1]).mean()),
        "scikit_learn": sklearn_float32(x, structure, size),
    }


def sklearn_float32(x: np.ndarray, structure: Structure, size: int) -> str:
    """What scikit-learn says of the same data in float32: `fits`, `raises` or `n/a`."""
    kind, _, shrinkage = structure
    if kind == "low_rank" or shrinkage != "none":
        return "n/a"
    # One iteration is enough to see.
    model = SklearnMixture(size, covariance_type=kind, random_state=0, max_iter=20, tol=1e6)
    try:
        model.fit(x.astype(np.float32))
    except ValueError:
        return "raises"
    return "fits"


def many_rows(of: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Float32 against float64 where full covariances are well posed: every patch put first."""
    x, z = (
        of[k].reshape(-1, of[k].shape[-1]).astype(np.float64) for k in ("turned", "turned_held")
    )
    return [
        {
            **{"covariances": name_of(structure), "components": 5, "rows": len(x)},
            "float32": single_precision(x, z, z[:0], structure, fit(x, structure, 5)),
        }
        for structure in MANY
    ]


_JUDGED = (
    *("projection", "covariances", "K", "numbers a parameter", "fitted", "held-out"),
    *("AUROC, all", "AUROC, matched pairs", "FPR", "TPR"),
)
_SINGLE = (
    *("data", "covariances", "K", "rows", "median difference, nats", "standard deviation, nats"),
    *("median relative", "over 1e-3 relative", "same verdicts", "scikit-learn in float32"),
)


def report(results: dict[str, Any]) -> str:
    """The tables in Markdown."""
    parts = ["# Density of few photographs", results["about"]]
    single = [("every patch put first", row) for row in results["many_rows"]]
    for extractor in ("trained", "untrained"):
        rows = [row for row in results["rows"] if row["extractor"] == extractor]
        best = max((row for row in rows if not row["pca"]), key=lambda row: row["heldout"])
        cells = [
            (
                row["pca"] or "none",
                f"**{row['covariances']}**" if row is best else row["covariances"],
                row["components"],
                f"{row['rows_per_parameter']:.2g}",
                *(f"{row[key]:.1f}" for key in ("fitted", "heldout")),
                *(cell(row[key]) for key in ("all", "matched pairs")),
                *(f"{rate:.3f}" for rate in row["rates"]),
            )
            for row in rows
        ]
        parts += [f"## {extractor.capitalize()} extractor", table(_JUDGED, cells)]
        if extractor == "trained":
            single += [(f"photographs, projection {row['pca'] or 'none'}", row) for row in rows]
    forms = {"median_difference": ".2g", "deviation_of_log_density": ".3g"}
    forms |= {"median_relative": ".1e", "rows_over_1e-3": ".2%", "same_verdicts": ".2%"}
    lines = [
        (
            *(data, row["covariances"], row["components"], row["rows"]),
            *(format(row["float32"][key], form) for key, form in forms.items()),
            row["float32"]["scikit_learn"],
        )
        for data, row in single
    ]
    parts += [
        "Bold: what the held-out likelihood chooses among the mixtures of all 528 numbers. Behind "
        "different projections the likelihoods are of different numbers and cannot be compared.",
        "## Float32 against float64",
        "The same fit from the same start in both precisions, then log-densities of the held-out "
        "and the test images (first rows: of held-out photographs).",
        table(_SINGLE, lines),
    ]
    return "\n\n".join(parts) + "\n"


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """AUROC over held-out likelihood, of the mixtures of all numbers, for both extractors."""
    with mpl.rc_context({"font.size": 9, "figure.dpi": 120}):
        figure = Figure(figsize=(9, 3.8), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for panel, extractor in zip(panels, ("trained", "untrained"), strict=True):
            shown = [r for r in rows if r["extractor"] == extractor and not r["pca"]]
            best = max(row["heldout"] for row in shown)
            kinds = dict.fromkeys(r["covariances"].split()[0] for r in shown)
            for marker, kind in zip("osD^v*", kinds, strict=False):
                of_kind = [r for r in shown if r["covariances"].split()[0] == kind]
                # Likelihoods fall without bound; on a logarithm of the loss they stay in sight.
                loss = [best - r["heldout"] + 1 for r in of_kind]
                values = [r["all"]["value"] for r in of_kind]
                panel.plot(loss, values, marker, label=kind, alpha=0.8)
            panel.axhline(0.5, color="0.6", linewidth=1)
            label = "held-out log-likelihood below the best, nats + 1"
            panel.set(xscale="log", xlabel=label, title=f"{extractor} extractor")
            panel.invert_xaxis()
            panel.grid(alpha=0.3)
        panels[0].set_ylabel("AUROC, unseen cameras against generated")
        panels[1].legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False)
        figure.savefig(path)


def main() -> None:
    """Parses the command line, computes and writes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--tiny", action="store_true", help="after real_photos.py --tiny")
    args = parser.parse_args()
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    _log.setLevel(logging.INFO)
    data, work = args.data.resolve(), args.work.resolve()
    if not (work / "pretext_trained").is_dir():
        sys.exit(f"error: {work}: no pretext_trained; run real_photos.py first")
    plan = make_plan(data, args.tiny)
    files = lay_out(plan, data, work, CONDITION)
    comparison = Comparison(plan.test, files["test"], plan.binary, files["labelled"])
    folder = work / "few_photos"
    folder.mkdir(exist_ok=True)
    of = {name: features(plan, files["test"], work, name) for name in ("trained", "untrained")}
    rows: list[dict[str, Any]] = []
    with jax.enable_x64(True):
        for extractor, its in of.items():
            for pca in (0, *PROJECTIONS):
                if pca < min(its["fit"].shape):
                    rows += judge(folder, extractor, pca, its, comparison)
        many = many_rows(of["trained"])
    its = of["trained"]
    photos = [item for item in plan.test if item.label == 0]
    about = (
        f"jax {jax.__version__}, {jax.devices()[0].device_kind}. Features of the extractors of "
        f"real_photos.py, equalised files. Fitted to {len(its['fit'])} windows of "
        f"{len(set(its['cameras'].tolist()))} cameras (for the held-out likelihood, in nats a "
        f"window, to three quarters of them); threshold for {FALSE_POSITIVES:.0%} false positives "
        f"from {len(its['held'])} windows of other cameras; tested on {len(photos)} photographs "
        f"of {len({item.kind for item in photos})} cameras again unseen and "
        f"{len(plan.test) - len(photos)} generated windows. AUROC with 95 % intervals over cameras "
        "and source images; FPR and TPR at the threshold. The test images chose nothing."
    )
    results = {"about": about, "rows": rows, "many_rows": many}
    write_json(folder / "results.json", results)
    write_text(folder / "results.md", report(results))
    draw(rows, folder / "heldout_likelihood.png")
    print(report(results))


if __name__ == "__main__":
    main()
