"""One stage: what it sees, what it learns from, and that each sub-classifier keeps its own best epoch."""

from __future__ import annotations

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, EMAWeightAveraging, ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader

from fundusnet.errors import UserError
from fundusnet.grading.ranking import HEADS, GradingLoss, grading_losses, probabilities
from fundusnet.grading.stage import RankingStage, load_stage

NETWORK: dict[str, Any] = {"backbone": "test_resnet", "cam_stride": 32}
OPTIMIZER: dict[str, Any] = {
    "optimizer": partial(torch.optim.RMSprop, lr=1e-3),
    "schedule": partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.9),
}
Batch = dict[str, Tensor]


def make_stage(classes: int = 3, **options: Any) -> RankingStage:
    torch.manual_seed(0)
    network = {**NETWORK, **options.pop("network", {})}
    return RankingStage(classes, network, **{**OPTIMIZER, **options})


def make_batch(grades: list[int], seed: int = 0, size: int = 32) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return {
        "image": torch.randint(0, 256, (len(grades), 3, size, size), dtype=torch.uint8, generator=generator),
        "grade": torch.tensor(grades),
        "index": torch.arange(len(grades)) + 100 * seed,
    }


def loader(batches: list[Batch]) -> DataLoader[Any]:
    return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]


def make_trainer(epochs: int, folder: Path, *callbacks: Callback) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        callbacks=list(callbacks),
        enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )


def coloured(grades: list[int], colours: list[tuple[int, int, int]], seed: int) -> Batch:
    """Noisy pictures of one colour each, in channels that a network tells apart at once."""
    batch = make_batch(grades, seed)
    base = torch.tensor(colours, dtype=torch.float32)[:, :, None, None]
    noise = torch.randn(batch["image"].shape, generator=torch.Generator().manual_seed(seed))
    batch["image"] = (base + 10 * noise).clamp(0, 255).to(torch.uint8)
    return batch


class SanityWarnings(Callback):
    """Validation losses and weights of every epoch, taken without the module's own book-keeping."""

    def __init__(self) -> None:
        self.losses: list[list[float]] = []
        self.weights: list[list[dict[str, Tensor]]] = []

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            metrics = trainer.callback_metrics
            self.losses.append([float(metrics[f"val/loss_gt_{k}"]) for k in range(2)])
            self.weights.append([copy.deepcopy(dict(m.state_dict())) for m in module.network.members])  # type: ignore


def crafted() -> tuple[DataLoader[Any], DataLoader[Any]]:
    """Training contradicts validation on "grade > 0" and agrees with it on "grade > 1".

    Red is grade 0 in training and 1 in validation, blue is 2 in both.
    """
    red, blue = (200, 40, 40), (40, 40, 200)
    train = [coloured([0, 2] * 4, [red, blue] * 4, seed) for seed in range(8)]
    return loader(train), loader([coloured([1, 2] * 4, [red, blue] * 4, 99)])


def test_each_sub_classifier_keeps_its_own_best_epoch(tmp_path: Path) -> None:
    stage, watch = make_stage(), SanityWarnings()
    train, val = crafted()
    make_trainer(4, tmp_path, watch).fit(stage, train, val)
    by_hand = [min(range(4), key=lambda epoch: watch.losses[epoch][k]) for k in range(2)]
    assert by_hand[0] < by_hand[1], watch.losses  # the case is made so
    assert stage.best_epoch == by_hand
    assert stage.best_loss == pytest.approx([watch.losses[by_hand[k]][k] for k in range(2)])
    assert stage.restore_best() == by_hand
    for k, member in enumerate(stage.network.members):
        for key, value in member.state_dict().items():
            assert torch.equal(value, watch.weights[by_hand[k]][k][key]), key
    trainer = make_trainer(1, tmp_path)
    (metrics,) = trainer.validate(stage, val, verbose=False)
    assert [metrics["val/loss_gt_0"], metrics["val/loss_gt_1"]] == pytest.approx(stage.best_loss, rel=1e-4)
    with pytest.raises(UserError, match="no best epoch"):
        stage.restore_best()


def test_averaged_weights_are_kept_if_they_were_validated(tmp_path: Path) -> None:
    stage = make_stage()
    train, val = crafted()
    average = EMAWeightAveraging(decay=0.7)
    make_trainer(3, tmp_path, average).fit(stage, train, val)
    stage.restore_best()
    (metrics,) = make_trainer(1, tmp_path).validate(stage, val, verbose=False)
    assert [metrics["val/loss_gt_0"], metrics["val/loss_gt_1"]] == pytest.approx(stage.best_loss, rel=1e-4)


def test_validating_alone_is_no_epoch(tmp_path: Path) -> None:
    stage = make_stage()
    make_trainer(1, tmp_path).validate(stage, crafted()[1], verbose=False)
    assert stage.best_epoch == [-1, -1]


