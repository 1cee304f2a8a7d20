import pytest

from data_pipelines.prepare.report.text import amount, format_value, percent
from data_pipelines.tags import TAGS


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("FNumber", 2.8, "f/2.8"),
        ("ExposureTime", 1 / 60, "1/60 s"),
        ("ExposureTime", 2.5, "2.5 s"),
        ("ISO", 12800.0, "12,800"),
        ("FocalLength", 50.0, "50 mm"),
        ("ExposureBiasValue", -1e-17, "0 EV"),
    ],
)
def test_values_are_written_as_photographers_do(name: str, value: float, shown: str) -> None:
    unit = next(tag.unit for tag in TAGS if tag.name == name)
    assert format_value(value, unit) == shown


def test_pieces() -> None:
    assert (amount(1, "photo"), amount(2000, "photo")) == ("1 photo", "2,000 photos")
    assert [percent(n, 5000) for n in (0, 1, 2500, 4999, 5000)] == [
        "0%",
        "<0.1%",
        "50.0%",
        ">99.9%",
        "100%",
    ]
    assert percent(0, 0) == "-"
