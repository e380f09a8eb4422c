"""Keys that had another name in an earlier version."""

from __future__ import annotations

RENAMED = {
    "trainer.gradient_clip": "trainer.gradient_clip_val",
    "trainer.channels_last": "model.channels_last",
    "model.balance": "model.loss.balance",
    "data.augment.intensity": "data.augment.gain.contrast_limit, from which 1 is taken: [-0.2,0.2] for [0.8,1.2]",
    **{
        f"data.augment.{key}": f"data.augment.warp.{key}"
        for key in ("hflip", "vflip", "scale", "rotate", "translate", "shear")
    },
    "logger.csv": "chosen by logger=csv",
    "logger.tensorboard": "chosen by logger=tensorboard",
    "logger.wandb": "chosen by logger=wandb",
    "logger.every": "callbacks.step_metrics.every",
    "logger.pictures": "callbacks.pictures.count",
    "logger.project": "logger.wandb.project",
    "logger.group": "logger.wandb.group",
    "logger.name": "logger.wandb.name",
    "logger.id": "logger.wandb.id",
    "logger.artifact": "logger.wandb.artifact",
    "model.network.name": "chosen by model=guided, guided_timm or inception",
    "model.optimizer.name": "chosen by model/optimizer=sgd, adamw or rmsprop",
    "model.optimizer.schedule": "chosen by model/schedule=cosine, exponential or constant",
    "model.optimizer.decay": "model.schedule.gamma",
    "data.options.experts": "data.options.confidence: 0.5 for two of the four experts, 0 for any mark",
    "model.stage1.network.name": "chosen by the model",
}
