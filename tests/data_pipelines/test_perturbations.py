import io
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, JpegPresets, features

from data_pipelines import perturbations
from data_pipelines.errors import UserError
from data_pipelines.perturbations import (
    KERNELS,
    PERTURBATIONS,
    PRESETS,
    Augmentation,
    augment,
    avif,
    blur,
    crop,
    jpeg,
    parse_perturbation,
    parse_perturbations,
    perturbation,
    photoshop,
    rescale,
    resize,
    webp,
)

needs_webp = pytest.mark.skipif(not features.check("webp"), reason="Pillow was built without WebP")
needs_avif = pytest.mark.skipif(not features.check("avif"), reason="Pillow was built without AVIF")
NOTHING = Augmentation(resize_probability=0, blur_probability=0, jpeg_probability=0)


def noise(height: int = 40, width: int = 56, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_jpeg_is_pillows_default_compression() -> None:
    buffer = io.BytesIO()
    Image.fromarray(noise()).save(buffer, "JPEG", quality=80)
    np.testing.assert_array_equal(jpeg(noise(), 80), np.asarray(Image.open(buffer)))


def test_lower_jpeg_quality_changes_more() -> None:
    image = noise()
    errors = [np.abs(jpeg(image, q).astype(int) - image).mean() for q in (20, 60, 95)]
    assert errors == sorted(errors, reverse=True)


def saved(image: np.ndarray, file_format: str, **options: object) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, file_format, **options)
    return np.asarray(Image.open(buffer))


def smooth() -> np.ndarray:
    return np.asarray(Image.fromarray(noise(12, 16)).resize((56, 40), Image.Resampling.BICUBIC))


def test_names_with_a_sampling_differ_in_chroma_alone() -> None:
    results = [jpeg(smooth(), 80)]
    for name, subsampling in (("jpeg422", "4:2:2"), ("jpeg444", "4:4:4")):
        chain = pickle.loads(pickle.dumps(parse_perturbation(f"{name}:80")))
        results.append(chain.apply(smooth()))
        expected = saved(smooth(), "JPEG", quality=80, subsampling=subsampling)
        np.testing.assert_array_equal(results[-1], expected)
    errors = [np.abs(result.astype(int) - smooth()).mean() for result in results]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_brings_its_tables_and_its_sampling(preset: str) -> None:
    result = parse_perturbation(f"Photoshop:{preset.upper()}").apply(smooth())
    np.testing.assert_array_equal(result, photoshop(smooth(), preset))
    known = JpegPresets.presets[preset]
    tables, subsampling = known["quantization"], known["subsampling"]
    expected = saved(smooth(), "JPEG", qtables=tables, subsampling=subsampling)
    np.testing.assert_array_equal(result, expected)


@needs_webp
def test_webp_is_pillows_lossy_compression() -> None:
    result = parse_perturbation("webp:70").apply(smooth())
    np.testing.assert_array_equal(result, saved(smooth(), "WEBP", quality=70))
    np.testing.assert_array_equal(result, webp(smooth(), 70))
    errors = [np.abs(webp(smooth(), q).astype(int) - smooth()).mean() for q in (10, 60, 95)]
    assert errors == sorted(errors, reverse=True)


@needs_avif
def test_avif_is_pillows_compression() -> None:
    result = parse_perturbation("avif:70").apply(smooth())
    np.testing.assert_array_equal(result, avif(smooth(), 70))
    assert result.shape == smooth().shape
    assert result.dtype == np.uint8
    errors = [np.abs(avif(smooth(), q).astype(int) - smooth()).mean() for q in (10, 60, 95)]
    assert errors == sorted(errors, reverse=True)


