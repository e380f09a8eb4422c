/** Photographs of the same patient beside the one that is read: the fellow eye, or an earlier visit. */

import { photographPath } from "./api.js";
import { $ } from "./dom.js";
import { nameIn, text } from "./text.js";
import { explain } from "./trouble.js";
import { View } from "./view.js";

export class Beside {
  #photographs = [];
  #at = 0;
  #open = false;
  #shown = null;
  #view;

  constructor() {
    const stage = $("beside-stage");
    this.#view = new View(stage, $("beside-picture"), { moved: () => {}, tap: () => {} });
    $("beside-open").addEventListener("click", () => this.toggle());
    $("beside-close").addEventListener("click", () => this.toggle());
    $("beside-next").addEventListener("click", () => this.#turn(1));
    $("beside-previous").addEventListener("click", () => this.#turn(-1));
  }

  /** Take over the photographs [{ image_id, kind, eye, visit }] beside another one; an open pane stays open. */
  show(photographs) {
    if (JSON.stringify(photographs) !== JSON.stringify(this.#photographs)) {
      this.#photographs = photographs;
      this.#at = 0;
    }
    this.#draw();
  }

  /** Open or close the pane; whether there is something to show. */
  toggle() {
    if (this.#photographs.length === 0) return false;
    this.#open = !this.#open;
    this.#draw();
    return true;
  }

  #turn(step) {
    this.#at = (this.#at + step + this.#photographs.length) % this.#photographs.length;
    this.#draw();
  }

  async #draw() {
    const count = this.#photographs.length;
    const open = this.#open && count > 0;
    $("beside-open").hidden = count === 0;
    $("beside-open").setAttribute("aria-pressed", String(open));
    $("beside").hidden = !open;
    document.body.classList.toggle("with-beside", open);
    if (!open) return;
    const { image_id: imageId, kind, eye, visit } = this.#photographs[this.#at];
    const words = text(`beside.${kind}`, { eye: nameIn("eye", eye) });
    $("beside-title").textContent = visit && kind === "earlier" ? text("beside.at", { text: words, visit }) : words;
    $("beside-place").textContent = count > 1 ? text("place.of", { place: this.#at + 1, count }) : "";
    $("beside-next").hidden = $("beside-previous").hidden = count < 2;
    if (this.#shown === imageId) return;
    this.#shown = imageId;
    $("beside-message").textContent = "";
    const [screen, full] = ["screen", "full"].map((size) => photographPath(imageId, size));
    try {
      const size = await sizeOf(screen);
      if (this.#shown === imageId) await this.#view.show({ ...size, screen, full });
    } catch (error) {
      if (this.#shown !== imageId) return;
      this.#shown = null; // it is tried again when it is opened again
      $("beside-message").textContent = error instanceof DOMException ? text("beside.away") : explain(error);
    }
  }
}

async function sizeOf(path) {
  const picture = new Image();
  picture.src = path;
  await picture.decode();
  return { width: picture.naturalWidth, height: picture.naturalHeight };
}
