"""The guidance loss against a plain loop, by hand, and in its gradient."""

from __future__ import annotations

import math

import jaxtyping
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fundusnet.findings.loss import GuidedLoss, classification_loss, guidance_loss, pool_within_cue
from fundusnet.findings.network import GuidedCAM, pooling_windows


def loop(activation: torch.Tensor, cue: torch.Tensor, eps: float, form: str) -> float:
    total, cells = 0.0, 0
    for a, m in zip(activation.flatten().tolist(), cue.flatten().tolist(), strict=True):
        cells += 1
        total += (1 - m) * math.log(max(a, eps)) if form == "log" else -(1 - m) * math.log(max(1 - a, eps))
    return total / cells


@given(seed=st.integers(0, 10_000), form=st.sampled_from(["log", "bce"]), eps=st.sampled_from([1e-3, 1e-2]))
def test_matches_a_plain_loop(seed: int, form: str, eps: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    activation = torch.rand(2, 3, 4, 5, generator=generator) ** 4
    cue = (torch.rand(2, 3, 4, 5, generator=generator) > 0.5).float()
    found = guidance_loss(activation, cue, eps, form)  # type: ignore[arg-type]
    assert float(found) == pytest.approx(loop(activation, cue, eps, form), abs=1e-6)


def test_worked_by_hand() -> None:
    activation = torch.tensor([[[[0.5, 0.25], [0.0, 0.9]]]])
    cue = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    expected = (math.log(0.25) + math.log(1e-3) + math.log(0.9)) / 4
    assert float(guidance_loss(activation, cue)) == pytest.approx(expected)
    expected_bce = -(math.log(0.75) + math.log(1.0) + math.log(0.1)) / 4
    assert float(guidance_loss(activation, cue, form="bce")) == pytest.approx(expected_bce, rel=1e-5)


def test_floor_is_the_log_of_eps() -> None:
    assert float(guidance_loss(torch.zeros(1, 1, 3, 3), torch.zeros(1, 1, 3, 3))) == pytest.approx(math.log(1e-3))


@pytest.mark.parametrize("form", ["log", "bce"])
def test_gradient_in_the_logit(form: str) -> None:
    """log: 1 - a outside the cue; bce: a outside; nothing inside."""
    logits = torch.tensor([[[[-2.0, 0.3], [1.5, -0.7]]]], requires_grad=True)
    cue = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])
    guidance_loss(logits.sigmoid(), cue, form=form).backward()  # type: ignore[arg-type]
    a = logits.detach().sigmoid()
    expected = (1 - cue) * ((1 - a) if form == "log" else a) / 4
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, expected)


def test_findings_are_weighed_each_by_its_own_factor() -> None:
    activation, cue = torch.rand(3, 2, 4, 4), torch.zeros(3, 2, 4, 4)
    each = [float(guidance_loss(activation[:, f : f + 1], cue[:, f : f + 1])) for f in range(2)]
    found = guidance_loss(activation, cue, finding_weight=torch.tensor([3.0, 5.0]))
    assert float(found) == pytest.approx((3 * each[0] + 5 * each[1]) / 2, rel=1e-5)


@pytest.mark.parametrize("pool", [1, 2, 4])
def test_per_window_both_terms_pull_alike_at_the_cell_that_decides(pool: int) -> None:
    """An image called present by one cell outside its cue: at λ = 1 the gradients differ as 1 - y and a do."""
    logits = torch.full((1, 1, 8, 8), -3.0)
    logits[0, 0, 2, 2] = 5.0
    logits.requires_grad_()
    pooled = torch.nn.functional.max_pool2d(logits, pool) if pool > 1 else logits
    classification_loss(pooled.mean(dim=(2, 3)), torch.ones(1, 1)).backward()
    assert logits.grad is not None
    push, logits.grad = float(logits.grad[0, 0, 2, 2]), None
    window = pooling_windows(GuidedCAM(1, pool=pool, width=2, reductions=3, pyramid_width=4), 1, 64)
    guidance_loss(logits.sigmoid(), torch.zeros(1, 1, 8, 8), form="bce", finding_weight=window).backward()
    assert logits.grad is not None
    pull = float(logits.grad[0, 0, 2, 2])
    y, a = float(pooled.detach().mean().sigmoid()), float(logits.detach()[0, 0, 2, 2].sigmoid())
    assert pull / -push == pytest.approx(a / (1 - y), rel=1e-4)


def test_a_map_without_cue_takes_no_part() -> None:
    activation = torch.rand(2, 1, 4, 4)
    cue = torch.zeros(2, 1, 4, 4)
    cue[1] = torch.nan
    torch.testing.assert_close(guidance_loss(activation, cue), guidance_loss(activation[:1], cue[:1]))
    assert float(guidance_loss(activation[1:], cue[1:])) == 0.0


