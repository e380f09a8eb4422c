"""Which keys a configuration may hold and of what type; the comments beside the values stand in ``conf/``.

One dataclass a group of ``conf/``. ``Any`` where more than one type is meant; ``DataConfig.options`` is free,
because each source checks its own. A value without default has to be given, as ``???`` in ``conf/``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

# Values that are one of a few words.
CHOICES: dict[str, tuple[str, ...]] = {
    "task": ("findings", "grading"),
    "data.cue": ("regions", "pixels"),
    "data.split_by": ("patient", "image"),
    "trainer.accelerator": ("auto", "cpu", "gpu", "cuda"),
    "evaluation.operating_point": ("val", "test"),
    "split": ("val", "test", "train", "all"),
}
TASK_CHOICES: dict[str, dict[str, tuple[str, ...]]] = {
    "findings": {
        "model.network.name": ("guided", "guided_timm", "inception_cam"),
        "model.loss.form": ("log", "bce"),
        "model.loss.per": ("cell", "window"),
        "model.loss.balance": ("none", "inverse"),
        "model.optimizer.name": ("sgd", "adamw"),
        "model.optimizer.schedule": ("cosine", "exponential", "constant"),
    },
    "grading": {
        "model.head": ("ranking", "multiclass", "coral", "corn"),
        "model.input": ("image", "roi", "mask_only"),
        "model.mask.kind": ("predicted", "constant", "agnostic", "other"),
        "model.mask.scale": ("minmax", "relu", "sigmoid"),
        "model.balance": ("none", "inverse"),
        "model.optimizer.name": ("rmsprop", "sgd", "adamw"),
        "model.stage1.masks": ("stored", "online"),
    },
}


@dataclass
class AugmentConfig:
    """``data.augment``"""

    hflip: bool = MISSING
    vflip: bool = MISSING
    scale: list[float] = MISSING
    rotate: float = MISSING
    translate: float = MISSING
    shear: float = MISSING
    intensity: list[float] = MISSING


@dataclass
class DataConfig:
    """``data``"""

    source: str = MISSING
    root: str = MISSING
    folder: str | None = MISSING
    options: dict[str, Any] = MISSING
    size: int = MISSING
    workers: int = MISSING
    cue: str = MISSING
    present: int = MISSING
    fractions: list[float] = MISSING
    split_by: str = MISSING
    batch_size: int = MISSING
    num_workers: int = MISSING
    augment: AugmentConfig = field(default_factory=AugmentConfig)


@dataclass
class FindingConfig:
    """``finding``: dilations and pool are one for all names, or a list with one for each."""

    names: list[str] = MISSING
    dilations: Any = MISSING
    pool: Any = MISSING


@dataclass
class NetworkConfig:
    """``model.network``"""

    name: str = MISSING
    width: int = MISSING
    max_width: int = MISSING
    reductions: int = MISSING
    residual_units: int = MISSING
    dilations: Any = MISSING
    pool: Any = MISSING
    pyramid_width: int = MISSING
    backbone: str | None = MISSING
    pretrained: bool = MISSING
    weights: str | None = MISSING


@dataclass
class LossConfig:
    """``model.loss``"""

    weight: float = MISSING
    form: str = MISSING
    eps: float = MISSING
    per: str = MISSING
    warmup_epochs: int = MISSING
    balance: str = MISSING


@dataclass
class OptimizerConfig:
    """``model.optimizer``"""

    name: str = MISSING
    lr: float = MISSING
    momentum: float = MISSING
    weight_decay: float = MISSING
    schedule: str = MISSING


@dataclass
class ModelConfig:
    """``model``"""

    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)


@dataclass
class GradingNetworkConfig:
    """``model.network`` and ``model.stage1.network`` of grading"""

    head: str = MISSING
    backbone: str = MISSING
    cam_stride: int = MISSING
    hidden: int | None = MISSING
    dropout: float = MISSING
    pretrained: bool = MISSING
    weights: str | None = MISSING


@dataclass
class GradingOptimizerConfig:
    """``model.optimizer`` of grading"""

    name: str = MISSING
    lr: float = MISSING
    momentum: float = MISSING
    weight_decay: float = MISSING
    decay: float = MISSING


@dataclass
class MaskConfig:
    """``model.mask``"""

    kind: str = MISSING
    scale: str = MISSING
    floor: float = MISSING


@dataclass
class Stage1Config:
    """``model.stage1``"""

    network: GradingNetworkConfig = field(default_factory=GradingNetworkConfig)
    max_epochs: int = MISSING
    folds: int = MISSING
    masks: str = MISSING
    checkpoint: str | None = MISSING


@dataclass
class GradingModelConfig:
    """``model`` of grading; ``mask`` and ``stage1`` are null where a single stage sees whole pictures."""

    head: str = MISSING
    network: GradingNetworkConfig = field(default_factory=GradingNetworkConfig)
    input: str = MISSING
    mask: MaskConfig | None = field(default_factory=MaskConfig)
    balance: str = MISSING
    optimizer: GradingOptimizerConfig = field(default_factory=GradingOptimizerConfig)
    stage1: Stage1Config | None = field(default_factory=Stage1Config)


@dataclass
class TrainerConfig:
    """``trainer``: what Lightning's Trainer takes, so numbers and words both occur."""

    max_epochs: int = MISSING
    accelerator: str = MISSING
    devices: Any = MISSING
    precision: Any = MISSING
    deterministic: Any = MISSING
    channels_last: bool = MISSING
    patience: int = MISSING
    monitor: str = MISSING
    gradient_clip: float | None = MISSING
    checkpoint_every: int | None = MISSING


