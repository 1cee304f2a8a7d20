"""One-class stage: density of the features of photographs, threshold from photos not fitted."""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from scipy import stats
from tqdm import tqdm

from data_pipelines.images import ImageError
from data_pipelines.photo_sources import Photo, open_photos
from data_pipelines.splits import split_groups
from exif_jax import gmm
from exif_jax.config import OneClassConfig, check_not_negative, check_positive, check_set
from exif_jax.detector import one_class_scores, project, save_detector
from exif_jax.errors import UserError
from exif_jax.extractors import LoadedExtractor, load_extractor
from exif_jax.features import extract_features, feature_functions
from exif_jax.mapping import data_mesh, replicate
from exif_jax.plots import training_curves
from exif_jax.runs import MetricsLog, open_run
from exif_jax.storage import Tree, flatten, write_text

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Parts:
    """Rows of the features by use: to fit, to choose the components by, to set the threshold by."""

    fit: np.ndarray
    choose: np.ndarray
    threshold: np.ndarray


def principal_projection(features: np.ndarray, dimensions: int) -> Tree:
    """Centring and scaling to unit variance, onto principal components if asked.

    Args:
        features: [n, T] to learn it from.
        dimensions: principal components kept; 0: every coordinate, each scaled on its own.

    Returns:
        {"mean": float64 [T], "matrix": float64 [T, d]} for `project`. Scaling makes the mixture's
        regularisation relative; directions without variance are left unscaled.

    Raises:
        UserError: a negative number of dimensions, or more than features or rows allow.
    """
    features = np.asarray(features, np.float64)
    mean = features.mean(axis=0)
    if not dimensions:
        deviation = features.std(axis=0)
        return {"mean": mean, "matrix": np.diag(1 / np.where(deviation > 0, deviation, 1))}
    most = min(features.shape[1], len(features) - 1)
    if not 0 < dimensions <= most:
        raise UserError(
            f"config.pca = {dimensions} must lie between 0 and {most}, which is what "
            f"{len(features)} photos of {features.shape[1]} numbers allow"
        )
    _, singular, directions = np.linalg.svd(features - mean, full_matrices=False)
    deviation = singular[:dimensions] / np.sqrt(len(features))
    return {
        "mean": mean,
        "matrix": directions[:dimensions].T / np.where(deviation > 0, deviation, 1),
    }


def quantile_threshold(scores: np.ndarray, rate: float) -> dict[str, Any]:
    """Threshold with a stated false-positive rate, from scores of photos not used to fit.

    The threshold is the k-th largest of n scores, k = floor(rate * (n + 1)). A new photo scores
    above it with probability k / (n + 1), whatever the distribution; the rate over many new photos,
    with this threshold, follows Beta(k, n + 1 - k).

    Args:
        scores: float [n], higher = more likely generated.
        rate: false-positive rate wanted, in 0..1.

    Returns:
        threshold, false_positive_rate (wanted), expected_rate (k / (n + 1)), the 95 % interval of
        the rate, and the number of photos. Where even k = 1 gives more than the rate wanted,
        `too_few_photos` is true and the threshold is the largest score.

    References:
        Vovk, Gammerman & Shafer, "Algorithmic learning in a random world", 2005 (split conformal
        prediction).
    """
    n = len(scores)
    wanted = int(np.floor(rate * (n + 1) + 1e-9))
    k = max(wanted, 1)
    low, high = stats.beta.ppf([0.025, 0.975], k, n + 1 - k)
    return {
        "threshold": float(np.sort(scores)[::-1][k - 1]),
        "false_positive_rate": rate,
        "expected_rate": k / (n + 1),
        "false_positive_rate_interval": [float(low), float(high)],
        "photos": n,
        "too_few_photos": wanted == 0,
    }


def _candidates(text: str) -> list[int]:
    try:
        counts = sorted({int(part) for part in text.split(",")})
    except ValueError as error:
        raise UserError(
            f"config.num_components = {text!r}: give a number such as 5, or candidates 1,2,5"
        ) from error
    if counts[0] < 1:
        raise UserError(f"config.num_components = {text!r}: at least one component is needed")
    return counts


def _em_mesh() -> Mesh:
    """Devices of this process for EM in float64: TPUs have none, so there the host's CPU serves."""
    local = jax.local_devices()
    return data_mesh(local if local[0].platform != "tpu" else jax.local_devices(backend="cpu"))


