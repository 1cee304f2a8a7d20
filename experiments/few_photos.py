r"""Which density of few photographs holds up on cameras that it has not seen?

python experiments/few_photos.py --data DATA --work DIR

DIR is the work directory of real_photos.py, of which this needs the extractors and the records;
DATA as there. Mixtures of every kind are fitted to the features of the photographs for training,
whole cameras are kept for the held-out likelihood, others set the threshold, others again are
tested against generated images; and every fit is done in float32 and in float64. The tables and the
plot go to DIR/few_photos. Started again, it continues: features and finished rows are kept there.
"""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jax
import matplotlib as mpl
import numpy as np
from comparison import Comparison, table
from matplotlib.figure import Figure
from photos import Plan, lay_out, log, make_plan, start
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture as SklearnMixture
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from data_pipelines.errors import UserError
from data_pipelines.files import read_json, write_json, write_text
from data_pipelines.images import PATCH, decode_image
from data_pipelines.photo_sources import open_photos
from data_pipelines.splits import split_groups
from exif_jax import gmm, load_extractor
from exif_jax.detection.thresholds import quantile_threshold
from exif_jax.figures import COLOURS, STYLE, finish, save
from exif_jax.gmm import Structure

CONDITION = "equalised"
PATCHES = 8  # of each window, as in real_photos.py
FALSE_POSITIVES = 0.05
_TOGETHER = 32  # images whose features are computed at once
EXTRACTORS = ("trained", "untrained")
JUDGED = (
    *("projection", "covariances", "K", "numbers a parameter", "fitted", "held-out"),
    *("AUROC, all", "AUROC, matched pairs", "FPR", "TPR"),
)

# Without a projection all candidates are densities of the same numbers, so that their held-out
# likelihoods can be compared; behind different projections they cannot.
_FULL, _TIED, _DIAG = map(Structure, ("full", "tied", "diag"))
WHOLE: list[tuple[Structure, tuple[int, ...]]] = [
    (_FULL, (1, 2, 5)),
    (Structure(shrinkage="ledoit_wolf"), (1, 5)),
    (_TIED, (5,)),
    (_DIAG, (1, 5)),
    (Structure("spherical"), (5,)),
    *((Structure("low_rank", rank), (1, 2, 5)) for rank in (8, 32, 128)),
]
PROJECTED: list[tuple[Structure, tuple[int, ...]]] = [(_FULL, (1, 5)), (_DIAG, (1,))]
PROJECTIONS = (16, 64, 256)
MANY = (_FULL, _TIED, _DIAG, Structure("low_rank", 32))


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
    key = jax.random.fold_in(jax.random.key(0), size)
    return gmm.fit(key, x, size, **dataclasses.asdict(structure))


def log_density(fitted: gmm.Fit, x: np.ndarray) -> np.ndarray:
    """[n], float64."""
    return np.asarray(gmm.log_density(fitted.gmm, x), np.float64)


def name_of(structure: Structure) -> str:
    """Such as `low_rank 8` or `full ledoit_wolf`."""
    words = map(str, dataclasses.astuple(structure))
    return " ".join(word for word in words if word not in ("0", "none"))


