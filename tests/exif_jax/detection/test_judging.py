"""Files of every kind to verdicts: metadata changes nothing, bad input stops nothing."""

import dataclasses
import io
import json
import zlib

import numpy as np
import pytest
from PIL import Image, features
from PIL.PngImagePlugin import PngInfo

from data_pipelines.errors import UserError
from data_pipelines.items import Item
from exif_jax.detection import judging
from exif_jax.detection.cells import few_cells, find_cells
from exif_jax.detection.detectors import load_detector
from exif_jax.detection.judging import judge
from exif_jax.detection.verdicts import parse_verdicts, probability
from tests.data_pipelines.evidence.crafted import exif_of, jumbf, xmp_of
from tests.exif_jax.noise_detector import CALM, NOISY, VERDICTS, picture
from tests.fuzzing.seeds import jpeg_segment, png_chunk


@pytest.fixture(scope="module")
def detector(noise_detector):
    return load_detector(noise_detector)


def saved(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


def plain(detector):
    """Without the check of stability, which takes time."""
    return dataclasses.replace(
        detector, verdicts=dataclasses.replace(detector.verdicts, stability=())
    )


def test_noise_is_a_photo_and_calm_is_generated(detector, tmp_path):
    paths = [saved(tmp_path / f"{s}.png", picture(s)) for s in (CALM, NOISY)]
    calm, noisy = detector.detect(paths)
    assert (calm.verdict, noisy.verdict) == ("generated", "photo")
    assert calm.reasons == noisy.reasons == ()
    assert calm.threshold == noisy.threshold == VERDICTS["generated_above"]
    line = detector.verdicts.rule.calibration
    assert calm.probability == probability(calm.score, line)
    (at_prior,) = judge(detector, [Item(str(paths[0]), str(paths[0]))], prior=0.01)
    assert at_prior.probability == probability(calm.score, line, 0.01) < calm.probability
    assert json.loads(json.dumps(calm.to_json()))["evidence"][0]["kind"] == "camera_exif"


def test_metadata_changes_no_score_and_no_verdict(detector, tmp_path):
    pixels = picture(NOISY)
    texts = PngInfo()
    texts.add_text("parameters", "a cat\nSteps: 20, Sampler: Euler a, CFG scale: 7, Seed: 1")
    camera = exif_of({0x010F: "Canon", 0x0110: "Canon EOS 5D"}, {0x829D: 4.0, 0x8827: 200})
    kind = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
    xmp = xmp_of(f'Iptc4xmpExt:DigitalSourceType="{kind}"')
    paths = [
        saved(tmp_path / "plain.png", pixels),
        saved(tmp_path / "tool.png", pixels, pnginfo=texts),
        saved(tmp_path / "camera.png", pixels, exif=camera),
        saved(tmp_path / "plain.jpg", pixels, quality=95),
        saved(tmp_path / "xmp.jpg", pixels, quality=95, xmp=xmp),
        saved(tmp_path / "camera.jpg", pixels, quality=95, exif=camera),
    ]
    found = plain(detector).detect(paths)
    claims = [{item.says for item in row.evidence} - {"nothing"} for row in found]
    assert claims == [set(), {"generated"}, {"photo"}, set(), {"generated"}, {"photo"}]
    for group in (found[:3], found[3:]):
        assert len({(row.verdict, row.score, row.reasons, row.probability) for row in group}) == 1


def test_a_verdict_that_mild_changes_undo_is_unsure(detector, tmp_path):
    path = saved(tmp_path / "noisy.png", picture(NOISY))
    weak = parse_verdicts(VERDICTS | {"stability": ["jpeg:98", "blur:2"]})
    fragile = dataclasses.replace(detector, verdicts=weak)
    (found,) = fragile.detect([path])
    assert found.verdict == "unsure" and found.score < 0.3
    assert found.reasons == ("the verdict photo does not survive blur:2: it becomes generated",)
    item = Item(str(path), str(path))
    assert next(judge(fragile, [item], stability=False)).verdict == "photo"


def test_scores_between_the_thresholds_are_unsure_and_by_the_number_of_cells(detector, tmp_path):
    paths = [saved(tmp_path / f"{side}.png", picture(NOISY, side, side)) for side in (256, 512)]
    rules = VERDICTS | {"by_cells": [{"cells": 4, "photo_below": 1e-9, "slope": 1.0}]}
    one, four = dataclasses.replace(detector, verdicts=parse_verdicts(rules)).detect(paths)
    assert one.verdict == "photo" and four.verdict == "unsure"
    assert "lies between 1e-09" in four.reasons[0]
    assert four.probability == pytest.approx(four.score * np.exp(0.1), rel=1e-2)


def test_detectors_without_verdicts_know_two(detector, tmp_path):
    two = dataclasses.replace(detector, verdicts=None)
    path = saved(tmp_path / "small.png", picture(NOISY, 70, 70))
    (found,) = two.detect([path])
    assert (found.verdict, found.threshold, found.reasons) == ("photo", 0.5, ())
    assert found.probability is None
    with pytest.raises(UserError, match="gives no probability"):
        list(judge(two, [Item(str(path), str(path))], prior=0.5))


def gain_map_jpeg(pixels):
    """As phones write it: a second picture, listed in a multi-picture block."""
    file = io.BytesIO()
    gain = Image.fromarray(pixels[::4, ::4]).convert("L")
    Image.fromarray(pixels).save(file, "MPO", quality=95, save_all=True, append_images=[gain])
    return file.getvalue()


def insert(data, at, more):
    return data[:at] + more + data[at:]


def encoded(pixels, kind, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def test_odd_pictures_get_a_verdict_or_a_reason(detector, tmp_path):
    noisy = picture(NOISY)
    deep = (noisy[..., 0].astype(np.uint16) << 8) + 77
    clear = np.dstack([noisy, np.zeros(noisy.shape[:2], np.uint8)])
    frames = [Image.fromarray(picture(NOISY, seed=seed)).convert("P") for seed in range(3)]
    animated = io.BytesIO()
    frames[0].save(animated, "GIF", save_all=True, append_images=frames[1:])
    cmyk = io.BytesIO()
    Image.fromarray(noisy).convert("CMYK").save(cmyk, "JPEG", quality=98)
    jpeg, manifest = encoded(noisy, "JPEG", quality=98), jumbf()
    lying = b"JP\0\1" + b"\xff" * 4 + b"\xff\xff\xff\xf0jumb" + manifest[8:]
    kinds = {
        "1 pixel.png": (encoded(noisy[:1, :1], "PNG"), "too small: 1 x 1"),
        "transparent.png": (encoded(clear, "PNG"), "saturated"),
        "wide.jpg": (encoded(picture(NOISY, 130, 20_000), "JPEG", quality=98), None),
        "animated.gif": (animated.getvalue(), None),
        "16 bits.png": (encoded(deep, "PNG"), None),
        "cmyk.jpg": (cmyk.getvalue(), None),
        "gain map.jpg": (gain_map_jpeg(noisy), None),
        "c2pa.jpg": (insert(jpeg, 2, jpeg_segment(0xEB, lying)), None),
        "coarse.jpg": (encoded(noisy, "JPEG", quality=20), "quality of about 20"),
    }
    if features.check("webp"):
        webp = io.BytesIO()
        rgb = [frame.convert("RGB") for frame in frames]
        rgb[0].save(webp, "WEBP", save_all=True, append_images=rgb[1:], quality=95)
        kinds["animated.webp"] = (webp.getvalue(), None)
    for name, (data, _) in kinds.items():
        (tmp_path / name).write_bytes(data)
    found = plain(detector).detect([tmp_path / name for name in kinds])
    for row, (name, (_, reason)) in zip(found, kinds.items(), strict=True):
        assert row.error is None and np.isfinite(row.score), name
        assert (row.verdict == "photo") == (reason is None), (name, row)
        assert reason is None or any(reason in text for text in row.reasons), (name, row.reasons)
    by_name = dict(zip(kinds, found, strict=True))
    # Of a gain map's file and of an animation, the first picture counts.
    first = plain(detector).score([np.asarray(frames[0].convert("RGB"))])
    np.testing.assert_allclose(by_name["animated.gif"].score, first[0], rtol=1e-4)


def test_texts_of_a_hundred_megabytes_are_bounded(detector, tmp_path):
    png = encoded(picture(NOISY), "PNG")
    long = b"parameters\0" + bytes(100 * 2**20)
    packed = b"parameters\0\0" + zlib.compress(bytes(100 * 2**20))
    (tmp_path / "long.png").write_bytes(insert(png, 33, png_chunk(b"tEXt", long)))
    (tmp_path / "packed.png").write_bytes(insert(png, 33, png_chunk(b"zTXt", packed)))
    found = plain(detector).detect(sorted(tmp_path.iterdir()))
    # Pillow refuses such files; what matters is one clear line each, and that nothing else stops.
    for row in found:
        assert row.score is None or row.verdict == "photo"
        assert row.error is None or ("\n" not in row.error and "text" in row.error.lower())


def test_groups_are_bounded_and_errors_keep_their_place(detector, tmp_path, monkeypatch):
    monkeypatch.setattr(judging, "_IMAGES", 3)
    monkeypatch.setattr(judging, "_PIXELS", 2 * 256 * 256)
    good = saved(tmp_path / "good.png", picture(NOISY))
    (tmp_path / "bad.png").write_bytes(b"bad")
    names = ["good", "bad", "bad", "bad", "bad", "good", "good", "good", "bad"]
    paths = [tmp_path / f"{name}.png" for name in names]
    items = [Item(str(path), str(path)) for path in paths]
    assert [len(group) for group in judging._groups(items)] == [1, 2, 3, 2, 1]
    found = plain(detector).detect(paths)
    assert [row.path for row in found] == list(map(str, paths))
    assert [row.error is None for row in found] == [name == "good" for name in names]
    assert len({row.score for row in found}) == 2 and good.exists()


def test_a_score_that_is_no_number_is_an_error_of_its_image(detector, tmp_path, monkeypatch):
    paths = [saved(tmp_path / f"{i}.png", picture(NOISY)) for i in range(2)]
    scores = iter([np.nan, 0.1])

    def score(self, images, few=False):
        return np.array([next(scores) for _ in images])

    monkeypatch.setattr(type(detector), "score", score)
    bad, good = plain(detector).detect(paths)
    assert bad.verdict is None and "no number" in bad.error
    assert good.verdict == "photo"


def test_the_score_of_cells_is_their_mean_in_log_odds(detector):
    image = np.concatenate([picture(3, seed=1), picture(5, seed=2)], axis=1)
    scores, cells = detector.cells(image, stride=256)
    assert cells.lefts == (0, 256) and scores.shape == (1, 2)
    np.testing.assert_allclose(
        scores[0], detector.score([image[:, :256], image[:, 256:]]), rtol=1e-4
    )
    log_odds = np.log(scores / (1 - scores)).mean()
    np.testing.assert_allclose(detector.score([image]), 1 / (1 + np.exp(-log_odds)), rtol=1e-4)


def test_few_cells_are_scored_like_an_image_of_them(detector):
    image = picture(3, 512, 1024, seed=1)
    cells = few_cells(find_cells(image.shape, 256))
    of_cells = detector.score(cells.cut(image))
    log_odds = np.log(of_cells / (1 - of_cells)).mean()
    few = detector.score([image], few=True)
    np.testing.assert_allclose(few, 1 / (1 + np.exp(-log_odds)), rtol=1e-4)
    assert (few != detector.score([image])).all()


def test_the_check_of_stability_looks_at_few_cells(detector, tmp_path, monkeypatch):
    Image.fromarray(picture(NOISY, 768, 768)).save(tmp_path / "large.png")
    asked = []
    score = type(detector).score

    def spy(self, images, few=False):
        asked.append(few)
        return score(self, images, few)

    monkeypatch.setattr(type(detector), "score", spy)
    assert next(judge(detector, [Item("large", str(tmp_path / "large.png"))])).verdict == "photo"
    assert asked == [False, True]


def test_a_spliced_picture_lights_up_on_the_right_half(detector):
    image = np.concatenate([picture(NOISY, 512, 512), picture(CALM, 512, 512, seed=1)], axis=1)
    scores, cells = detector.cells(image)
    lefts = np.array(cells.lefts)
    assert scores.shape == (3, 7)
    assert (scores[:, lefts + 256 <= 512] < 0.1).all() and (scores[:, lefts >= 512] > 0.9).all()


def test_parameters_are_put_on_the_devices_once(noise_detector, monkeypatch):
    from exif_jax.detection import detectors

    calls = []
    original = detectors.replicate
    monkeypatch.setattr(detectors, "replicate", lambda *x: calls.append(1) or original(*x))
    fresh = load_detector(noise_detector)
    image = picture(NOISY)
    assert fresh.score([image]) == fresh.score([image]) and len(calls) == 1