def _features(
    config: OneClassConfig, extractor: LoadedExtractor, photos: Sequence[Photo], workdir: Path
) -> tuple[np.ndarray, np.ndarray]:
    """Features [n, T] of the readable photos and their positions; finished parts are kept on disk.

    Unreadable photos are listed in skipped.jsonl.
    """
    functions = feature_functions(extractor.module, data_mesh(jax.local_devices()))
    params = replicate(extractor.params, functions.mesh)
    network = hashlib.sha256(b"".join(x.tobytes() for x in flatten(extractor.params).values()))
    size = config.batch_size * config.checkpoint_every
    folder = workdir / "features"
    folder.mkdir(exist_ok=True)
    features, positions, skipped = [], [], []
    with tqdm(total=len(photos), unit="photo", desc="features", disable=None) as progress:
        for start in range(0, len(photos), size):
            part = photos[start : start + size]
            # Named after what it holds: other photos or another network by now mean another file.
            names = "\n".join(photo.path for photo in part).encode("utf-8", "surrogateescape")
            digest = hashlib.sha256(network.digest() + names).hexdigest()[:16]
            path = folder / f"{start:09d}-{digest}.npz"
            if path.exists():
                progress.update(len(part))
            else:
                errors: dict[int, str] = {}
                images = _readable(part, errors, progress)
                chunk = 16 * config.batch_size
                computed = extract_features(functions, params, images, chunk, config.data.patches)
                _save_part(path, computed, errors)
            with np.load(path, allow_pickle=False) as saved:
                unread = {start + int(i): reason for i, reason in json.loads(str(saved["errors"]))}
                if len(saved["features"]):
                    features.append(saved["features"])
            positions += [i for i in range(start, start + len(part)) if i not in unread]
            skipped += [{"path": photos[i].path, "reason": unread[i]} for i in unread]
    listing = workdir / "skipped.jsonl"
    write_text(listing, "".join(json.dumps(row) + "\n" for row in skipped))
    if skipped:
        _log.warning("skipped %d unreadable photos, see %s", len(skipped), listing)
    if not features:
        raise UserError(f"{config.data.photos}: none of {len(photos)} photos could be read")
    return np.concatenate(features), np.array(positions)


def _readable(
    photos: Sequence[Photo], errors: dict[int, str], progress: tqdm
) -> Iterator[np.ndarray]:
    """Decoded photos; the reasons of unreadable ones go to `errors`, by position."""
    for position, photo in enumerate(photos):
        progress.update()
        try:
            yield photo.read()
        except ImageError as error:
            errors[position] = str(error)


def _save_part(path: Path, features: np.ndarray, errors: dict[int, str]) -> None:
    temporary = path.with_suffix(".tmp.npz")
    np.savez(temporary, features=features, errors=json.dumps(list(errors.items())))
    temporary.replace(path)


def _divide(photos: Sequence[Photo], config: OneClassConfig, choosing: bool) -> Parts:
    """Divides photos by use, groups (windows of one photo, bursts) undivided.

    Prepared records bring their own held-out split, which the extractor has not seen either: it
    sets the threshold. Otherwise `heldout_fraction` of the photos are kept from fitting.
    """
    groups = [photo.group for photo in photos]
    held = np.array([photo.heldout for photo in photos])
    fraction = config.heldout_fraction
    if not held.any():
        held = np.array(split_groups(groups, fraction / 2 if choosing else fraction, config.seed))
        fraction /= 2
    fit, choose = ~held, np.zeros(len(photos), bool)
    if choosing:
        choose = np.array(split_groups(groups, fraction, config.seed + 1)) & ~held
        fit &= ~choose
    parts = Parts(*(np.flatnonzero(part) for part in (fit, choose, held)))
    if not len(parts.fit) or not len(parts.threshold) or (choosing and not len(parts.choose)):
        raise UserError(
            f"config.data.photos: {len(photos)} photos are too few to keep "
            f"config.heldout_fraction = {config.heldout_fraction} of them from fitting"
        )
    return parts


