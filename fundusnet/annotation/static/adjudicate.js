/** The adjudication page: the readings of one undecided case side by side on the photograph, and the decision. */

import { Unreachable, get, photographPath, put, session } from "./api.js";
import { ChoiceDecision } from "./choice_decision.js";
import { VIEW_BUTTONS, connect, viewActions } from "./controls.js";
import { askConflict } from "./dialogs.js";
import { $, element } from "./dom.js";
import { goToPrinted, showElsewhere } from "./elsewhere.js";
import { FindingDecision } from "./finding_decision.js";
import { DECISIONS } from "./keys.js";
import { Light } from "./light.js";
import { showPages } from "./navigation.js";
import { Outbox } from "./outbox.js";
import { tiles } from "./pad.js";
import { ReadingPanes } from "./reading_panes.js";
import { Words } from "./reading_words.js";
import { showNotices, showProgress, showStatus, toast } from "./status.js";
import { text } from "./text.js";
import { explain, passes, troubleOf } from "./trouble.js";

const RETRY = 3_000;

class Page {
  #cases = [];
  #index = -1;
  #image = null;
  #words;
  #panes;
  #finding;
  #choice;
  #owner;
  #address;
  #outbox;
  #light = new Light([]);
  /** How the case that is shown is decided; null until another one is shown, so that no key or click is taken for it. */
  #decider = null;

