"""Image files to verdicts: read, scored, checked, in groups that bound memory."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from data_pipelines.errors import UserError
from data_pipelines.evidence import Evidence, read_evidence
from data_pipelines.images import MAX_BYTES, ImageError, open_image, to_rgb
from data_pipelines.items import Item
from data_pipelines.perturbations import Perturbation
from data_pipelines.sources import read_item
from exif_jax.detection import verdicts as rules

if TYPE_CHECKING:
    from exif_jax.detection.detectors import Detector

_IMAGES, _PIXELS = 16, 2**24  # a group ends with either; one image may have more pixels
_GROWTH = 2  # of groups, from one image on: the first verdict does not wait for many images
_ORIENTATION = 0x0112
_OPTIONAL = ("error", "p_value", "probability", "heatmap", "regions")


@dataclasses.dataclass(frozen=True)
class Detection:
    """What a detector says of one image file.

    Attributes:
        path: the file, as it was named; of a member of an archive, the archive and its name.
        verdict: `photo`, `generated` or `unsure`; None if the file could not be read.
        score: higher = more likely generated; None likewise.
        threshold: scores above it are called generated.
        error: why the file could not be read, or None.
        p_value: how usual its score is among held-out photos (`Detector.p_values`); None if the
            file could not be read or the detector has no calibration.
        probability: of `generated`, calibrated, at a stated prior; None if the detector has none.
        reasons: in words, why `unsure`.
        evidence: what the file's metadata says; never part of score and verdict.
        heatmap: file with the picture and the scores of its cells, where it was asked for.
        regions: where those cells lie and their scores (`Cells.to_json`), likewise.
    """

    path: str
    verdict: rules.Verdict | None
    score: float | None
    threshold: float
    error: str | None = None
    p_value: float | None = None
    probability: float | None = None
    reasons: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    heatmap: str | None = None
    regions: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Fields for machines; some, `error` among them, only where there is one."""
        fields = dataclasses.asdict(self)
        fields |= {
            "reasons": list(self.reasons),
            "evidence": [item.to_json() for item in self.evidence],
        }
        for name in _OPTIONAL:
            if fields[name] is None:
                del fields[name]
        return fields


@dataclasses.dataclass(frozen=True)
class Picture:
    """What was read of an image file.

    Attributes:
        path: see `Detection`.
        pixels: uint8 [H, W, 3], in the orientation of the sensor.
        quality: about that of its JPEG file; None of other formats.
        orientation: of EXIF, 1..8.
        evidence: of its metadata.
    """

    path: str
    pixels: np.ndarray
    quality: int | None
    orientation: int
    evidence: tuple[Evidence, ...]


# Draws a heat map of a picture; gives its file and the cells with their scores.
Draw = Callable[[Picture], tuple[str, dict[str, Any]]]


def read_picture(item: Item) -> Picture:
    """Reads a file once, for its pixels and its evidence.

    Raises:
        ImageError: it cannot be read or decoded.
    """
    data = read_item(item, max_bytes=MAX_BYTES)
    image = open_image(data)
    quality = rules.jpeg_quality(getattr(image, "quantization", None))
    try:
        orientation = int(image.getexif().get(_ORIENTATION, 1))
    except Exception:  # damaged EXIF raises almost anything; the evidence tells of it
        orientation = 1
    pixels = to_rgb(image)
    del image  # Pillow's own copy takes four bytes a pixel
    return Picture(item.name, pixels, quality, orientation, read_evidence(item.name, data))


def judge(
    detector: "Detector",
    items: Iterable[Item],
    *,
    stability: bool = True,
    prior: float | None = None,
    draw: Draw | None = None,
) -> Iterator[Detection]:
    """Verdicts of image files, in order; the next files are read while some are scored.

    Args:
        detector: that judges.
        items: the files; the `name` is shown as the path.
        stability: also judges a recompressed and a rescaled copy of what is no `unsure` yet, where
            the detector asks for it, by a few of their cells.
        prior: share of generated images, for the probability; that of the detector by default.
        draw: makes heat maps.

    Raises:
        UserError: a prior, but the detector has no calibration.
    """
    if prior is not None and not (detector.verdicts and detector.verdicts.rule.calibration):
        raise UserError(
            f"the detector {detector.name} gives no probability, so a prior changes nothing; leave "
            "--prior out"
        )
    groups = _groups(items)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, groups, None)
        while (group := waiting.result()) is not None:
            waiting = pool.submit(next, groups, None)
            yield from _judge_group(detector, group, stability, prior, draw)


