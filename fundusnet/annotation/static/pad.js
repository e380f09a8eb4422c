/** The regions as buttons, laid out as in the picture, with their keys; and a small version of the same layout. */

import { element } from "./dom.js";
import { keyCaps, regionGrid } from "./keys.js";
import { text } from "./text.js";

export class Pad {
  #place;
  #labels;
  #on;
  #caps = null;
  #temporalLeft = null;

  /** labels: region → its label; on: toggle(region), clear(), hover(region or null). */
  constructor(place, labels, on) {
    this.#place = place;
    this.#labels = labels;
    this.#on = on;
    keyCaps().then((caps) => {
      this.#caps = caps;
      for (const cap of this.#place.querySelectorAll("[data-cell]")) {
        const [x, y] = cap.dataset.cell.split(",");
        cap.textContent = caps[y][x];
      }
    });
  }

  /** Show the selected regions in a colour; with null, all buttons are disabled. */
  show(regions, colour, temporalLeft) {
    if (this.#temporalLeft !== temporalLeft) this.#build(temporalLeft);
    this.#place.style.setProperty("--finding", colour ?? "transparent");
    for (const button of this.#place.children) {
      const region = button.dataset.region;
      button.disabled = regions === null || (!region && regions.length === 0);
      if (region) button.setAttribute("aria-pressed", String(Boolean(regions?.includes(region))));
    }
  }

  point(region) {
    for (const button of this.#place.children) {
      button.classList.toggle("pointed", region !== null && button.dataset.region === region);
    }
  }

  #build(temporalLeft) {
    const focused = document.activeElement?.dataset?.region;
    this.#temporalLeft = temporalLeft;
    const rows = regionGrid(temporalLeft).map((row, y) => row.map((region, x) => this.#button(region, x, y)));
    this.#place.replaceChildren(...rows.flat());
    if (focused) this.#place.querySelector(`[data-region="${focused}"]`)?.focus();
  }

  #button(region, x, y) {
    const button = element("button", region ? "" : "quiet");
    const cap = element("kbd", "", region ? (this.#caps?.[y][x] ?? "") : "⌫");
    button.append(cap, element("span", "", region ? this.#labels.get(region) : text("reading.clear")));
    button.addEventListener("click", () => (region ? this.#on.toggle(region) : this.#on.clear()));
    if (!region) return button;
    button.dataset.region = region;
    cap.dataset.cell = `${x},${y}`;
    for (const sign of ["pointerenter", "focus"]) button.addEventListener(sign, () => this.#on.hover(region));
    for (const sign of ["pointerleave", "blur"]) button.addEventListener(sign, () => this.#on.hover(null));
    return button;
  }
}

/** The same layout, small and without labels. */
export function tiles(regions, temporalLeft) {
  return regionGrid(temporalLeft)
    .flat()
    .map((region) => element("i", region === null ? "none" : regions.includes(region) ? "on" : ""));
}