def test_a_resumed_training_remembers_its_best_epochs(tmp_path: Path) -> None:
    train, val = crafted()
    whole = make_stage()
    make_trainer(3, tmp_path).fit(whole, train, val)
    saved = ModelCheckpoint(tmp_path, filename="last", save_last=False)
    make_trainer(1, tmp_path, saved).fit(make_stage(), train, val)
    resumed = make_stage()
    make_trainer(3, tmp_path).fit(resumed, train, val, ckpt_path=str(tmp_path / "last.ckpt"), weights_only=True)
    assert resumed.best_epoch == whole.best_epoch
    assert 0 in resumed.best_epoch  # decided before the interruption
    assert resumed.best_loss == pytest.approx(whole.best_loss, rel=1e-4)
    whole.restore_best(), resumed.restore_best()
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[key], value, rtol=1e-3, atol=1e-4, msg=key)


def test_the_checkpoint_of_an_epoch_knows_that_it_was_the_best(tmp_path: Path) -> None:
    saved = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    make_trainer(1, tmp_path, saved).fit(make_stage(), *crafted())
    content = torch.load(tmp_path / "epoch=0.ckpt", weights_only=True)
    assert content["best"]["epoch"] == [0, 0]
    for k in range(2):
        for key, value in content["best"]["weights"][k].items():
            assert torch.equal(value, content["state_dict"][f"network.members.{k}.{key}"])


@pytest.mark.parametrize("head", HEADS)
def test_a_checkpoint_holds_plain_values_and_grades_the_same(head: str, tmp_path: Path) -> None:
    stage = make_stage(network={"head": head})
    batch = make_batch([0, 1, 2, 1])
    trainer = make_trainer(1, tmp_path)
    trainer.fit(stage, loader([batch]), loader([batch]))
    trainer.save_checkpoint(tmp_path / "stage.ckpt", weights_only=False)
    loaded = RankingStage.load_from_checkpoint(tmp_path / "stage.ckpt", map_location="cpu", weights_only=True).eval()
    again = load_stage(tmp_path / "stage.ckpt")
    assert not again.training
    with torch.no_grad():
        expected = stage.eval()(batch["image"])
        for other in (loaded, again):
            result = other(batch["image"])
            assert torch.equal(result.p, expected.p) and torch.equal(result.grade, expected.grade)
    assert loaded.best_epoch == stage.best_epoch == [0] * len(stage.network.members)


def test_a_checkpoint_asks_for_no_weights_to_start_from(tmp_path: Path) -> None:
    torch.save(make_stage().network.members[0].backbone.state_dict(), tmp_path / "w.pth")  # type: ignore[union-attr]
    stage = make_stage(network={"weights": str(tmp_path / "w.pth")})
    trainer = make_trainer(1, tmp_path)
    trainer.fit(stage, loader([make_batch([0, 1, 2])]))
    trainer.save_checkpoint(tmp_path / "stage.ckpt")
    (tmp_path / "w.pth").unlink()
    stored = torch.load(tmp_path / "stage.ckpt", weights_only=True)["hyper_parameters"]["network"]
    assert stored["weights"] is None
    load_stage(tmp_path / "stage.ckpt")
    assert stage.hparams["network"]["weights"] == str(tmp_path / "w.pth")  # the running one is left alone


