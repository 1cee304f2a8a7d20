import io

import numpy as np
import pytest
from PIL import Image

from data_pipelines.simulated.cameras import CAMERAS
from data_pipelines.simulated.filters import correlate
from data_pipelines.simulated.generators import FAMILIES, generate
from data_pipelines.simulated.scenes import power_law_noise, sample_scene

SHAPE = (96, 128)


def some_photo() -> np.ndarray:
    rng = np.random.default_rng(3)
    planes = np.stack([power_law_noise(rng, SHAPE, 1.0) for _ in range(3)], axis=-1)
    return np.clip(100 + 30 * planes, 0, 255).astype(np.uint8)


def draw(family):
    scene = sample_scene(np.random.default_rng(4), SHAPE, "train")
    jpeg = CAMERAS[0].jpeg
    return generate(np.random.default_rng(5), scene, family, some_photo(), jpeg), jpeg


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_generated_image_matches_the_photo_in_the_trivial_cues(family):
    image, jpeg = draw(family)
    photo = some_photo()
    assert image.shape == photo.shape and image.dtype == np.uint8
    np.testing.assert_allclose(image.mean((0, 1)), photo.mean((0, 1)), atol=2)
    sizes = [len(jpeg.encode(picture)) for picture in (image, photo)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.1)
    np.testing.assert_array_equal(image, draw(family)[0])


def test_upsampling_decoders_leave_a_period_of_two():
    def unevenness(image: np.ndarray) -> float:
        residual = correlate(image[..., 1].astype(np.float32), np.outer([1, -2, 1], [1, -2, 1]))
        phases = [residual[i::2, j::2].var() for i in range(2) for j in range(2)]
        return max(phases) / min(phases)

    by_name = {family.name: unevenness(draw(family)[0]) for family in FAMILIES}
    assert by_name["transposed_convolution"] > 1.3
    assert by_name["smooth_denoiser"] < 1.15


def test_one_family_is_held_out():
    assert [family.name for family in FAMILIES if family.held_out] == ["bilinear_decoder"]


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: camera.model)
def test_jpeg_carries_the_makers_tables(camera):
    data = camera.jpeg.encode(some_photo())
    with Image.open(io.BytesIO(data)) as image:
        assert [image.quantization[i] for i in range(2)] == camera.jpeg.tables()
        assert "exif" not in image.info
