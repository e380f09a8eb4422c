"""Every kind of file that a folder of photographs holds in practice, good and bad."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fundusnet.data.crop import find_field
from fundusnet.data.decode import Unreadable, read_mask, read_photograph


def gradient(height: int = 60, width: int = 90) -> np.ndarray:
    """A smooth picture in which every corner differs."""
    y, x = np.mgrid[:height, :width]
    return np.stack([40 + 2 * x, 20 + 3 * y, 200 - x], axis=2).clip(0, 255).astype(np.uint8)


def test_png_comes_back_exactly(tmp_path: Path) -> None:
    Image.fromarray(gradient()).save(tmp_path / "a.png")
    photograph = read_photograph(tmp_path / "a.png", reduction=4)
    assert np.array_equal(photograph.pixels, gradient())
    assert (photograph.width, photograph.height, photograph.reduction) == (90, 60, 1)


@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_scaled_jpeg_is_the_area_mean_of_the_whole(tmp_path: Path, reduction: int) -> None:
    pixels = gradient(128, 192)
    Image.fromarray(pixels).save(tmp_path / "ä ö.jpg", quality=95)
    photograph = read_photograph(tmp_path / "ä ö.jpg", reduction)
    mean = pixels.reshape(128 // reduction, reduction, 192 // reduction, reduction, 3).mean(axis=(1, 3))
    assert np.abs(photograph.pixels - mean).mean() < 2.5
    assert (photograph.width, photograph.height, photograph.reduction) == (192, 128, reduction)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_every_exif_orientation_is_undone(tmp_path: Path, orientation: int, name: str) -> None:
    stored = Image.fromarray(gradient(64, 96))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / name, exif=exif, **({"quality": 98} if name == "a.jpg" else {}))
    upright = {
        1: lambda p: p,
        2: np.fliplr,
        3: lambda p: np.rot90(p, 2),
        4: np.flipud,
        5: lambda p: np.fliplr(np.rot90(p, -1)),
        6: lambda p: np.rot90(p, -1),
        7: lambda p: np.fliplr(np.rot90(p, 1)),
        8: lambda p: np.rot90(p, 1),
    }[orientation](gradient(64, 96))
    photograph = read_photograph(tmp_path / name)
    assert photograph.pixels.shape == upright.shape
    assert (photograph.height, photograph.width) == upright.shape[:2]
    assert np.abs(photograph.pixels.astype(int) - upright).mean() < 3


def test_sixteen_bits_grey_palette_alpha_and_cmyk_become_rgb(tmp_path: Path) -> None:
    pixels = gradient()
    cv2.imwrite(str(tmp_path / "rgb16.png"), pixels[:, :, ::-1].astype(np.uint16) * 257)
    assert np.array_equal(read_photograph(tmp_path / "rgb16.png").pixels, pixels)
    cv2.imwrite(str(tmp_path / "grey16.png"), pixels[:, :, 0].astype(np.uint16) * 257)
    assert np.array_equal(read_photograph(tmp_path / "grey16.png").pixels, pixels[:, :, [0, 0, 0]])
    Image.fromarray(pixels[:, :, 1]).save(tmp_path / "grey.png")
    assert np.array_equal(read_photograph(tmp_path / "grey.png").pixels, pixels[:, :, [1, 1, 1]])
    alpha = np.dstack([pixels, np.zeros((60, 90), np.uint8)])
    Image.fromarray(alpha).save(tmp_path / "alpha.png")
    assert np.array_equal(read_photograph(tmp_path / "alpha.png").pixels, pixels)
    Image.fromarray(pixels).convert("CMYK").save(tmp_path / "cmyk.jpg", quality=98)
    assert np.abs(read_photograph(tmp_path / "cmyk.jpg").pixels.astype(int) - pixels).mean() < 4


def test_errors_name_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    Image.fromarray(gradient(200, 300)).save(tmp_path / "whole.jpg")
    Image.fromarray(gradient(200, 300)).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "half.jpg").write_bytes(whole[: len(whole) // 2])
    png = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "half.png").write_bytes(png[: len(png) // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("<html>404</html>")
    (tmp_path / "folder.jpg").mkdir()
    for name, words in [
        ("half.jpg", "truncated"),
        ("half.png", "truncated"),
        ("empty.jpg", "empty"),
        ("text.jpg", "not a picture"),
        ("absent.jpg", "missing"),
        ("folder.jpg", "cannot be read"),
    ]:
        with pytest.raises(Unreadable, match=words):
            read_photograph(tmp_path / name)
    with pytest.raises(Unreadable, match="black"):
        find_field(np.full((50, 50, 3), 3, np.uint8))


def test_thumbnail_does_not_hide_a_truncated_jpeg(tmp_path: Path) -> None:
    Image.fromarray(gradient(16, 16)).save(tmp_path / "thumbnail.jpg")
    Image.fromarray(gradient(200, 300)).save(
        tmp_path / "a.jpg", exif=b"Exif\0\0" + (tmp_path / "thumbnail.jpg").read_bytes()
    )
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[:-200])
    with pytest.raises(Unreadable, match="truncated"):
        read_photograph(tmp_path / "a.jpg")


def test_bytes_after_the_end_of_a_jpeg_are_ignored(tmp_path: Path) -> None:
    Image.fromarray(gradient()).save(tmp_path / "a.jpg")
    with (tmp_path / "a.jpg").open("ab") as file:
        file.write(b"\0" * 4096)
    assert read_photograph(tmp_path / "a.jpg").pixels.shape == (60, 90, 3)


def test_masks_of_every_kind(tmp_path: Path) -> None:
    mask = np.zeros((20, 30), np.uint8)
    mask[3:5, 7:9] = 1
    palette = Image.fromarray(mask, mode="L").convert("P")
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette = Image.frombytes("P", (30, 20), mask.tobytes())
    palette.putpalette([0, 0, 0, 255, 0, 0])
    palette.save(tmp_path / "p.tif")
    Image.fromarray(mask * 255).save(tmp_path / "l.png")
    Image.fromarray(mask.astype(bool)).save(tmp_path / "1.png")
    Image.fromarray(np.dstack([mask * 255] * 3 + [np.full_like(mask, 255)])).save(tmp_path / "rgba.png")
    for name in ("p.tif", "l.png", "1.png", "rgba.png"):
        assert np.array_equal(read_mask(tmp_path / name), mask.astype(bool)), name


def test_field_ignores_labels_hot_pixels_and_noise() -> None:
    pixels = np.random.default_rng(0).integers(0, 6, (400, 600, 3)).astype(np.uint8)
    cv2.circle(pixels, (300, 200), 150, (180, 90, 40), -1)
    pixels[5:20, 5:60] = 255
    pixels[390, 590] = 255
    box = find_field(pixels)
    assert np.abs(np.array(box) - (150, 50, 451, 351)).max() <= 4


def test_a_photograph_with_damaged_exif_is_read(tmp_path: Path) -> None:
    Image.fromarray(gradient()).save(tmp_path / "a.jpg", exif=b"Exif\0\0not a TIFF header at all")
    assert read_photograph(tmp_path / "a.jpg").pixels.shape == (60, 90, 3)
