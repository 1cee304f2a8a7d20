"""Versions of an image: drawn from seed, content and number alone, the first one unchanged."""

import numpy as np

from data_pipelines.images import PATCH, WINDOW, random_window
from data_pipelines.perturbations import parse_perturbation
from data_pipelines.versions import Version, draw_versions

IMAGE = np.random.default_rng(0).integers(256, size=(300, 400, 3), dtype=np.uint8)
CONTENT = bytes(range(32))


def test_the_first_version_is_the_central_window():
    first, *others = draw_versions(CONTENT, 0, 0, "none")
    assert not others and first.text == "central none none"
    np.testing.assert_array_equal(first.of(IMAGE), random_window(IMAGE, None))


def test_versions_repeat_and_differ():
    drawn = draw_versions(CONTENT, 12, 0, "none")
    assert drawn == draw_versions(CONTENT, 12, 0, "none")
    assert drawn[:5] == draw_versions(CONTENT, 4, 0, "none")
    texts = {version.text for version in drawn}
    assert len(texts) == 13 and len({version.chain for version in drawn}) > 6
    for other in (
        draw_versions(CONTENT, 12, 1, "none"),
        draw_versions(CONTENT[::-1], 12, 0, "none"),
    ):
        assert [v.chain for v in other[1:]] != [v.chain for v in drawn[1:]]
    for version in drawn:
        window = version.of(IMAGE)
        np.testing.assert_array_equal(window, version.of(IMAGE))
        assert all(PATCH <= side <= WINDOW for side in window.shape[:2])


def test_windows_are_cut_at_different_places():
    position = np.stack(np.mgrid[:300, :400] // 2, axis=-1).astype(np.uint8)
    image = np.concatenate([position, position[..., :1]], axis=-1)
    versions = [Version("random", "none", draw=(0, 1, n)) for n in range(1, 9)]
    assert len({tuple(version.of(image)[0, 0]) for version in versions}) > 4


def test_the_preparation_comes_last_and_to_all():
    prepare = parse_perturbation("jpeg:30")
    for plain, prepared in zip(
        draw_versions(CONTENT, 3, 0, "none"), draw_versions(CONTENT, 3, 0, "jpeg:30"), strict=True
    ):
        np.testing.assert_array_equal(prepared.of(IMAGE), prepare.apply(plain.of(IMAGE)))
        assert prepared.text != plain.text
    whole = Version("whole", prepare="jpeg:30").of(IMAGE)
    np.testing.assert_array_equal(whole, prepare.apply(IMAGE))
