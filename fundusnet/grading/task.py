"""Grading as a task: from a config to a fitted, scored and reported run of one stage or two (S2.4-S2.6).

In a run of two stages each fit has its own folder, with a complete config::

    stages/stage1/          fitted on all training images
    stages/fold_0/ …        each fitted without one fold, if model.stage1.folds is above 1
    stages/masks.npy .csv   the masks of stage 2, and the model that made each
    stages/features/        what a frozen backbone makes of the masked photographs
    stages/stage2/
    checkpoints/best.ckpt   the whole system

A resumed run keeps what is finished.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig, OmegaConf
from torch import nn

from fundusnet.data.appearance import training_appearance
from fundusnet.data.augment import build_augment
from fundusnet.errors import UserError
from fundusnet.evaluation.binary_tasks import fit_on_validation
from fundusnet.fitting.leaks import warn_of_leak
from fundusnet.fitting.module_arguments import module_arguments
from fundusnet.fitting.needs import PlannedFit
from fundusnet.fitting.processes import Fit
from fundusnet.grading.datamodule import GradingDataModule
from fundusnet.grading.masks import write_masks
from fundusnet.grading.panels import validation_panels as validation_panels
from fundusnet.grading.paper import write_paper as write_paper
from fundusnet.grading.report import write_report as write_report
from fundusnet.grading.scoring import score, write_results
from fundusnet.grading.stage import RankingStage, load_stage
from fundusnet.grading.statistics import GRADING, grading_tasks
from fundusnet.grading.two_stage import TwoStage
from fundusnet.networks.build import network_spec
from fundusnet.networks.joint import short_name
from fundusnet.runs.checkpoints import (
    best_checkpoint,
    load_checkpoint,
    load_module,
    read_metadata,
    update_metadata,
    write_checkpoint,
)
from fundusnet.system.devices import choose_device

SYSTEM = GRADING


def fit_and_score(cfg: DictConfig, run: Path, fit: Fit) -> dict[str, object]:
    """Fit the stages that ``cfg`` asks for, one after the other, by ``fit``; score the test split."""
    _check(cfg)
    best, datamodule = run / "checkpoints" / "best.ckpt", make_datamodule(cfg)
    if cfg.model.stage1 is None:
        fit(cfg, run, datamodule)
        keep_best_epochs(run, best)
    else:
        stage2 = _fit_stages(cfg, run, fit, datamodule)
        keep_best_epochs(stage2, best)
        histories = {folder.name: pd.read_csv(folder / "history.csv") for folder in _fitted(run / "stages")}
        pd.concat(histories, names=["stage"]).reset_index("stage").to_csv(run / "history.csv", index=False)
    module = load_module(best, _kind(cfg), network=_own_network(cfg))
    datamodule = datamodule.for_fit(masks=_stored_masks(cfg, run))
    device, chosen = choose_device(cfg.trainer.accelerator, cfg.trainer.devices), {}
    if len(datamodule.rows["val"]):
        validation = score(module, datamodule, "val", device).predictions
        validation.to_csv(run / "predictions_val.csv", index=False)
        chosen = fit_on_validation(grading_tasks(validation))
    update_metadata(
        best,
        {
            "classes": list(datamodule.classes),
            "size": datamodule.prepared.size,
            "validation": chosen,
            **training_appearance(datamodule.prepared.pixels, datamodule.rows["train"]),
        },
    )
    return write_results(run, module, datamodule, datamodule.scored_split(), cfg.evaluation, device, chosen)


def trained(
    cfg: DictConfig, run: Path, network: type[nn.Module] | None = None
) -> tuple[RankingStage, GradingDataModule]:
    """The best checkpoint of ``run``, and the data of ``cfg`` to score it on.

    Raises:
        UserError: The data has other grades than the checkpoint.
    """
    module = load_module(run / "checkpoints" / "best.ckpt", _kind(cfg), network=network)
    masks = None if "evaluated" in cfg else _stored_masks(cfg, run)
    datamodule = GradingDataModule.from_config(cfg, augment=None, masks=masks)
    datamodule.setup("test")
    if module.classes != len(datamodule.classes):
        raise UserError(
            f"the checkpoint of {run} has {module.classes} grades, {cfg.data.folder} holds "
            f"{len(datamodule.classes)} ({', '.join(datamodule.classes)}); score it on the data it was trained for"
        )
    return module, datamodule


def score_again(
    cfg: DictConfig, run: Path, split: str, folder: Path, module: RankingStage, datamodule: GradingDataModule
) -> dict[str, object]:
    """Score what ``trained`` returned for ``cfg`` and ``run`` on ``split`` into ``folder``."""
    chosen = read_metadata(run / "checkpoints" / "best.ckpt").get("validation")
    device = choose_device(cfg.trainer.accelerator, cfg.trainer.devices)
    return write_results(folder, module, datamodule, split, cfg.evaluation, device, chosen)


def run_name(cfg: DictConfig) -> str:
    """What tables call a run: its head and backbone, and how the masks it was trained with were made."""
    model = cfg.model
    name = str(model.network._target_).rpartition(".")[2]
    network = short_name(model.network.backbone) if name == "GradingNetwork" else name
    backbone = "" if network == "densenet121" else f" ({network})"
    if model.stage1 is None:
        linear = model.network.get("freeze") == "all" and model.network.get("hidden") is None
        return f"{'linear ' if linear else ''}{model.head}{backbone}"
    masks = [f"{model.stage1.folds} folds"] if model.stage1.folds > 1 else []
    masks += ["online masks"] if model.stage1.masks == "online" else []
    masks += [f"{model.mask.kind} mask"] if model.mask.kind != "predicted" else []
    masks += ["mask only"] if model.input == "mask_only" else []
    return ", ".join([f"two-stage {model.head}{backbone}", *masks])


def make_datamodule(cfg: DictConfig) -> GradingDataModule:
    """The data that ``cfg`` trains on; its set is prepared already. ``cfg.stage`` has the fold and masks of one fit."""
    stage = cfg.get("stage") or {}
    return GradingDataModule.from_config(
        cfg,
        augment=build_augment(cfg.data.augment, cfg.data.get("augment_on", "cpu")),
        mask_folds=stage.get("folds") or (cfg.model.stage1.folds if cfg.model.stage1 else 1),
        left_out=stage.get("fold"),
        masks=stage.get("masks"),
    )


def planned_fits(cfg: DictConfig) -> list[PlannedFit]:
    """The one fit of a run, or stage 1 with its copies on folds, and stage 2; of three grades if none are named."""
    classes = len(cfg.data.options.get("classes") or "123")

    def planned(own: DictConfig, count: int = 1) -> PlannedFit:
        module = RankingStage(classes=classes, input=own.model.input, **module_arguments(own.model))
        return PlannedFit(module, int(own.trainer.max_epochs), count)

    if (first := cfg.model.stage1) is None:
        return [planned(cfg)]
    count = 0 if first.checkpoint else 1
    count += int(first.folds) if first.folds > 1 and first.masks == "stored" else 0
    return [planned(_stage_config(cfg, name="stage1"), count), planned(_stage_config(cfg, name="stage2"))]


def make_module(cfg: DictConfig, datamodule: GradingDataModule) -> RankingStage:
    """The LightningModule of a config: a single stage, or stage 2 behind the first that ``cfg.stage`` names."""
    options = {"classes": len(datamodule.classes), "input": cfg.model.input, **module_arguments(cfg.model)}
    if hasattr(options["loss"], "fit_to"):
        options["loss"].fit_to(datamodule.counts)
    if cfg.model.stage1 is None:
        return RankingStage(**options)
    options["network_class"] = _own_network(cfg)
    mask: Any = OmegaConf.to_container(cfg.model.mask, resolve=True)
    return TwoStage.from_stage1(cfg.stage.checkpoint, mask=mask, **options)


def keep_best_epochs(folder: Path, best: Path) -> None:
    """Write the module of a finished fit to ``best``, each sub-classifier from its own best epoch (S2.4).

    Lightning chooses one epoch for the whole module; ``last.ckpt`` holds the weights of each one's best.
    """
    if best.is_file() and "best_epochs" in read_metadata(best):
        return
    content = load_checkpoint(folder / "checkpoints" / "last.ckpt")
    chosen = content["best"]
    for number, weights in enumerate(chosen["weights"]):
        for key, value in weights.items():
            content["state_dict"][f"network.members.{number}.{key}"] = value
    kept = {key: content[key] for key in ("state_dict", "hyper_parameters", "pytorch-lightning_version", "epoch")}
    write_checkpoint(best, {**kept, "fundusnet": {"task": "grading", "best_epochs": list(chosen["epoch"])}})


def _kind(cfg: DictConfig) -> type[RankingStage]:
    return TwoStage if cfg.model.stage1 else RankingStage


def _own_network(cfg: DictConfig) -> type[nn.Module] | None:
    """The class of the user's own that ``cfg`` names for either stage."""
    networks = [cfg.model.network, *([cfg.model.stage1.network] if cfg.model.stage1 else [])]
    return next((own for node in networks if (own := network_spec(node)[1])), None)


