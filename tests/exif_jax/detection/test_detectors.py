"""Detectors on disk and in use: what is saved comes back, scores mean what they say."""

import dataclasses
import json
import shutil
import struct
import zlib

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file
from scipy.special import expit, logsumexp
from scipy.stats import multivariate_normal

import exif_jax
from data_pipelines.errors import UserError
from exif_jax.detection.detectors import Detection, load_detector, save_detector
from exif_jax.detection.features import extract_features
from exif_jax.detection.kinds import OneClass
from exif_jax.models.storage import FORMAT_VERSION, flatten
from exif_jax.models.trained import load_extractor

SIZES = [(64, 64), (40, 300), (130, 200), (256, 256), (20, 20), (1, 1), (300, 64)]
FEATURES, KEPT, COMPONENTS = 10, 3, 2


def random_arrays(kind):
    rng = np.random.default_rng(5)
    if kind == "binary":
        kernel = rng.normal(size=(FEATURES, 2)).astype(np.float32)
        return {"head": {"fc": {"kernel": kernel, "bias": np.array([0.1, -0.2], np.float32)}}}
    upper = np.triu(rng.normal(size=(COMPONENTS, KEPT, KEPT))) + 3 * np.eye(KEPT)
    return {
        "projection": {
            "mean": rng.normal(size=FEATURES),
            "matrix": rng.normal(size=(FEATURES, KEPT)),
        },
        "gmm": {
            "weights": np.array([0.25, 0.75]),
            "means": rng.normal(size=(COMPONENTS, KEPT)),
            "precisions_cholesky": upper,
        },
    }


def write(directory, kind, extractor, threshold=0.5, **facts):
    arrays = random_arrays(kind)
    save_detector(directory, kind, threshold, load_extractor(extractor), arrays, facts)
    return directory


@pytest.fixture(scope="module", params=["one_class", "binary"])
def directory(request, tiny_extractor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / f"my_{request.param}" / "detector"
    return write(folder, request.param, tiny_extractor, threshold_rule="by hand")


@pytest.fixture
def copy(directory, tmp_path):
    return shutil.copytree(directory, tmp_path / "copy")


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [rng.integers(256, size=(*size, 3), dtype=np.uint8) for size in SIZES]


@pytest.fixture(scope="module")
def photo(tmp_path_factory, images):
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(images[3]).save(path)
    return path


def test_what_was_saved_comes_back(directory, tiny_extractor):
    kind = directory.parent.name.removeprefix("my_")
    detector = load_detector(directory)
    assert (detector.name, detector.kind, detector.threshold) == (f"my_{kind}", kind, 0.5)
    assert detector.facts["threshold_rule"] == "by hand"
    assert detector.facts["versions"].keys() == {"exif-jax", "jax", "flax"}
    pairs = [
        (detector.arrays, random_arrays(kind)),
        (detector.extractor.params, load_extractor(tiny_extractor).params),
    ]
    for actual, expected in pairs:
        actual, expected = flatten(actual), flatten(expected)
        assert actual.keys() == expected.keys()
        for name, array in expected.items():
            assert actual[name].dtype == array.dtype
            np.testing.assert_array_equal(actual[name], array)


def test_scores_are_minus_the_log_density_or_a_probability(directory, images):
    detector = load_detector(directory)
    extractor = detector.extractor
    features = extract_features(extractor.module, extractor.params, images).astype(np.float64)
    arrays = random_arrays(detector.kind)
    if detector.kind == "binary":
        logits = features @ arrays["head"]["fc"]["kernel"] + arrays["head"]["fc"]["bias"]
        expected = expit(logits[:, 1] - logits[:, 0])
    else:
        x = (features - arrays["projection"]["mean"]) @ arrays["projection"]["matrix"]
        parts = [
            np.log(weight) + multivariate_normal(mean, np.linalg.inv(upper @ upper.T)).logpdf(x)
            for weight, mean, upper in zip(*arrays["gmm"].values(), strict=True)
        ]
        expected = -logsumexp(parts, axis=0)
    scores = detector.score(images)
    assert scores.dtype == np.float32 and scores.shape == (len(SIZES),)
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-6)
    assert len(set(scores.tolist())) == len(SIZES)


