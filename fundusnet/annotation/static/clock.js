/** Seconds spent on each photograph: time between signs of life, of which a longer silence counts only its beginning. */

const SILENCE = 30_000;

export class Clock {
  #seconds = new Map();
  #imageId = null;
  #last = 0;

  constructor() {
    const alive = () => this.#tick();
    for (const sign of ["pointermove", "pointerdown", "keydown", "wheel"]) {
      window.addEventListener(sign, alive, { capture: true, passive: true });
    }
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.#tick();
      else this.#last = performance.now();
    });
  }

  /** From now on time goes to this image; `seconds` were spent on it in earlier visits. */
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
      const active = Math.min(now - this.#last, SILENCE) / 1000;
      this.#seconds.set(this.#imageId, this.#seconds.get(this.#imageId) + active);
    }
    this.#last = now;
  }
}