@needs_avif
@needs_webp
@pytest.mark.parametrize("name", ["avif:60", "webp:60"])
def test_modern_codecs_give_the_same_in_every_thread(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = [noise(256, 256, seed) for seed in range(3)]
    apply = parse_perturbation(name).apply
    results = []
    for threads in (1, 2, 4):  # as if this many cores were there, and as many images coded at once
        monkeypatch.setattr("PIL.AvifImagePlugin.DEFAULT_MAX_THREADS", threads)
        with ThreadPoolExecutor(threads) as pool:
            results.append(list(pool.map(apply, images)))
    np.testing.assert_array_equal(results[1:], [results[0]] * 2)


@pytest.mark.parametrize("codec", ["webp", "avif"])
def test_a_codec_that_pillow_lacks_is_named_with_the_remedy(
    codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(perturbations.features, "check", lambda feature: feature != codec)
    with pytest.raises(UserError, match=rf"{codec}.*without {codec.upper()}.*pip install"):
        parse_perturbation(f"jpeg:90+{codec}:80")


def test_blur_of_a_point_is_a_gaussian_in_each_channel() -> None:
    image = np.zeros((21, 21, 3), np.uint8)
    image[10, 10, 0] = 255
    sigma = 1.5
    x = np.arange(21) - 10
    line = np.exp(-(x**2) / (2 * sigma**2))
    line /= line.sum()
    blurred = blur(image, sigma)
    np.testing.assert_allclose(blurred[..., 0], 255 * np.outer(line, line), atol=0.51)
    assert not blurred[..., 1:].any()
    np.testing.assert_array_equal(blur(image, 0.0), image)


def test_resize_is_antialiased() -> None:
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    inside = resize(stripes, 16, 16)[2:-2, 2:-2]
    assert np.abs(inside.astype(int) - 127).max() <= 1


@pytest.mark.parametrize(("factor", "shape"), [(0.5, (20, 29, 3)), (2, (80, 114, 3))])
def test_rescale_rounds_to_whole_pixels(factor: float, shape: tuple[int, ...]) -> None:
    assert rescale(noise(40, 57), factor).shape == shape


@pytest.mark.parametrize("name", KERNELS)
def test_kernels_of_resizing_go_by_pillows_names(name: str) -> None:
    chain = pickle.loads(pickle.dumps(parse_perturbation(f"{name}:0.731")))
    expected = Image.fromarray(noise()).resize((41, 29), Image.Resampling[name.upper()])
    np.testing.assert_array_equal(chain.apply(noise()), expected)
    assert (chain.apply(noise()) != rescale(noise(), 0.731)).any()


def test_crop_moves_the_grid() -> None:
    np.testing.assert_array_equal(parse_perturbation("crop:3").apply(noise()), noise()[3:, 3:])
    assert parse_perturbation("crop:7+jpeg:90").apply(noise()).shape == (33, 49, 3)


def test_a_side_never_vanishes() -> None:
    assert rescale(noise(1, 100), 0.01).shape == (1, 1, 3)
    assert crop(noise(1, 100), 7).shape == (1, 93, 3)
    assert crop(noise(7, 2), 7).shape == (1, 1, 3)


def test_a_chain_is_applied_from_left_to_right() -> None:
    chain = parse_perturbation(" Resize:0.5+jpeg:80 ")
    assert chain.name == "resize:0.5+jpeg:80"
    expected = jpeg(rescale(noise(), 0.5), 80)
    np.testing.assert_array_equal(chain.apply(noise()), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(chain)).apply(noise()), expected)
    np.testing.assert_array_equal(parse_perturbation("blur:1").apply(noise()), blur(noise(), 1))


def test_none_changes_nothing() -> None:
    image = noise()
    assert parse_perturbation("none").apply(image) is image


def test_a_list_starts_with_none_and_holds_each_once() -> None:
    names = [p.name for p in parse_perturbations("jpeg:95, blur:1.0,jpeg:95,none")]
    assert names == ["none", "jpeg:95", "blur:1.0"]
    assert [p.name for p in parse_perturbations("")] == ["none"]


@pytest.mark.parametrize(
    "text",
    [
        *("", "sharpen:1", "jpeg", "jpeg:", "jpeg:0", "jpeg:101", "jpeg:95.5", "jpeg:x"),
        *("blur:0", "blur:-1", "blur:nan", "blur:inf", "resize:0", "resize:4.1", "resize:0.5+"),
        *("jpeg422:0", "jpeg444:101", "photoshop:12", "photoshop:", "crop:0", "crop:8", "crop:1.5"),
        *("bicubic:0", "lanczos:4.1", "box:x", "hamming:-1", "bilinear:0.5"),
        *("jpeg:95+none", "jpeg:95;blur:1", "jpeg:95:3"),
    ],
)
def test_what_cannot_be_read_is_shown_with_what_is_known(text: str) -> None:
    with pytest.raises(UserError) as error:
        parse_perturbation(text)
    assert repr(text) in str(error.value)
    assert any(f"{kind}:LEVEL" in str(error.value) for kind in PERTURBATIONS.names())


@needs_webp
@needs_avif
@pytest.mark.parametrize("text", ["webp:0", "webp:101", "webp:80.5", "avif:0", "avif:101", "avif:"])
def test_modern_codecs_take_whole_qualities(text: str) -> None:
    with pytest.raises(UserError, match=r"cannot read '\w+:.*a whole quality of 1\.\.100"):
        parse_perturbation(text)


def test_an_unknown_name_lists_all_kinds() -> None:
    with pytest.raises(UserError, match=r"'sharpen:1'.*none.*jpeg:LEVEL.*blur.*resize"):
        parse_perturbation("jpeg:90+sharpen:1")


def test_one_decorated_function_adds_a_perturbation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PERTURBATIONS, "_kinds", dict(PERTURBATIONS._kinds))
    for _ in range(2):  # a notebook's cell, run twice

        @perturbation("darker", int, "a number to take away")
        def darker(image: np.ndarray, level: float) -> np.ndarray:
            return image - np.minimum(image, np.uint8(level))

    chain = parse_perturbation("darker:9+jpeg:80")
    np.testing.assert_array_equal(chain.apply(noise()), jpeg(darker(noise(), 9), 80))
    with pytest.raises(UserError, match=r"'darker:x'.*darker:LEVEL needs a number to take away"):
        parse_perturbation("darker:x")
    with pytest.raises(UserError, match="'blur'"):
        perturbation("blur", float, "")(darker)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), height=st.integers(1, 90), width=st.integers(1, 90))
