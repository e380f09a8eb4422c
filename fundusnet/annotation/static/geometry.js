/**
 * The eight regions defined by optic disc and fovea, as in fundusnet/data/regions.py (S1.1).
 *
 * Points are [x, y] in pixels of the photograph, x to the right, y down; the pixel in row i and column j is the point
 * [j, i], its centre, so a photograph covers -0.5 to width - 0.5. With the origin at the disc, u points to the fovea
 * (temporal is +), v is perpendicular (superior is +), and the distance between the two is 1. Pure functions.
 */

export const REGIONS = [
  "disc_superior",
  "disc_inferior",
  "macula",
  "temporal",
  "superotemporal",
  "inferotemporal",
  "superonasal",
  "inferonasal",
];
export const DISC_RADIUS = 2 / 5;
export const MACULA_RADIUS = 2 / 3;
/** The u at which the two circles intersect, and half the length of their chord. */
export const CHORD = (1 + DISC_RADIUS ** 2 - MACULA_RADIUS ** 2) / 2;
export const HALF_CHORD = Math.sqrt(DISC_RADIUS ** 2 - CHORD ** 2);

const HANDLE = 0.12;
const NEAREST = 1e-6;
const FARTHEST = 1e9;

/** Disc-centred axes: `along` is disc→fovea, `up` its superior perpendicular, both as long as their distance in pixels. */
export function frameOf(disc, fovea) {
  for (const [x, y] of [disc, fovea]) {
    if (!(Math.abs(x) <= FARTHEST && Math.abs(y) <= FARTHEST)) throw new RangeError(`not a pixel: ${x}, ${y}`);
  }
  const x = fovea[0] - disc[0];
  const y = fovea[1] - disc[1];
  if (Math.hypot(x, y) < NEAREST) throw new RangeError("disc and fovea coincide");
  // y grows downwards, so up is a negative y.
  const up = x >= 0 ? [y, -x] : [-y, x];
  return { disc: [disc[0], disc[1]], along: [x, y], up, square: x * x + y * y };
}

/** The region, 1 to 8, at a point: the same arithmetic in the same order as `region_map`, so both agree to the bit. */
export function regionAt(frame, [px, py]) {
  const { along, up, square } = frame;
  const x = px - frame.disc[0];
  const y = py - frame.disc[1];
  const u = x * along[0] + y * along[1];
  const v = x * up[0] + y * up[1];
  const inferior = v <= 0 ? 1 : 0;
  const fromDisc = x * x + y * y;
  const fromFovea = (x - along[0]) ** 2 + (y - along[1]) ** 2;
  if (fromDisc <= DISC_RADIUS ** 2 * square || fromFovea <= MACULA_RADIUS ** 2 * square) {
    return u < CHORD * square ? 1 + inferior : 3;
  }
  if (u > square && Math.abs(v) <= MACULA_RADIUS * square) return 4;
  return 5 + inferior + (u < 0 ? 2 : 0);
}

export function regionNameAt(frame, point) {
  return REGIONS[regionAt(frame, point) - 1];
}

/** Pixel coordinates of (u, v). */
export function toPixels({ disc, along, up }, u, v) {
  return [disc[0] + u * along[0] + v * up[0], disc[1] + u * along[1] + v * up[1]];
}

/**
 * SVG path data of each region by name, and of the lines between them (each once) as `lines`, in the coordinates of the
 * points. Paths extend beyond the edge of the photograph: clip them to its rectangle, -0.5 to width - 0.5.
 */