def test_checkpoints_of_something_else_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.ckpt does not exist"):
        load_stage(tmp_path / "none.ckpt")
    torch.save({"hyper_parameters": {"findings": ["drusen"]}, "state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match=r"other\.ckpt is not of a single grading stage"):
        load_stage(tmp_path / "other.ckpt")


def test_losses_are_named_apart_and_weigh_each_image_once(tmp_path: Path) -> None:
    stage = make_stage()
    big, small = make_batch([0, 1, 2, 1, 0], seed=1), make_batch([2], seed=2)
    (metrics,) = make_trainer(1, tmp_path).validate(stage, loader([big, small]), verbose=False)
    joined = {key: torch.cat([big[key], small[key]]) for key in big}
    with torch.no_grad():
        logits = stage.eval().network(joined["image"].float() / 255)
    losses = grading_losses("ranking", logits, joined["grade"])
    assert metrics["val/loss_gt_0"] == pytest.approx(losses[0].item(), rel=1e-4)
    assert metrics["val/loss_gt_1"] == pytest.approx(losses[1].item(), rel=1e-4)
    assert metrics["val/loss"] == pytest.approx(losses.sum().item(), rel=1e-4)
    hits = (probabilities("ranking", logits) > 0.5).sum(dim=1) == joined["grade"]
    assert metrics["val/accuracy"] == pytest.approx(hits.float().mean().item())


def test_other_heads_have_one_loss(tmp_path: Path) -> None:
    stage = make_stage(network={"head": "multiclass"})
    batch = make_batch([0, 1, 2])
    trainer = make_trainer(1, tmp_path)
    trainer.fit(stage, loader([batch]), loader([batch]))
    assert set(trainer.callback_metrics) == {"train/loss", "val/loss", "val/accuracy"}


def test_rmsprop_and_its_rate_fall_by_a_tenth_each_epoch(tmp_path: Path) -> None:
    rates: list[float] = []

    class Rates(Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    stage = make_stage(optimizer=partial(torch.optim.RMSprop, lr=1e-4))
    make_trainer(4, tmp_path, Rates()).fit(stage, loader([make_batch([0, 1, 2])]))
    assert rates == pytest.approx([1e-4, 9e-5, 8.1e-5, 7.29e-5])
    assert isinstance(stage.configure_optimizers()["optimizer"], torch.optim.RMSprop)


def test_sub_classifiers_do_not_teach_each_other(tmp_path: Path) -> None:
    """A sub-classifier trained among others is the one trained alone on its own question."""
    batch = make_batch([0, 1, 2, 1], seed=3)
    both = make_stage()
    alone = make_stage(classes=2)
    alone.network.members[0].load_state_dict(both.network.members[1].state_dict())
    make_trainer(2, tmp_path).fit(both, loader([batch]))
    make_trainer(2, tmp_path).fit(alone, loader([{**batch, "grade": (batch["grade"] > 1).long()}]))
    for key, value in alone.network.members[0].state_dict().items():
        torch.testing.assert_close(both.network.members[1].state_dict()[key], value, rtol=1e-3, atol=1e-4, msg=key)


def test_class_counts_weigh_the_loss() -> None:
    batch = make_batch([0, 0, 0, 2])
    loss = GradingLoss("inverse")
    loss.fit_to([3, 1, 1])
    plain, weighted = make_stage(), make_stage(loss=loss)
    with torch.no_grad():
        logits = plain.eval().network(plain.picture(batch["image"]))
        expected = grading_losses("ranking", logits, batch["grade"], [3, 1, 1])
        torch.testing.assert_close(weighted.eval()._losses(batch, "val")[0], expected)
    assert not torch.allclose(expected, plain._losses(batch, "val")[0])


def test_bytes_and_floats_are_the_same_picture() -> None:
    stage, batch = make_stage().eval(), make_batch([0, 1, 2])
    with torch.no_grad():
        assert torch.equal(stage(batch["image"]).p, stage(batch["image"].float() / 255).p)


def test_roi_is_image_times_mask_before_normalisation() -> None:
    stage, batch = make_stage(input="roi"), make_batch([0, 1])
    mask = torch.rand(2, 1, 32, 32)
    mask[:, :, :8] = 0
    roi = stage.picture(batch["image"], mask)
    torch.testing.assert_close(roi, batch["image"].float() / 255 * mask)
    assert (roi[:, :, :8] == 0).all()  # black, not the mean colour that a zero behind normalisation would be
    torch.testing.assert_close(
        stage.picture(batch["image"], (mask * 255).round().byte()), roi, atol=0.5 / 255 + 1e-6, rtol=0
    )
    ones = torch.ones(2, 1, 4, 4)
    torch.testing.assert_close(stage.picture(batch["image"], ones), batch["image"].float() / 255)


def test_mask_only_shows_nothing_of_the_image() -> None:
    stage, mask = make_stage(input="mask_only"), torch.rand(2, 1, 32, 32)
    pictures = [stage.picture(make_batch([0, 1], seed)["image"], mask) for seed in (1, 2)]
    assert torch.equal(pictures[0], pictures[1])
    assert torch.equal(pictures[0], mask.expand(2, 3, 32, 32))


def test_a_missing_mask_is_said(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="input=roi needs a mask"):
        make_trainer(1, tmp_path).fit(make_stage(input="roi"), loader([make_batch([0, 1, 2])]))


def test_a_stage_on_regions_learns_from_the_batchs_mask(tmp_path: Path) -> None:
    stage = make_stage(input="roi").eval()
    batch = {**make_batch([0, 1, 2]), "mask": torch.rand(3, 1, 4, 4)}
    (result,) = make_trainer(1, tmp_path).predict(stage, loader([batch]))  # type: ignore[misc]
    expected = stage(batch["image"], batch["mask"])
    torch.testing.assert_close(result["p"], expected.p)  # type: ignore[index]
    assert not torch.allclose(expected.p, stage(batch["image"]).p)
    assert torch.equal(result["index"], batch["index"])  # type: ignore[index]
    assert torch.equal(result["grade"], (expected.p > 0.5).sum(dim=1))  # type: ignore[index]


def test_a_loss_that_is_no_number_names_its_rows(tmp_path: Path) -> None:
    batch = make_batch([0, 1, 2], seed=4)
    batch["image"] = batch["image"].float() / 255
    batch["image"][1] = torch.nan
    with pytest.raises(UserError, match=r"train loss is nan .* rows 400, 401, 402"):
        make_trainer(1, tmp_path).fit(make_stage(), loader([batch]))
    with pytest.raises(UserError, match=r"NaN or infinite .* rows 400, 401, 402"):
        make_trainer(1, tmp_path).predict(make_stage(), loader([batch]))
