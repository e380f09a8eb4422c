"""The healthy fundus: camera field, choroid, macula, optic disc with its cup, and the vessel tree (drawn from scratch).

Everything is placed in coordinates of the eye (S1.1): origin at the disc, ``u`` towards the fovea, ``v`` superior, in
units of the disc-fovea distance ``D``. So a tilted left eye needs no special case.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fundusnet.data.eye.vessels import vessel_maps

FloatImage = NDArray[np.float32]

DISC_RADIUS = 0.185  # of the disc in units of D: 1.75 mm across at 4.7 mm from the fovea


@dataclass(frozen=True)
class Eye:
    """The anatomy of one photographed eye.

    Attributes:
        size: Side S of the photograph in pixels.
        disc: Centre of the optic disc in pixels (x, y).
        fovea: Centre of the fovea in pixels (x, y).
        u: Coordinate of every pixel towards the fovea, float32 (S, S).
        v: Coordinate of every pixel upwards, float32 (S, S).
        field: Pixels that the camera sees, bool (S, S).
        centre: Centre of the field in pixels (x, y).
        radius: Radius of the field in pixels.
        cup_to_disc: Vertical cup-to-disc ratio in (0, 1).
    """

    size: int
    disc: tuple[float, float]
    fovea: tuple[float, float]
    u: FloatImage
    v: FloatImage
    field: NDArray[np.bool_]
    centre: tuple[float, float]
    radius: float
    cup_to_disc: float

    @property
    def unit(self) -> float:
        """D in pixels."""
        return float(np.hypot(self.fovea[0] - self.disc[0], self.fovea[1] - self.disc[1]))

    def pixels(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points (…, 2) in coordinates of the eye as pixels (x, y)."""
        along = np.subtract(self.fovea, self.disc)
        upward = np.array([along[1], -along[0]]) if along[0] > 0 else np.array([-along[1], along[0]])
        placed: NDArray[np.float64] = np.asarray(self.disc) + points[..., :1] * along + points[..., 1:] * upward
        return placed


@dataclass(frozen=True)
class Complexion:
    """What both eyes of a patient share.

    ``pigment`` from 0 (fair) to 1 (dark), ``tessellation`` how far choroidal vessels show (0 … 1), ``tortuosity`` how
    much the vessels wind (1 = usual).
    """

    pigment: float
    tessellation: float
    tortuosity: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Complexion:
        """A random patient."""
        return cls(float(rng.beta(2, 2)), float(rng.beta(1.5, 3)), float(rng.uniform(0.5, 1.6)))


def place_eye(size: int, side: str, cup_to_disc: float, rng: np.random.Generator) -> Eye:
    """An eye as seen by the camera: ``side`` "left" or "right", gaze and head tilt at random."""
    radius = size * rng.uniform(0.455, 0.49)
    centre = size / 2 + rng.normal(0, 0.004 * size, 2)
    unit = radius * rng.uniform(0.64, 0.74)
    tilt = np.deg2rad(rng.normal(5, 5))  # the fovea lies a little below the disc
    # In a photograph of the left eye the disc is on the left; of the right eye, on the right.
    along = unit * np.array([np.cos(tilt) if side == "left" else -np.cos(tilt), np.sin(tilt)])
    gaze = rng.normal(0, 0.05 * radius, 2)
    disc = centre + gaze - along * rng.uniform(0.66, 0.92)
    fovea = disc + along

    y, x = np.mgrid[:size, :size].astype(np.float32)
    dx, dy = x - np.float32(disc[0]), y - np.float32(disc[1])
    toward = (along / unit**2).astype(np.float32)
    u = dx * toward[0] + dy * toward[1]
    upward = (toward[1], -toward[0]) if along[0] > 0 else (-toward[1], toward[0])
    v = dx * upward[0] + dy * upward[1]
    field = np.hypot(x - float(centre[0]), y - float(centre[1])) <= float(radius)
    return Eye(
        size=size,
        disc=(float(disc[0]), float(disc[1])),
        fovea=(float(fovea[0]), float(fovea[1])),
        u=u,
        v=v,
        field=field,
        centre=(float(centre[0]), float(centre[1])),
        radius=float(radius),
        cup_to_disc=cup_to_disc,
    )


