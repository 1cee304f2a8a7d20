import sys
from pathlib import Path

import pytest

from data_pipelines.errors import UserError
from data_pipelines.registry import Registry

PLUGIN = """
from toy_host import SHAPES

@SHAPES.register("NAME")
def area(side):
    return side
"""


def square(side: float) -> float:
    return side * side


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Registry:
    """A registry that plugins in `tmp_path` can import."""
    registry = Registry("shape", {"square": square})
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("EXIF_JAX_PLUGINS", raising=False)
    host = type(sys)("toy_host")
    host.SHAPES = registry  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "toy_host", host)
    return registry


def test_a_decorator_adds_a_kind(shapes: Registry) -> None:
    @shapes.register("cube")
    def cube(side: float) -> float:
        return side**3

    assert shapes["cube"] is cube
    assert shapes["square"](3) == 9
    assert shapes.names() == ("square", "cube")


def test_a_taken_name_is_refused_and_the_same_definition_replaces_itself(shapes: Registry) -> None:
    with pytest.raises(UserError, match=r"shape 'square'.*has this name; choose another"):
        shapes.register("square")(abs)
    assert shapes["square"] is square
    for _ in range(2):  # a notebook's cell, run twice

        @shapes.register("round")
        def disc(side: float) -> float:
            return 3.14 * side

    assert shapes["round"] is disc
    shapes.register("line")(lambda side: side)
    with pytest.raises(UserError, match="'line'"):
        shapes.register("line")(lambda side: 2 * side)


def test_an_unknown_name_lists_the_known_ones_and_the_way_to_add_one(shapes: Registry) -> None:
    with pytest.raises(UserError, match=r"shape 'blob' is not known; known are square\. .*PLUGINS"):
        shapes["blob"]


def test_plugins_of_the_environment_are_looked_at_on_a_miss_only(
    shapes: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toy_plugin_a.py").write_text(PLUGIN.replace("NAME", "one"))
    (tmp_path / "toy_plugin_b.py").write_text(PLUGIN.replace("NAME", "two"))
    monkeypatch.setenv("EXIF_JAX_PLUGINS", "toy_plugin_a, toy_plugin_b,")
    shapes["square"]
    assert "toy_plugin_a" not in sys.modules
    assert shapes["two"](5) == 5
    assert shapes.names() == ("square", "one", "two")


def test_installed_plugins_are_found_by_their_entry_point(shapes: Registry, tmp_path: Path) -> None:
    (tmp_path / "toy_plugin_c.py").write_text(PLUGIN.replace("NAME", "three"))
    info = tmp_path / "toy_plugin-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-plugin\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[exif_jax.plugins]\ntoy = toy_plugin_c\n")
    assert shapes["three"](5) == 5


def test_a_plugin_that_is_not_there_is_named(
    shapes: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXIF_JAX_PLUGINS", "toy_nowhere")
    with pytest.raises(UserError, match="EXIF_JAX_PLUGINS: there is no module 'toy_nowhere'"):
        shapes["blob"]
    (tmp_path / "toy_plugin_d.py").write_text("import toy_dependency\n")
    monkeypatch.setenv("EXIF_JAX_PLUGINS", "toy_plugin_d")
    with pytest.raises(ModuleNotFoundError, match="toy_dependency"):  # its author's to see
        shapes["blob"]
