/** Brightness, contrast, gamma, red-free and inverted view, as CSS filters that stay for the next photograph and after a reload. */

import { $ } from "./dom.js";

const KEY = "fundusnet/light";
const SLIDERS = ["brightness", "contrast", "gamma"];
const DEFAULTS = { brightness: 1, contrast: 1, gamma: 1, redFree: false, inverted: false };
const STEP = 0.1;

export class Light {
  #pictures;
  #controls = {
    brightness: $("brightness"),
    contrast: $("contrast"),
    gamma: $("gamma"),
    redFree: $("red-free"),
    inverted: $("inverted"),
    plain: $("plain"),
  };
  #now = DEFAULTS;

  constructor(pictures) {
    this.#pictures = pictures;
    const controls = this.#controls;
    for (const name of SLIDERS) {
      controls[name].addEventListener("input", () => this.#set({ [name]: Number(controls[name].value) }));
    }
    controls.redFree.addEventListener("click", () => this.toggleRedFree());
    controls.inverted.addEventListener("click", () => this.toggleInverted());
    controls.plain.addEventListener("click", () => this.reset());
    this.#set(storedSettings());
  }

  /** Apply the filters to other pictures from now on. */
  setPictures(pictures) {
    this.#pictures = pictures;
    this.#set({});
  }

  toggleRedFree() {
    this.#set({ redFree: !this.#now.redFree });
  }

  toggleInverted() {
    this.#set({ inverted: !this.#now.inverted });
  }

  reset() {
    this.#set(DEFAULTS);
  }

  /** Brightness, contrast or gamma up (+1) or down (-1). */
  step(name, direction) {
    const { min, max } = this.#controls[name];
    this.#set({ [name]: Math.min(Number(max), Math.max(Number(min), this.#now[name] + direction * STEP)) });
  }

  #set(change) {
    this.#now = { ...this.#now, ...change };
    const { brightness, contrast, gamma, redFree, inverted } = this.#now;
    const parts = [];
    if (redFree) parts.push('url("#green-channel")');
    if (gamma !== 1) parts.push('url("#gamma-curve")');
    if (brightness !== 1) parts.push(`brightness(${brightness})`);
    if (contrast !== 1) parts.push(`contrast(${contrast})`);
    if (inverted) parts.push("invert(1)");
    // A greater gamma brightens the dark parts.
    for (const curve of document.querySelectorAll("#gamma-curve [exponent]")) curve.setAttribute("exponent", 1 / gamma);
    for (const picture of this.#pictures) picture.style.filter = parts.join(" ");
    for (const name of SLIDERS) this.#controls[name].value = this.#now[name];
    this.#controls.redFree.setAttribute("aria-pressed", String(redFree));
    this.#controls.inverted.setAttribute("aria-pressed", String(inverted));
    this.#controls.plain.disabled = parts.length === 0;
    try {
      sessionStorage.setItem(KEY, JSON.stringify(this.#now));
    } catch {
      // Without storage, the next page starts with the defaults.
    }
  }
}

function storedSettings() {
  try {
    const stored = JSON.parse(sessionStorage.getItem(KEY)) ?? DEFAULTS;
    const numbers = SLIDERS.map((name) => [name, Number(stored[name]) || 1]);
    return { ...Object.fromEntries(numbers), redFree: stored.redFree === true, inverted: stored.inverted === true };
  } catch {
    return DEFAULTS;
  }
}
