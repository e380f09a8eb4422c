"""The system against its parts put together by hand, and that no label finds its way into a mask."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from fundusnet.errors import UserError
from fundusnet.grading.cam import agnostic_mask, class_mask, grade_mask, upsampled
from fundusnet.grading.stage import RankingStage
from fundusnet.grading.two_stage import TwoStage, first_stage

NETWORK: dict[str, Any] = {"backbone": "test_resnet", "cam_stride": 16}
SECOND: dict[str, Any] = {**NETWORK, "hidden": 32}
OPTIMIZER: dict[str, Any] = {
    "optimizer": partial(torch.optim.RMSprop, lr=1e-3),
    "schedule": partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.9),
}
SIZE = 48
Batch = dict[str, Tensor]


def make_batch(classes: int, images: int = 6, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return {
        "image": torch.randint(0, 256, (images, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator),
        "grade": torch.arange(images) % classes,
        "index": torch.arange(images),
    }


def fit(module: pl.LightningModule, folder: Path, name: str, batch: Batch, epochs: int = 1) -> Path:
    trainer = make_trainer(folder, epochs)
    trainer.fit(module, loader(batch), loader(batch))
    trainer.save_checkpoint(folder / name, weights_only=False)
    return folder / name


def make_trainer(folder: Path, epochs: int = 1) -> pl.Trainer:
    return pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )


def loader(*batches: Batch) -> DataLoader[Any]:
    return DataLoader(list(batches), batch_size=None)  # type: ignore[arg-type]


def stage1(folder: Path, classes: int = 3, name: str = "stage1.ckpt", **network: Any) -> Path:
    (folder / name).write_bytes(trained_stage1(classes, tuple(network.items())))
    return folder / name


@cache
def trained_stage1(classes: int, network: tuple[tuple[str, Any], ...]) -> bytes:
    """The checkpoint of a first stage, trained once for all tests that ask for the same."""
    torch.manual_seed(classes)
    with TemporaryDirectory() as folder:
        stage = RankingStage(classes, {**NETWORK, **dict(network)}, **OPTIMIZER)
        return fit(stage, Path(folder), "stage1.ckpt", make_batch(classes)).read_bytes()


def system(folder: Path, classes: int = 3, head: str = "ranking", **options: Any) -> TwoStage:
    first = stage1(folder, classes, head=head)
    torch.manual_seed(7)
    return TwoStage.from_stage1(first, classes, network=SECOND, **OPTIMIZER, **options).eval()


@pytest.mark.parametrize(
    ("classes", "head"), [(2, "ranking"), (3, "ranking"), (5, "ranking"), (3, "multiclass"), (4, "corn")]
)
def test_the_system_is_its_parts(classes: int, head: str, tmp_path: Path) -> None:
    two = system(tmp_path, classes, head, mask={"scale": "relu", "floor": 0.1})
    image = make_batch(classes)["image"]
    with torch.no_grad():
        result = two(image)
        picture = image.float() / 255
        logits, cams = two.stage1.with_maps(picture)
        p = logits.softmax(dim=-1)
        first = {"ranking": lambda: (p[..., 1] > 0.5).sum(dim=1), "multiclass": lambda: p.argmax(dim=1)}.get(
            head, lambda: (logits.sigmoid().cumprod(dim=1) > 0.5).sum(dim=1)
        )()
        of_grade = class_mask if head == "multiclass" else grade_mask
        mask = of_grade(cams, first, (SIZE, SIZE), "relu", 0.1)
        final = two.network(picture * mask).softmax(dim=-1)[..., 1]
    assert torch.equal(result.first.grade, first)
    torch.testing.assert_close(result.mask, mask)
    torch.testing.assert_close(result.roi, picture * mask)
    torch.testing.assert_close(result.p, final)
    assert torch.equal(result.grade, (final > 0.5).sum(dim=1))
    torch.testing.assert_close(upsampled(result.first.mask, (SIZE, SIZE)), result.mask)
    assert result.p.shape == (6, classes - 1) and result.mask.shape == (6, 1, SIZE, SIZE)


def test_labels_do_not_touch_masks(tmp_path: Path) -> None:
    two = system(tmp_path)
    batch = make_batch(3)
    masks = []
    for grade in (batch["grade"], 2 - batch["grade"], torch.zeros(6, dtype=torch.long)):
        relabelled = {**batch, "grade": grade}
        (result,) = make_trainer(tmp_path).predict(two, loader(relabelled))  # type: ignore[misc]
        with torch.no_grad():
            masks.append((two.batch_mask(relabelled), two.train().batch_mask(relabelled), result["mask"]))  # type: ignore[index]
        two.eval()
    for other in masks[1:]:
        for a, b in zip(masks[0], other, strict=True):
            assert torch.equal(a, b)


def test_the_mask_is_of_the_predicted_grade(tmp_path: Path) -> None:
    """Biases turn the predicted grade; the mask follows though image, maps and label stay as they are."""
    two = system(tmp_path)
    image = make_batch(3)["image"]
    with torch.no_grad():
        cams = two.stage1.with_maps(image.float() / 255)[1]
        for grade in range(3):
            for k, member in enumerate(two.stage1.members):
                yes = 100.0 if grade > k else -100.0
                member.classifier.bias.copy_(torch.tensor([-yes, yes]))  # type: ignore[union-attr, operator]
            result = two(image)
            assert result.first.grade.tolist() == [grade] * 6
            torch.testing.assert_close(result.mask, grade_mask(cams, result.first.grade, (SIZE, SIZE)))


@pytest.mark.parametrize("flips", [False, True])
def test_each_stage_decides_by_its_own_rule(tmp_path: Path, flips: bool) -> None:
    """Probabilities of 0.6 and 0.45: one says yes, and the last grade is the most probable."""
    first, second = ({**NETWORK, "decision": rule} for rule in ("most_probable", None))
    for networks, expected in (((first, second), (2, 1)), ((second, first), (1, 2))):
        two = TwoStage(3, {**networks[1], "hidden": 8}, networks[0], flips=flips).eval()
        with torch.no_grad():
            for network in (two.stage1, two.network):
                for member, p in zip(network.members, (0.6, 0.45), strict=True):
                    member.classifier.weight.zero_()  # type: ignore[union-attr, operator]
                    member.classifier.bias.copy_(torch.tensor([1 - p, p]).log())  # type: ignore[union-attr, operator]
            result = two(make_batch(3)["image"])
        assert (result.first.grade[0].item(), result.grade[0].item()) == expected


def test_stage_1_is_frozen(tmp_path: Path) -> None:
    two = system(tmp_path).train()
    before = {key: value.clone() for key, value in two.stage1.state_dict().items()}
    second = {key: value.clone() for key, value in two.network.state_dict().items()}
    fit(two, tmp_path, "two.ckpt", make_batch(3), epochs=2)
    for key, value in two.stage1.state_dict().items():  # running means of batch-norm too
        assert torch.equal(value, before[key]), key
    assert any(not torch.equal(value, second[key]) for key, value in two.network.state_dict().items())
    assert not any(module.training for module in two.stage1.modules())
    trained = {id(p) for group in two.configure_optimizers()["optimizer"].param_groups for p in group["params"]}
    assert trained == {id(p) for p in two.network.parameters()}


def test_one_checkpoint_holds_the_system(tmp_path: Path) -> None:
    two = system(tmp_path, mask={"floor": 0.2})
    image = make_batch(3, seed=5)["image"]
    file = fit(two, tmp_path, "two.ckpt", make_batch(3))
    (tmp_path / "stage1.ckpt").unlink()
    loaded = TwoStage.load_from_checkpoint(file, map_location="cpu", weights_only=True).eval()
    with torch.no_grad():
        a, b = two.eval()(image), loaded(image)
    for x, y in ((a.p, b.p), (a.mask, b.mask), (a.first.p, b.first.p), (a.roi, b.roi)):
        assert torch.equal(x, y)
    assert loaded.mask_options["floor"] == 0.2
    assert loaded.best_epoch == two.best_epoch == [0, 0]


def test_a_mask_in_the_batch_goes_before_stage_1(tmp_path: Path) -> None:
    two = system(tmp_path)
    batch = make_batch(3)
    out_of_fold = torch.rand(6, 1, 3, 3)
    with torch.no_grad():
        online, given = two._losses(batch, "val")[0], two._losses({**batch, "mask": out_of_fold}, "val")[0]
        expected = two.network(batch["image"].float() / 255 * upsampled(out_of_fold, (SIZE, SIZE)))
        result = two(batch["image"], out_of_fold)
    torch.testing.assert_close(result.p, expected.softmax(dim=-1)[..., 1])
    assert not torch.allclose(online, given)
    (predicted,) = make_trainer(tmp_path).predict(two, loader({**batch, "mask": out_of_fold}))  # type: ignore[misc]
    torch.testing.assert_close(predicted["p"], result.p)  # type: ignore[index]
    assert torch.equal(predicted["stage1_grade"], two(batch["image"]).first.grade)  # type: ignore[index]


def test_masks_to_compare_with(tmp_path: Path) -> None:
    two = system(tmp_path)
    picture = make_batch(3)["image"].float() / 255
    predicted = first_stage(two.stage1, picture)
    cams = two.stage1.with_maps(picture)[1]
    cells = tuple(cams.shape[-2:])
    assert torch.equal(first_stage(two.stage1, picture, "constant").mask, torch.ones(6, 1, *cells))
    torch.testing.assert_close(first_stage(two.stage1, picture, "agnostic").mask, agnostic_mask(cams, cells))  # type: ignore[arg-type]
    others = first_stage(two.stage1, picture, "other").mask
    assert all(torch.equal(others[i], predicted.mask[i - 1]) for i in range(6))
    with pytest.raises(UserError, match="two images"):
        first_stage(two.stage1, picture[:1], "other")
    unfrozen = two.stage1.requires_grad_(True)  # as a stage of its own is: nothing is kept for a backward pass
    assert not first_stage(unfrozen, picture).mask.requires_grad


def test_two_checkpoints_make_a_system(tmp_path: Path) -> None:
    first = stage1(tmp_path)
    second_module = RankingStage(3, SECOND, input="roi", **OPTIMIZER)
    batch = {**make_batch(3), "mask": torch.rand(6, 1, 3, 3)}
    second = fit(second_module, tmp_path, "stage2.ckpt", batch)
    two = TwoStage.from_stages(first, second, mask={"scale": "sigmoid"})
    two.make_optimizer = OPTIMIZER["optimizer"]
    assert not two.training and two.mask_options["scale"] == "sigmoid"
    with torch.no_grad():
        result = two(batch["image"])
        torch.testing.assert_close(result.p, second_module.eval()(batch["image"], result.mask).p)
    # The first stage of a system replaced by another fold's.
    file = fit(two, tmp_path, "two.ckpt", make_batch(3))
    torch.manual_seed(50)
    other = fit(RankingStage(3, NETWORK, **OPTIMIZER), tmp_path, "fold.ckpt", make_batch(3, seed=8))
    replaced = TwoStage.from_stages(other, file)
    assert replaced.mask_options["scale"] == "sigmoid"
    for key, value in torch.load(other, weights_only=True)["state_dict"].items():
        assert torch.equal(replaced.state_dict()[key.replace("network.", "stage1.", 1)], value)
    for key, value in two.network.state_dict().items():
        assert torch.equal(replaced.network.state_dict()[key], value)


def test_stages_that_do_not_belong_together(tmp_path: Path) -> None:
    first = stage1(tmp_path)
    four = stage1(tmp_path, 4, "four.ckpt")
    other = stage1(tmp_path, 3, "other.ckpt", backbone="test_convnext")
    hidden = stage1(tmp_path, 3, "hidden.ckpt", hidden=8)
    whole = tmp_path / "stage1.ckpt"
    two = fit(system(tmp_path), tmp_path, "two.ckpt", make_batch(3))
    cases: list[tuple[Any, str]] = [
        (lambda: TwoStage.from_stages(four, two), r"four\.ckpt has 4 grades, stage 2 in .*two\.ckpt 3"),
        (
            lambda: TwoStage.from_stages(other, two),
            r"trained behind test_resnet, stage 1 in .*other\.ckpt is test_convnext",
        ),
        (lambda: TwoStage.from_stages(first, whole), r"stage1\.ckpt was trained on whole images"),
        (lambda: TwoStage.from_stages(hidden, two), "no activation maps"),
        (lambda: TwoStage.from_stages(two, two), "not of a single grading stage"),
        (lambda: TwoStage.from_stages(tmp_path / "none.ckpt", two), "does not exist"),
        (lambda: TwoStage.from_stage1(first, 4, network=SECOND, **OPTIMIZER), "has 3 grades, the data has 4"),
        (lambda: TwoStage(3, SECOND, stage1=NETWORK, input="image"), "input=roi"),
        (
            lambda: TwoStage(3, SECOND, stage1=NETWORK, mask={"scale": "softmax"}),
            r"mask\.scale=softmax is unknown",
        ),
        (lambda: TwoStage(3, SECOND, stage1=NETWORK, mask={"kind": "true"}), r"mask\.kind=true is unknown"),
        (lambda: TwoStage(3, SECOND, stage1=NETWORK, mask={"floor": 1.5}), r"mask\.floor=1\.5"),
    ]
    for act, message in cases:
        with pytest.raises(UserError, match=message) as caught:
            act()
        assert "\n" not in str(caught.value)


def test_mask_only_grades_by_the_mask_alone(tmp_path: Path) -> None:
    two = system(tmp_path, input="mask_only")
    with torch.no_grad():
        result = two(make_batch(3)["image"])
    assert torch.equal(result.roi, result.mask.expand(-1, 3, -1, -1))
