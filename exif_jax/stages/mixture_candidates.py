"""What the one-class configuration says of the mixtures to try."""

from data_pipelines.errors import UserError
from exif_jax import gmm
from exif_jax.config import OneClassConfig, check_choice


def candidate_numbers(field: str, text: str) -> list[int]:
    """Numbers to try: "5", "1,2,5", "1-8", or several of these.

    Raises:
        UserError: anything else, with the name of the field.
    """
    counts: set[int] = set()
    try:
        for part in text.split(","):
            first, dash, last = part.partition("-")
            counts |= set(range(int(first), int(last) + 1)) if dash else {int(first)}
    except ValueError as error:
        raise UserError(
            f"config.{field} = {text!r}: give a number such as 5, or candidates such as 1,2,5 or "
            "1-8"
        ) from error
    if not counts or min(counts) < 1:
        raise UserError(f"config.{field} = {text!r}: give numbers from 1")
    return sorted(counts)


def words(text: str) -> list[str]:
    """Of a list with commas."""
    return [word.strip() for word in text.split(",")]


def candidate_structures(config: OneClassConfig) -> list[gmm.Structure]:
    """Every combination of the covariances to try that makes sense.

    Raises:
        UserError: an unknown kind, with the name of the field.
    """
    kinds, shrinkages = words(config.covariance_type), words(config.shrinkage)
    for kind in kinds:
        check_choice("covariance_type", kind, gmm.COVARIANCE_TYPES)
    for shrinkage in shrinkages:
        check_choice("shrinkage", shrinkage, gmm.SHRINKAGES)
    return gmm.structures(kinds, candidate_numbers("rank", config.rank), shrinkages)
