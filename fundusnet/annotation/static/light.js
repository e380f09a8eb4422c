/** Brightness, contrast and red-free view, as CSS filters that stay for the next photograph and after a reload. */

import { $ } from "./dom.js";

const KEY = "fundusnet/light";
const DEFAULTS = { brightness: 1, contrast: 1, redFree: false };
const STEP = 0.1;

export class Light {
  #pictures;
  #controls = {
    brightness: $("brightness"),
    contrast: $("contrast"),
    redFree: $("red-free"),
    plain: $("plain"),
  };
  #now = DEFAULTS;

  constructor(pictures) {
    this.#pictures = pictures;
    const controls = this.#controls;
    for (const name of ["brightness", "contrast"]) {
      controls[name].addEventListener("input", () => this.#set({ [name]: Number(controls[name].value) }));
    }
    controls.redFree.addEventListener("click", () => this.toggleRedFree());
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

  reset() {
    this.#set(DEFAULTS);
  }

  /** Brightness or contrast up (+1) or down (-1). */
  step(name, direction) {
    const { min, max } = this.#controls[name];
    this.#set({ [name]: Math.min(Number(max), Math.max(Number(min), this.#now[name] + direction * STEP)) });
  }

  #set(change) {
    this.#now = { ...this.#now, ...change };
    const { brightness, contrast, redFree } = this.#now;
    const parts = [];
    if (redFree) parts.push('url("#green-channel")');
    if (brightness !== 1) parts.push(`brightness(${brightness})`);
    if (contrast !== 1) parts.push(`contrast(${contrast})`);
    for (const picture of this.#pictures) picture.style.filter = parts.join(" ");
    this.#controls.brightness.value = brightness;
    this.#controls.contrast.value = contrast;
    this.#controls.redFree.setAttribute("aria-pressed", String(redFree));
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
    const { brightness, contrast, redFree } = JSON.parse(sessionStorage.getItem(KEY)) ?? DEFAULTS;
    return { brightness: Number(brightness) || 1, contrast: Number(contrast) || 1, redFree: redFree === true };
  } catch {
    return DEFAULTS;
  }
}
