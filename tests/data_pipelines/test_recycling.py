"""Memory that is used again once nobody looks at it."""

import gc

import jax
import numpy as np

from data_pipelines.recycling import Slots


def test_an_array_is_used_again_when_all_views_are_gone():
    slots = Slots((2, 3))
    first = slots.take()
    array = slots.lend(first)
    row = array[1]
    del array
    second = slots.take()
    assert second != first  # a view is still there
    del row
    gc.collect()
    assert slots.take() == first


def test_what_a_device_holds_is_not_written_over():
    slots = Slots((64, 64))  # large enough for JAX to share it on CPU
    number = slots.take()
    array = slots.lend(number)
    array[:] = 1
    placed = jax.device_put(array)
    del array
    for _ in range(3):
        again = slots.lend(slots.take())
        again[:] = 2
    assert (np.asarray(placed) == 1).all()


def test_another_process_writes_to_the_same_arrays():
    ours = Slots((5,))
    theirs = Slots((5,), ours.file)
    numbers = [ours.take() for _ in range(20)]  # more than are mapped at once
    for number in numbers:
        theirs.array(number)[:] = number
    for number in numbers:
        assert ours.lend(number).tolist() == [number] * 5