  constructor(info) {
    this.#words = new Words(info);
    const on = {
      isShown: () => this.#decider !== null,
      record: (decision) => this.#record(decision),
      decided: (line) => this.#decided(line),
      hover: (region) => this.#pointAt(region),
    };
    this.#finding = new FindingDecision(this.#words, on);
    this.#choice = new ChoiceDecision(this.#words, on);
    this.#panes = new ReadingPanes(this.#words, this.#light, {
      tap: (region) => this.#decider?.toggle?.(region),
      hover: on.hover,
    });
    this.#address = info.address;
    this.#owner = `${info.study ?? ""}.${info.annotator.id}.decisions`;
    this.#outbox = new Outbox(this.#owner, this.#put, {
      same,
      status: showStatus,
      saved: () => {},
      conflict: async (name, mine, theirs) => {
        const about = caseOf(name);
        const title = `${about.image_id}, ${this.#words.title(about)}`;
        const versions = [mine, theirs].map((one) => [this.#describe(about, one)]);
        return (await askConflict(title, photographPath(about.image_id, "screen"), ...versions)) === "mine";
      },
      taken: () => this.#index >= 0 && this.turnTo(this.#index),
    });
    const view = {
      fit: () => this.#panes.view?.fit(),
      zoom: (by) => this.#panes.view?.zoom(by),
      pan: (x, y) => this.#panes.view?.pan(x, y),
    };
    const actions = {
      ...viewActions(view, this.#light),
      previous: () => this.turnTo(this.#index - 1),
      next: () => this.turnTo(this.#index + 1),
      present: () => this.#decider === this.#finding && this.#finding.decide(true),
      absent: () => this.#decider === this.#finding && this.#finding.decide(false),
      open: () => this.#decider?.decide(null),
      all: () => this.#decider?.all?.(),
      clear: () => this.#decider?.clear?.(),
    };
    const buttons = { ...VIEW_BUTTONS, ...Object.fromEntries(["previous", "next", "present", "absent", "open"].map((n) => [n, n])) };
    connect({ buttons, keys: DECISIONS, actions, first: (event) => Boolean(this.#decider?.press(event)) });
  }

  get #case() {
    return this.#cases[this.#index];
  }

  async start() {
    showElsewhere(this.#owner);
    await this.#outbox.restore();
    if (goToPrinted(this.#address, this.#outbox.waiting)) return;
    this.#cases = await get("/api/adjudication");
    const [imageId, finding, question] = location.hash.slice(1).split("/").map(decodeURIComponent);
    if (this.#cases.length === 0 && !imageId) {
      this.#showMessage(text("decision.none"));
      return;
    }
    this.#progress();
    if (imageId && !this.#cases.some((one) => one.image_id === imageId)) {
      await this.#open(imageId, null);
      return;
    }
    const isAsked = (one) => one.image_id === imageId && (finding === undefined || one.finding === finding) && one.question === (question ?? "");
    const asked = [isAsked, (one) => one.image_id === imageId].map((is) => this.#cases.findIndex(is)).find((index) => index >= 0);
    const open = this.#cases.findIndex((one) => !isDecided(one.decision));
    await this.turnTo(asked ?? Math.max(0, open));
  }

  async turnTo(index) {
    if (index < 0 || index >= this.#cases.length) {
      toast(text(index < 0 ? "place.first_case" : "place.last_case"));
      return;
    }
    this.#index = index;
    const { image_id: imageId, finding, question } = this.#case;
    $("position").textContent = text("place.of", { place: index + 1, count: this.#cases.length });
    const place = [imageId, finding, ...(question ? [question] : [])];
    history.replaceState(null, "", `#${place.map(encodeURIComponent).join("/")}`);
    await this.#open(imageId, this.#case);
  }

  /** Show the readings of an image, and the decision on a case; with null, of one that has nothing to decide. */
  async #open(imageId, about) {
    const index = this.#index;
    this.#decider = null;
    document.body.classList.add("turning");
    document.body.classList.toggle("only-readings", about === null);
    document.body.classList.toggle("asks-question", Boolean(about?.question));
    $("name").textContent = imageId;
    $("finding").textContent = about === null ? text("decision.no_case") : this.#words.title(about);
    try {
      const image = await get(`/api/adjudication/${encodeURIComponent(imageId)}`);
      if (this.#index !== index) return;
      this.#image = image;
      const drawn = this.#panes.show(image, about);
      $("readings").replaceChildren(...image.readings.map((reading) => this.#reading(reading, about)));
      const disagreement = image.points_disagree;
      showNotices(disagreement ? [{ line: text(`decision.points.${disagreement}`), urgent: true }] : []);
      const decider = about && (about.question ? this.#choice : this.#finding);
      decider?.open(image, about, this.#decisionOf(image, about), this.#panes.decision);
      await drawn;
      if (this.#index !== index) return;
      this.#decider = decider;
      document.body.classList.remove("turning");
      this.#showMessage(null);
    } catch (refused) {
      if (this.#index !== index) return;
      document.body.classList.remove("turning");
      // A picture that does not load does not say why.
      const error = refused instanceof DOMException ? new Unreachable() : refused;
      this.#showMessage(explain(error));
      if (passes(troubleOf(error))) setTimeout(() => this.#index === index && this.#open(imageId, about), RETRY);
    }
  }

  /** The decision on a case, or null: the one that waits to be sent, or the one that the server has. */
  #decisionOf(image, about) {
    const disputed = image.disputed.find((one) => one.finding === about.finding && one.question === about.question);
    const stored = about.question ? disputed?.decision : image.decisions[about.finding];
    const decided = this.#outbox.latest(nameOf(about), stored);
    return isDecided(decided) ? decided : null;
  }

  #record(decision) {
    const { finding, question } = this.#case;
    this.#case.decision = decision;
    this.#outbox.record(nameOf(this.#case), { finding, ...(question ? { question } : {}), ...decision });
    this.#progress();
  }

  /** Say what was decided, with the text that line(image id) gives, and turn to the next open case. */
  #decided(line) {
    const order = this.#cases.map((_, step) => (this.#index + 1 + step) % this.#cases.length);
    const next = order.find((index) => !isDecided(this.#cases[index].decision));
    if (next === undefined) toast(text("decision.all"));
    else {
      toast(line(this.#case.image_id));
      this.turnTo(next);
    }
  }

  #put = (name, body) => {
    const { image_id: imageId, question } = caseOf(name);
    return put(`/api/adjudication/${encodeURIComponent(imageId)}${question ? "/choice" : ""}`, body);
  };

  #describe(about, decision) {
    if (!about.question) return this.#finding.describe(decision);
    return decision.choice === null ? text("decision.is_open") : this.#words.choice(about.question, decision.choice);
  }

  #reading(reading, about) {
    const { annotator, findings, comment } = reading;
    const item = element("li");
    const plan = element("span", "tiles");
    let said = this.#words.summary(reading, about);
    if (about !== null && !about.question) {
      const regions = findings[about.finding] ?? [];
      item.style.setProperty("--finding", this.#words.colour(about.finding));
      plan.append(...tiles(regions, this.#image.fovea[0] < this.#image.disc[0]));
      if (regions.length) said = text("decision.is_present");
    }
    item.append(element("b", "", annotator), element("span", "", said), plan);
    const marks = about?.question && !reading.ungradable ? this.#words.summary(reading, null) : "";
    const more = [marks, this.#words.answers(reading, about), comment];
    item.append(...more.filter(Boolean).map((line) => element("p", "", line)));
    return item;
  }

  #pointAt(region) {
    this.#panes.point(region ?? null);
    this.#finding.point(region ?? null);
  }

  #progress() {
    const done = this.#cases.filter(({ decision }) => isDecided(decision)).length;
    showProgress({ done, total: this.#cases.length });
  }

  #showMessage(message) {
    $("loading").hidden = message === null;
    $("loading").textContent = message ?? "";
    document.body.classList.toggle("broken", message !== null);
  }
}

/** The name of a case in the outbox; those of findings are as they always were, because some may be kept there. */
function nameOf({ image_id: imageId, finding, question }) {
  return JSON.stringify(question ? [imageId, finding, question] : [imageId, finding]);
}

function caseOf(name) {
  const [imageId, finding, question = ""] = JSON.parse(name);
  return { image_id: imageId, finding, question };
}

function same(one, other) {
  if ("choice" in one) return one.choice === other.choice;
  return one.present === other.present && String([...one.regions].sort()) === String([...other.regions].sort());
}

function isDecided(decision) {
  return typeof decision?.present === "boolean" || typeof decision?.choice === "string";
}

async function open() {
  try {
    const info = await session();
    showPages(info);
    await new Page(info).start();
  } catch (error) {
    document.body.classList.add("closed");
    $("loading").hidden = false;
    $("loading").textContent = explain(error);
    if (passes(troubleOf(error))) setTimeout(() => session().then(() => location.reload(), open), RETRY);
  }
}

open();
