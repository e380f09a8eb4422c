/** The annotation page: one photograph after the other; each change is drawn at once and handed on to be saved. */

import { Refused, Unreachable, photographPath, session } from "./api.js";
import * as answers from "./answer.js";
import { Clock } from "./clock.js";
import { colourOf } from "./colours.js";
import { VIEW_BUTTONS, connect, viewActions } from "./controls.js";
import { askConflict, askImage, askReason, showKeys } from "./dialogs.js";
import { $ } from "./dom.js";
import { ACTIONS, regionOfKey } from "./keys.js";
import { Light } from "./light.js";
import { Overlay } from "./overlay.js";
import { Panel } from "./panel.js";
import { Points } from "./points.js";
import { notice, showProgress, showStatus, toast } from "./status.js";
import { View } from "./view.js";
import { Worklist } from "./worklist.js";

const AGAIN = 3_000;
const TYPING = 300;
const ALL_DONE = "All photographs are done. Thank you! You can still look through them and change your answers.";

class Page {
  #info;
  #findings;
  #list;
  #index = -1;
  #ready = false;
  #chosen = null;
  #named = false;
  #typing = null;
  #clock = new Clock();
  #overlay = new Overlay($("overlay"));
  #view;
  #points;
  #panel;
  #light;

  constructor(info) {
    this.#info = info;
    this.#findings = info.findings.map((finding, index) => ({ ...finding, colour: colourOf(index) }));
    this.#list = new Worklist(`${info.study ?? ""}.${info.annotator.id}`, {
      status: showStatus,
      progress: showProgress,
      conflict: async (imageId, mine, theirs) =>
        (await askConflict(imageId, this.#panel.describe(mine), this.#panel.describe(theirs))) === "mine",
      changed: (imageId) => imageId === this.imageId && this.#ready && this.#draw(),
    });
    this.#view = new View($("stage"), $("picture"), {
      moved: () => this.#follow(),
      tap: (point) => this.#view.holds(point) && this.toggle(this.#overlay.regionAt(point)),
      hover: (point) => {
        this.#pointAt(point && this.#view.holds(point) ? this.#overlay.regionAt(point) : null);
        this.#points.hover(point);
      },
      grab: (x, y, pointer) => (this.#ready ? this.#points.grab(x, y, pointer) : null),
    });
    this.#points = new Points(this.#view, { disc: $("disc"), fovea: $("fovea") }, {
      live: (disc, fovea) => this.#drawPoints(disc, fovea),
      placed: (disc, fovea, label) => this.change(answers.placed(this.answer, disc, fovea), label),
    });
    this.#panel = new Panel(this.#findings, info.regions, {
      choose: (finding) => this.choose(finding),
      toggle: (region) => this.toggle(region),
      clear: () => this.clear(),
      hover: (region) => this.#pointAt(region),
    });
    this.#light = new Light([$("picture")]);
    this.#listen();
  }

  get imageId() {
    return this.#list.entries[this.#index]?.image_id;
  }

  get image() {
    return this.#list.image(this.imageId);
  }

  get history() {
    return this.#list.history(this.imageId);
  }

  get answer() {
    return this.history?.now;
  }

  /** The points that the regions follow: the answer's, else what is known or guessed of the photograph. */
  get disc() {
    return this.answer.disc ?? this.image.disc;
  }

  get fovea() {
    return this.answer.fovea ?? this.image.fovea;
  }

  get temporalLeft() {
    return this.image?.disc ? this.fovea[0] < this.disc[0] : true;
  }

  async start() {
    showProgress(this.#info.progress);
    await this.#list.start();
    if (this.#list.entries.length === 0) {
      notice("No photograph is waiting for you.");
      return;
    }
    const wanted = this.#list.indexOf(decodeURIComponent(location.hash.slice(1)));
    await this.turnTo(wanted >= 0 ? wanted : (this.#list.nextTodo(-1) ?? 0));
  }

  // One photograph

  async turnTo(index) {
    const count = this.#list.entries.length;
    if (index < 0 || index >= count) {
      toast(index < 0 ? "This is the first photograph." : "This is the last photograph.");
      return;
    }
    this.#readComment();
    this.history?.settle();
    this.#index = index;
    this.#ready = false;
    const imageId = this.imageId;
    $("position").textContent = `${index + 1} of ${count}`;
    $("name").textContent = imageId;
    window.history.replaceState(null, "", `#${encodeURIComponent(imageId)}`);
    document.body.classList.add("turning");
    try {
      const known = this.#list.image(imageId) !== undefined;
      const image = await this.#list.load(imageId);
      if (this.imageId !== imageId) return;
      this.#clock.turnTo(imageId, image.answer.seconds);
      this.#chosen = this.#firstChosen();
      this.#drawAnswer();
      if (image.broken) throw image.broken;
      const [screen, full] = ["screen", "full"].map((size) => photographPath(imageId, size));
      const shown = await this.#view.show({ width: image.width, height: image.height, screen, full });
      if (!shown || this.imageId !== imageId) return;
      this.#opened();
      if (known) this.#list.refresh(imageId);
    } catch (error) {
      if (this.imageId === imageId) this.#cannotShow(error);
    }
    this.#list.prefetch(index);
  }

  #opened() {
    this.#ready = true;
    $("loading").hidden = true;
    $("picture").hidden = false;
    document.body.classList.remove("turning", "broken");
    this.#draw();
  }

  #cannotShow(error) {
    document.body.classList.remove("turning");
    document.body.classList.add("broken");
    $("picture").hidden = true;
    $("loading").hidden = false;
    const refused = error instanceof Refused;
    $("loading").textContent = refused
      ? `${error.message}. Mark it ungradable (U), or go on.`
      : "The server is unreachable, so this photograph cannot be shown. What you marked is kept.";
    const index = this.#index;
    if (refused) return;
    setTimeout(() => document.body.classList.contains("broken") && index === this.#index && this.turnTo(index), AGAIN);
  }

  // Changes

  /** A new answer to the photograph in view: drawn, kept and sent. Changes with equal labels are one step to undo. */
  change(answer, label = null) {
    if (answers.same(answer, this.answer)) return;
    this.history.push(answer, label);
    this.#send();
  }

  #send() {
    this.#list.save(this.imageId, this.#clock.read(this.imageId));
    this.#draw();
  }

  toggle(region) {
    if (!region || !this.#ready) return;
    if (this.#chosen === null) {
      this.#panel.nudge();
      toast("Choose a finding first: by its number, or in the list.");
      return;
    }
    // The regions mean something only with the points they were clicked on.
    const withPoints = answers.placed(this.answer, this.disc, this.fovea);
    this.change(answers.toggleRegion(withPoints, this.#chosen, region));
  }

  choose(finding) {
    this.#chosen = finding;
    this.#drawAnswer();
  }

  #chooseBeside(step) {
    const names = this.#findings.map(({ name }) => name);
    const at = names.indexOf(this.#chosen);
    this.choose(at < 0 ? names.at(step > 0 ? 0 : -1) : names[(at + step + names.length) % names.length]);
  }

  clear() {
    if (this.#chosen !== null && this.#ready) this.change(answers.clearFinding(this.answer, this.#chosen));
  }

  normal() {
    if (!this.#ready) return;
    const marked = Object.keys(this.answer.findings).length > 0;
    this.change(answers.toggleNormal(this.answer));
    if (marked) toast("Normal: the marks are gone.", { label: "Undo", run: () => this.undo() });
  }

  mirror() {
    if (!this.#ready) return;
    const flip = ([x, y]) => [this.image.width - 1 - x, y];
    this.change(answers.placed(this.answer, flip(this.disc), flip(this.fovea)));
  }

  undo() {
    this.#readComment();
    this.#step(this.history?.canUndo, () => this.history.undo(), "Nothing to undo on this photograph.");
  }

  redo() {
    this.#step(this.history?.canRedo, () => this.history.redo(), "Nothing to redo on this photograph.");
  }

  #step(can, step, otherwise) {
    if (!can) {
      toast(otherwise);
      return;
    }
    step();
    this.#send();
  }

  done() {
    if (!this.#ready) return;
    this.#readComment();
    if (!answers.says(this.answer)) {
      this.#panel.nudge();
      toast("Nothing is marked yet. N if it is normal, K to skip it.");
      return;
    }
    this.#finish(answers.done(this.answer), "Done");
  }

  skip() {
    if (!this.answer) return;
    this.#readComment();
    this.#finish(answers.skipped(this.answer), "Skipped");
  }

  async ungradable() {
    if (!this.answer) return;
    const imageId = this.imageId;
    const reason = await askReason(this.#info.reasons);
    if (reason && imageId === this.imageId) this.#finish(answers.ungradable(this.answer, reason), "Ungradable");
  }

  /** Close this photograph and go on; the note that follows takes it back. */
  #finish(answer, word) {
    const index = this.#index;
    const changed = !answers.same(answer, this.answer);
    this.change(answer);
    const takeBack = {
      label: "Take back",
      run: async () => {
        if (index !== this.#index) await this.turnTo(index);
        if (changed) this.undo();
      },
    };
    toast(`${word}: ${this.imageId}`, takeBack);
    const next = this.#list.nextTodo(index);
    if (next !== null) this.turnTo(next);
    else this.#drawNotice();
  }

  /** Take over what stands in the comment's field; a stretch of typing is one step to undo. */
  #readComment() {
    clearTimeout(this.#typing);
    if (this.#ready) this.change(answers.commented(this.answer, $("comment").value), "comment");
  }

  // Drawing

  #firstChosen() {
    if (this.#findings.length === 1) return this.#findings[0].name;
    return this.#findings.find(({ name }) => this.answer.findings[name])?.name ?? null;
  }

  #draw() {
    if (this.image.disc) this.#drawPoints(this.disc, this.fovea);
    this.#drawAnswer();
  }

  #drawPoints(disc, fovea) {
    this.#overlay.setPoints(disc, fovea, this.image.width, this.image.height);
    this.#points.set(disc, fovea);
  }

  #drawAnswer() {
    const answer = this.answer;
    if (!answer) return;
    this.#panel.show(answer, this.#chosen, this.temporalLeft);
    const pips = {};
    for (const { name, colour, key } of this.#findings) {
      for (const region of answer.findings[name] ?? []) (pips[region] ??= []).push({ colour, text: key ?? "•" });
    }
    const chosen = this.#findings.find(({ name }) => name === this.#chosen);
    const fill = chosen && { regions: answer.findings[chosen.name] ?? [], colour: chosen.colour };
    const labels = Object.fromEntries(this.#info.regions.map(({ name, label }) => [name, label]));
    this.#overlay.show({ fill, pips, labels: this.#named ? labels : null });
    if (document.activeElement !== $("comment")) $("comment").value = answer.comment;
    $("undo").disabled = !this.history.canUndo;
    $("redo").disabled = !this.history.canRedo;
    $("labels").setAttribute("aria-pressed", String(this.#named));
    document.body.dataset.state = answer.state;
    document.body.dataset.points = answer.disc === null ? this.image.points : "answer";
    this.#drawNotice();
  }

  #drawNotice() {
    const { ungradable, disc, state } = this.answer;
    if (ungradable !== null) {
      const run = () => this.change(answers.gradable(this.answer));
      notice(`Ungradable: ${ungradable}`, { label: "Take back", run });
    } else if (this.image.points === "guess" && disc === null) {
      notice("Disc and fovea are a guess. Drag the two handles into place.", {
        label: "Other eye",
        run: () => this.mirror(),
      });
    } else notice(state === "done" && this.#list.nextTodo(this.#index) === null ? ALL_DONE : null);
  }

  #pointAt(region) {
    this.#overlay.point(region ?? null);
    this.#panel.point(region ?? null);
  }

  #follow() {
    this.#overlay.follow(this.#view);
    this.#points.place();
    $("fit").textContent = `${Math.round(this.#view.magnification * 100)}%`;
  }

  // Keys, buttons and what else happens

  #listen() {
    const actions = {
      ...viewActions(this.#view, this.#light),
      done: () => this.done(),
      previous: () => this.turnTo(this.#index - 1),
      next: () => this.turnTo(this.#index + 1),
      findingAbove: () => this.#chooseBeside(-1),
      findingBelow: () => this.#chooseBeside(1),
      undo: () => this.undo(),
      redo: () => this.redo(),
      clear: () => this.clear(),
      normal: () => this.normal(),
      ungradable: () => this.ungradable(),
      skip: () => this.skip(),
      comment: () => $("comment").focus(),
      list: async () => {
        const index = await askImage(this.#list.entries, this.#index);
        if (index !== null) this.turnTo(index);
      },
      points: () => this.#ready && this.#points.focusNext(),
      mirror: () => this.mirror(),
      labels: () => {
        this.#named = !this.#named;
        this.#drawAnswer();
      },
      help: () => showKeys((region) => this.#panel.label(region), this.temporalLeft),
    };
    const own = ["previous", "next", "list", "help", "undo", "redo", "labels", "mirror", "normal", "ungradable", "skip"];
    const buttons = { ...VIEW_BUTTONS, ...Object.fromEntries([...own, "done"].map((name) => [name, name])) };
    connect({ buttons, keys: ACTIONS, actions, first: (event) => this.#readingKey(event) });

    $("comment").addEventListener("input", () => {
      clearTimeout(this.#typing);
      this.#typing = setTimeout(() => this.#readComment(), TYPING);
    });
    $("comment").addEventListener("blur", () => {
      this.#readComment();
      this.history?.settle();
    });
    window.addEventListener("pagehide", () => this.#readComment());
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.#readComment();
      else if (this.imageId) this.#list.refresh(this.imageId);
    });
    window.addEventListener("hashchange", () => {
      const index = this.#list.indexOf(decodeURIComponent(location.hash.slice(1)));
      if (index >= 0 && index !== this.#index) this.turnTo(index);
    });
  }

  /** Number keys choose findings, the letters of the pad press regions. */
  #readingKey(event) {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return false;
    const region = regionOfKey(event, this.temporalLeft);
    if (region) {
      if (!event.repeat) this.toggle(region);
      return true;
    }
    const digit = event.code.startsWith("Digit") ? event.code.at(-1) : event.key;
    const finding = this.#findings.find(({ key }) => key === digit);
    if (finding) this.choose(finding.name);
    return Boolean(finding);
  }
}

async function open() {
  try {
    const info = await session();
    document.querySelector(".pages").hidden = !(info.pages?.length ?? info.annotator.role === "adjudicator");
    await new Page(info).start();
  } catch (error) {
    const signedOut = error instanceof Refused && error.status === 401;
    document.body.classList.add("broken");
    $("loading").hidden = false;
    $("loading").textContent = signedOut
      ? "You are not signed in. Open the link that was made for you."
      : `The page cannot start: ${error.message}`;
    if (error instanceof Unreachable) setTimeout(() => session().then(() => location.reload(), open), AGAIN);
  }
}

open();
