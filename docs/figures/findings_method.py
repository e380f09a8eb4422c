"""Draw the figure of ``fundusnet/findings/README.md`` from two finished runs on drawn eyes.

    python docs/figures/findings_method.py RUN_WITHOUT RUN_WITH fundusnet/findings/method.png

The runs are those of ``experiment=synthetic_shortcut`` with and without guidance, scored on the same images.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from fundusnet.data.labels import finding_labels
from fundusnet.data.prepared import open_prepared
from fundusnet.evaluation.figures import encode
from fundusnet.evaluation.runs import read_runs
from fundusnet.findings.datamodule import FindingsDataset
from fundusnet.findings.figures import panel_tiles
from fundusnet.findings.report import maps_of
from fundusnet.findings.statistics import FINDINGS

LABELS = {1: "present", 0: "absent"}


def main(without: Path, with_guidance: Path, output: Path) -> None:
    """Three test images: a clear case, a finding that the shortcut hides, and one that it suggests wrongly."""
    runs = read_runs([without, with_guidance], FINDINGS)
    finding = runs[0].targets[0]
    prepared = open_prepared(Path(runs[0].config["data"]["folder"]))
    labels = finding_labels(prepared, [finding])
    maps = [maps_of(run, finding) for run in runs]
    rows = [run.predictions[finding] for run in runs]
    row_of = {image_id: row for row, image_id in enumerate(prepared.manifest.images["image_id"])}

    figure = Figure(figsize=(11.5, 7.4), dpi=110, layout="constrained")
    titles = ["photograph, 8 regions, lesions", "cue: the regions marked", "cue at the map's size", *("", "")]
    for line, image_id in zip(figure.subplots(3, 5), choose_images(*rows), strict=True):
        row = row_of[image_id]
        image = prepared.manifest.images.iloc[row]
        cue = labels.cue(row)
        tiles = panel_tiles(
            np.asarray(prepared.pixels[row]),
            {"without": maps[0][image_id], "with": maps[1][image_id]},
            cue=cue[0],
            lesion=prepared.lesion_mask(image_id, finding),
            landmarks=((image["disc_x"], image["disc_y"]), (image["fovea_x"], image["fovea_y"])),
        )
        cells = FindingsDataset(prepared, labels, np.array([row]), maps[0][image_id].shape[0])[0]["cue"][0]
        pictures = [tiles["photograph"], tiles["cue"], cells, tiles["without"], tiles["with"]]
        for axes, picture, title in zip(line, pictures, titles, strict=True):
            axes.imshow(picture, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            axes.set_title(title, fontsize=10)
        titles = [""] * 5
        truth = LABELS[int(rows[0].loc[image_id, "label"])]
        line[0].set_ylabel(f"{finding.replace('_', ' ')}: {truth}", fontsize=10)
        for axes, name, table in zip(line[3:], ("λ = 0", "with guidance"), rows, strict=True):
            axes.set_title(f"{name}: predicts {table.loc[image_id, 'probability']:.2f}", fontsize=10)
    output.write_bytes(encode(figure))


def choose_images(without: pd.DataFrame, with_guidance: pd.DataFrame) -> list[str]:
    """Both correct; present but missed without guidance; absent but a false positive without guidance."""
    gap = with_guidance["probability"] - without["probability"]
    present, absent = without["label"] == 1, without["label"] == 0
    both = (without["probability"] + with_guidance["probability"])[present]
    return [str(both.idxmax()), str(gap[present].idxmax()), str(gap[absent].idxmin())]


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*map(Path, sys.argv[1:]))
