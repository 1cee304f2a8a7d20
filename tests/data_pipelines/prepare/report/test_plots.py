import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from data_pipelines.prepare.report.plots import divide


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=30), st.floats(0.2, 5))
def test_areas_of_the_map_fill_it_in_proportion(sizes: list[int], aspect: float) -> None:
    sizes.sort(reverse=True)
    areas = np.array(divide(sizes, aspect))
    np.testing.assert_allclose(areas[:, 2] * areas[:, 3], np.array(sizes) / sum(sizes), rtol=1e-5)
    assert areas.min() >= -1e-9
    assert (areas[:, :2] + areas[:, 2:]).max() <= 1 + 1e-6
