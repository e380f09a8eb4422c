"""Every kind of file that a folder of photographs holds in practice, good and bad."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fundusnet.data.crop import find_field
from fundusnet.data.decode import Unreadable, read_flagged_mask, read_mask, read_photograph


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


def test_what_is_transparent_is_black(tmp_path: Path) -> None:
    pixels = np.full((40, 60, 4), 255, np.uint8)  # a white surround that nobody sees
    pixels[:, :, 3] = 0
    pixels[10:30, 20:40] = (200, 100, 50, 255)
    pixels[10:30, 40:50] = (200, 100, 50, 128)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(pixels).save(tmp_path / "a.tif")
    Image.fromarray(pixels).quantize().save(tmp_path / "p.png")
    deep = cv2.cvtColor(pixels, cv2.COLOR_RGBA2BGRA).astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    for name in ("a.png", "a.tif", "p.png", "deep.png"):
        read = read_photograph(tmp_path / name).pixels.astype(int)
        assert (read[:10] == 0).all(), name
        assert np.abs(read[10:30, 20:40] - (200, 100, 50)).max() <= 1, name
        assert np.abs(read[10:30, 40:50] - (100, 50, 25)).max() <= 1, name
        assert find_field(read_photograph(tmp_path / name).pixels) == (20, 10, 50, 30), name


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("name", ["grey.png", "grey.tif", "colour.png", "colour.tif"])
def test_bits_in_use_are_scaled_to_eight(tmp_path: Path, bits: int, name: str) -> None:
    eight = gradient()
    eight[0, 0] = 255
    deep = eight.astype(np.uint16) << (bits - 8)
    cv2.imwrite(str(tmp_path / name), deep[:, :, 0] if "grey" in name else deep[:, :, ::-1])
    photograph = read_photograph(tmp_path / name)
    assert np.array_equal(photograph.pixels, eight[:, :, [0, 0, 0]] if "grey" in name else eight)
    assert photograph.flags == (() if bits == 16 else ("fewer_bits",))


def test_a_deep_tiff_is_turned_once(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(gradient(64, 96)).save(tmp_path / "a.tif", exif=exif)
    cv2.imwrite(str(tmp_path / "b.tif"), gradient(64, 96)[:, :, ::-1].astype(np.uint16) * 257)
    with Image.open(tmp_path / "b.tif") as image:  # the same tag in a file of 16 bits
        assert image.tag_v2.get(0x0112, 1) == 1
    data = (tmp_path / "b.tif").read_bytes()
    assert len(data) > 0 and read_photograph(tmp_path / "b.tif").pixels.shape == (64, 96, 3)
    assert read_photograph(tmp_path / "a.tif").pixels.shape == (96, 64, 3)


def test_a_file_with_several_pictures_is_refused(tmp_path: Path) -> None:
    pages = [Image.fromarray(gradient()), Image.fromarray(gradient())]
    for name in ("a.tif", "a.gif", "a.webp", "a.png"):
        pages[1].putpixel((0, 0), (1, 2, 3))
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
        with pytest.raises(Unreadable, match="holds 2 pictures; save the photograph as a single one"):
            read_photograph(tmp_path / name)
    # A reduced copy beside the photograph is no second one.
    small = pages[1].resize((45, 30))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    pages[0].save(tmp_path / "b.tif", save_all=True, append_images=[small])
    with Image.open(tmp_path / "b.tif") as image:
        image.seek(1)
        if image.tag_v2.get(254):
            assert read_photograph(tmp_path / "b.tif").width == 90


def damaged(data: bytes, place: float, length: int, seed: int) -> bytes:
    start = int(place * len(data))
    noise = np.random.default_rng(seed).integers(0, 256, length).astype(np.uint8).tobytes()
    return data[:start] + noise + data[start + length :]


def eye(size: int = 400) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - size / 2
    field = np.hypot(x, y) < 0.45 * size
    texture = np.random.default_rng(0).normal(0, 4, (size, size))
    red = 150 + 20 * np.sin(x / 30) + texture
    return (np.stack([red, red / 2, red / 4], axis=2) * field[:, :, None]).clip(0, 255).astype(np.uint8)


def test_a_jpeg_damaged_inside_is_rejected_or_flagged(tmp_path: Path) -> None:
    Image.fromarray(eye()).save(tmp_path / "good.jpg", quality=92)
    good = (tmp_path / "good.jpg").read_bytes()
    whole = read_photograph(tmp_path / "good.jpg")
    assert whole.flags == ()
    noticed = unnoticed = 0
    for seed in range(60):
        (tmp_path / "bad.jpg").write_bytes(damaged(good, 0.3 + 0.008 * seed, (1, 8, 64)[seed % 3], seed))
        try:
            photograph = read_photograph(tmp_path / "bad.jpg")
        except Unreadable as error:
            assert "JPEG is damaged: " in str(error) or "truncated" in str(error)
            noticed += 1
            continue
        if np.abs(photograph.pixels.astype(int) - whole.pixels).mean() > 5:
            noticed += bool(photograph.flags)
            unnoticed += not photograph.flags
    assert noticed > 30 and unnoticed <= 3


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_jpeg_cut_and_closed_is_rejected(tmp_path: Path, share: float, capfd: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(eye()).save(tmp_path / "good.jpg", quality=92)
    good = (tmp_path / "good.jpg").read_bytes()
    (tmp_path / "bad.jpg").write_bytes(good[: int(share * len(good))] + b"\xff\xd9")
    for reduction in (1, 8):
        with pytest.raises(Unreadable, match="JPEG is damaged: Corrupt JPEG data: premature end"):
            read_photograph(tmp_path / "bad.jpg", reduction)
    assert capfd.readouterr().err == ""


def test_a_damaged_jpeg_in_print_colours_is_rejected(tmp_path: Path) -> None:
    Image.fromarray(eye()).convert("CMYK").save(tmp_path / "good.jpg", quality=92)
    assert read_photograph(tmp_path / "good.jpg").width == 400
    good = (tmp_path / "good.jpg").read_bytes()
    (tmp_path / "bad.jpg").write_bytes(good[: len(good) // 2] + b"\xff\xd9")
    with pytest.raises(Unreadable, match="JPEG is damaged: Corrupt JPEG data: premature end"):
        read_photograph(tmp_path / "bad.jpg")


def test_a_name_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="file name is not UTF-8; rename the file"):
        read_photograph(tmp_path / "eye\\xff.jpg")


def test_a_mask_in_a_lossy_format_does_not_grow(tmp_path: Path) -> None:
    lesion = np.zeros((200, 200), np.uint8)
    lesion[50:60, 50:60] = lesion[120:123, 40:43] = 255
    Image.fromarray(lesion).save(tmp_path / "a.png")
    Image.fromarray(np.zeros_like(lesion)).save(tmp_path / "none.jpg", quality=60)
    for quality, kind in ((95, "jpg"), (75, "jpg"), (80, "webp")):
        Image.fromarray(lesion).save(tmp_path / f"a.{kind}", quality=quality)
        mask, orientation, flags = read_flagged_mask(tmp_path / f"a.{kind}")
        assert flags == ("lossy_mask",) and orientation == 1
        assert abs(int(mask.sum()) - 109) <= 6
    assert read_flagged_mask(tmp_path / "a.png")[2] == () and read_mask(tmp_path / "a.png").sum() == 109
    assert not read_mask(tmp_path / "none.jpg").any()
