"""Configurations of runs that version 0.1.0 wrote, in today's keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fundusnet.config.signatures import signature_of

NETWORKS = {
    "guided": "fundusnet.findings.network.GuidedCAM",
    "guided_timm": "fundusnet.findings.network.GuidedTimm",
    "inception_cam": "fundusnet.findings.network.InceptionCAM",
    None: "fundusnet.grading.network.GradingNetwork",
}
OPTIMIZERS = {
    "sgd": ("torch.optim.SGD", ("lr", "momentum", "weight_decay")),
    "adamw": ("torch.optim.AdamW", ("lr", "weight_decay")),
    "rmsprop": ("torch.optim.RMSprop", ("lr", "momentum", "weight_decay")),
}
SCHEDULES = "fundusnet.fitting.schedules"


def upgrade(config: DictConfig) -> DictConfig:
    """The configuration of a run in today's keys; one that has them is returned as it is."""
    network = OmegaConf.select(config, "model.network")
    if network is None or "_target_" in network:
        return config
    old: Any = OmegaConf.to_container(config)
    model, trainer, logger = old["model"], old["trainer"], old["logger"]
    networks = [model, *([model["stage1"]] if model.get("stage1") else [])]
    for each in networks:
        each["network"] = _network(each["network"])
    if old["task"] == "findings":
        model["loss"] = {"_target_": "fundusnet.findings.loss.GuidedLoss", **model["loss"]}
    else:
        model["loss"] = {"_target_": "fundusnet.grading.ranking.GradingLoss", "balance": model.pop("balance")}
    model["schedule"] = _schedule(model["optimizer"])
    model["optimizer"] = _optimizer(model["optimizer"])
    model["task"], model["channels_last"] = old["task"], trainer.pop("channels_last")
    trainer["gradient_clip_val"] = trainer.pop("gradient_clip")
    trainer["_target_"] = "fundusnet.fitting.fit.make_trainer"
    if old["data"].get("augment"):
        old["data"]["augment"] = augment_from_ranges(**old["data"]["augment"])
    old["callbacks"] = {
        "sanity": {"_target_": "fundusnet.fitting.sanity.SanityWarnings"},
        "progress": {"_target_": "fundusnet.fitting.progress.FitProgress"},
        "step_metrics": {"_target_": "fundusnet.fitting.step_metrics.StepMetrics", "every": logger["every"]},
        "pictures": {
            "_target_": "fundusnet.fitting.step_metrics.Pictures",
            "task": old["task"],
            "count": logger["pictures"],
        },
    }
    old["logger"] = _loggers(logger)
    new: DictConfig = OmegaConf.create(old)
    return new


def _network(options: dict[str, Any]) -> dict[str, Any]:
    target = NETWORKS[options.pop("name", None)]
    signature = signature_of(target)
    assert signature is not None
    # All backbones were normalised as for ImageNet.
    as_before = {"mean_std": "imagenet"} if "mean_std" in signature.types else {}
    return {"_target_": target, **{key: options[key] for key in options if key in signature.types}, **as_before}


def _optimizer(options: Mapping[str, Any]) -> dict[str, Any]:
    target, keys = OPTIMIZERS[options["name"]]
    nesterov = {"nesterov": options["momentum"] > 0} if options["name"] == "sgd" else {}
    return {"_target_": target, "_partial_": True, **{key: options[key] for key in keys if key in options}, **nesterov}


def _schedule(options: Mapping[str, Any]) -> dict[str, Any] | None:
    if "decay" in options:  # grading
        return {
            "_target_": "torch.optim.lr_scheduler.ExponentialLR",
            "_partial_": True,
            "gamma": options["decay"],
        }
    name = options.get("schedule", "constant")
    return None if name == "constant" else {"_target_": f"{SCHEDULES}.{name}", "_partial_": True}


def augment_from_ranges(intensity: list[float], **warp: Any) -> dict[str, Any]:
    """``data.augment`` of today that does what these ranges of version 0.1.0 did."""
    gain = {
        "_target_": "albumentations.RandomBrightnessContrast",
        "brightness_limit": 0.0,
        "contrast_limit": [factor - 1 for factor in intensity],
        "p": 1.0,
    }
    return {"warp": {"_target_": "fundusnet.data.augment.Warp", **warp}, "gain": gain}


def _loggers(options: Mapping[str, Any]) -> dict[str, Any]:
    lightning, loggers = "pytorch_lightning.loggers", {}
    if options["csv"]:
        loggers["csv"] = {
            "_target_": f"{lightning}.CSVLogger",
            "save_dir": None,
            "name": "csv",
            "flush_logs_every_n_steps": 1,
        }
    if options["tensorboard"]:
        loggers["tensorboard"] = {
            "_target_": f"{lightning}.TensorBoardLogger",
            "save_dir": None,
            "name": "tensorboard",
            "version": "",
        }
    if options["wandb"]:
        keys = ("project", "group", "name", "id", "artifact")
        loggers["wandb"] = {"_target_": "fundusnet.fitting.loggers.WandbRun", **{key: options[key] for key in keys}}
    return loggers
