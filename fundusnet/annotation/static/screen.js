/** One photograph with its answer: picture, regions, handles and panel. Draws, and reports what the reader does. */

import { areConfirmed } from "./answer.js";
import { Beside } from "./beside.js";
import { $, restart } from "./dom.js";
import { Light } from "./light.js";
import { Overlay } from "./overlay.js";
import { Panel } from "./panel.js";
import { Points } from "./points.js";
import { openRegions } from "./suggestion.js";
import { showNotices, showZoom } from "./status.js";
import { nameIn, text } from "./text.js";
import { View } from "./view.js";

export class Screen {
  named = false;
  light = new Light([$("picture"), $("beside-picture")]);
  view;
  #findings;
  #labels;
  #overlay = new Overlay($("overlay"));
  #points;
  #panel;
  #beside = new Beside();
  #image = null;
  #wasUnconfirmed = false;

  /**
   * info: the session. on: toggle(region), choose(finding), clear(), placed(points, label), confirm(), mirror(),
   * gradable(), and what the panel takes. Actions on the photograph are reported only while `ready()`.
   */
  constructor(info, on) {
    this.#findings = info.findings;
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
      live: (points) => this.#drawPoints(points),
      placed: on.placed,
    });
    const hover = (region) => this.#pointAt(region);
    this.#panel = new Panel(this.#findings, info.regions, info.questions, { ...on, hover });
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

  /** Show or hide the photograph beside this one; whether there is one. */
  toggleBeside() {
    return this.#beside.toggle();
  }

  nudgeSuggestions() {
    this.#panel.nudgeSuggestions();
  }

  focusQuestion() {
    return this.#panel.focusQuestion();
  }

  pressQuestion(event) {
    return this.#panel.pressQuestion(event);
  }

  nudgeQuestion(question) {
    this.#panel.nudgeQuestion(question);
  }

  focusPoints() {
    this.#points.focusNext();
  }

  /** Whether regions are marked on points that no reader has confirmed. */
  unconfirmed = false;

  /** Draw attention to the notice that asks for the points. */
  askForPoints() {
    restart($("notices"), "nudge");
  }

  /** Draw the answer for an image, and a suggestion or null; `last` if no other photograph is waiting. */
  draw(image, history, chosen, { points, temporalLeft, suggestion, last }) {
    const answer = history.now;
    if (image.image_id !== this.#image?.image_id) this.#wasUnconfirmed = false;
    this.#image = image;
    this.#beside.show(image.beside ?? []);
    if (image.disc) this.#drawPoints(points);
    this.#panel.show(answer, chosen, temporalLeft, suggestion);
    const suggested = suggestion ? this.#suggested(answer, suggestion, chosen) : [];
    this.#overlay.show({
      fill: this.#fill(answer, chosen),
      suggested,
      pips: this.#pips(answer, suggested),
      labels: this.named ? this.#labels : null,
    });
    $("undo").disabled = !history.canUndo;
    $("redo").disabled = !history.canRedo;
    $("labels").setAttribute("aria-pressed", String(this.named));
    document.body.dataset.state = answer.state;
    this.#drawNotices(answer, points, last);
  }

  #fill(answer, chosen) {
    const finding = this.#findings.find(({ name }) => name === chosen);
    return finding ? { regions: answer.findings[chosen] ?? [], colour: finding.colour } : null;
  }

  /** What is suggested and neither confirmed nor refused. */
  #suggested(answer, suggestion, chosen) {
    return this.#findings
      .map(({ name, colour }) => ({ name, colour, chosen: name === chosen, regions: openRegions(answer, suggestion, name) }))
      .filter(({ regions }) => regions.length);
  }

  #pips(answer, suggested) {
    const pips = {};
    for (const { name, colour, place } of this.#findings) {
      // The tenth is 0, as on its key.
      const text = place === 9 ? 0 : place + 1;
      for (const region of answer.findings[name] ?? []) (pips[region] ??= []).push({ colour, text });
      const open = suggested.find((one) => one.name === name)?.regions ?? [];
      for (const region of open) (pips[region] ??= []).push({ colour, text, open: true });
    }
    return pips;
  }

  #drawNotices({ ungradable, findings, state }, points, last) {
    const notices = [];
    if (last && ["done", "ungradable"].includes(state)) notices.push({ line: text("reading.all_done") });
    if (ungradable !== null) {
      const line = text("reading.is_ungradable", { reason: nameIn("reason", ungradable) });
      notices.push({ line, actions: [{ label: text("reading.gradable"), run: this.on.gradable }] });
    }
    const open = this.#findings.length > 0 && Boolean(points.disc) && ungradable === null && !areConfirmed(points);
    this.unconfirmed = open && Object.keys(findings).length > 0;
    if (open) {
      const actions = [
        { label: text("points.confirm"), key: "G", run: this.on.confirm },
        { label: text("points.other_eye"), key: "O", run: this.on.mirror },
      ];
      notices.push({ line: text(this.unconfirmed ? "points.ask" : "points.guessed"), actions, urgent: this.unconfirmed });
    } else if (this.#wasUnconfirmed && ungradable === null) {
      // The line stays, so that the photograph does not move under the pointer.
      notices.push({ line: text("points.confirmed") });
    }
    this.#wasUnconfirmed ||= open;
    showNotices(notices);
  }

  #drawPoints(points) {
    this.#overlay.setPoints(points.disc, points.fovea, this.#image.width, this.#image.height);
    this.#points.set(points);
    document.body.classList.toggle("unconfirmed", !areConfirmed(points));
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
    showZoom(this.view);
  }
}