def _stored_masks(cfg: DictConfig, run: Path) -> Path | None:
    """Masks to score with: those of other images, which would depend on an image's neighbours in its batch."""
    return run / "stages" / "masks.npy" if cfg.model.stage1 and cfg.model.mask.kind == "other" else None


def _fit_stages(cfg: DictConfig, run: Path, fit: Fit, datamodule: GradingDataModule) -> Path:
    """Stage 1, the folds, the masks and stage 2, as far as they are missing; the folder of stage 2."""
    options, stages = cfg.model.stage1, run / "stages"
    folds = int(options.folds)
    datamodule.setup("fit")  # errors in grades or folds are reported before anything is fitted
    given = best_checkpoint(Path(options.checkpoint)) if options.checkpoint else None
    own = network_spec(options.network)[1]
    if given is not None:
        _check_given(cfg, given, own, datamodule.classes)
        warn_of_leak(given, datamodule)
    first = given or _fit_stage(_stage_config(cfg, name="stage1"), stages, fit, datamodule.for_fit())
    masks = None
    if options.masks == "stored":
        masks = stages / "masks.npy"
        of_folds = [
            _fit_stage(
                _stage_config(cfg, name=f"fold_{fold}", folds=folds, fold=fold), stages, fit, datamodule.for_fit(fold)
            )
            for fold in range(folds if folds > 1 else 0)
        ]
        if not masks.is_file():
            stages.mkdir(parents=True, exist_ok=True)
            mask: Any = OmegaConf.to_container(cfg.model.mask)
            device = choose_device(cfg.trainer.accelerator, cfg.trainer.devices)
            models = (load_stage(file, own) for file in of_folds)
            write_masks(masks, datamodule, load_stage(first, own), models, mask, device)
    stage2 = _stage_config(
        cfg, name="stage2", masks=str(masks.resolve()) if masks else None, checkpoint=str(first.resolve())
    )
    return _fit_stage(stage2, stages, fit, datamodule.for_fit(masks=masks)).parent.parent


