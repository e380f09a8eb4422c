"""The verbs, and the keys that belong to a verb or to no single constructor: their types. ``conf/`` explains them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from fundusnet.config.ranges import Count, NonNegative, NonNegativeInt, Share


@dataclass
class Data:
    """``data``: what shapes a prepared set."""

    source: str
    root: str
    folder: str | None
    options: dict[str, Any]
    size: Count
    workers: NonNegativeInt | None
    points: Literal["auto", "given"]


@dataclass
class Agreement:
    """What ``fundusnet annotate`` reads of ``data`` besides."""

    present: Count


@dataclass
class Finding:
    """``finding``: dilations and pool are one for all names, or a list with one for each."""

    names: list[str]
    dilations: list[Count] | list[list[Count]]
    pool: Count | list[Count]


@dataclass
class FindingsModel:
    """``model`` of findings, besides the arguments of ``fundusnet.findings.module.GuidedModule``."""

    task: Literal["findings"]


@dataclass
class Mask:
    """``model.mask``"""

    kind: Literal["predicted", "constant", "agnostic", "other"]
    scale: Literal["minmax", "relu", "sigmoid"]
    floor: Share


@dataclass
class Stage1:
    """``model.stage1``"""

    network: Any
    max_epochs: Count
    folds: Count
    masks: Literal["stored", "online"]
    checkpoint: str | None


@dataclass
class GradingModel:
    """``model`` of grading, besides the arguments of ``fundusnet.grading.stage.RankingStage``.

    ``mask`` and ``stage1`` are null for a single stage, which sees whole images.
    """

    task: Literal["grading"]
    head: Literal["ranking", "multiclass", "coral", "corn"]
    mask: Any
    stage1: Any


@dataclass
class LandmarkModel:
    """``model`` of landmarks, besides the arguments of ``fundusnet.landmarks.module.LandmarkModule``."""

    task: Literal["landmarks"]


@dataclass
class Evaluation:
    """``evaluation``"""

    bootstrap: Count
    panels: NonNegativeInt
    subgroups: list[str]
    attributes: str | None
    faithfulness: bool


@dataclass
class FindingsEvaluation:
    """What ``evaluation`` of findings holds besides."""

    operating_point: Literal["val", "test"]
    maps: Literal["absolute", "relative"]


@dataclass
class Train:
    """``fundusnet train``"""

    data: Any
    model: Any
    trainer: Any
    callbacks: Any
    evaluation: Any
    logger: Any
    task: Literal["findings", "grading", "landmarks"]
    name: str | None
    seed: NonNegativeInt
    run_dir: str | None
    resume: str | None
    weights: str | None


@dataclass
class TrainFindings:
    """What ``fundusnet train`` of findings takes besides."""

    finding: Any


@dataclass
class Init:
    """``fundusnet init``"""

    table: str | list[str]
    images: str | None
    output: str | None
    columns: Any
    classes: list[str]


@dataclass
class OwnColumns:
    """``columns`` of ``fundusnet init``: the name of a column, false where there is none, null to guess it."""

    image: str | list[str] | None
    patient: str | bool | None
    fellow: str | bool | None
    eye: str | bool | None
    visit: str | bool | None
    split: str | bool | None
    grade: str | bool | None
    findings: list[str] | bool | None
    finding: str | bool | None
    present: str | bool | None
    annotator: str | bool | None
    regions: str | bool | None
    disc_x: str | bool | None
    disc_y: str | bool | None
    fovea_x: str | bool | None
    fovea_y: str | bool | None


@dataclass
class Prepare:
    """``fundusnet prepare``"""

    data: Any
    finding: Any
    shard: str | None
    merge: str | list[str] | None


@dataclass
class Annotate:
    """``fundusnet annotate``"""

    data: Any
    finding: Any
    folder: str | None
    database: str | None
    readings_per_image: Count
    groups: dict[str, dict[str, Any] | None] | None
    reread_ungradable: NonNegativeInt
    questions: dict[str, dict[str, Any]] | None
    beside: list[Literal["fellow", "earlier"]]
    annotators: list[str] | dict[str, list[str]] | None
    adjudicators: list[str]
    administrators: list[str]
    annotator: str
    earlier: str | None
    export: str | None
    links: list[str]
    sign_out: list[str]
    join: list[str] | dict[str, list[str]] | None
    leave: list[str]
    host: str
    port: NonNegativeInt
    public: str | None
    seed: NonNegativeInt
    checkpoint: str | list[str] | None
    suggest: Share
    order: Literal["random", "uncertain"]


@dataclass
class Evaluate:
    """``fundusnet evaluate``"""

    data: Any
    evaluation: Any
    run: str
    split: Literal["val", "test", "train", "all"] | None
    labels: dict[str, str] | None
    grades: list[int | None] | None
    output: str | None
    network: str | None


@dataclass
class HeatMaps:
    """``heatmaps`` of ``fundusnet predict``"""

    draw: bool
    scale: Literal["absolute", "relative"]
    size: Count | None
    side_by_side: bool
    raw: bool


@dataclass
class PredictionReport:
    """``report`` of ``fundusnet predict``"""

    pictures: NonNegativeInt
    size: Count | None


@dataclass
class Predict:
    """``fundusnet predict``"""

    heatmaps: Any
    report: Any
    checkpoint: str | list[str] | None
    input: str | None
    output: str
    merge: str | list[str] | None
    shard: str | None
    dicom: bool
    strict: bool
    device: str | int | list[str | int]
    precision: Literal["32-true", "bf16-mixed"]
    points: Literal["auto", "given"]
    batch_size: Count
    workers: NonNegativeInt | None
    network: str | None


@dataclass
class Export:
    """``fundusnet export``"""

    checkpoint: str
    output: str | None
    formats: list[str]
    check: NonNegative
    network: str | None


@dataclass
class Report:
    """``fundusnet report``"""

    runs: str | list[str]
    reference: str | None
    format: Literal["page", "paper"]
    output: str | None


@dataclass(frozen=True)
class Verb:
    """One command.

    Attributes:
        summary: What it does, for ``--help``.
        work: The function of a configuration that does it, by its dotted name.
        keys: Group of keys → the classes and functions whose parameters they are; "" is the top level.
    """

    summary: str
    work: str
    keys: Mapping[str, tuple[str, ...]]


AUGMENT = "fundusnet.data.augment.build_augment"
DATAMODULES = {
    "findings": "fundusnet.findings.datamodule.FindingsDataModule",
    "grading": "fundusnet.grading.datamodule.GradingDataModule",
    "landmarks": "fundusnet.landmarks.datamodule.LandmarkDataModule",
}
VERBS = {
    "doctor": Verb(
        "say what this machine offers, and what a training would need of it",
        "fundusnet.commands.doctor.doctor",
        {
            "": (f"{__name__}.Train",),
            "trainer": ("fundusnet.fitting.fit.make_trainer", "pytorch_lightning.Trainer"),
            "evaluation": (f"{__name__}.Evaluation",),
        },
    ),
    "init": Verb(
        "turn a table of labels that you have into a data set: columns guessed, shown, written",
        "fundusnet.commands.init.init",
        {"": (f"{__name__}.Init",), "columns": (f"{__name__}.OwnColumns",)},
    ),
    "annotate": Verb(
        "serve the page on which annotators click the regions of a finding",
        "fundusnet.commands.annotate.annotate",
        {
            "": (f"{__name__}.Annotate",),
            "data": (f"{__name__}.Data", f"{__name__}.Agreement"),
            "finding": (f"{__name__}.Finding",),
        },
    ),
    "prepare": Verb(
        "turn photographs into a prepared set: cropped, resized, memory-mapped",
        "fundusnet.commands.prepare.prepare_folder",
        {"": (f"{__name__}.Prepare",), "data": (f"{__name__}.Data",), "finding": (f"{__name__}.Finding",)},
    ),
    "train": Verb(
        "fit a network, choose its operating point on validation, score the test split",
        "fundusnet.commands.train.train",
        {
            "": (f"{__name__}.Train",),
            "trainer": ("fundusnet.fitting.fit.make_trainer", "pytorch_lightning.Trainer"),
            "evaluation": (f"{__name__}.Evaluation",),
        },
    ),
    "evaluate": Verb(
        "score a finished run again, on its own data or on another set",
        "fundusnet.commands.evaluate.evaluate",
        {
            "": (f"{__name__}.Evaluate",),
            "data": (f"{__name__}.Data", *DATAMODULES.values()),
            "evaluation": (f"{__name__}.Evaluation", f"{__name__}.FindingsEvaluation"),
        },
    ),
    "predict": Verb(
        "read photographs with a trained network: predictions, heat maps and a page",
        "fundusnet.commands.predict.predict",
        {
            "": (f"{__name__}.Predict",),
            "heatmaps": (f"{__name__}.HeatMaps",),
            "report": (f"{__name__}.PredictionReport",),
        },
    ),
    "export": Verb(
        "write a trained network as ONNX and plain weights, with its model card",
        "fundusnet.commands.export.export",
        {"": (f"{__name__}.Export",)},
    ),
    "report": Verb(
        "write one page that compares finished runs",
        "fundusnet.commands.report.report",
        {"": (f"{__name__}.Report",)},
    ),
}
# Verbs that take the configuration of a training.
TRAINING = ("train", "doctor")
# What these take of each task besides.
TASKS: dict[str, Mapping[str, tuple[str, ...]]] = {
    "findings": {
        "": (f"{__name__}.TrainFindings",),
        "data": (f"{__name__}.Data", DATAMODULES["findings"], AUGMENT),
        "finding": (f"{__name__}.Finding",),
        "model": (f"{__name__}.FindingsModel", "fundusnet.findings.module.GuidedModule"),
        "evaluation": (f"{__name__}.FindingsEvaluation",),
    },
    "grading": {
        "data": (f"{__name__}.Data", DATAMODULES["grading"], AUGMENT),
        "model": (f"{__name__}.GradingModel", "fundusnet.grading.stage.RankingStage"),
        "model.mask": (f"{__name__}.Mask",),
        "model.stage1": (f"{__name__}.Stage1",),
    },
    "landmarks": {
        "data": (f"{__name__}.Data", DATAMODULES["landmarks"], AUGMENT),
        "model": (f"{__name__}.LandmarkModel", "fundusnet.landmarks.module.LandmarkModule"),
        "model.network.close_up": ("fundusnet.landmarks.close_up.CloseUpHead",),
    },
}