def test_maps_and_cues_of_other_shapes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    activation, cue = torch.rand(2, 1, 4, 4), torch.zeros(2, 1, 4, 5)
    with pytest.raises(jaxtyping.TypeCheckError, match="cue"):
        guidance_loss(activation, cue)
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as outside the tests
    with pytest.raises(ValueError, match="differ in shape"):
        guidance_loss(activation, cue)


def test_undecided_labels_take_no_part() -> None:
    logit = torch.tensor([[1.0, -2.0], [0.5, 3.0]], requires_grad=True)
    label = torch.tensor([[1.0, torch.nan], [0.0, 1.0]])
    loss = classification_loss(logit, label)
    by_hand = (math.log(1 + math.exp(-1.0)) + math.log(1 + math.exp(0.5)) + math.log(1 + math.exp(-3.0))) / 3
    assert float(loss.detach()) == pytest.approx(by_hand, rel=1e-5)
    loss.backward()
    assert logit.grad is not None and logit.grad[0, 1] == 0 and torch.isfinite(logit.grad).all()


def test_lambda_rises_over_the_warm_up() -> None:
    loss = GuidedLoss(weight=0.8, warmup_epochs=4)
    assert [loss.weight_at(epoch) for epoch in range(6)] == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 0.8])
    assert GuidedLoss(weight=0.8).weight_at(0) == 0.8


def test_the_loss_joins_its_terms() -> None:
    torch.manual_seed(0)
    logit_map, logit = torch.randn(3, 2, 4, 4), torch.randn(3, 2)
    label, cue = torch.tensor([[1.0, 0], [0, 1], [0, 0]]), (torch.rand(3, 2, 4, 4) > 0.5).float()
    loss = GuidedLoss(weight=0.7, form="bce", eps=1e-2, per="window", warmup_epochs=2, balance="inverse")
    loss.fit_to(np.array([[1, 0], [0, 1], [0, np.nan], [0, 0]], np.float32), torch.tensor([4.0, 1.0]))
    classification = classification_loss(logit, label, torch.tensor([3.0, 2.0]))
    guidance = guidance_loss(logit_map.sigmoid(), cue, 1e-2, "bce", torch.tensor([4.0, 1.0]))
    for epoch, weight in ((0, 0.0), (1, 0.35), (2, 0.7), (None, 0.7)):
        found = loss(logit_map, logit, label, cue, epoch)
        assert list(found) == ["loss", "classification", "guidance"]
        torch.testing.assert_close(found["classification"], classification)
        torch.testing.assert_close(found["guidance"], guidance)
        torch.testing.assert_close(found["loss"], classification + weight * guidance)


def test_a_present_finding_is_pooled_within_its_cue_by_hand() -> None:
    logit_map = torch.arange(16.0).reshape(1, 1, 4, 4).repeat(5, 1, 1, 1).requires_grad_()
    cue = torch.zeros(5, 1, 4, 4)
    cue[0, 0, 0] = 1  # cells 0 to 3
    cue[1, 0, 0, 2] = 1  # smaller than what counts
    cue[2] = torch.nan
    label = torch.tensor([[1.0], [1.0], [1.0], [0.0], [torch.nan]])
    logit = torch.full((5, 1), 99.0)
    found = pool_within_cue(logit_map, logit, label, cue, torch.tensor([8.0]))  # of 8 cells one counts: two in all
    assert found.flatten().tolist() == [2.5, 2.0, 99.0, 99.0, 99.0]
    found.sum().backward()
    assert logit_map.grad is not None
    assert logit_map.grad[0].flatten().tolist() == [0, 0, 0.5, 0.5] + [0] * 12
    assert logit_map.grad[1].flatten().nonzero().tolist() == [[2]] and not logit_map.grad[2:].any()
    assert pool_within_cue(logit_map, logit, label, cue).flatten().tolist()[:2] == [1.5, 2.0]  # without a share: all


def test_pooling_within_the_cue_is_for_training_with_guidance() -> None:
    torch.manual_seed(0)
    logit_map, label = torch.randn(2, 1, 4, 4), torch.tensor([[1.0], [0.0]])
    cue = torch.zeros(2, 1, 4, 4)
    cue[0, 0, :2] = 1
    logit = logit_map.mean(dim=(2, 3))
    whole = classification_loss(logit, label)
    inside = classification_loss(pool_within_cue(logit_map, logit, label, cue, torch.tensor([4.0])), label)
    assert not torch.isclose(whole, inside)
    for weight, epoch, expected in ((1.0, 3, inside), (1.0, None, whole), (0.0, 3, whole)):
        loss = GuidedLoss(weight=weight, pool_within_cue=True)
        loss.fit_to(label.numpy(), torch.tensor([4.0]))
        torch.testing.assert_close(loss(logit_map, logit, label, cue, epoch)["classification"], expected)
    assert torch.equal(GuidedLoss()(logit_map, logit, label, cue, 3)["classification"], whole)