def _fit_stage(cfg: DictConfig, stages: Path, fit: Fit, datamodule: GradingDataModule) -> Path:
    """Fit one stage in its own folder; its checkpoint."""
    folder = stages / str(cfg.stage.name)
    best = folder / "checkpoints" / "best.ckpt"
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(cfg, folder / "config.yaml")
    fit(cfg, folder, datamodule)
    keep_best_epochs(folder, best)
    return best


def _stage_config(cfg: DictConfig, **stage: Any) -> DictConfig:
    """The complete config of one fit: that of the run, and ``stage`` with its name, fold, masks and checkpoint.

    All but stage 2 are single stages on whole images, with the network and the epochs of ``model.stage1``.
    """
    own = cfg.copy()
    OmegaConf.set_struct(own, False)
    own.stage = {"name": None, "folds": 1, "fold": None, "masks": None, "checkpoint": None, **stage}
    if stage["name"] != "stage2":
        first = cfg.model.stage1
        own.trainer.max_epochs = first.max_epochs
        own.model = {**cfg.model, "network": first.network, "input": "image", "mask": None, "stage1": None}
    return own


def _fitted(stages: Path) -> list[Path]:
    names = ["stage1", *sorted(folder.name for folder in stages.glob("fold_*")), "stage2"]
    return [stages / name for name in names if (stages / name / "history.csv").is_file()]


def _check(cfg: DictConfig) -> None:
    """Refuse impossible combinations before the first fit starts."""
    model = cfg.model
    if model.head == "corn" and model.loss.get("balance") == "inverse":
        raise UserError("model.loss.balance=inverse does not work with model.head=corn; use none, or another head")
    if model.stage1 is None:
        if model.input != "image" or model.mask is not None:
            raise UserError(
                f"model.input={model.input} needs the masks of a first stage; use model=two_stage, or input=image"
            )
        return
    if model.input == "image":
        raise UserError("model.input=image leaves the masks of stage 1 unused; use roi or mask_only, or model=ranking")
    if model.stage1.masks == "online" and model.stage1.folds > 1:
        raise UserError(
            f"model.stage1.folds={model.stage1.folds} and model.stage1.masks=online exclude each other: online masks "
            "are made by the one stage 1 that saw all training images; use masks=stored or folds=1"
        )


def _check_given(cfg: DictConfig, file: Path, own: type[nn.Module] | None, classes: tuple[str, ...]) -> None:
    """Refuse a given stage 1 that is not the one that the config describes."""
    found = load_stage(file, own)
    for key in ("backbone", "head"):
        value, wanted = found.hparams["network"].get(key), cfg.model.stage1.network.get(key)
        if value != wanted:
            raise UserError(
                f"model.stage1.checkpoint={file} holds {key}={value}, and model.stage1.network.{key}={wanted}; "
                f"give another checkpoint or set model.stage1.network.{key}={value}"
            )
    if found.classes != len(classes):
        raise UserError(
            f"model.stage1.checkpoint={file} has {found.classes} grades, {cfg.data.folder} holds "
            f"{len(classes)} ({', '.join(classes)}); give a stage 1 of the same grades"
        )