def judge(
    folder: Path,
    extractor: str,
    pca: int,
    of: dict[str, np.ndarray],
    comparison: Comparison,
    candidates: list[tuple[Structure, tuple[int, ...]]],
) -> list[dict[str, Any]]:
    """Fits the candidates behind one projection; finished rows are kept in the folder."""
    projection = PCA(pca, whiten=True, svd_solver="full") if pca else StandardScaler()
    parts = [of[part].astype(np.float64) for part in ("fit", "held", "test")]
    x, held, test = map(projection.fit(parts[0]).transform, parts)
    apart = np.array(split_groups(of["cameras"].tolist(), 0.25, 1))
    rows = []
    for structure, sizes in candidates:
        for size in (
            sizes if structure.rank < x.shape[1] else ()
        ):  # a narrow network has few columns
            name = f"{extractor}_{pca}_{name_of(structure).replace(' ', '_')}_{size}"
            path = folder / "rows" / f"{name}.json"
            if not path.exists():
                log.info("%s", name)
                path.parent.mkdir(exist_ok=True)
                some, every = fit(x[~apart], structure, size), fit(x, structure, size)
                scores = -log_density(every, test)
                rule = quantile_threshold(log_density(every, held), FALSE_POSITIVES)
                areas = comparison.summary(comparison.areas(scores))
                row = {
                    **{"extractor": extractor, "projection": pca or "none"},
                    **{"covariances": name_of(structure), "K": size, "rows": len(x)},
                    "numbers a parameter": every.rows_per_parameter,
                    "fitted": some.log_likelihood,
                    "held-out": float(log_density(some, x[apart]).mean()),
                    **{f"AUROC, {part}": areas[part] for part in ("all", "matched pairs")},
                    **comparison.rates(scores, -rule.threshold),
                    **single_precision(x, held, test, structure, every),
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
    difference = np.abs(ours - reference)
    relative = difference / np.abs(reference)
    verdicts = [
        values < quantile_threshold(values[: len(held)], FALSE_POSITIVES).threshold
        for values in (ours, reference)
    ]
    return {
        "median difference, nats": float(np.median(difference)),
        "standard deviation, nats": float(reference.std()),
        "median relative": float(np.median(relative)),
        "over 1e-3 relative": float((relative > 1e-3).mean()),
        "same verdicts": float((verdicts[0] == verdicts[1]).mean()),
        "scikit-learn in float32": sklearn_float32(x, structure, size),
    }


def sklearn_float32(x: np.ndarray, structure: Structure, size: int) -> str:
    """What scikit-learn says of the same data in float32: `fits`, `raises` or `n/a`."""
    kind = structure.covariance_type
    if structure not in (_FULL, _TIED, _DIAG, Structure("spherical")):
        return "n/a"
    # One iteration is enough to see.
    model = SklearnMixture(size, covariance_type=kind, random_state=0, max_iter=20, tol=1e6)
    try:
        model.fit(x.astype(np.float32))
    except ValueError:
        return "raises"
    return "fits"


def many_rows(of: dict[str, np.ndarray], structures: tuple[Structure, ...]) -> list[dict[str, Any]]:
    """Float32 against float64 where full covariances are well posed: every patch put first."""
    x, z = (
        of[k].reshape(-1, of[k].shape[-1]).astype(np.float64) for k in ("turned", "turned_held")
    )
    return [
        {
            **{"projection": "none", "covariances": name_of(structure), "K": 5, "rows": len(x)},
            **single_precision(x, z, z[:0], structure, fit(x, structure, 5)),
        }
        for structure in structures
    ]


def report(results: dict[str, Any]) -> str:
    """The tables in Markdown."""
    parts = ["# Density of few photographs", results["about"]]
    single = results["many_rows"]
    for extractor in EXTRACTORS:
        rows = [row for row in results["rows"] if row["extractor"] == extractor]
        single = single + rows * (extractor == "trained")
        best = max(_whole(rows, extractor), key=lambda row: row["held-out"])
        parts += [
            f"## {extractor.capitalize()} extractor",
            table(rows, *JUDGED),
            "Of the mixtures of all numbers the held-out likelihood chooses "
            f"{best['covariances']}, K = {best['K']}.",
        ]
    parts += [
        "## Float32 against float64",
        table(single, *("projection", "covariances", "K", "rows"), *list(single[0])[4:]),
    ]
    return "\n\n".join(parts) + "\n"


def _whole(rows: list[dict[str, Any]], extractor: str) -> list[dict[str, Any]]:
    return [r for r in rows if r["extractor"] == extractor and r["projection"] == "none"]


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """AUROC over held-out likelihood, of the mixtures of all numbers, for both extractors."""
    with mpl.rc_context({**STYLE, "text.parse_math": True}):  # of the logarithmic axis
        figure = Figure(figsize=(9, 3.8), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for panel, extractor in zip(panels, EXTRACTORS, strict=True):
            drawn = _whole(rows, extractor)
            best = max(row["held-out"] for row in drawn)
            kinds = dict.fromkeys(row["covariances"].split()[0] for row in drawn)
            for marker, colour, kind in zip("osD^v*", COLOURS, kinds, strict=False):
                of_kind = [row for row in drawn if row["covariances"].split()[0] == kind]
                # Likelihoods fall without bound; on a logarithm of the loss they stay in sight.
                loss = [best - row["held-out"] + 1 for row in of_kind]
                values = [row["AUROC, all"]["value"] for row in of_kind]
                panel.plot(loss, values, marker, color=colour, label=kind)
            label = "held-out log-likelihood below the best, nats + 1"
            panel.set(xscale="log", xlabel=label, title=f"{extractor} extractor")
            panel.invert_xaxis()
            panel.grid(alpha=0.3)
        panels[0].set_ylabel("AUROC, unseen cameras against generated")
        finish(panels[1])
        save(figure, path)


def experiment(data: Path, work: Path, tiny: bool) -> None:
    """Computes and writes everything."""
    if not (work / "pretext_trained").is_dir():
        raise UserError(f"{work}: no pretext_trained; run real_photos.py first")
    plan = make_plan(data, tiny)
    files = lay_out(plan, data, work, CONDITION)
    comparison = Comparison(plan, files)
    folder = work / "few_photos"
    folder.mkdir(exist_ok=True)
    of = {name: features(plan, files["test"], work, name) for name in EXTRACTORS}
    rows: list[dict[str, Any]] = []
    with jax.enable_x64(True):
        for extractor, its in of.items():
            for pca in (0, *PROJECTIONS):
                if pca < min(its["fit"].shape):
                    candidates = (PROJECTED if pca else WHOLE)[: 2 if tiny else None]
                    rows += judge(folder, extractor, pca, its, comparison, candidates)
        many = many_rows(of["trained"], MANY[: 2 if tiny else None])
    fitted, held = (len(of["trained"][part]) for part in ("fit", "held"))
    about = (
        f"jax {jax.__version__}, {jax.devices()[0].device_kind}. Fitted to {fitted} windows of "
        f"{len(set(of['trained']['cameras'].tolist()))} cameras; threshold from {held} windows of "
        f"others; tested on {sum(item.label == 0 for item in plan.test)} photographs of "
        f"{len({item.kind for item in plan.test if item.label == 0})} cameras again unseen and "
        f"{sum(item.label for item in plan.test)} generated windows. How: experiments/README.md."
    )
    results = {"about": about, "rows": rows, "many_rows": many}
    write_json(folder / "results.json", results)
    write_text(folder / "results.md", report(results))
    draw(rows, folder / "heldout_likelihood.png")
    print(report(results))


if __name__ == "__main__":
    start(__doc__, experiment)