def _groups(items: Iterable[Item]) -> Iterator[list[Picture | tuple[str, str]]]:
    """Pictures, or the path and error of what is none: ever more, as many as fit in memory."""
    group: list[Picture | tuple[str, str]] = []
    pixels, most = 0, 1
    for item in items:
        try:
            picture = read_picture(item)
            group.append(picture)
            pixels += picture.pixels.shape[0] * picture.pixels.shape[1]
        except ImageError as error:
            group.append((item.name, str(error)))
        if len(group) == most or pixels >= _PIXELS:
            yield group
            group, pixels, most = [], 0, min(_GROWTH * most, _IMAGES)
    if group:
        yield group


def _judge_group(
    detector: "Detector",
    group: list[Picture | tuple[str, str]],
    stability: bool,
    prior: float | None,
    draw: Draw | None,
) -> Iterator[Detection]:
    pictures = [entry for entry in group if isinstance(entry, Picture)]
    scores = detector.score(picture.pixels for picture in pictures).tolist()
    verdicts = list(map(partial(_first_verdict, detector), pictures, scores))
    if stability and detector.verdicts is not None:
        sure = [i for i, (verdict, _) in enumerate(verdicts) if verdict != "unsure"]
        copies = detector.verdicts.stability
        changed = _verdicts_after(detector, [pictures[i].pixels for i in sure], copies)
        for i, others in zip(sure, changed, strict=True):
            if reasons := rules.stability_reasons(verdicts[i][0], others):
                verdicts[i] = ("unsure", reasons)
    judged = zip(pictures, scores, verdicts, strict=True)
    verdict_rule = detector.verdicts.rule if detector.verdicts else None
    threshold = verdict_rule.generated_above if verdict_rule else detector.threshold
    for entry in group:
        if not isinstance(entry, Picture):
            yield Detection(entry[0], None, None, threshold, entry[1])
            continue
        picture, score, (verdict, reasons) = next(judged)
        if not math.isfinite(score):
            yield Detection(picture.path, None, None, threshold, "its score is no number")
            continue
        rule = detector.rule_for(picture.pixels)
        line = rule.calibration if rule else None
        heatmap, regions = draw(picture) if draw else (None, None)
        p_values = detector.p_values(np.array([score]))
        yield Detection(
            picture.path,
            verdict,
            score,
            rule.generated_above if rule else threshold,
            p_value=None if p_values is None else float(p_values[0]),
            probability=None if line is None else rules.probability(score, line, prior),
            reasons=tuple(reasons),
            evidence=picture.evidence,
            heatmap=heatmap,
            regions=regions,
        )


def _first_verdict(
    detector: "Detector", picture: Picture, score: float
) -> tuple[rules.Verdict, list[str]]:
    """The verdict by score, size, content and compression, and why it is unsure."""
    reasons = rules.picture_reasons(picture.pixels, picture.quality, detector.verdicts)
    rule = detector.rule_for(picture.pixels)
    verdict: rules.Verdict = "generated" if score > detector.threshold else "photo"
    if rule is not None and math.isfinite(score):
        verdict = rule.decide(score)
        if verdict == "unsure":
            reasons.insert(0, rules.score_reason(score, rule))
    return ("unsure" if reasons else verdict), reasons


def _verdicts_after(
    detector: "Detector", images: list[np.ndarray], perturbations: tuple[Perturbation, ...]
) -> list[dict[str, rules.Verdict | None]]:
    """Verdicts on copies of images, by perturbation; None where it cannot be applied.

    By a few cells of each: what must not change the verdict need not be looked at everywhere.
    """
    result: list[dict[str, rules.Verdict | None]] = [{} for _ in images]
    done: list[tuple[int, str, rules.Rule]] = []

    def copies() -> Iterator[np.ndarray]:
        for i, image in enumerate(images):
            for perturbation in perturbations:
                result[i][perturbation.name] = None
                try:
                    copy = perturbation.apply(image)
                except Exception:  # codecs have limits on sides and errors of their own
                    continue
                rule = detector.rule_for(copy, few=True)
                assert rule is not None
                done.append((i, perturbation.name, rule))
                yield copy

    scores = detector.score(copies(), few=True).tolist()
    for (i, name, rule), score in zip(done, scores, strict=True):
        result[i][name] = rule.decide(score)
    return result
