"""What every report page is made of: the shell, pictures inside it, and what the runs on it are."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from PIL import Image

from fundusnet.data.prepared import PreparedSet, open_prepared
from fundusnet.data.relabel import relabelling
from fundusnet.errors import UserError
from fundusnet.evaluation import figures
from fundusnet.evaluation.comparison import Run
from fundusnet.evaluation.groups import Group
from fundusnet.evaluation.tables import patients_of

TILE = 320  # pixels: side of a picture on the page


def check_ending(output: Path) -> None:
    """Refuse a file that is neither a page nor Markdown."""
    if output.suffix not in (".html", ".md"):
        raise UserError(f"output={output} has no known ending; use .html for a page or .md for its tables")


def render(template: str, **values: Any) -> str:
    """Return a self-contained page from a template of this package, of ``grading`` or of ``prediction``."""
    folders = [PackageLoader(f"fundusnet.{name}", ".") for name in ("evaluation", "findings", "grading", "prediction")]
    environment = Environment(loader=ChoiceLoader(folders), autoescape=True, undefined=StrictUndefined)
    environment.trim_blocks = environment.lstrip_blocks = True
    return environment.get_template(template).render(**values)


def write(content: str, output: Path) -> Path:
    """Write ``content`` to ``output`` in one move and return it."""
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(output.name + ".partial")
    partial.write_text(content, encoding="utf-8")
    partial.replace(output)
    return output


def title(groups: Sequence[Group]) -> str:
    """Return what stands above a page: its methods, as far as a line holds them."""
    labels = [group.label for group in groups]
    return " · ".join(labels) if len(labels) < 4 else f"{labels[0]} and {len(labels) - 1} others"


def summary(group: Group) -> dict[str, object]:
    """Return what a group of runs was scored on, in words."""
    sources = dict.fromkeys(_source(run) for run in group.runs)
    results = [run.results for run in group.runs]
    if len(results) > 1:
        seeds = sorted({str(run.config.get("seed")) for run in group.runs})
        return {
            "label": group.label,
            "text": f"{', '.join(sources)}, {len(results)} runs with seeds {', '.join(seeds)}",
        }
    run = group.runs[0]
    images = patients_of({"n_images": run.predictions["image_id"].nunique(), **results[0]})
    split = results[0].get("split", "test")
    which = "all" if split == "all" else f"{split} split,"
    return {
        "label": group.label,
        "text": f"{', '.join(sources)}, {which} {images}{_elsewhere(run)}",
    }


def prepared_set(run: Run) -> tuple[PreparedSet | None, str]:
    """Return the prepared set of a run, or None and why it cannot be had."""
    folder = (run.config.get("data") or {}).get("folder")
    if not folder:
        return None, "its config.yaml names no prepared set (data.folder)"
    try:
        prepared = open_prepared(Path(str(folder)))
        relabel = relabelling(run.config)
        return relabel(prepared) if relabel else prepared, ""
    except UserError as error:
        return None, str(error)


def jpeg(pixels: figures.Pixels) -> str:
    """Return uint8 pixels ``(H, W, 3)`` as the address of a picture inside the page."""
    picture = Image.fromarray(pixels)
    picture.thumbnail((TILE, TILE))
    stream = BytesIO()
    picture.save(stream, "JPEG", quality=82)
    return _data_uri(stream.getvalue(), "jpeg")


def picture(figure: Figure) -> str:
    """Return a figure as the address of a picture inside the page."""
    return _data_uri(figures.encode(figure), "png")


def _elsewhere(run: Run) -> str:
    """Where a run that was scored on another set was trained, and how many of these images it has seen there."""
    evaluated = run.config.get("evaluated")
    if not evaluated:
        return ""
    seen = (run.results.get("also_in_training") or {}).get("image_ids")
    known = "" if seen is None else f"; {len(seen) or 'none'} of them also among the images it was trained on"
    return f"; trained on {evaluated['trained_on']}{known}"


def _source(run: Run) -> str:
    data = run.config.get("data") or {}
    return str(data.get("source") or Path(str(data.get("folder") or "")).name or "unknown data")


def _data_uri(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
