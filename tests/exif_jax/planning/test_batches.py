"""The largest batch that fits is found with few compilations."""

import pytest

from exif_jax.planning.batches import largest_fitting, rounded


@pytest.mark.parametrize(
    ("fixed", "each", "start", "most"),
    [(100, 10, 2, 88), (0, 1, 1, 960), (999, 1, 64, 1), (100, 10, 500, 88), (10, 80, 7, 12)],
)
@pytest.mark.parametrize("refuses", [False, True])
def test_finds_the_most_that_fit(fixed, each, start, most, refuses):
    asked = []

    def peak(images):
        asked.append(images)
        size = fixed + each * images
        return None if refuses and size > 1000 else size

    assert largest_fitting(peak, 1000, start) == most
    assert most in asked and fixed + each * most <= 1000
    assert len(set(asked)) == len(asked) <= (12 if refuses else 4)


def test_nothing_fits():
    assert largest_fitting(lambda images: None, 1000, 8) == 0


def test_four_bits_are_kept():
    assert [rounded(n) for n in (1, 15, 17, 31, 100, 1023)] == [1, 15, 16, 30, 96, 960]
