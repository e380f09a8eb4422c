"""Only files of the study are sent, upright and without patient data."""

from __future__ import annotations

import io
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image
from studies import client_of, open_study, photograph

from fundusnet.annotation.initial_points import guess_eye, guess_points
from fundusnet.annotation.photographs import Photographs
from fundusnet.data.decode import Unreadable, read_photograph
from fundusnet.data.jpeg import strip_metadata
from fundusnet.data.regions import eye_of
from fundusnet.data.sources.idrid import load as load_idrid
from fundusnet.landmarks.points import Landmarks, Point

SECRET = b"secret"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of photographs next to files that must not be served."""
    root = tmp_path / "photographs"
    (root / "inner").mkdir(parents=True)
    cv2.imwrite(str(root / "a.png"), photograph())
    cv2.imwrite(str(root / "inner" / "b.png"), photograph())
    cv2.imwrite(str(tmp_path / "outside.png"), photograph("left"))
    (tmp_path / "photographs-too").mkdir()
    cv2.imwrite(str(tmp_path / "photographs-too" / "c.png"), photograph("left"))
    return root


def test_links_inside_the_folder_work(folder: Path, tmp_path: Path) -> None:
    (folder / "inside.png").symlink_to(folder / "a.png")
    photographs = Photographs(folder, tmp_path / "screen")
    assert photographs.file("inside.png") == folder / "a.png"
    assert photographs.file("inner/../a.png") == folder / "a.png"
    (tmp_path / "link").symlink_to(folder)
    assert Photographs(tmp_path / "link", tmp_path / "screen").file("a.png") == folder / "a.png"


@pytest.mark.parametrize(
    "path",
    [
        "../outside.png",
        "inner/../../outside.png",
        "../photographs-too/c.png",
        "{tmp}/outside.png",
        "/etc/passwd",
        "link.png",
        "linked/outside.png",
        "chain.png",
        "inner",
        "",
        ".",
        "nothing.png",
        "a.png\0",
        "loop.png",
        "pipe",
        "x" * 5000,
    ],
)
def test_nothing_outside_the_folder_is_ever_opened(folder: Path, tmp_path: Path, path: str) -> None:
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    (folder / "linked").symlink_to(tmp_path)
    (folder / "chain.png").symlink_to("link.png")
    (folder / "loop.png").symlink_to("loop.png")
    os.mkfifo(folder / "pipe")
    photographs = Photographs(folder, tmp_path / "screen")
    for ask in (photographs.file, photographs.content_key, photographs.geometry, photographs.screen, photographs.full):
        with pytest.raises(Unreadable, match=r"outside the folder|file is missing"):
            ask(path.format(tmp=tmp_path))


def test_a_photograph_that_is_a_link_out_of_the_folder_is_not_sent(folder: Path, tmp_path: Path) -> None:
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    client = client_of(open_study(tmp_path))
    client.get("/api/session")
    listed = {entry["image_id"] for entry in client.get("/api/queue").json()["images"]}
    assert "link" in listed
    refused = client.get("/api/images/link/photograph")
    assert (refused.status_code, refused.headers["content-type"]) == (422, "application/json")
    assert "outside the folder" in refused.json()["error"]


def test_a_file_replaced_by_a_link_is_noticed(folder: Path, tmp_path: Path) -> None:
    photographs = Photographs(folder, tmp_path / "screen")
    photographs.screen("a.png")
    (folder / "a.png").unlink()
    (folder / "a.png").symlink_to(tmp_path / "outside.png")
    with pytest.raises(Unreadable, match="outside the folder"):
        photographs.screen("a.png")


def test_a_changed_file_gives_a_new_picture(folder: Path, tmp_path: Path) -> None:
    photographs = Photographs(folder, tmp_path / "screen")
    first, mark = photographs.screen("a.png"), photographs.content_key("a.png")
    assert photographs.geometry("a.png").eye == "right"
    cv2.imwrite(str(folder / "a.png"), photograph("left"))
    os.utime(folder / "a.png", ns=(1, 1))
    assert photographs.content_key("a.png") != mark
    assert photographs.screen("a.png") != first
    assert photographs.geometry("a.png").eye == "left"


def test_the_next_process_uses_cached_pictures(folder: Path, tmp_path: Path) -> None:
    geometry = Photographs(folder, tmp_path / "screen").geometry("a.png")
    again = Photographs(folder, tmp_path / "screen")
    again._decode = None  # type: ignore[assignment, method-assign]
    assert again.geometry("a.png") == geometry
    for file in (tmp_path / "screen").glob("*.json"):
        file.write_text('{"width": 3')
    assert Photographs(folder, tmp_path / "screen").geometry("a.png") == geometry


def jpeg(orientation: int, **more: object) -> bytes:
    """A JPEG of 60x40 stored pixels, brighter at the left, with a patient's name and a place in its EXIF."""
    rng = np.random.default_rng(0)
    pixels = cv2.resize(rng.integers(60, 255, (5, 7, 3), dtype=np.uint8), (60, 40), interpolation=cv2.INTER_CUBIC)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.ImageDescription] = SECRET.decode()
    exif.get_ifd(ExifTags.IFD.GPSInfo)[ExifTags.GPS.GPSLatitudeRef] = "N"
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=90, exif=exif, comment=SECRET, **more)
    return stream.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", ["screen", "full"])
