import numpy as np

from data_pipelines.prepare.window_quality import window_problem


def window(level: int, spread: int = 40) -> np.ndarray:
    noise = np.random.default_rng(0).integers(-spread, spread + 1, (64, 64, 3))
    return np.clip(level + noise, 0, 255).astype(np.uint8)


def test_windows_with_content_are_good() -> None:
    assert window_problem(window(128)) == ""
    assert window_problem(window(40)) == ""  # a dark scene is no black frame


def test_each_problem_is_named() -> None:
    assert window_problem(window(3, 2)) == "black"
    assert window_problem(window(255, 3)) == "clipped"
    assert window_problem(window(128, 0)) == "flat"
    red = window(128)
    red[..., 0] = 255  # one clipped channel clips a pixel
    assert window_problem(red) == "clipped"


def test_half_a_window_decides() -> None:
    pixels = window(128)
    pixels[:31] = 0
    assert window_problem(pixels) == ""
    pixels[:33] = 0
    assert window_problem(pixels) == "black"
