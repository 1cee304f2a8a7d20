"""How every page is made of its template: escaped, and with invisible characters spelt out."""

import jinja2
from markupsafe import Markup

from data_pipelines.terminal import printable


def page_environment(package: str) -> jinja2.Environment:
    """Templates of a package; what they do not know is an error."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalise,
    )


def _finalise(value: object) -> object:
    plain = isinstance(value, str) and not isinstance(value, Markup)
    return printable(value) if plain else value  # type: ignore[arg-type]
