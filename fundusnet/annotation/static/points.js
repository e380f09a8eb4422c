/**
 * Optic disc and fovea: two handles on the photograph, focusable buttons moved by pointer or arrow keys. Points are
 * { disc, fovea, disc_origin, fovea_origin }; a point that is moved is placed by the reader.
 */

import { PLACED } from "./answer.js";

/** By this share of its width, a point may lie beside the photograph, as in fundusnet/data/regions.py. */
const BEYOND = 0.5;
const REACH = { mouse: 14, pen: 18, touch: 24 };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Points {
  #view;
  #buttons;
  #on;
  #points = null;

  /** on: live(points) during a move; placed(points, label) after it; label joins arrow-key steps into one. */
  constructor(view, buttons, on) {
    this.#view = view;
    this.#buttons = buttons;
    this.#on = on;
    for (const [name, button] of Object.entries(buttons)) {
      button.addEventListener("keydown", (event) => this.#key(name, event));
      button.addEventListener("focus", () => this.#points && this.#view.reveal(this.#points[name]));
    }
  }

  set(points) {
    this.#points = points;
    for (const [name, button] of Object.entries(this.#buttons)) button.dataset.origin = points[`${name}_origin`];
    this.place();
  }

  /** Position the handles where the view shows the points. */
  place() {
    for (const [name, button] of Object.entries(this.#buttons)) {
      button.hidden = this.#points === null;
      if (!this.#points) continue;
      const [x, y] = this.#view.toStage(this.#points[name]);
      button.style.transform = `translate(${x}px, ${y}px)`;
    }
  }

  /** Highlight the handle near the pointer, which is at a pixel of the photograph or outside it (null). */
  hover(point) {
    const near = point && this.#at(...this.#view.toStage(point), "mouse");
    for (const [name, button] of Object.entries(this.#buttons)) button.classList.toggle("near", name === near);
  }

  /** The handle to drag at a position of the stage, for the view; null if none is near. */
  grab(x, y, pointer) {
    const name = this.#at(x, y, pointer);
    if (!name) return null;
    const before = this.#points;
    // The handle keeps its offset to the pointer, so that it does not jump.
    const [startX, startY] = this.#view.toPixel(x, y);
    const offset = [before[name][0] - startX, before[name][1] - startY];
    const button = this.#buttons[name];
    return {
      drag: (point) => {
        button.classList.add("held");
        this.#moveTo(name, [point[0] + offset[0], point[1] + offset[1]]);
      },
      drop: () => {
        button.classList.remove("held");
        this.#on.placed(this.#points, null);
      },
      cancel: () => {
        button.classList.remove("held");
        this.#on.live(before);
      },
    };
  }

  /** Focus the disc, then the fovea, then neither. */
  focusNext() {
    const { disc, fovea } = this.#buttons;
    if (document.activeElement === disc) fovea.focus();
    else if (document.activeElement === fovea) fovea.blur();
    else disc.focus();
  }

  #at(x, y, pointer) {
    if (!this.#points || getComputedStyle(this.#buttons.disc).visibility === "hidden") return null;
    const away = (name) => {
      const [px, py] = this.#view.toStage(this.#points[name]);
      return Math.hypot(px - x, py - y);
    };
    const name = away("disc") < away("fovea") ? "disc" : "fovea";
    return away(name) <= (REACH[pointer] ?? REACH.mouse) ? name : null;
  }

  #key(name, event) {
    const arrow = ARROWS[event.key];
    if (event.key === "Escape" || event.key === "Enter") {
      this.#buttons[name].blur();
      event.preventDefault();
      event.stopPropagation();
      return;
    }
    if (!arrow || !this.#points) return;
    event.preventDefault();
    event.stopPropagation();
    // One screen pixel at any zoom.
    const step = (event.shiftKey ? 10 : 1) / this.#view.scale;
    const [x, y] = this.#points[name];
    this.#moveTo(name, [x + arrow[0] * step, y + arrow[1] * step]);
    this.#on.placed(this.#points, name);
  }

  #moveTo(name, [x, y]) {
    const [width, height] = this.#view.size;
    const points = {
      ...this.#points,
      [name]: [within(x, -BEYOND * width, (1 + BEYOND) * width), within(y, 0, height - 1)],
      [`${name}_origin`]: PLACED,
    };
    if (Math.max(...points.disc.map((value, axis) => Math.abs(value - points.fovea[axis]))) < 1) return;
    this.#on.live(points);
  }
}

function within(value, least, most) {
  return Math.min(most, Math.max(least, value));
}