export function regionPaths(frame, width, height) {
  const size = Math.sqrt(frame.square);
  // In units of the disc-fovea distance: long enough to reach beyond the photograph from any two points.
  const corners = [[0, 0], [width, 0], [0, height], [width, height]];
  const reach = 2 + Math.max(...corners.map(([x, y]) => Math.hypot(x - frame.disc[0], y - frame.disc[1]))) / size;
  // The rotation from u to v differs between right and left eyes, and the direction of arcs with it.
  const turned = frame.along[0] * frame.up[1] - frame.along[1] * frame.up[0] > 0;
  const at = (u, v) => toPixels(frame, u, v).join(" ");
  const line = (...points) => points.map(([u, v]) => `L${at(u, v)}`).join("");
  const arc = (radius, u, v, towardsV) => `A${radius * size} ${radius * size} 0 0 ${+(towardsV === turned)} ${at(u, v)}`;
  const disc = (u, v, towardsV) => arc(DISC_RADIUS, u, v, towardsV);
  const macula = (u, v, towardsV) => arc(MACULA_RADIUS, u, v, towardsV);

  const paths = {};
  // The lower half mirrors the upper one: v and the direction of arcs change sign.
  for (const [half, s] of [["super", 1], ["infer", -1]]) {
    const ccw = s === 1;
    const top = s * reach;
    paths[`disc_${half}ior`] =
      `M${at(CHORD, 0)}${line([CHORD, s * HALF_CHORD])}` +
      `${disc(0, s * DISC_RADIUS, ccw)}${disc(-DISC_RADIUS, 0, ccw)}Z`;
    paths[`${half}otemporal`] =
      `M${at(0, s * DISC_RADIUS)}${line([0, top], [reach, top], [reach, s * MACULA_RADIUS], [1, s * MACULA_RADIUS])}` +
      `${macula(CHORD, s * HALF_CHORD, ccw)}${disc(0, s * DISC_RADIUS, ccw)}Z`;
    paths[`${half}onasal`] =
      `M${at(0, s * DISC_RADIUS)}${line([0, top], [-reach, top], [-reach, 0], [-DISC_RADIUS, 0])}` +
      `${disc(0, s * DISC_RADIUS, !ccw)}Z`;
  }
  const rim = 1 + MACULA_RADIUS;
  paths.macula =
    `M${at(CHORD, -HALF_CHORD)}${macula(1, -MACULA_RADIUS, true)}${macula(rim, 0, true)}` +
    `${macula(1, MACULA_RADIUS, true)}${macula(CHORD, HALF_CHORD, true)}Z`;
  paths.temporal =
    `M${at(1, MACULA_RADIUS)}${line([reach, MACULA_RADIUS], [reach, -MACULA_RADIUS], [1, -MACULA_RADIUS])}` +
    `${macula(rim, 0, true)}${macula(1, MACULA_RADIUS, true)}Z`;
  paths.lines =
    `M${at(CHORD, HALF_CHORD)}${disc(0, DISC_RADIUS, true)}${disc(-DISC_RADIUS, 0, true)}` +
    `${disc(0, -DISC_RADIUS, true)}${disc(CHORD, -HALF_CHORD, true)}Z` +
    `M${at(CHORD, -HALF_CHORD)}${macula(1, -MACULA_RADIUS, true)}${macula(rim, 0, true)}` +
    `${macula(1, MACULA_RADIUS, true)}${macula(CHORD, HALF_CHORD, true)}` +
    `M${at(CHORD, 0)}L${at(-reach, 0)}` +
    [1, -1]
      .map(
        (s) =>
          `M${at(1, s * MACULA_RADIUS)}L${at(reach, s * MACULA_RADIUS)}M${at(0, s * DISC_RADIUS)}L${at(0, s * reach)}`,
      )
      .join("");
  return paths;
}

/**
 * For each region by name the point farthest from the other regions and from the edge, to place its label; null if the
 * region is outside the photograph. Searched on a coarse grid inside the inscribed ellipse (the corners are black) and
 * away from the two points (their handles are there); elsewhere only if there is no other place.
 */
export function regionAnchors(frame, width, height) {
  const columns = 48;
  const rows = Math.max(8, Math.round((columns * height) / width));
  const point = (i) => [
    (((i % columns) + 0.5) * width) / columns - 0.5,
    ((Math.floor(i / columns) + 0.5) * height) / rows - 0.5,
  ];
  const regions = Array.from({ length: columns * rows }, (_, i) => regionAt(frame, point(i)));
  const seen = regions.map((_, i) => {
    const [x, y] = point(i);
    const near = [frame.disc, toPixels(frame, 1, 0)].some(
      ([px, py]) => (x - px) ** 2 + (y - py) ** 2 < HANDLE ** 2 * frame.square,
    );
    return !near && ((2 * x) / width - 1) ** 2 + ((2 * y) / height - 1) ** 2 <= 0.9;
  });
  const depth = depths(regions, seen, columns, rows);
  const anchors = {};
  REGIONS.forEach((name, index) => {
    const own = [...regions.keys()].filter((i) => regions[i] === index + 1);
    const candidates = own.some((i) => seen[i]) ? own.filter((i) => seen[i]) : own;
    anchors[name] = candidates.length ? point(candidates.reduce((a, b) => (depth[b] > depth[a] ? b : a))) : null;
  });
  return anchors;
}

/** Distance in cells from each cell to another region, to the excluded corners or to the edge (two sweeps). */
function depths(regions, seen, columns, rows) {
  const depth = new Float64Array(regions.length);
  const differs = (i, j) => regions[i] !== regions[j] || seen[i] !== seen[j];
  const sweep = (indices, steps) => {
    for (const i of indices) {
      const column = i % columns;
      const row = Math.floor(i / columns);
      for (const [dx, dy, cost] of steps) {
        const outside = column + dx < 0 || column + dx >= columns || row + dy < 0 || row + dy >= rows;
        const j = i + dy * columns + dx;
        depth[i] = Math.min(depth[i], outside || differs(i, j) ? cost / 2 : depth[j] + cost);
      }
    }
  };
  depth.fill(Infinity);
  const forward = [[-1, 0, 1], [0, -1, 1], [-1, -1, Math.SQRT2], [1, -1, Math.SQRT2]];
  const order = [...regions.keys()];
  sweep(order, forward);
  sweep(order.reverse(), forward.map(([dx, dy, cost]) => [-dx, -dy, cost]));
  return depth;
}