def test_upright_and_without_exif(tmp_path: Path, orientation: int, size: str) -> None:
    (tmp_path / "x.jpg").write_bytes(jpeg(orientation) + b"trailing " + SECRET)
    expected = read_photograph(tmp_path / "x.jpg").pixels
    photographs = Photographs(tmp_path, tmp_path / "screen")
    sent = photographs.full("x.jpg") if size == "full" else photographs.screen("x.jpg")
    assert SECRET not in sent
    with Image.open(io.BytesIO(sent)) as image:
        assert not image.getexif()
        assert image.size == expected.shape[1::-1]
        assert np.abs(np.asarray(image).astype(int) - expected).mean() < 3
    assert (photographs.geometry("x.jpg").width, photographs.geometry("x.jpg").height) == expected.shape[1::-1]


@pytest.mark.parametrize("more", [{}, {"progressive": True}, {"subsampling": 0}, {"optimize": True}])
def test_an_upright_jpeg_is_sent_bit_for_bit_as_it_was_compressed(tmp_path: Path, more: dict[str, object]) -> None:
    data = jpeg(1, icc_profile=b"profile " + SECRET, **more)
    stripped = strip_metadata(data)
    assert stripped is not None
    assert SECRET in data
    assert SECRET not in stripped
    assert np.array_equal(decoded(stripped), decoded(data))
    (tmp_path / "x.jpg").write_bytes(data)
    assert Photographs(tmp_path, tmp_path / "screen").full("x.jpg") == stripped


def decoded(data: bytes) -> np.ndarray:
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return picture


def test_restart_markers_and_cut_files() -> None:
    whole = cv2.imencode(".jpg", photograph(), [cv2.IMWRITE_JPEG_RST_INTERVAL, 2])[1].tobytes()
    assert b"\xff\xd0" in whole
    assert np.array_equal(decoded(strip_metadata(whole) or b""), decoded(whole))
    for end in range(0, len(whole) - 1, 7):
        assert strip_metadata(whole[:end]) is None
    assert strip_metadata(b"GIF89a") is None


def test_a_thumbnail_in_the_header_is_removed(tmp_path: Path) -> None:
    data = cv2.imencode(".jpg", photograph())[1].tobytes()
    assert data[2:4] == b"\xff\xe0"
    header = b"\xff\xe0" + (16 + len(SECRET)).to_bytes(2, "big") + data[6:18] + b"\x02\x01" + SECRET
    stripped = strip_metadata(data[:2] + header + data[20:])
    assert stripped == data


