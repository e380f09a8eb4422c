/** Seconds spent on each photograph: time between user events, of which at most 30 s of a longer pause count. */

const LONGEST_PAUSE = 30_000;

export class Clock {
  #seconds = new Map();
  #imageId = null;
  #last = 0;

  constructor() {
    const tick = () => this.#tick();
    for (const type of ["pointermove", "pointerdown", "keydown", "wheel"]) {
      window.addEventListener(type, tick, { capture: true, passive: true });
    }
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.#tick();
      else this.#last = performance.now();
    });
  }

  /** Count time for this image from now on; `seconds` were spent on it in earlier visits. */
  turnTo(imageId, seconds) {
    this.#tick();
    this.#imageId = imageId;
    this.#last = performance.now();
    this.#seconds.set(imageId, Math.max(seconds, this.#seconds.get(imageId) ?? 0));
  }

  read(imageId) {
    if (imageId === this.#imageId) this.#tick();
    return Math.round((this.#seconds.get(imageId) ?? 0) * 10) / 10;
  }

  #tick() {
    const now = performance.now();
    if (this.#imageId !== null && !document.hidden) {
      const active = Math.min(now - this.#last, LONGEST_PAUSE) / 1000;
      this.#seconds.set(this.#imageId, this.#seconds.get(this.#imageId) + active);
    }
    this.#last = now;
  }
}
