"""The largest batch that fits into memory, with few compilations."""

from collections.abc import Callable


def largest_fitting(peak: Callable[[int], int | None], limit: int, start: int) -> int:
    """The largest number of images a device whose step fits, of numbers with four leading bits.

    Memory grows in proportion to the batch, nearly: two sizes tell which to try next, and what they
    say is too large is not tried.

    Args:
        peak: bytes that a step with so many images a device takes; None: more than there are.
        limit: bytes that there are.
        start: images a device to try first.

    Returns:
        Images a device, of which `peak` was asked; 0 if not even one fits.
    """
    peaks: dict[int, int] = {}
    fits, too_many = 0, 0  # the most that fit, the fewest that do not (0: none known)
    images = rounded(max(1, start))
    while images > fits and (not too_many or images < too_many):
        found = peak(images)
        if found is not None:
            peaks[images] = found
        if found is not None and found <= limit:
            fits = images
        else:
            too_many = images
        images = _next(peaks, limit, fits, too_many)
    return fits


def _next(peaks: dict[int, int], limit: int, fits: int, too_many: int) -> int:
    known = sorted(peaks)[-2:]
    if len(known) == 2 and peaks[known[1]] > peaks[known[0]]:
        a, b = known
        expected = rounded(int(b + (limit - peaks[b]) * (b - a) / (peaks[b] - peaks[a])))
        if not too_many or expected < too_many:
            return expected
    return rounded((fits + too_many) // 2) if too_many else 2 * max(1, fits)


def rounded(images: int) -> int:
    """The number with all but its four leading bits zero."""
    spare = max(0, images.bit_length() - 4)
    return images >> spare << spare
