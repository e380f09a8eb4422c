/** One photograph with its answer: picture, regions, handles and panel. Draws, and reports what the reader does. */

import { colourOf } from "./colours.js";
import { $ } from "./dom.js";
import { Light } from "./light.js";
import { Overlay } from "./overlay.js";
import { Panel } from "./panel.js";
import { Points } from "./points.js";
import { notice } from "./status.js";
import { nameIn, text } from "./text.js";
import { View } from "./view.js";

export class Screen {
  named = false;
  light = new Light([$("picture")]);
  view;
  #findings;
  #labels;
  #overlay = new Overlay($("overlay"));
  #points;
  #panel;
  #image = null;

  /**
   * info: the session. on: toggle(region), choose(finding), clear(), placed(disc, fovea, label), gradable(), mirror().
   * Actions on the photograph are reported only while `ready()`.
   */
  constructor(info, on) {
    this.#findings = info.findings.map((finding, index) => ({ ...finding, colour: colourOf(index) }));
    this.#labels = Object.fromEntries(info.regions.map(({ name, label }) => [name, label]));
    this.on = on;
    this.view = new View($("stage"), $("picture"), {
      moved: () => this.#follow(),
      tap: (point) => on.toggle(this.#regionAt(point)),
      hover: (point) => {
        this.#pointAt(point && this.#regionAt(point));
        this.#points.hover(point);
      },
      grab: (x, y, pointer) => (on.ready() ? this.#points.grab(x, y, pointer) : null),
    });
    this.#points = new Points(this.view, { disc: $("disc"), fovea: $("fovea") }, {
      live: (disc, fovea) => this.#drawPoints(disc, fovea),
      placed: on.placed,
    });
    const hover = (region) => this.#pointAt(region);
    this.#panel = new Panel(this.#findings, info.regions, { ...on, hover });
  }

  label(region) {
    return this.#labels[region] ?? region;
  }

  describe(answer) {
    return this.#panel.describe(answer);
  }

  nudge() {
    this.#panel.nudge();
  }

  focusPoints() {
    this.#points.focusNext();
  }

  /** Draw the answer for an image; `last` if no other photograph is waiting. */
  draw(image, history, chosen, { temporalLeft, last }) {
    const answer = history.now;
    this.#image = image;
    if (image.disc) this.#drawPoints(answer.disc ?? image.disc, answer.fovea ?? image.fovea);
    this.#panel.show(answer, chosen, temporalLeft);
    this.#overlay.show({
      fill: this.#fill(answer, chosen),
      pips: this.#pips(answer),
      labels: this.named ? this.#labels : null,
    });
    if (document.activeElement !== $("comment")) $("comment").value = answer.comment;
    $("undo").disabled = !history.canUndo;
    $("redo").disabled = !history.canRedo;
    $("labels").setAttribute("aria-pressed", String(this.named));
    document.body.dataset.state = answer.state;
    document.body.dataset.points = answer.disc === null ? image.points : "answer";
    this.#drawNotice(answer, last);
  }

  #fill(answer, chosen) {
    const finding = this.#findings.find(({ name }) => name === chosen);
    return finding ? { regions: answer.findings[chosen] ?? [], colour: finding.colour } : null;
  }

  #pips(answer) {
    const pips = {};
    for (const { name, colour, key } of this.#findings) {
      for (const region of answer.findings[name] ?? []) (pips[region] ??= []).push({ colour, text: key ?? "•" });
    }
    return pips;
  }

  #drawNotice({ ungradable, disc, state }, last) {
    if (ungradable !== null) {
      const reason = nameIn("reason", ungradable);
      notice(text("reading.is_ungradable", { reason }), { label: text("reading.gradable"), run: this.on.gradable });
    }
    else if (this.#image.points === "guess" && disc === null) {
      notice(text("points.guessed"), {
        label: text("points.other_eye"),
        run: this.on.mirror,
      });
    } else if (last && state === "done") {
      notice(text("reading.all_done"));
    } else notice(null);
  }

  #drawPoints(disc, fovea) {
    this.#overlay.setPoints(disc, fovea, this.#image.width, this.#image.height);
    this.#points.set(disc, fovea);
  }

  #regionAt(point) {
    return this.view.holds(point) ? this.#overlay.regionAt(point) : null;
  }

  #pointAt(region) {
    this.#overlay.point(region ?? null);
    this.#panel.point(region ?? null);
  }

  #follow() {
    this.#overlay.follow(this.view);
    this.#points.place();
    $("fit").textContent = `${Math.round(this.view.magnification * 100)}%`;
  }
}