def _fit_mixture(
    x: np.ndarray,
    held: np.ndarray,
    components: int,
    config: OneClassConfig,
    log: MetricsLog | None,
) -> gmm.GaussianMixture:
    """Runs EM; writes the history of the training and held-out rows if there is a log."""
    mesh = _em_mesh()
    key = jax.random.fold_in(jax.random.key(config.seed), components)
    state = gmm.initial_state(
        x, gmm.kmeans_responsibilities(key, x, components), config.reg_covar, mesh
    )
    done = 0
    while done < config.steps:
        part = min(config.eval_every, config.steps - done)
        state, history = gmm.run_em(state, x, part, config.tolerance, config.reg_covar, mesh)
        mixture = gmm.checked_mixture(state)
        for step, value in enumerate(history.tolist(), start=done + 1):
            if log and step % config.log_every == 0:
                log.write(step, "train", {"loss": -value})
        done += len(history)
        if log and len(history):
            loss = -float(np.asarray(gmm.log_density(mixture, held)).mean())
            log.write(done, "validation", {"loss": loss})
        if len(history) < part or bool(state.converged):
            break
    return gmm.checked_mixture(state)


def run(config: OneClassConfig, workdir: Path) -> None:
    """Fits a one-class detector and writes it to workdir/detector.

    Raises:
        UserError: the configuration, the photos, the extractor or the workdir do not fit.
    """
    check_set("extractor", config.extractor)
    check_set("data.photos", config.data.photos)
    check_positive(config, "batch_size", "steps", "checkpoint_every", "eval_every", "log_every")
    check_not_negative(config, "data.patches", "pca", "reg_covar", "tolerance")
    if jax.process_count() > 1:
        raise UserError("the one-class stage uses the devices of one process: start only one")
    for name in ("false_positive_rate", "heldout_fraction"):
        if not 0 < getattr(config, name) < 1:
            raise UserError(f"config.{name} = {getattr(config, name)} must lie between 0 and 1")
    candidates = _candidates(config.num_components)
    extractor = load_extractor(config.extractor)
    photos = open_photos(Path(config.data.photos))
    open_run(workdir, config, "one_class")
    if (workdir / "detector").is_dir():
        _log.info("this run is finished: %s is written", workdir / "detector")
        return
    features, positions = _features(config, extractor, photos, workdir)
    choosing = len(candidates) > 1
    parts = _divide([photos[i] for i in positions], config, choosing)
    if candidates[-1] > len(parts.fit):
        raise UserError(
            f"config.num_components = {config.num_components!r}: {len(parts.fit)} photos to fit "
            "are fewer than the components"
        )
    projection = principal_projection(features[parts.fit], config.pca)
    x = project(features, projection)
    try:
        with jax.enable_x64(True):
            table = []
            for components in candidates if choosing else []:
                mixture = _fit_mixture(x[parts.fit], x[parts.choose], components, config, None)
                held = float(np.asarray(gmm.log_density(mixture, x[parts.choose])).mean())
                table.append({"num_components": components, "heldout_log_likelihood": held})
                _log.info("%d components: held-out log-likelihood %.3f", components, held)
            best = max(table, key=lambda row: row["heldout_log_likelihood"], default=None)
            chosen = int(best["num_components"]) if best else candidates[0]
            with MetricsLog(workdir, 0) as log:
                rows = np.concatenate([parts.fit, parts.choose])
                mixture = _fit_mixture(x[rows], x[parts.threshold], chosen, config, log)
        training_curves(workdir / "metrics.jsonl", workdir / "curves.png")
    except ValueError as error:
        raise UserError(f"the mixture cannot be fitted to these photos: {error}") from error
    arrays = {
        "projection": projection,
        "gmm": {
            name: np.asarray(getattr(mixture, name))
            for name in ("weights", "means", "precisions_cholesky")
        },
    }
    held_scores = one_class_scores(features[parts.threshold], arrays).astype(np.float32)
    rule = quantile_threshold(held_scores, config.false_positive_rate)
    if rule["too_few_photos"]:
        _log.warning(
            "%d held-out photos are too few for a false-positive rate of %g: the threshold is the "
            "largest of their scores, with an expected rate of %.3g",
            rule["photos"],
            config.false_positive_rate,
            rule["expected_rate"],
        )
    save_detector(
        workdir / "detector",
        "one_class",
        rule["threshold"],
        extractor,
        arrays,
        {
            "threshold_rule": "split conformal quantile of photos not used to fit",
            "threshold_details": rule,
            "patches": config.data.patches,
            "num_components": chosen,
            "component_choice": table,
            "training_data": {
                "photos": config.data.photos,
                "fitted": len(parts.fit) + len(parts.choose),
                "components_chosen_by": len(parts.choose),
                "threshold_from": len(parts.threshold),
                "unreadable": len(photos) - len(positions),
            },
        },
    )
    _log.info("threshold %.4f from %d held-out photos", rule["threshold"], rule["photos"])