def test_a_score_depends_on_its_image_alone_and_keeps_its_place(directory, images):
    detector = load_detector(directory)
    scores = detector.score(images)
    np.testing.assert_allclose(detector.score(iter(images[::-1])), scores[::-1], rtol=1e-4)
    np.testing.assert_allclose(detector.score(images[2:3]), scores[2:3], rtol=1e-4)
    assert detector.score([]).shape == (0,)


@pytest.mark.parametrize(
    "bad", [np.zeros((64, 64)), np.zeros((64, 64, 3)), np.zeros((64, 64, 4), np.uint8)]
)
def test_other_arrays_are_refused(directory, bad):
    with pytest.raises(ValueError, match=r"uint8 \[H, W, 3\]"):
        load_detector(directory).score([bad])


def test_only_scores_strictly_above_the_threshold_are_generated(directory, photo):
    detector = load_detector(directory)
    (score,) = detector.score([np.asarray(Image.open(photo))]).tolist()
    at = dataclasses.replace(detector, threshold=score)
    (found,) = at.detect([photo])
    assert found == Detection(str(photo), "photo", score, score, evidence=found.evidence)
    just_below = dataclasses.replace(detector, threshold=float(np.nextafter(score, -np.inf)))
    assert just_below.detect([photo])[0].verdict == "generated"


def png_header(width, height):
    def chunk(kind, data):
        checksum = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.fixture(scope="module")
def calibrated(tiny_extractor, images, tmp_path_factory):
    """A one-class detector with a calibration: the log-densities of `images` in float64."""
    extractor, arrays = load_extractor(tiny_extractor), random_arrays("one_class")
    features = extract_features(extractor.module, extractor.params, images)
    arrays["calibration"] = {"log_density": np.sort(-OneClass().score(features, arrays))}
    folder = tmp_path_factory.mktemp("calibrated") / "detector"
    save_detector(folder, "one_class", 0.5, extractor, arrays, {})
    return folder


def test_p_values_rank_scores_among_the_calibration(calibrated, images):
    detector = load_detector(calibrated)
    n = len(images)
    assert detector.heldout_photos == n
    # Its own photos, scored as the run did it: the most unlike one is the first of n + 1, and a
    # rounding of scores to float32 splits no tie with the calibration in float64.
    scores = detector.score(images)
    expected = (1 + np.arange(n, 0, -1)) / (n + 1)
    np.testing.assert_array_equal(detector.p_values(scores)[np.argsort(scores)], expected)
    further = [np.nextafter(scores.max(), np.float32(np.inf)), scores.min() - 1]
    np.testing.assert_array_equal(detector.p_values(np.array(further)), [1 / (n + 1), 1])
    assert detector.p_values(detector.score([])).shape == (0,)


def test_only_a_readable_image_of_a_calibrated_detector_has_a_p_value(
    calibrated, directory, photo, tmp_path
):
    detector = load_detector(calibrated)
    bad, good = detector.detect([tmp_path / "absent.png", photo])
    assert bad.p_value is None and "p_value" not in bad.to_json()
    assert good.p_value == detector.p_values(np.array([good.score]))[0]
    assert good.to_json()["p_value"] == good.p_value
    without = load_detector(directory)
    assert without.heldout_photos == 0
    assert without.p_values(np.zeros(3)) is without.detect([photo])[0].p_value is None


@pytest.mark.parametrize("name", ["calibration/log_density", "calibration/other", "calibration"])
@pytest.mark.parametrize("shape", [(0,), (3, 2), ()])
def test_a_misshaped_or_unknown_calibration_is_refused(directory, tmp_path, name, shape):
    copy = shutil.copytree(directory, tmp_path / "copy")
    edit_arrays(copy, lambda arrays: arrays.update({name: np.zeros(shape)}))
    with pytest.raises(UserError, match=f"do not fit the model: {name} is "):
        load_detector(copy)