def test_augment_is_decided_by_the_generator_alone(seed: int, height: int, width: int) -> None:
    config = Augmentation(resize_probability=0.5, blur_probability=0.5, jpeg_probability=0.5)
    image = noise(height, width)
    results = [augment(image, np.random.default_rng(seed), config) for _ in range(2)]
    np.testing.assert_array_equal(*results)
    shape = results[0].shape
    assert shape == image.shape or (shape[0] == shape[1] and 64 <= shape[0] <= 128)
    assert results[0].dtype == np.uint8
    np.testing.assert_array_equal(image, noise(height, width))


def test_augmentations_come_as_often_as_stated() -> None:
    image, rng, runs = noise(8, 8), np.random.default_rng(0), 600
    resized = sum(augment(image, rng, Augmentation()).shape != image.shape for _ in range(runs))
    only_jpeg = Augmentation(resize_probability=0, blur_probability=0)
    compressed = sum(bool((augment(image, rng, only_jpeg) != image).any()) for _ in range(runs))
    assert abs(resized / runs - 0.3) < 0.06
    assert abs(compressed / runs - 0.25) < 0.06
    assert augment(image, rng, NOTHING) is image


def test_both_ends_of_the_ranges_are_drawn() -> None:
    config = Augmentation(1, (64, 66), 0, (0, 1), 0)
    rng = np.random.default_rng(0)
    sides = {augment(noise(4, 4), rng, config).shape[0] for _ in range(60)}
    assert sides == {64, 65, 66}


def test_large_pictures_are_compressed_without_a_warning(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)  # of Pillow, which warns above
    assert parse_perturbation("jpeg:90").apply(np.zeros((64, 64, 3), np.uint8)).shape == (64, 64, 3)
