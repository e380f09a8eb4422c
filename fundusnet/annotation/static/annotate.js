/** The annotation page: one photograph after another; each change is drawn and saved at once. */

import { get, photographPath, session } from "./api.js";
import * as answers from "./answer.js";
import { Clock } from "./clock.js";
import { Comment } from "./comment.js";
import { VIEW_BUTTONS, connect, viewActions } from "./controls.js";
import { colourOf, keyOf, pressedKey } from "./colours.js";
import { askConflict, askImage, askReason, showGuidelines, showKeys } from "./dialogs.js";
import { $ } from "./dom.js";
import { ACTIONS, regionOfKey } from "./keys.js";
import { showPages } from "./navigation.js";
import { Screen } from "./screen.js";
import { Suggester } from "./suggester.js";
import { confirm, decideAll, nextOpen, openFindings, refuse, restsOn, toDecide, withShown } from "./suggestion.js";
import { showProgress, showStatus, toast } from "./status.js";
import { text } from "./text.js";
import { explain, passes, troubleOf } from "./trouble.js";
import { Worklist } from "./worklist.js";

const RETRY = 3_000;

class Page {
  #info;
  #list;
  #screen;
  #index = -1;
  #ready = false;
  #chosen = null;
  #comment = new Comment({
    typed: (comment) => this.change(answers.commented(this.answer, comment), "comment"),
    left: () => this.history?.settle(),
  });
  /** Images whose reader was asked once, at the end, to confirm the points. */
  #asked = new Set();
  /** Images whose reader was asked once, at the end, about suggestions that are open. */
  #reminded = new Set();
  #suggester = new Suggester((imageId) => imageId === this.imageId && this.#ready && this.#suggest());
  #clock = new Clock();

  constructor(info) {
    info.findings = info.findings.map((one, place) => ({ ...one, colour: colourOf(place), key: keyOf(place), place }));
    this.#info = info;
    answers.ask(info.questions, info.findings.length > 0);
    document.body.classList.toggle("no-findings", info.findings.length === 0);
    this.#list = new Worklist(`${info.study ?? ""}.${info.annotator.id}`, {
      status: showStatus,
      progress: showProgress,
      conflict: async (imageId, mine, theirs) =>
        (await askConflict(
          imageId,
          photographPath(imageId, "screen"),
          this.#screen.describe(mine),
          this.#screen.describe(theirs),
        )) === "mine",
      changed: (imageId) => imageId === this.imageId && this.#ready && this.#suggest(),
      ahead: (imageId) => this.#suggester.ask(imageId),
    });
    this.#screen = new Screen(info, {
      ready: () => this.#ready,
      choose: (finding) => this.choose(finding),
      toggle: (region) => this.toggle(region),
      all: () => this.all(),
      clear: () => this.clear(),
      answer: (...choice) => this.#ready && this.change(answers.choose(this.answer, ...choice)),
      placed: (points, label) => this.change(answers.withPoints(this.answer, points), label),
      confirm: () => this.confirm(),
      gradable: () => this.change(answers.gradable(this.answer)),
      mirror: () => this.mirror(),
      confirmSuggestion: (finding) => this.#decide(confirm, finding),
      refuseSuggestion: (finding) => this.#decide(refuse, finding),
    });
    this.#listen();
  }

  get #names() {
    return this.#info.findings.map(({ name }) => name);
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

  /** The suggestion that the answer rests on; null without one. */
  get suggestion() {
    const found = this.#suggester.get(this.imageId);
    return restsOn(this.answer, found) ? found : null;
  }

  /** The points that define the regions: those of the answer, else known, suggested or guessed ones of the photograph. */
  get points() {
    if (this.answer.disc) return this.answer;
    const { disc, fovea } = (this.image.points === "guess" && this.suggestion) || {};
    return disc && fovea ? { disc, fovea, disc_origin: answers.LOCALISED, fovea_origin: answers.LOCALISED } : this.image;
  }

  get temporalLeft() {
    return this.image?.disc ? this.points.fovea[0] < this.points.disc[0] : true;
  }

  async start() {
    showProgress(this.#info.progress);
    get("/api/guidelines").then((all) => ($("guide").hidden = Object.keys(all).length === 0), () => {});
    if (!(await this.#list.start(this.#info.address))) return;
    if (this.#list.entries.length === 0) {
      showMessage(text("reading.none"));
      return;
    }
    const wanted = this.#list.indexOf(decodeURIComponent(location.hash.slice(1)));
    await this.turnTo(wanted >= 0 ? wanted : (this.#list.nextTodo(-1) ?? 0));
  }

  // One photograph

  async turnTo(index) {
    const count = this.#list.entries.length;
    if (index < 0 || index >= count) {
      toast(text(index < 0 ? "place.first" : "place.last"));
      return;
    }
    this.#comment.close();
    this.history?.settle();
    this.#index = index;
    this.#ready = false;
    const imageId = this.imageId;
    $("position").textContent = text("place.of", { place: index + 1, count });
    $("name").textContent = imageId;
    window.history.replaceState(null, "", `#${encodeURIComponent(imageId)}`);
    document.body.classList.add("turning");
    try {
      const known = this.#list.image(imageId) !== undefined;
      const image = await this.#list.show(imageId);
      if (this.imageId !== imageId) return;
      this.#clock.turnTo(imageId, image.answer.seconds);
      this.#chosen = this.#firstChosen();
      this.#draw();
      this.#comment.open();
      if (image.broken) throw image.broken;
      const [screen, full] = ["screen", "full"].map((size) => photographPath(imageId, size));
      const shown = await this.#screen.view.show({ width: image.width, height: image.height, screen, full });
      if (!shown || this.imageId !== imageId) return;
      this.#opened();
      if (known) this.#list.refresh(imageId);
    } catch (error) {
      // A picture that does not load does not say why.
      const why = error instanceof DOMException ? await this.#list.reason(imageId) : error;
      if (this.imageId === imageId) this.#cannotShow(why ?? error);
    }
    this.#list.prefetch(index);
  }

  #opened() {
    this.#ready = true;
    $("loading").hidden = true;
    $("picture").hidden = false;
    document.body.classList.remove("turning", "broken");
    this.#suggest();
    this.#suggester.follow(this.imageId);
  }

  #cannotShow(error) {
    document.body.classList.remove("turning");
    showMessage(explain(error));
    if (!passes(troubleOf(error))) return;
    const index = this.#index;
    setTimeout(() => document.body.classList.contains("broken") && index === this.#index && this.turnTo(index), RETRY);
  }

  // Changes

  /** Change the answer of the current photograph, draw and send it. Changes with equal labels are one undo step. */
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
    if (region) this.#mark((answer) => answers.toggleRegion(answer, this.#chosen, region));
  }

  /** Mark all regions of the chosen finding, or none. */
  all() {
    this.#mark((answer) => answers.toggleAll(answer, this.#chosen));
  }

  #mark(change) {
    if (!this.#ready || this.#info.findings.length === 0) return;
    if (this.#chosen === null) {
      this.#screen.nudge();
      toast(text("reading.no_finding"));
      return;
    }
    // Regions depend on the points that were shown when they were clicked.
    this.change(change(answers.withPoints(this.answer, this.points)));
  }

  choose(finding) {
    this.#chosen = finding;
    this.#draw();
  }

  #chooseNeighbour(step) {
    const names = this.#names;
    const at = names.indexOf(this.#chosen);
    this.choose(at < 0 ? names.at(step > 0 ? 0 : -1) : names[(at + step + names.length) % names.length]);
  }

  /** Show the suggestion for this photograph, if there is one and the reading was not finished without. */
  #suggest() {
    const found = this.#suggester.get(this.imageId);
    if (found && (this.answer.suggestion || !["done", "ungradable"].includes(this.answer.state))) {
      this.history.amend((answer) => withShown(answer, found));
    }
    if (this.suggestion) {
      this.#suggester.noteShown(this.imageId, found.networks);
      this.#chosen ??= nextOpen(this.answer, this.suggestion, this.#names);
    }
    this.#draw();
  }

  /** Confirm or refuse a suggested finding; without one, that which the keys mean. Then choose the next. */
  #decide(decision, finding = null) {
    if (!this.#ready || !this.suggestion) return;
    const wanted = finding ?? toDecide(this.answer, this.suggestion, decision, this.#names, this.#chosen);
    if (wanted === null) {
      toast(text("suggestion.none_open"));
      return;
    }
    const before = this.#onPoints(decision);
    const decided = decision(before, this.suggestion, wanted);
    if (decided === before) toast(text("suggestion.no_regions"));
    else this.change(decided);
    this.choose(decided === before ? wanted : (nextOpen(decided, this.suggestion, this.#names, wanted) ?? wanted));
  }

  /** Confirm or refuse all that are open. */
  #decideAll(decision) {
    if (!this.#ready || !this.suggestion) return;
    this.change(decideAll(this.#onPoints(decision), this.suggestion, decision));
  }

  /** Confirmed regions depend on the points that are shown; what is refused needs none. */
  #onPoints(decision) {
    return decision === confirm ? answers.withPoints(this.answer, this.points) : this.answer;
  }

  clear() {
    if (this.#chosen !== null && this.#ready) this.change(answers.clearFinding(this.answer, this.#chosen));
  }

  normal() {
    if (!this.#ready) return;
    const marked = Object.keys(this.answer.findings).length > 0;
    this.change(answers.toggleNormal(this.answer));
    if (marked) toast(text("reading.now_normal"), { label: text("view.undo"), run: () => this.undo() });
  }

  mirror() {
    if (!this.#ready) return;
    this.change(answers.withPoints(this.answer, answers.mirrored(this.points, this.image.width)));
  }

  /** Take disc and fovea as they are shown for the reader's own. */
  confirm() {
    if (this.#ready) this.change(answers.withPoints(this.answer, answers.confirmed(this.points)));
  }

  undo() {
    this.#comment.report();
    this.#step(this.history?.canUndo, () => this.history.undo(), "reading.nothing_to_undo");
  }

  redo() {
    this.#comment.report();
    this.#step(this.history?.canRedo, () => this.history.redo(), "reading.nothing_to_redo");
  }

  #step(can, step, otherwise) {
    if (!can) {
      toast(text(otherwise));
      return;
    }
    step();
    this.#send();
  }

  done() {
    if (!this.#ready) return;
    this.#comment.report();
    if (this.answer.ungradable === null && !answers.isMarked(this.answer)) {
      this.#screen.nudge();
      toast(text("reading.nothing_marked"));
      return;
    }
    if (this.suggestion && openFindings(this.answer, this.suggestion).length && !this.#reminded.has(this.imageId)) {
      this.#reminded.add(this.imageId);
      this.#screen.nudgeSuggestions();
      toast(text("suggestion.asked"));
      return;
    }
    if (!answers.isComplete(this.answer)) {
      this.#askFor(answers.openQuestions(this.answer)[0]);
      return;
    }
    if (this.#screen.unconfirmed && !this.#asked.has(this.imageId)) {
      // Once only: who finishes again leaves them unconfirmed.
      this.#asked.add(this.imageId);
      this.#screen.askForPoints();
      toast(text("points.asked"));
      return;
    }
    this.#finish(answers.done(this.answer));
  }

  /** Show the question that has to be answered before the photograph is done. */
  #askFor({ subject, question }) {
    if (subject !== answers.WHOLE) this.choose(subject);
    this.#screen.nudgeQuestion(question.name);
    const finding = this.#info.findings.find(({ name }) => name === subject)?.label;
    toast(text(finding ? "question.open_of" : "question.open", { question: question.label, finding }));
  }

  skip() {
    if (!this.answer) return;
    this.#comment.report();
    this.#finish(answers.skipped(this.answer));
  }

  async ungradable() {
    // Not because the server or its photographs are away.
    if (!this.#ready && !this.image?.broken) return;
    this.#comment.report();
    const imageId = this.imageId;
    const reason = await askReason(this.#info.reasons);
    if (reason && imageId === this.imageId) this.#finish(answers.ungradable(this.answer, reason));
  }

  /** Finish this photograph and turn to the next; the note that follows offers to undo this. */
  #finish(answer) {
    const index = this.#index;
    const changed = !answers.same(answer, this.answer);
    this.change(answer);
    const undo = {
      label: text("view.undo"),
      run: async () => {
        if (index !== this.#index) await this.turnTo(index);
        if (changed) this.undo();
      },
    };
    toast(text(`reading.finished.${answer.state}`, { image: this.imageId }), undo);
    const next = this.#list.nextTodo(index);
    if (next !== null) this.turnTo(next);
    else {
      this.#draw();
      this.#lookForMore();
    }
  }

  /** At the end: turn to what was assigned since, such as a photograph that another reader could not grade. */
  async #lookForMore() {
    const index = this.#index;
    if (!(await this.#list.more()) || index !== this.#index) return;
    const next = this.#list.nextTodo(index);
    if (next !== null) this.turnTo(next);
  }

  #firstChosen() {
    const { findings } = this.#info;
    if (findings.length === 1) return findings[0].name;
    return findings.find(({ name }) => this.answer.findings[name])?.name ?? null;
  }

  #draw() {
    if (!this.answer) return;
    const last = this.#list.nextTodo(this.#index) === null;
    this.#screen.draw(this.image, this.history, this.#chosen, {
      points: this.points,
      temporalLeft: this.temporalLeft,
      suggestion: this.answer.ungradable === null ? this.suggestion : null,
      last,
    });
    this.#comment.show(this.answer.comment);
  }

  // Keys, buttons and other events

  #listen() {
    const actions = {
      ...viewActions(this.#screen.view, this.#screen.light),
      done: () => this.done(),
      previous: () => this.turnTo(this.#index - 1),
      next: () => this.turnTo(this.#index + 1),
      findingAbove: () => this.#chooseNeighbour(-1),
      findingBelow: () => this.#chooseNeighbour(1),
      undo: () => this.undo(),
      redo: () => this.redo(),
      all: () => this.all(),
      clear: () => this.clear(),
      normal: () => this.normal(),
      ungradable: () => this.ungradable(),
      skip: () => this.skip(),
      comment: () => this.#comment.focus(),
      list: async () => {
        const index = await askImage(this.#list.entries, this.#index);
        if (index !== null) this.turnTo(index);
      },
      question: () => this.#ready && this.#screen.focusQuestion(),
      points: () => this.#ready && this.#screen.focusPoints(),
      mirror: () => this.mirror(),
      confirm: () => this.confirm(),
      confirmSuggestion: () => this.#decide(confirm),
      refuseSuggestion: () => this.#decide(refuse),
      confirmSuggestions: () => this.#decideAll(confirm),
      refuseSuggestions: () => this.#decideAll(refuse),
      labels: () => {
        this.#screen.named = !this.#screen.named;
        this.#draw();
      },
      beside: () => this.#ready && (this.#screen.toggleBeside() || toast(text("beside.none"))),
      guide: async () => {
        const finding = this.#info.findings.find(({ name }) => name === this.#chosen);
        try {
          if (!(await showGuidelines(await get("/api/guidelines"), finding))) toast(text("guidelines.none"));
        } catch (error) {
          toast(explain(error));
        }
      },
      help: () => showKeys((region) => this.#screen.label(region), this.temporalLeft, this.suggestion),
    };
    if (this.#info.findings.length === 0) {
      for (const name of ["all", "clear", "normal", "points", "mirror", "confirm", "labels", "regions"]) actions[name] = () => {};
    }
    const own = ["previous", "next", "list", "guide", "help", "undo", "redo", "labels", "mirror", "normal", "ungradable", "skip"];
    const all = { "confirm-all": "confirmSuggestions", "refuse-all": "refuseSuggestions" };
    const buttons = { ...VIEW_BUTTONS, ...all, ...Object.fromEntries([...own, "done"].map((name) => [name, name])) };
    connect({ buttons, keys: ACTIONS, actions, first: (event) => this.#readingKey(event) });

    window.addEventListener("pagehide", () => this.#comment.report());
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) this.#comment.report();
      else if (this.imageId) {
        this.#list.refresh(this.imageId);
        if (this.#list.nextTodo(-1) === null) this.#lookForMore();
      }
    });
    window.addEventListener("hashchange", () => {
      const index = this.#list.indexOf(decodeURIComponent(location.hash.slice(1)));
      if (index >= 0 && index !== this.#index) this.turnTo(index);
    });
  }

  /** Number keys choose findings; the letters of the pad toggle regions. */
  #readingKey(event) {
    if (event.ctrlKey || event.metaKey) return false;
    if (this.#screen.pressQuestion(event)) return true;
    const region = event.shiftKey ? null : regionOfKey(event, this.temporalLeft);
    if (region) {
      if (!event.repeat) this.toggle(region);
      return true;
    }
    const pressed = pressedKey(event);
    const finding = pressed && this.#info.findings.find(({ key }) => key === pressed);
    if (finding) this.choose(finding.name);
    return Boolean(finding);
  }
}

/** Show a message in place of the photograph. */
function showMessage(message) {
  document.body.classList.add("broken");
  $("picture").hidden = true;
  $("loading").hidden = false;
  $("loading").textContent = message;
}

async function open() {
  try {
    const info = await session();
    // Others than annotators, whom the link brings here, have no photographs to read.
    if (info.annotator.role !== "annotator") return location.replace("/overview");
    showPages(info);
    await new Page(info).start();
  } catch (error) {
    document.body.classList.add("closed");
    showMessage(explain(error));
    if (passes(troubleOf(error))) setTimeout(() => session().then(() => location.reload(), open), RETRY);
  }
}

open();
