"""Train, resume, predict and export on a GPU; ``pytest -m gpu`` wherever there is one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from graded import graded_set
from killing import killed
from tiny_runs import tiny_overrides, tiny_place

import fundusnet
from fundusnet import compose, export, train
from fundusnet.data.augment import A, Augment, Warp

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")]


def on_gpu(words: list[str]) -> list[str]:
    """The same training on a GPU, at the precision that ``auto`` chooses there."""
    kept = [word for word in words if not word.startswith(("trainer.accelerator", "trainer.precision"))]
    return [*kept, "trainer.accelerator=gpu"]


def test_findings_are_trained_resumed_predicted_and_exported(tmp_path: Path) -> None:
    words = [*on_gpu(tiny_overrides(tiny_place(tmp_path))), "data.augment_on=device"]
    whole = train(compose([*words, "trainer.max_epochs=2", f"run_dir={tmp_path}/whole"]))
    content = torch.load(tmp_path / "whole" / "checkpoints" / "best.ckpt", weights_only=True, map_location="cpu")
    assert all(torch.isfinite(value).all() for value in content["state_dict"].values() if value.is_floating_point())
    assert "auroc" in whole.metrics["metrics"]  # type: ignore[operator]

    stopped = compose([*words, "trainer.max_epochs=2", f"run_dir={tmp_path}/stopped"])
    killed(stopped, "on_train_batch_end", step=5)  # in the second epoch
    resumed = train(compose([f"resume={tmp_path}/stopped"]))
    assert resumed.metrics["metrics"].keys() == whole.metrics["metrics"].keys()  # type: ignore[attr-defined]

    photographs = sorted((tmp_path / "raw").glob("*.png"))[:4]
    both = [
        fundusnet.load(tmp_path / "whole", device=device).predict(photographs, maps=True) for device in ("cuda", "cpu")
    ]
    for gpu, cpu in zip(*both, strict=True):
        found: Any = gpu
        assert found.probability["drusen"] == pytest.approx(cpu.probability["drusen"], abs=1e-3)
        assert np.abs(found.maps["drusen"] - cpu.maps["drusen"]).max() < 0.01
    export(compose([f"checkpoint={tmp_path}/whole", f"output={tmp_path}/exported"], "export"))
    assert (tmp_path / "exported" / "model.onnx").is_file()


def test_a_gpu_augments_as_the_processor_does() -> None:
    transforms = {
        "warp": Warp(p=0.8),
        "d4": A.D4(),
        "gain": A.RandomBrightnessContrast(p=0.8),
        "colour": A.ColorJitter(),
    }
    augment = Augment(transforms, "device")
    assert augment.batch is not None
    pictures = np.random.default_rng(0).integers(0, 256, (16, 512, 512, 3), dtype=np.uint8)
    masks = np.zeros((0, 512, 512), np.uint8)
    notes = [augment(picture, masks, np.random.default_rng(n))[0]["drawn"] for n, picture in enumerate(pictures)]
    images, drawn = torch.from_numpy(pictures).permute(0, 3, 1, 2), torch.from_numpy(np.stack(notes))
    allowed = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True  # coordinates must not be rounded to it
    try:
        found = augment.batch(images.cuda(), drawn).cpu()
    finally:
        torch.backends.cuda.matmul.allow_tf32 = allowed
    difference = (found.int() - augment.batch(images, drawn).int()).abs()
    assert (difference > 1).float().mean() < 0.002


def test_two_stages_are_trained_and_agree_with_the_processor(tmp_path: Path) -> None:
    prepared = graded_set(tmp_path / "set", [number // 2 % 3 for number in range(48)])
    words = ["experiment=paper_grading_two_stage", "data=csv", f"data.root={prepared.info['root']}",
             f"data.folder={prepared.folder}", f"data.size={prepared.size}", "data.num_workers=0", "data.batch_size=4",
             "data.fractions=[0.5,0.25,0.25]", "model.network.backbone=test_resnet", "model.network.pretrained=false",
             "model.network.hidden=8", "model.stage1.network.cam_stride=32", "model.stage1.max_epochs=1",
             "trainer.max_epochs=1", "trainer.accelerator=gpu", "evaluation.bootstrap=20"]  # fmt: skip
    run = train(compose([*words, f"run_dir={tmp_path}/run"])).run_dir
    pixels = [np.array(each) for each in prepared.pixels[:4]]
    both = [fundusnet.load(run, device=device).predict(pixels) for device in ("cuda", "cpu")]
    for gpu, cpu in zip(*both, strict=True):
        found: Any = gpu
        assert found.p_gt == pytest.approx(cpu.p_gt, abs=1e-3)