def draw_retina(eye: Eye, skin: Complexion, rng: np.random.Generator) -> FloatImage:
    """Choroid, macula and optic disc without vessels: float32 (S, S, 3), RGB, 0 … 1."""
    fair, dark = np.array([0.86, 0.44, 0.20]), np.array([0.58, 0.26, 0.11])
    base = fair + (dark - fair) * skin.pigment + rng.normal(0, [0.02, 0.02, 0.015])
    canvas = np.broadcast_to(base.astype(np.float32), (eye.size, eye.size, 3)).copy()

    clouds = 0.05 * noise(eye.size, 5, rng) + 0.025 * noise(eye.size, 16, rng) + 0.015 * noise(eye.size, 60, rng)
    # Choroidal vessels: bright bands where a slow random field crosses zero.
    bands = np.exp(-((noise(eye.size, 14, rng) / 0.35) ** 2)) - 0.45
    from_fovea = np.hypot(eye.u - 1, eye.v)
    texture = clouds + 0.16 * skin.tessellation * bands * np.clip(from_fovea, 0.2, 1)
    canvas *= (1 + texture[..., None] * np.array([0.8, 1.2, 1.3], np.float32)).astype(np.float32)

    # Xanthophyll and taller pigment cells darken the macula; the foveal pit reflects a point of light.
    macula = 0.28 * np.exp(-((from_fovea / 0.30) ** 2)) + 0.12 * np.exp(-((from_fovea / 0.10) ** 2))
    canvas *= 1 - macula[..., None] * np.array([0.75, 1.1, 1.2], np.float32)
    canvas += (rng.uniform(0, 0.12) * np.exp(-((from_fovea / 0.025) ** 2)))[..., None].astype(np.float32)

    # Nerve fibres shine where they are thickest: above and below the disc, along the arcades.
    angle = np.arctan2(eye.v, eye.u)
    from_disc = np.hypot(eye.u, eye.v)
    fibres = np.sin(angle) ** 2 * np.exp(-((from_disc - 0.3) ** 2) / 0.16)
    striae = 1 + 0.25 * np.sin(angle * 90 + 2 * noise(eye.size, 8, rng))
    canvas += (0.05 * fibres * striae)[..., None] * np.array([0.5, 1.0, 0.8], np.float32)

    _draw_disc(canvas, eye, rng)
    return canvas


def draw_vessels(canvas: FloatImage, eye: Eye, skin: Complexion, rng: np.random.Generator) -> None:
    """Lay arteries and veins over ``canvas`` in place: blood takes green and blue away, and a little red."""
    arteries, veins = vessel_maps(eye, skin.tortuosity, rng)
    canvas *= 1 - veins[..., None] * np.array([0.24, 0.52, 0.46], np.float32)
    canvas *= 1 - arteries[..., None] * np.array([0.08, 0.40, 0.36], np.float32)


def take_photograph(canvas: FloatImage, eye: Eye, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Uneven light, focus, sensor noise and the black surround: uint8 (S, S, 3), RGB."""
    size = eye.size
    y, x = np.mgrid[:size, :size].astype(np.float32)
    hot = (np.asarray(eye.centre) + rng.normal(0, 0.18 * eye.radius, 2)).tolist()  # lists do not promote float32
    fall = rng.uniform(0.2, 0.42) * ((x - hot[0]) ** 2 + (y - hot[1]) ** 2) / eye.radius**2
    light = rng.uniform(0.86, 1.1) * np.clip(1.04 - fall, 0.25, None)
    from_centre = np.hypot(x - eye.centre[0], y - eye.centre[1]) / eye.radius
    rim = np.exp(-((from_centre - 1) ** 2) / 0.0035) * rng.uniform(0, 0.05)  # stray light at the edge of the field

    seen = canvas * light[..., None] * rng.normal(1, [0.03, 0.04, 0.08]).astype(np.float32)
    seen += rim[..., None].astype(np.float32)
    seen = cv2.GaussianBlur(seen, (0, 0), max(0.3, size * rng.uniform(0.0008, 0.002)))
    grain = rng.standard_normal((size, size), dtype=np.float32)
    seen += 0.008 * grain[..., None]
    aperture = np.clip((1 - from_centre) * eye.radius + 0.5, 0, 1)
    seen = np.clip(seen * aperture[..., None], 0, 1)
    return np.asarray(np.rint(seen * 255), np.uint8)


def noise(size: int, cells: int, rng: np.random.Generator) -> FloatImage:
    """A smooth random field with about ``cells`` bumps a side: float32 (S, S), mean 0, standard deviation near 1."""
    coarse = rng.standard_normal((min(cells, size), min(cells, size)), dtype=np.float32)
    return np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), np.float32)


def _draw_disc(canvas: FloatImage, eye: Eye, rng: np.random.Generator) -> None:
    """Optic disc, cup of ``eye.cup_to_disc`` and, at times, a crescent of atrophy on the temporal side."""
    width = DISC_RADIUS * rng.uniform(0.88, 0.98)  # discs are taller than wide
    edge = max(0.02, 1.2 / eye.unit)
    wobble = 0.012 * noise(eye.size, 24, rng)

    def inside(u: float, v: float, across: float, high: float) -> FloatImage:
        reach = np.hypot((eye.u - u) / across, (eye.v - v) / high) + wobble
        return np.asarray(np.clip((1 - reach) * high / edge + 0.5, 0, 1), np.float32)

    if rng.random() < 0.4:
        crescent = inside(rng.uniform(0.01, 0.04), 0, width * 1.12, DISC_RADIUS * 1.08) * rng.uniform(0.15, 0.45)
        _blend(canvas, crescent, (0.90, 0.66, 0.42))
    pallor = rng.normal(0, 0.02)
    disc = inside(0, 0, width, DISC_RADIUS)
    _blend(canvas, 0.92 * disc, (0.97, 0.69 + pallor, 0.40 + pallor))
    high = DISC_RADIUS * eye.cup_to_disc
    cup = inside(0.012, rng.normal(0, 0.004), width * eye.cup_to_disc * rng.uniform(0.92, 1.04), high)
    _blend(canvas, 0.88 * cup * disc, (1.0, 0.90, 0.68))


def _blend(canvas: FloatImage, alpha: FloatImage, colour: tuple[float, float, float]) -> None:
    canvas += alpha[..., None] * (np.array(colour, np.float32) - canvas)
