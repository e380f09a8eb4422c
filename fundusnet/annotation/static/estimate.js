/** A number with its interval, in figures and as a point on a line. */

import { element } from "./dom.js";

const NAMESPACE = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, EDGE] = [130, 14, 6];

/**
 * value: number or null; interval: [low, high] or null; from, to: ends of the line; at: where it has a tick; figures(number)
 * → text; why: said in place of a value that is null.
 */
export function estimate({ value, interval = null, from, to, at = from, figures, why = "" }) {
  if (value === null) {
    const none = element("span", "none", "–");
    none.title = why;
    none.append(element("small", "", ` ${why}`));
    return none;
  }
  const box = element("span", "estimate");
  const range = interval ? `${figures(interval[0])} – ${figures(interval[1])}` : "";
  const x = (number) => EDGE + ((Math.min(Math.max(number, from), to) - from) / (to - from)) * (WIDTH - 2 * EDGE);
  const middle = HEIGHT / 2;
  const scale = shape("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-hidden": "true" });
  scale.append(
    shape("line", { x1: x(from), x2: x(to), y1: middle, y2: middle }),
    shape("line", { x1: x(at), x2: x(at), y1: 2, y2: HEIGHT - 2 }),
    ...(interval ? [shape("line", { x1: x(interval[0]), x2: x(interval[1]), y1: middle, y2: middle, class: "range" })] : []),
    shape("circle", { cx: x(value), cy: middle, r: 4.5 }),
  );
  box.append(element("b", "", figures(value)), element("small", "", range), scale);
  return box;
}

function shape(name, values) {
  const made = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(values)) made.setAttribute(key, value);
  return made;
}