@dataclass
class LoggerConfig:
    """``logger``"""

    csv: bool = MISSING
    tensorboard: bool = MISSING
    wandb: bool = MISSING
    every: int = MISSING
    pictures: int = MISSING
    project: str = MISSING
    group: str | None = MISSING
    name: str | None = MISSING
    id: str | None = MISSING
    artifact: bool = MISSING


@dataclass
class EvaluationConfig:
    """``evaluation``"""

    bootstrap: int = MISSING
    operating_point: str = MISSING
    panels: int = MISSING
    subgroups: list[str] = MISSING
    attributes: str | None = MISSING
    faithfulness: bool = MISSING


@dataclass
class AnnotateConfig:
    """``fundusnet annotate``"""

    data: DataConfig = field(default_factory=DataConfig)
    finding: FindingConfig = field(default_factory=FindingConfig)
    folder: str | None = MISSING
    database: str | None = MISSING
    readings_per_image: int = MISSING
    annotators: list[str] = MISSING
    adjudicators: list[str] = MISSING
    annotator: str = MISSING
    earlier: str | None = MISSING
    export: str | None = MISSING
    links: list[str] = MISSING
    host: str = MISSING
    port: int = MISSING
    public: str | None = MISSING
    seed: int = MISSING
    debug: bool = MISSING


@dataclass
class PrepareConfig:
    """``fundusnet prepare``"""

    data: DataConfig = field(default_factory=DataConfig)
    finding: FindingConfig = field(default_factory=FindingConfig)
    shard: str | None = MISSING
    merge: Any = MISSING
    seed: int = MISSING
    debug: bool = MISSING


@dataclass
class RunConfig:
    """``fundusnet train``, whatever the task"""

    data: DataConfig = field(default_factory=DataConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    logger: LoggerConfig = field(default_factory=LoggerConfig)
    task: str = MISSING
    name: str | None = MISSING
    seed: int = MISSING
    debug: bool = MISSING
    run_dir: str | None = MISSING
    resume: str | None = MISSING


@dataclass
class TrainConfig(RunConfig):
    """``fundusnet train task=findings``"""

    finding: FindingConfig = field(default_factory=FindingConfig)
    model: ModelConfig = field(default_factory=ModelConfig)


@dataclass
class GradingTrainConfig(RunConfig):
    """``fundusnet train task=grading``"""

    model: GradingModelConfig = field(default_factory=GradingModelConfig)


@dataclass
class EvaluateConfig:
    """``fundusnet evaluate``"""

    data: DataConfig | None = field(default_factory=DataConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    run: str = MISSING
    split: str | None = MISSING
    labels: Any = MISSING
    grades: Any = MISSING
    output: str | None = MISSING
    debug: bool = MISSING


@dataclass
class HeatMapConfig:
    """``heatmaps``"""

    draw: bool = MISSING
    side_by_side: bool = MISSING
    raw: bool = MISSING


@dataclass
class PredictionReportConfig:
    """``report`` of ``fundusnet predict``"""

    pictures: int = MISSING


@dataclass
class PredictConfig:
    """``fundusnet predict``"""

    heatmaps: HeatMapConfig = field(default_factory=HeatMapConfig)
    report: PredictionReportConfig = field(default_factory=PredictionReportConfig)
    checkpoint: Any = MISSING
    input: str | None = MISSING
    output: str = MISSING
    merge: Any = MISSING
    shard: str | None = MISSING
    strict: bool = MISSING
    device: Any = MISSING
    batch_size: int = MISSING
    workers: int | None = MISSING
    debug: bool = MISSING


@dataclass
class ExportConfig:
    """``fundusnet export``"""

    checkpoint: str = MISSING
    output: str | None = MISSING
    formats: list[str] = MISSING
    check: int = MISSING
    debug: bool = MISSING


@dataclass
class ReportConfig:
    """``fundusnet report``"""

    runs: Any = MISSING
    output: str = MISSING
    debug: bool = MISSING


SCHEMAS: dict[str, type[Any]] = {
    "annotate": AnnotateConfig,
    "prepare": PrepareConfig,
    "train": TrainConfig,
    "evaluate": EvaluateConfig,
    "predict": PredictConfig,
    "export": ExportConfig,
    "report": ReportConfig,
}


def schema_of(verb: str, task: str | None = None) -> type[Any]:
    """The schema of a verb; what is trained has the keys of its task."""
    return GradingTrainConfig if (verb, task) == ("train", "grading") else SCHEMAS[verb]
