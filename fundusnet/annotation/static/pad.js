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

  /** labels: region → its label; on: toggle(region), all(), clear(), hover(region or null). */
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
    for (const button of this.#place.querySelectorAll("button")) {
      const region = button.dataset.region;
      button.disabled = regions === null || (button.dataset.does === "clear" && regions.length === 0);
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
    if (!region) return this.#corner();
    const button = element("button");
    const cap = element("kbd", "", this.#caps?.[y][x] ?? "");
    button.append(cap, element("span", "", this.#labels.get(region)));
    button.addEventListener("click", () => this.#on.toggle(region));
    button.dataset.region = region;
    cap.dataset.cell = `${x},${y}`;
    for (const sign of ["pointerenter", "focus"]) button.addEventListener(sign, () => this.#on.hover(region));
    for (const sign of ["pointerleave", "blur"]) button.addEventListener(sign, () => this.#on.hover(null));
    return button;
  }

  /** The place without a region: all of them, and none. */
  #corner() {
    const corner = element("div", "corner");
    for (const [does, key] of [["all", "⇧A"], ["clear", "⌫"]]) {
      const button = element("button", "quiet");
      button.dataset.does = does;
      button.append(element("span", "", text(`pad.${does}`)), element("kbd", "", key));
      button.addEventListener("click", () => this.#on[does]());
      corner.append(button);
    }
    return corner;
  }
}

/** The same layout, small and without labels. */
export function tiles(regions, temporalLeft) {
  return regionGrid(temporalLeft)
    .flat()
    .map((region) => element("i", region === null ? "none" : regions.includes(region) ? "on" : ""));
}
