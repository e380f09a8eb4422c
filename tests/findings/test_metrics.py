"""Localisation metrics: what a flat, a perfect and an empty map score."""

from __future__ import annotations

import torch

from fundusnet.findings.metrics import activation_in_regions, cue_fraction, pointing_hit


def test_a_flat_map_scores_its_masks_share_of_the_image() -> None:
    cue = torch.zeros(1, 2, 4, 4)
    cue[0, 0, :1], cue[0, 1, :, :3] = 1, 1
    flat = torch.full((1, 2, 4, 4), 0.3)
    torch.testing.assert_close(activation_in_regions(flat, cue), torch.tensor([[0.25, 0.75]]))
    torch.testing.assert_close(cue_fraction(cue), torch.tensor([[0.25, 0.75]]))


def test_worked_by_hand() -> None:
    activation = torch.tensor([[[[0.8, 0.2], [0.4, 0.6]]]])
    cue = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]]]])
    torch.testing.assert_close(activation_in_regions(activation, cue), torch.tensor([[0.6]]))


def test_no_activation_is_undefined() -> None:
    assert activation_in_regions(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)).isnan().all()


def test_pointing() -> None:
    activation = torch.tensor([[[[0.9, 0.2], [0.4, 0.6]]]])
    lesion = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    assert pointing_hit(activation, lesion) == 1
    assert pointing_hit(activation.flip(-1), lesion) == 0
    assert pointing_hit(torch.ones(1, 1, 2, 2), lesion) == 0.25
