from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import features

from data_pipelines import perturbations
from data_pipelines.augmentation import draw_chain, perturbed_window
from data_pipelines.errors import UserError
from data_pipelines.perturbations import KERNELS, PRESETS, parse_perturbation

needs_codecs = pytest.mark.skipif(
    not (features.check("webp") and features.check("avif")),
    reason="this Pillow was built without WebP or AVIF",
)
KIND_OF = {
    **dict.fromkeys(("jpeg", "jpeg422", "jpeg444", "photoshop"), "jpeg"),
    **dict.fromkeys(("resize", *KERNELS), "resize"),
}
RANGES = {
    **dict.fromkeys(("jpeg", "webp"), (50, 98)),
    "avif": (50, 95),
    "resize": (0.5, 1.5),
    "blur": (0.3, 1.2),
    "crop": (1, 7),
}


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@needs_codecs
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), height=st.integers(64, 300), width=st.integers(64, 300))
def test_a_version_is_decided_by_the_seed_and_is_a_window(
    seed: int, height: int, width: int
) -> None:
    image = noise(height, width, seed)
    before = image.copy()
    results = []
    for _ in range(2):
        rng = np.random.default_rng(seed)
        chain = draw_chain(rng)
        assert parse_perturbation(chain).name == chain
        results.append((chain, perturbed_window(image, chain, rng)))
    assert results[0][0] == results[1][0]
    window = results[0][1]
    np.testing.assert_array_equal(window, results[1][1])
    np.testing.assert_array_equal(image, before)
    assert window.dtype == np.uint8
    assert window.shape[2:] == (3,)
    assert all(64 <= side <= 256 for side in window.shape[:2])


@needs_codecs
def test_kinds_are_drawn_as_often_as_they_weigh_and_levels_in_their_ranges() -> None:
    rng, runs = np.random.default_rng(0), 4000
    chains = [draw_chain(rng) for _ in range(runs)]
    assert chains.count("none") / runs == pytest.approx(1 / 11, abs=0.02)
    steps = [chain.split("+") for chain in chains if chain != "none"]
    assert {len(chain) for chain in steps} == {1, 2}
    assert np.mean([len(chain) == 2 for chain in steps]) == pytest.approx(0.5, abs=0.03)

    names = Counter(step.split(":")[0] for chain in steps for step in chain)
    levels: dict[str, list[float]] = {}
    presets = set()
    for name, level in (step.split(":") for chain in steps for step in chain):
        if name == "photoshop":
            presets.add(level)
        else:
            levels.setdefault(KIND_OF.get(name, name), []).append(float(level))
    assert presets == set(PRESETS)
    kinds: Counter[str] = Counter()
    for name, count in names.items():
        kinds[KIND_OF.get(name, name)] += count
    shares = {"jpeg": 2, "webp": 1, "avif": 1, "resize": 3, "blur": 1, "crop": 2}
    for kind, weight in shares.items():
        assert kinds[kind] / kinds.total() == pytest.approx(weight / 10, abs=0.02)
    assert set(kinds) == set(shares)
    assert names["photoshop"] / kinds["jpeg"] == pytest.approx(1 / 4, abs=0.05)
    for name in ("jpeg", "jpeg422", "jpeg444"):
        assert names[name] / kinds["jpeg"] == pytest.approx(1 / 4, abs=0.05)
    for name in ("resize", *KERNELS):
        assert names[name] / kinds["resize"] == pytest.approx(1 / 5, abs=0.05)

    for kind, (low, high) in RANGES.items():
        drawn = np.array(levels[kind])
        assert low <= drawn.min() < drawn.max() <= high
        assert (drawn.min(), drawn.max()) == pytest.approx((low, high), rel=0.02)
    # Log-uniform: as many below the geometric mean of the range as above it.
    assert np.mean(np.log(levels["resize"])) == pytest.approx(np.log(0.5 * 1.5) / 2, abs=0.03)


@pytest.mark.parametrize("codec", ["webp", "avif"])
def test_nothing_is_drawn_without_every_codec(monkeypatch: pytest.MonkeyPatch, codec: str) -> None:
    monkeypatch.setattr(perturbations.features, "check", lambda feature: feature != codec)
    with pytest.raises(UserError, match=rf"{codec}.*pip install"):
        draw_chain(np.random.default_rng(0))


def test_what_was_enlarged_is_cut_to_its_centre_or_at_random() -> None:
    image = noise(256, 200)
    whole = parse_perturbation("box:1.5").apply(image)
    assert whole.shape == (384, 300, 3)
    np.testing.assert_array_equal(perturbed_window(image, "box:1.5"), whole[64:320, 22:278])
    rng = np.random.default_rng(0)
    places = {perturbed_window(image, "box:1.5", rng).tobytes() for _ in range(4)}
    assert len(places) == 4


def test_what_was_left_too_small_has_one_patch() -> None:
    assert perturbed_window(noise(64, 300), "resize:0.5").shape == (64, 64, 3)
    np.testing.assert_array_equal(perturbed_window(noise(64, 70), "none"), noise(64, 70))