def test_a_binary_detector_has_no_calibration(tiny_extractor, tmp_path):
    copy = write(tmp_path / "detector", "binary", tiny_extractor)
    edit_arrays(copy, lambda arrays: arrays.update({"calibration/log_density": np.zeros(3)}))
    with pytest.raises(UserError, match=r"calibration/log_density is \(3,\), expected nothing"):
        load_detector(copy)


def test_files_that_cannot_be_read_do_not_stop_the_others(directory, photo, tmp_path):
    bad = {
        "zero.jpg": (b"", "no bytes"),
        "text.jpg": (b"not an image", "no JPEG"),
        "cut.png": (photo.read_bytes()[:5000], "truncated"),
        "bomb.png": (png_header(60_000, 60_000), "pixels"),
    }
    for name, (data, _) in bad.items():
        (tmp_path / name).write_bytes(data)
    paths = [str(tmp_path / name) for name in bad] + [str(tmp_path / "absent.png"), str(tmp_path)]
    reasons = [reason for _, reason in bad.values()] + ["No such file", "not a regular file"]
    detector = load_detector(directory)
    (alone,) = detector.detect([photo])
    mixed = [path for bad_path in paths for path in (bad_path, str(photo), str(photo))]
    found = detector.detect(mixed)  # 18: more than are read at once
    assert [detection.path for detection in found] == mixed
    for detection, reason in zip(found[::3], reasons, strict=True):
        assert (detection.verdict, detection.score) == (None, None)
        assert reason in detection.error
    for detection in found[1::3] + found[2::3]:
        assert (detection.verdict, detection.error) == (alone.verdict, None)
        assert detection.score == pytest.approx(alone.score, rel=1e-4)


def test_images_of_every_kind_get_a_verdict(directory, images, tmp_path):
    base = Image.fromarray(images[3])
    wide = (np.asarray(base.convert("L")).astype(np.uint16) * 257)[:200]
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds = {
        "grey.png": (base.convert("L"), {}),
        "cmyk.jpg": (base.convert("CMYK"), {}),
        "wide.png": (Image.fromarray(wide), {}),
        "palette.gif": (base.convert("P"), {}),
        "clear.png": (base.convert("RGBA"), {}),
        "small.png": (base.resize((30, 70)), {}),
        "upright.jpg": (base, {"quality": 95}),
        "turned.jpg": (base, {"quality": 95, "exif": turned}),
    }
    for name, (image, options) in kinds.items():
        image.save(tmp_path / name, **options)
    found = load_detector(directory).detect([tmp_path / name for name in kinds])
    assert [detection.error for detection in found] == [None] * len(kinds)
    assert all(np.isfinite(detection.score) for detection in found)
    # Orientation is not applied: a rotation would move what a camera leaves in the pixels.
    assert found[-1].score == pytest.approx(found[-2].score, rel=1e-4)


def test_json_has_an_error_or_a_p_value_only_where_there_is_one():
    good = Detection("a.jpg", "photo", 0.25, 0.5).to_json()
    assert good == {
        **{"path": "a.jpg", "verdict": "photo", "score": 0.25, "threshold": 0.5},
        **{"reasons": [], "evidence": []},
    }
    ranked = Detection("a.jpg", "photo", 0.25, 0.5, p_value=0.75).to_json()
    assert ranked == good | {"p_value": 0.75}
    bad = Detection("b.jpg", None, None, 0.5, "no image").to_json()
    assert json.loads(json.dumps(bad)) == {
        **{"path": "b.jpg", "verdict": None, "score": None},
        **{"threshold": 0.5, "error": "no image", "reasons": [], "evidence": []},
    }


def test_a_directory_needs_nothing_outside_itself(tiny_extractor, images, tmp_path):
    extractor = shutil.copytree(tiny_extractor, tmp_path / "extractor")
    original = write(tmp_path / "run" / "detector", "one_class", extractor)
    before = load_detector(original).score(images[:2])
    moved = shutil.copytree(original, tmp_path / "elsewhere")
    shutil.rmtree(original.parent)
    shutil.rmtree(extractor)
    np.testing.assert_array_equal(load_detector(moved).score(images[:2]), before)
    # Nothing that could run code: text that is JSON, and arrays in the safetensors format.
    assert {path.name for path in moved.iterdir()} == {"detector.json", "model.safetensors"}
    json.loads((moved / "detector.json").read_text())
    assert load_file(moved / "model.safetensors")


