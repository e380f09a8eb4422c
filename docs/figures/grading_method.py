"""Draw the figure of ``fundusnet/grading/README.md`` from a finished two-stage run on drawn eyes.

python docs/figures/grading_method.py RUN fundusnet/grading/method.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from fundusnet.data.prepared import open_prepared
from fundusnet.evaluation.figures import encode
from fundusnet.evaluation.runs import read_runs
from fundusnet.grading.datamodule import upsampled
from fundusnet.grading.figures import panel_tiles
from fundusnet.grading.statistics import GRADE, GRADING

TITLES = ("photograph", "mask of stage 1's grade", "what stage 2 sees")


def main(folder: Path, output: Path) -> None:
    """For each grade, the first test image that both stages grade correctly."""
    (run,) = read_runs([folder], GRADING)
    classes = run.results["classes"]
    prepared = open_prepared(Path(run.config["data"]["folder"]))
    row_of = {image_id: row for row, image_id in enumerate(prepared.manifest.images["image_id"])}
    masks = run.stored_maps("masks.npz", "mask")
    rows = run.predictions[GRADE]
    correct = rows[(rows["grade"] == rows["predicted"]) & (rows["grade"] == rows["stage1_predicted"])]

    figure = Figure(figsize=(7.2, 2.55 * len(classes)), dpi=110, layout="constrained")
    for grade, (line, name) in enumerate(zip(figure.subplots(len(classes), 3, squeeze=False), classes, strict=True)):
        for axes in line:
            axes.set(xticks=[], yticks=[])
        line[0].set_ylabel(name, fontsize=10)
        of_grade = correct[correct["grade"] == grade]
        if of_grade.empty:
            continue
        image_id = str(of_grade.index[0])
        pixels = np.asarray(prepared.pixels[row_of[image_id]])
        mask = upsampled(masks[image_id], pixels.shape[:2])
        for axes, picture, title in zip(line, panel_tiles(pixels, {"": mask}).values(), TITLES, strict=True):
            axes.imshow(picture)
            if grade == 0:
                axes.set_title(title, fontsize=10)
    output.write_bytes(encode(figure))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*map(Path, sys.argv[1:]))
