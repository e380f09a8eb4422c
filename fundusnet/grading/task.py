"""Grading as a task: from a config to a run of one stage or two, fitted, scored and reported (S2.4-S2.6).

A run of two stages keeps each fit in a folder of its own, with the config that would do it alone::

    stages/stage1/          fitted on all training images
    stages/fold_0/ …        fitted without one fold each, where model.stage1.folds says so
    stages/masks.npy .csv   what stage 2 looks through, and who made it
    stages/stage2/
    checkpoints/best.ckpt   the whole system

What is finished is left as it is when a run that was cut short goes on.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd
from omegaconf import DictConfig, OmegaConf

from fundusnet.data.appearance import training_appearance
from fundusnet.data.augment import augment_from_ranges
from fundusnet.data.relabel import relabelling
from fundusnet.errors import UserError
from fundusnet.evaluation.binary_tasks import fit_on_validation
from fundusnet.fitting.processes import Fit
from fundusnet.grading.datamodule import GradingDataModule
from fundusnet.grading.masks import write_masks
from fundusnet.grading.panels import validation_panels as validation_panels
from fundusnet.grading.report import write_report as write_report
from fundusnet.grading.scoring import score, write_results
from fundusnet.grading.stage import RankingStage, load_stage
from fundusnet.grading.statistics import GRADING, grading_tasks
from fundusnet.grading.two_stage import TwoStage
from fundusnet.runs.checkpoints import load_checkpoint, load_module, read_metadata, update_metadata, write_checkpoint
from fundusnet.system.devices import choose_device

log = logging.getLogger(__name__)
SYSTEM = GRADING


def fit_and_score(cfg: DictConfig, run: Path, fit: Fit) -> dict[str, object]:
    """Fit the stages that ``cfg`` asks for, one after the other, by ``fit``; score the test split."""
    _check(cfg)
    best = run / "checkpoints" / "best.ckpt"
    if cfg.model.stage1 is None:
        fit(cfg, run)
        keep_best_epochs(run, best)
    else:
        stage2 = _fit_stages(cfg, run, fit)
        keep_best_epochs(stage2, best)
        histories = {folder.name: pd.read_csv(folder / "history.csv") for folder in _fitted(run / "stages")}
        pd.concat(histories, names=["stage"]).reset_index("stage").to_csv(run / "history.csv", index=False)
    module, datamodule = _trained(cfg, run)
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
    return score_again(cfg, run, "test", run, cfg.evaluation)


def score_again(cfg: DictConfig, run: Path, split: str, folder: Path, options: DictConfig) -> dict[str, object]:
    """Score the best checkpoint of ``run`` on ``split`` of the data of ``cfg`` into ``folder``, as ``options`` say."""
    chosen = read_metadata(run / "checkpoints" / "best.ckpt").get("validation")
    device = choose_device(cfg.trainer.accelerator, cfg.trainer.devices)
    return write_results(folder, *_trained(cfg, run), split, options, device, chosen)


def _trained(cfg: DictConfig, run: Path) -> tuple[RankingStage, GradingDataModule]:
    """The best checkpoint of ``run``, and the data of ``cfg`` to score it on."""
    kind: type[RankingStage] = TwoStage if cfg.model.stage1 else RankingStage
    module = load_module(run / "checkpoints" / "best.ckpt", kind)
    if cfg.model.stage1 and cfg.model.mask.kind == "other" and "evaluated" not in cfg:
        # Whose mask an image gets would hang on its neighbours in a batch.
        cfg = _stage_config(cfg, name="stage2", masks=str(run / "stages" / "masks.npy"))
    datamodule = make_datamodule(cfg)
    datamodule.setup("test")
    if module.classes != len(datamodule.classes):
        raise UserError(
            f"the checkpoint of {run} tells {module.classes} grades, {cfg.data.folder} holds "
            f"{len(datamodule.classes)} ({', '.join(datamodule.classes)}); score it on the data it was trained for"
        )
    return module, datamodule


def run_name(cfg: DictConfig) -> str:
    """What tables call a run: its head, and whose masks it was taught with."""
    model = cfg.model
    backbone = "" if model.network.backbone == "densenet121" else f" ({model.network.backbone})"
    if model.stage1 is None:
        return f"{model.head}{backbone}"
    masks = [f"{model.stage1.folds} folds"] if model.stage1.folds > 1 else []
    masks += ["online masks"] if model.stage1.masks == "online" else []
    masks += [f"{model.mask.kind} mask"] if model.mask.kind != "predicted" else []
    masks += ["mask only"] if model.input == "mask_only" else []
    return ", ".join([f"two-stage {model.head}{backbone}", *masks])


def make_datamodule(cfg: DictConfig) -> GradingDataModule:
    """The DataModule of a config whose set is prepared already; ``cfg.stage`` names its fold and masks."""
    data: Any = OmegaConf.to_container(cfg.data, resolve=True)
    stage = cfg.get("stage") or {}
    return GradingDataModule(
        folder=data["folder"],
        batch_size=data["batch_size"],
        num_workers=data["num_workers"],
        augment=data["augment"] and augment_from_ranges(**data["augment"]),
        fractions=tuple(data["fractions"]),
        split_by=data["split_by"],
        seed=cfg.seed,
        folds=stage.get("folds") or 1,
        fold=stage.get("fold"),
        masks=stage.get("masks"),
        relabel=relabelling(cfg),
    )


def make_module(cfg: DictConfig, datamodule: GradingDataModule) -> RankingStage:
    """The LightningModule of a config: a single stage, or stage 2 behind the first that ``cfg.stage`` names."""
    model: Any = OmegaConf.to_container(cfg.model, resolve=True)
    options = {
        "classes": len(datamodule.classes),
        "network": model["network"],
        "optimizer": model["optimizer"],
        "input": model["input"],
        "class_counts": datamodule.counts if model["balance"] == "inverse" else None,
        "channels_last": bool(cfg.trainer.channels_last),
    }
    if model["stage1"] is None:
        module = RankingStage(**options)
    else:
        module = TwoStage.from_stage1(cfg.stage.checkpoint, mask=model["mask"], **options)
    log.info("%s starts from weights: %s", run_name(cfg), module.network.initial_weights)
    return module


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


def _fit_stages(cfg: DictConfig, run: Path, fit: Fit) -> Path:
    """Stage 1, the folds, the masks and stage 2, as far as they are not there; the folder of stage 2."""
    options, stages = cfg.model.stage1, run / "stages"
    folds = int(options.folds)
    datamodule = make_datamodule(_stage_config(cfg, name="masks", folds=folds))
    datamodule.setup("fit")  # what is wrong with the grades or the folds is said before anything is fitted
    given = Path(options.checkpoint) if options.checkpoint else None
    if given is not None:
        _check_given(cfg, given, datamodule.classes)
    first = given or _fit_stage(_stage_config(cfg, name="stage1"), stages, fit)
    masks = None
    if options.masks == "stored":
        masks = stages / "masks.npy"
        of_folds = [
            _fit_stage(_stage_config(cfg, name=f"fold_{fold}", folds=folds, fold=fold), stages, fit)
            for fold in range(folds if folds > 1 else 0)
        ]
        if not masks.is_file():
            stages.mkdir(parents=True, exist_ok=True)
            mask: Any = OmegaConf.to_container(cfg.model.mask)
            device = choose_device(cfg.trainer.accelerator, cfg.trainer.devices)
            write_masks(masks, datamodule, load_stage(first), (load_stage(file) for file in of_folds), mask, device)
    stage2 = _stage_config(
        cfg, name="stage2", masks=str(masks.resolve()) if masks else None, checkpoint=str(first.resolve())
    )
    return _fit_stage(stage2, stages, fit).parent.parent


def _fit_stage(cfg: DictConfig, stages: Path, fit: Fit) -> Path:
    """Fit one stage in its own folder; its checkpoint."""
    folder = stages / str(cfg.stage.name)
    best = folder / "checkpoints" / "best.ckpt"
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(cfg, folder / "config.yaml")
    fit(cfg, folder)
    keep_best_epochs(folder, best)
    return best


def _stage_config(cfg: DictConfig, **stage: Any) -> DictConfig:
    """The config of one fit, whole by itself: that of the run, and ``stage`` with its name, fold, masks, checkpoint.

    All but stage 2 are single stages on whole pictures, with the network and the epochs of ``model.stage1``.
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
    """Refuse what no fit could be made of, before the first one starts."""
    model = cfg.model
    if model.head == "corn" and model.balance == "inverse":
        raise UserError("model.balance=inverse is not known for model.head=corn; use balance=none or another head")
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


def _check_given(cfg: DictConfig, file: Path, classes: tuple[str, ...]) -> None:
    """A stage 1 that was fitted elsewhere has to be the one that the config describes."""
    found = load_stage(file)
    for key in ("backbone", "head"):
        value, wanted = found.hparams["network"].get(key), cfg.model.stage1.network[key]
        if value != wanted:
            raise UserError(
                f"model.stage1.checkpoint={file} holds {key}={value}, and model.stage1.network.{key}={wanted}; "
                f"give another checkpoint or set model.stage1.network.{key}={value}"
            )
    if found.classes != len(classes):
        raise UserError(
            f"model.stage1.checkpoint={file} tells {found.classes} grades, {cfg.data.folder} holds "
            f"{len(classes)} ({', '.join(classes)}); give a stage 1 of the same grades"
        )
