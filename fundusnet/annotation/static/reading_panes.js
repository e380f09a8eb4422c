/** The readings of a photograph side by side, each on the photograph, and one more picture for the decision. */

import { photographPath } from "./api.js";
import { $ } from "./dom.js";
import { Overlay } from "./overlay.js";
import { showZoom } from "./status.js";
import { text } from "./text.js";
import { View } from "./view.js";

/** One picture in the row: a reading, or the decision. */
class Pane {
  constructor(on) {
    this.element = $("pane").content.cloneNode(true).firstElementChild;
    $("panes").append(this.element);
    this.title = this.element.querySelector("b");
    this.text = this.element.querySelector("figcaption span");
    this.picture = this.element.querySelector("img");
    this.overlay = new Overlay(this.element.querySelector(".overlay"));
    this.view = new View(this.element.querySelector(".stage"), this.picture, {
      moved: () => {
        this.overlay.follow(this.view);
        on.moved(this);
      },
      tap: (point) => this.view.holds(point) && on.tap(this, this.overlay.regionAt(point)),
      hover: (point) => on.hover(point && this.view.holds(point) ? this.overlay.regionAt(point) : null),
    });
  }
}

export class ReadingPanes {
  #words;
  #light;
  #on;
  #panes = [];
  /** The image whose photograph is in all pictures, or null; and the one that is wanted there. */
  #shown = null;
  #wanted = null;

  /** on: tap(region) in the picture of the decision; hover(region or null) in any. */
  constructor(words, light, on) {
    this.#words = words;
    this.#light = light;
    this.#on = on;
  }

  /** The picture of the decision; null where there is none. */
  decision = null;

  /** All move and zoom alike: the first one's view. */
  get view() {
    return this.#panes[0]?.view;
  }

  point(region) {
    for (const pane of this.#panes) pane.overlay.point(region);
  }

  /** Show the readings of an image about a case, with a picture for the decision; with null, of everything, without. */
  async show(image, about) {
    const { image_id: imageId, width, height, disc, fovea, readings } = image;
    this.#build(readings.length, about !== null);
    readings.forEach((reading, place) => {
      const pane = this.#panes[place];
      pane.title.textContent = text("decision.reader", { letter: reading.annotator });
      pane.text.textContent = this.#words.summary(reading, about);
      // The regions that a reader clicked are those of the reader's own points.
      pane.overlay.setPoints(reading.disc ?? disc, reading.fovea ?? fovea, width, height);
      pane.overlay.show({ ...this.#marks(reading, about), points: Boolean(reading.disc) });
    });
    this.decision?.overlay.setPoints(disc, fovea, width, height);
    this.#wanted = imageId;
    if (this.#shown === imageId) return;
    this.#shown = null; // until it has come; else it would not be fetched again
    const [screen, full] = ["screen", "full"].map((size) => photographPath(imageId, size));
    await Promise.all(this.#panes.map((pane) => pane.view.show({ width, height, screen, full })));
    if (this.#wanted === imageId) this.#shown = imageId;
  }

  /** What a picture shows of a reading: the regions of the finding in question, or the marks of all. */
  #marks({ findings }, about) {
    const finding = about?.finding;
    if (finding) return { fill: { regions: findings[finding] ?? [], colour: this.#words.colour(finding) } };
    const pips = {};
    for (const [name, regions] of Object.entries(findings)) {
      const mark = { colour: this.#words.colour(name), text: this.#words.place(name) + 1 };
      for (const region of regions) (pips[region] ??= []).push(mark);
    }
    return { fill: null, pips };
  }

  #build(readings, decision) {
    const count = readings + Number(decision);
    if (this.#panes.length === count && Boolean(this.decision) === decision) return;
    $("panes").replaceChildren();
    this.#shown = null;
    const on = {
      moved: (from) => {
        for (const pane of this.#panes) {
          if (pane === from) continue;
          pane.view.follow(from.view);
          pane.overlay.follow(pane.view);
        }
        showZoom(from.view);
      },
      tap: (pane, region) => pane === this.decision && this.#on.tap(region),
      hover: this.#on.hover,
    };
    this.#panes = Array.from({ length: count }, () => new Pane(on));
    this.decision = decision ? this.#panes.at(-1) : null;
    this.decision?.element.classList.add("decision");
    this.#light.setPictures(this.#panes.map((pane) => pane.picture));
  }
}