@pytest.mark.parametrize("mode", ["CMYK", "L"])
def test_other_colour_modes_are_sent_as_decoded(tmp_path: Path, mode: str) -> None:
    Image.fromarray(photograph()[..., ::-1]).convert(mode).save(tmp_path / "x.jpg", quality=95)
    sent = decoded(Photographs(tmp_path, tmp_path / "screen").full("x.jpg"))[..., ::-1]
    assert np.abs(sent.astype(int) - read_photograph(tmp_path / "x.jpg").pixels).mean() < 2


@pytest.mark.parametrize("side", ["right", "left"])
def test_the_eye_is_guessed_from_its_disc_under_uneven_light(side: str) -> None:
    picture = cv2.resize(photograph(side), (480, 400)).astype(np.float32)
    assert guess_eye(picture[..., ::-1].astype(np.uint8)) == side
    ramp = np.linspace(0.5, 1.0, 480)[None, :, None]
    for light in (ramp, ramp[:, ::-1]):
        assert guess_eye((picture * light)[..., ::-1].astype(np.uint8)) == side


def test_a_disc_in_the_middle_has_no_side() -> None:
    picture = np.zeros((100, 100, 3), np.uint8)
    cv2.circle(picture, (50, 50), 46, (130, 60, 40), -1)
    cv2.circle(picture, (50, 50), 8, (240, 200, 150), -1)
    assert guess_eye(picture) is None


def test_guessed_points_are_inside_the_picture_on_the_right_side() -> None:
    for eye in ("right", "left"):
        disc, fovea = guess_points((100, 100), (0, 0, 100, 100), eye)
        assert eye_of(disc, fovea) == eye
        assert guess_points((100, 100), (0, 0, 100, 100), eye, ((0, 0, 10, 10), (99, 5), (5, -80)))[1][1] == 0


@pytest.mark.real
def test_guessed_sides_of_real_eyes(real_data: Path) -> None:
    manifest = load_idrid(real_data / "idrid")
    known = manifest.images.dropna(subset=["disc_x", "fovea_x"]).head(40)
    guessed = [guess_eye(read_photograph(manifest.root / path, 8).pixels) for path in known["path"]]
    hits = [guess == eye for guess, eye in zip(guessed, known["eye"], strict=True)]
    assert sum(hits) >= 0.9 * len(hits)


@pytest.mark.real
def test_real_originals_lose_only_metadata(real_data: Path) -> None:
    for file in sorted((real_data / "idrid").rglob("IDRiD_*.jpg"))[:3]:
        data = file.read_bytes()
        stripped = strip_metadata(data)
        assert stripped is not None
        assert np.array_equal(decoded(stripped), decoded(data))


def test_points_that_were_found_are_in_pixels_of_the_photograph(tmp_path: Path) -> None:
    """They are looked for in the picture of screen size, which is half as large here."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    Image.fromarray(np.full((2400, 3200, 3), 120, np.uint8)).save(folder / "a.png")
    found = {"both": Landmarks(Point(400.0, 500.0, 0.9), Point(900.0, 510.0, 0.8))}
    found |= {"one": Landmarks(Point(400.0, 500.0, 0.9), None)}
    seen = []

    def locate(pixels: np.ndarray) -> Landmarks:
        seen.append(pixels.shape)
        return found[which]

    for which in ("both", "one"):
        photographs = Photographs(folder, tmp_path / which, locate)
        geometry = photographs.geometry("a.png")
        assert seen == [(1200, 1600, 3)]
        seen.clear()
        again = Photographs(folder, tmp_path / which, locate).geometry("a.png")
        assert again == geometry and not seen, "it is kept beside the picture"
        if which == "both":
            assert geometry.points == pytest.approx((800.5, 1000.5, 1800.5, 1020.5))
            assert geometry.eye == "left"
        else:
            assert geometry.points is None
