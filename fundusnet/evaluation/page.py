"""Self-contained HTML pages: templates and embedded pictures."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from PIL import Image

from fundusnet.errors import UserError
from fundusnet.evaluation import figures
from fundusnet.evaluation.overlays import Pixels, palette
from fundusnet.system.files import write_text

TILE = 320  # pixels: side of a picture on the page


def check_suffix(output: Path) -> None:
    """Refuse a file that is neither a page nor Markdown."""
    if output.suffix not in (".html", ".md"):
        raise UserError(f"output={output} has an unknown suffix; use .html for a page or .md for its tables")


def render(package: str, template: str, **values: Any) -> str:
    """Return a self-contained page from a template in ``package``, which may extend the templates of this one."""
    loader = ChoiceLoader([PackageLoader(package, "."), PackageLoader("fundusnet.evaluation", ".")])
    environment = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    environment.trim_blocks = environment.lstrip_blocks = True
    return environment.get_template(template).render(**values)


def write(content: str, output: Path) -> Path:
    """Write ``content`` to ``output`` atomically and return it."""
    write_text(output, content)
    return output


def jpeg(pixels: Pixels) -> str:
    """Return uint8 pixels ``(H, W, 3)`` as a data URI."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((TILE, TILE))
    stream = BytesIO()
    picture.save(stream, "JPEG", quality=82)
    return _data_uri(stream.getvalue(), "jpeg")


def tiles(pictures: Mapping[str, Pixels]) -> list[dict[str, str]]:
    """Return named pictures, uint8 ``(H, W, 3)``, as the template shows them in a row."""
    return [{"name": name, "image": jpeg(pixels)} for name, pixels in pictures.items()]


def gradient() -> str:
    """Return the colours of maps, from an activation of 0 to 1, as a CSS gradient."""
    shades = palette()[::15]
    return f"linear-gradient(to right, {', '.join('#' + bytes(shade).hex() for shade in shades)})"


def picture(figure: Figure) -> str:
    """Return a figure as a data URI."""
    return _data_uri(figures.encode(figure), "png")


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
