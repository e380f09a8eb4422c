"""Table cells of a report, for the page and in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

NOT_MEASURED: dict[str, Any] = {"value": None, "ci95": [None, None], "reason": "not measured"}


def cell(metric: Mapping[str, Any], *, signed: bool = False) -> dict[str, Any]:
    """Return an entry of ``metrics.json`` as text: value, interval, remarks, and whether a difference excludes zero."""
    style = "+.3f" if signed else ".3f"
    low, high = metric["ci95"]
    remarks = []
    if metric["value"] is None or low is None:
        remarks.append(str(metric.get("reason", "undefined")))
    redrawn = metric.get("redrawn") or 0
    seeds = metric.get("seeds") or []
    return {
        "value": "–" if metric["value"] is None else format(metric["value"], style),
        "interval": "" if low is None else f"{low:{style}} to {high:{style}}",
        "remarks": remarks,
        "unreliable": bool(metric.get("unreliable")),
        "redrawn": f"{redrawn} resample{'s' if redrawn > 1 else ''} redrawn" if redrawn else "",
        "seeds": [format(value, style) for value in seeds if value is not None],
        # A difference whose interval excludes zero is what the reader looks for.
        "clear": signed and low is not None and not metric.get("unreliable") and (low > 0 or high < 0),
    }


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    return "".join("| " + " | ".join(row) + " |\n" for row in (head, ["---"] * len(head), *rows))


def markdown_cell(one: Mapping[str, Any] | None) -> str:
    """Return what ``cell`` returned as one line of Markdown; † marks an unreliable metric, a dash a missing one."""
    if one is None:
        return "–"
    value = f"**{one['value']}**" if one["clear"] else one["value"]
    interval = f" [{one['interval']}]" if one["interval"] else ""
    mark = " †" if one["unreliable"] else ""
    reason = "" if one["interval"] or not one["remarks"] else f" ({one['remarks'][0]})"
    return f"{value}{interval}{mark}{reason}"


def describe_images(results: Mapping[str, Any]) -> str:
    """Return in words how many images of how many patients were scored, from the content of ``metrics.json``."""
    images, patients, unknown = (results.get(f"n_{name}") for name in ("images", "patients", "without_patient"))
    if patients is None:
        return f"{images} images"
    if not unknown:
        return f"{images} images of {patients} patients"
    if unknown == images:
        return f"{images} images (patients unknown: each image counts as one)"
    return f"{images} images (patient unknown for {unknown} of them: each counts as one)"