def test_its_extractor_can_be_used_alone(directory, tiny_extractor):
    patches = np.random.default_rng(1).integers(256, size=(1, 2, 64, 64, 3), dtype=np.uint8)
    for path in (directory, directory.parent):
        features, layers = exif_jax.load_extractor(path)(patches)
        expected, _ = exif_jax.load_extractor(tiny_extractor)(patches)
        np.testing.assert_array_equal(features, expected)
        assert features.shape == (1, FEATURES) and set(layers) == {"f1", "f2", "f5"}


def test_a_run_stands_for_its_detector(directory):
    assert exif_jax.load_detector(directory.parent).name == load_detector(directory).name


def edit_json(directory, **changes):
    path = directory / "detector.json"
    facts = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: fact for name, fact in facts.items() if fact is not None}))


def edit_arrays(directory, change):
    path = directory / "model.safetensors"
    arrays = load_file(path)
    change(arrays)
    save_file(arrays, path)
    edit_json(directory, sha256=None)


def last_array(arrays):
    """Of the score, not of the extractor."""
    return next(name for name in sorted(arrays, reverse=True) if not name.startswith("extractor/"))


def cut(directory, size):
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])


def flip_bit(directory):
    path = directory / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "no json": (lambda d: (d / "detector.json").unlink(), r"detector\.json is missing"),
    "no arrays": (lambda d: (d / "model.safetensors").unlink(), "model.safetensors is missing"),
    "newer": (
        lambda d: edit_json(
            d, format_version=FORMAT_VERSION + 1, versions={"exif-jax": "9.9"}, model=None
        ),
        r"written by exif-jax 9\.9.*upgrade",
    ),
    "no version": (lambda d: edit_json(d, format_version=None), "has no format_version"),
    "not json": (lambda d: (d / "detector.json").write_text("{"), "not readable as JSON"),
    "other json": (lambda d: (d / "detector.json").write_text("[1]"), "has no format_version"),
    "other kind": (lambda d: edit_json(d, kind="magic"), "kind of detector .magic. is not known"),
    "no threshold": (lambda d: edit_json(d, threshold=None), "threshold is missing"),
    "no model": (lambda d: edit_json(d, model=None), "description of its model is damaged"),
    "other model": (lambda d: edit_json(d, model={"stage_depths": [1], "x": 1}), "damaged.*'x'"),
    "zero bytes": (lambda d: cut(d, 0), "damaged"),
    "flipped bit": (flip_bit, "SHA-256 is not the one"),
    "other verdicts": (
        lambda d: edit_json(d, verdicts={"photo_below": 0.5}),
        "detector.json: verdicts: generated_above is missing",
    ),
    "other score": (lambda d: edit_json(d, score_of="moon"), "score_of is 'moon'"),
    "cut header": (lambda d: cut(d, 100), "damaged"),
    "cut arrays": (lambda d: cut(d, -100), "damaged"),
    "absent array": (
        lambda d: edit_arrays(d, lambda a: a.pop(last_array(a))),
        "do not fit the model: .*is missing, expected",
    ),
    "other shape": (
        lambda d: edit_arrays(d, lambda a: a.update({last_array(a): np.zeros((3, 9))})),
        r"do not fit the model: .*is \(3, 9\), expected",
    ),
    "other network": (
        lambda d: edit_arrays(d, lambda a: a.update({"extractor/encoder/stem_bias": np.ones(7)})),
        r"do not fit the model: encoder/stem_bias is \(7,\), expected \(4,\)",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_one_clear_error(copy, damage):
    spoil, message = DAMAGES[damage]
    spoil(copy)
    with pytest.raises(UserError, match=message) as error:
        load_detector(copy)
    assert str(copy) in str(error.value)


def test_a_directory_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such detector directory"):
        load_detector(tmp_path / "nowhere")
    with pytest.raises(UserError, match="no extractor here"):
        load_extractor(tmp_path)
