/** The eight regions and their marks, drawn over a photograph as SVG; line widths do not depend on the zoom. */

import { REGIONS, frameOf, regionAnchors, regionNameAt, regionPaths, toPixels } from "./geometry.js";

const NAMESPACE = "http://www.w3.org/2000/svg";
const PIP = 17;
const DASH = 7;
let count = 0;

export class Overlay {
  #world;
  #clip;
  #paths = new Map();
  #suggested;
  #id;
  #insides = new Map();
  #lines;
  #marks;
  #shadow;
  #frame = null;
  #anchors = {};
  #place = null;
  #shown = {};
  /** [place in pixels or null, its group] of everything that keeps its size. */
  #pips = [];
  #size = [1, 1];

  constructor(svg) {
    const id = `photograph-${(count += 1)}`;
    const defs = add(svg, "defs");
    this.#id = id;
    this.#clip = add(add(defs, "clipPath", { id }), "rect");
    this.#world = add(svg, "g", { "clip-path": `url(#${id})` });
    for (const region of REGIONS) {
      this.#insides.set(region, add(add(defs, "clipPath", { id: `${id}-${region}` }), "path"));
      this.#paths.set(region, add(this.#world, "path", { class: "region", "data-region": region }));
    }
    this.#shadow = add(this.#world, "path", { class: "lines shadow" });
    this.#lines = add(this.#world, "path", { class: "lines" });
    this.#suggested = add(this.#world, "g");
    this.#marks = add(svg, "g", { class: "marks" });
  }

  /** Draw the regions of these two points; nothing if they coincide. */
  setPoints(disc, fovea, width, height) {
    this.#size = [width, height];
    attributes(this.#clip, { x: -0.5, y: -0.5, width, height });
    try {
      this.#frame = frameOf(disc, fovea);
    } catch {
      this.#frame = null;
    }
    const paths = this.#frame ? regionPaths(this.#frame, width, height) : {};
    for (const [region, path] of [...this.#paths, ...this.#insides]) path.setAttribute("d", paths[region] ?? "");
    this.#lines.setAttribute("d", paths.lines ?? "");
    this.#shadow.setAttribute("d", paths.lines ?? "");
    this.#anchors = this.#frame ? regionAnchors(this.#frame, width, height) : {};
    this.show(this.#shown);
  }

  regionAt(point) {
    return this.#frame && regionNameAt(this.#frame, point);
  }

  /** Follow the scale, x and y of a view. */
  follow(view) {
    this.#place = view;
    // Coordinates are pixel centres; the photograph starts half a pixel before the first.
    const { scale, x, y } = view;
    this.#world.setAttribute("transform", `translate(${x} ${y}) scale(${scale}) translate(0.5 0.5)`);
    this.#placeMarks();
  }

  /**
   * fill: { regions, colour } of the chosen finding; suggested: [{ regions, colour, chosen }] that nobody has confirmed;
   * pips: region → [{ colour, text, open }] of all findings, open ones suggested; labels: region → text, or null for none;
   * points: whether to mark disc and fovea.
   */
  show(shown) {
    this.#shown = shown;
    const { fill = null, suggested = [], pips = {}, labels = null, points = false } = shown;
    for (const [region, path] of this.#paths) {
      const on = Boolean(fill?.regions.includes(region));
      path.classList.toggle("on", on);
      if (on) path.style.setProperty("--finding", fill.colour);
    }
    this.#suggested.replaceChildren();
    for (const region of REGIONS) this.#outline(region, suggested.filter(({ regions }) => regions.includes(region)));
    this.#marks.replaceChildren();
    this.#pips = [];
    for (const region of REGIONS) {
      const marks = pips[region] ?? [];
      const group = add(this.#marks, "g");
      marks.forEach(({ colour, text, open = false }, index) => {
        const x = (index - (marks.length - 1) / 2) * (PIP + 3);
        const pip = add(group, "g", { transform: `translate(${x} 0)`, class: open ? "pip open" : "pip" });
        pip.style.setProperty("--finding", colour);
        add(pip, "circle", { r: PIP / 2 });
        add(pip, "text", { dy: "0.35em" }).textContent = text;
      });
      if (labels?.[region]) {
        add(group, "text", { class: "label", dy: marks.length ? PIP + 6 : "0.35em" }).textContent = labels[region];
      }
      this.#pips.push([this.#anchors[region], group]);
    }
    if (points && this.#frame) {
      for (const [name, at] of [["disc", this.#frame.disc], ["fovea", toPixels(this.#frame, 1, 0)]]) {
        const group = add(this.#marks, "g", { class: `point ${name}` });
        add(group, "circle", { r: name === "disc" ? 8 : 5 });
        this.#pips.push([at, group]);
      }
    }
    this.#placeMarks();
  }

  /**
   * A dashed line along the inside of a region for each finding suggested in it: so neighbouring regions have a line each,
   * and the dashes of several findings take turns.
   */
  #outline(region, suggested) {
    suggested.forEach(({ colour, chosen }, place) => {
      const line = add(this.#suggested, "path", {
        class: chosen ? "suggestion chosen" : "suggestion",
        d: this.#paths.get(region).getAttribute("d"),
        "clip-path": `url(#${this.#id}-${region})`,
        "stroke-dasharray": `${DASH} ${DASH * (2 * suggested.length - 1)}`,
        "stroke-dashoffset": -2 * DASH * place,
        "data-region": region,
      });
      line.style.setProperty("--finding", colour);
    });
  }

  /** Highlight the region under the pointer or with the focus. */
  point(region) {
    for (const [name, path] of this.#paths) path.classList.toggle("pointed", name === region);
  }

  #placeMarks() {
    if (!this.#place) return;
    const { scale, x, y } = this.#place;
    for (const [anchor, group] of this.#pips) {
      group.classList.toggle("nowhere", !anchor);
      if (!anchor) continue;
      const [px, py] = anchor;
      group.setAttribute("transform", `translate(${(px + 0.5) * scale + x} ${(py + 0.5) * scale + y})`);
    }
  }
}

function add(parent, name, values = {}) {
  const element = document.createElementNS(NAMESPACE, name);
  attributes(element, values);
  parent.append(element);
  return element;
}

function attributes(element, values) {
  for (const [name, value] of Object.entries(values)) element.setAttribute(name, value);
}
