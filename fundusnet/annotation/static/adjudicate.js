/** The adjudication page: the readings of one undecided finding side by side on the photograph, and the decision. */

import { get, photographPath, put, session } from "./api.js";
import { colourOf } from "./colours.js";
import { VIEW_BUTTONS, connect, viewActions } from "./controls.js";
import { askConflict } from "./dialogs.js";
import { $, element } from "./dom.js";
import { goToPrinted, showElsewhere } from "./elsewhere.js";
import { DECISIONS, regionOfKey } from "./keys.js";
import { Light } from "./light.js";
import { Outbox } from "./outbox.js";
import { Overlay } from "./overlay.js";
import { Pad, tiles } from "./pad.js";
import { WHOLE } from "./answer.js";
import { REGIONS } from "./geometry.js";
import { showPages } from "./navigation.js";
import { showNotices, showProgress, showStatus, showZoom, toast } from "./status.js";
import { nameIn, text } from "./text.js";
import { explain, passes, troubleOf } from "./trouble.js";
import { View } from "./view.js";

const RETRY = 3_000;

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

class Page {
  #labels;
  #findings;
  #questions;
  #cases = [];
  #index = -1;
  #image = null;
  #panes = [];
  #decision = null;
  #draft = { present: null, regions: [] };
  #pad;
  #owner;
  #address;
  #outbox;
  #light = new Light([]);

  constructor(info) {
    this.#labels = new Map(info.regions.map(({ name, label }) => [name, label]));
    this.#findings = new Map(info.findings.map((finding, i) => [finding.name, { ...finding, colour: colourOf(i) }]));
    this.#questions = new Map(info.questions.map(({ name, label }) => [name, label]));
    this.#pad = new Pad($("pad"), this.#labels, {
      toggle: (region) => this.toggle(region),
      all: () => this.#all(),
      clear: () => this.#set({ ...this.#draft, regions: [] }),
      hover: (region) => this.#pointAt(region),
    });
    this.#address = info.address;
    this.#owner = `${info.study ?? ""}.${info.annotator.id}.decisions`;
    this.#outbox = new Outbox(this.#owner, this.#put, {
      same: (one, other) =>
        one.present === other.present && String([...one.regions].sort()) === String([...other.regions].sort()),
      status: showStatus,
      saved: () => {},
      conflict: async (name, mine, theirs) => {
        const [imageId, finding] = JSON.parse(name);
        const title = `${imageId}, ${this.#label(finding)}`;
        const versions = [mine, theirs].map((one) => [this.#describe(one)]);
        return (await askConflict(title, photographPath(imageId, "screen"), ...versions)) === "mine";
      },
      taken: () => this.#index >= 0 && this.turnTo(this.#index),
    });
    const view = { fit: () => this.#first?.fit(), zoom: (by) => this.#first?.zoom(by), pan: (x, y) => this.#first?.pan(x, y) };
    const actions = {
      ...viewActions(view, this.#light),
      previous: () => this.turnTo(this.#index - 1),
      next: () => this.turnTo(this.#index + 1),
      present: () => this.decide(true),
      absent: () => this.decide(false),
      open: () => this.decide(null),
      all: () => this.#all(),
      clear: () => this.#set({ ...this.#draft, regions: [] }),
    };
    const buttons = { ...VIEW_BUTTONS, ...Object.fromEntries(["previous", "next", "present", "absent", "open"].map((n) => [n, n])) };
    connect({ buttons, keys: DECISIONS, actions, first: (event) => this.#regionKey(event) });
  }

  get #case() {
    return this.#cases[this.#index];
  }

  get #first() {
    return this.#panes[0]?.view;
  }

  get #temporalLeft() {
    return this.#image ? this.#image.fovea[0] < this.#image.disc[0] : true;
  }

  async start() {
    showElsewhere(this.#owner);
    await this.#outbox.restore();
    if (goToPrinted(this.#address, this.#outbox.waiting)) return;
    this.#cases = await get("/api/adjudication");
    const [imageId, finding] = location.hash.slice(1).split("/").map(decodeURIComponent);
    if (this.#cases.length === 0 && !imageId) {
      this.#showMessage(text("decision.none"));
      return;
    }
    this.#progress();
    if (imageId && !this.#cases.some((one) => one.image_id === imageId)) {
      await this.#open(imageId, null);
      return;
    }
    const asked = this.#cases.findIndex((one) => one.image_id === imageId && (!finding || one.finding === finding));
    const open = this.#cases.findIndex((one) => !isDecided(one.decision));
    await this.turnTo(asked >= 0 ? asked : Math.max(0, open));
  }

  async turnTo(index) {
    if (index < 0 || index >= this.#cases.length) {
      toast(text(index < 0 ? "place.first_case" : "place.last_case"));
      return;
    }
    this.#index = index;
    const { image_id: imageId, finding } = this.#case;
    $("position").textContent = text("place.of", { place: index + 1, count: this.#cases.length });
    history.replaceState(null, "", `#${encodeURIComponent(imageId)}/${encodeURIComponent(finding)}`);
    await this.#open(imageId, finding);
  }

  /** Show the readings of an image, and the decision on a finding; with null, of one that has nothing to decide. */
  async #open(imageId, finding) {
    const index = this.#index;
    document.body.classList.toggle("only-readings", finding === null);
    $("name").textContent = imageId;
    $("finding").textContent = finding === null ? text("decision.no_case") : this.#label(finding);
    try {
      const image = await get(`/api/adjudication/${encodeURIComponent(imageId)}`);
      if (this.#index !== index) return;
      const before = this.#image;
      this.#image = image;
      if (finding !== null) this.#draft = this.#decisionOf(image, finding);
      this.#build(image.readings.length, finding !== null);
      await this.#show(before?.image_id === imageId);
      this.#showMessage(null);
    } catch (error) {
      if (this.#index !== index) return;
      this.#showMessage(explain(error));
      if (passes(troubleOf(error))) setTimeout(() => this.#index === index && this.#open(imageId, finding), RETRY);
    }
  }

  #decisionOf(image, finding) {
    const stored = image.decisions[finding];
    const name = JSON.stringify([image.image_id, finding]);
    const unsent = this.#outbox.unsent(name);
    if (!unsent) this.#outbox.seen(name, Math.max(stored?.version ?? 0, this.#outbox.version(name)));
    const decided = unsent ?? stored;
    return isDecided(decided)
      ? { present: decided.present, regions: decided.regions }
      : { present: null, regions: this.#marked() };
  }

  #label(finding) {
    return this.#findings.get(finding)?.label ?? finding;
  }

  /** Record a decision and turn to the next open case. */
  decide(present) {
    if (!this.#image || !this.#case) return;
    if (present && this.#draft.regions.length === 0) {
      toast(text("decision.needs_regions"));
      return;
    }
    this.#set({ ...this.#draft, present });
    if (present === null) return;
    const order = this.#cases.map((_, step) => (this.#index + 1 + step) % this.#cases.length);
    const next = order.find((index) => !isDecided(this.#cases[index].decision));
    if (next === undefined) toast(text("decision.all"));
    else {
      toast(text(`decision.made.${present ? "present" : "absent"}`, { image: this.#case.image_id }));
      this.turnTo(next);
    }
  }

  toggle(region) {
    if (!region || !this.#image || !this.#case) return;
    const { present } = this.#draft;
    const regions = present === false ? [] : this.#draft.regions;
    const now = regions.includes(region) ? regions.filter((name) => name !== region) : [...regions, region];
    // A finding without regions cannot be present, and marking a region withdraws "absent".
    this.#set({ present: present && now.length ? true : null, regions: now });
  }

  /** Select all regions; if they are, none. */
  #all() {
    if (!this.#case) return;
    const regions = this.#draft.regions.length === REGIONS.length ? [] : REGIONS;
    this.#set({ present: this.#draft.present && regions.length ? true : null, regions });
  }

  #set(draft) {
    if (!this.#case) return;
    const before = this.#draft;
    this.#draft = draft;
    this.#draw();
    // A draft stays on this page until it is decided; only a changed or withdrawn decision is sent.
    if (draft.present === null && before.present === null) return;
    const { image_id: imageId, finding } = this.#case;
    const regions = draft.present ? REGIONS.filter((region) => draft.regions.includes(region)) : [];
    const decision = { present: draft.present, regions };
    this.#case.decision = decision;
    this.#outbox.record(JSON.stringify([imageId, finding]), { finding, ...decision });
    this.#progress();
  }

  #put = (name, body) => put(`/api/adjudication/${encodeURIComponent(JSON.parse(name)[0])}`, body);

  /** All regions that any reader marked. */
  #marked() {
    const { finding } = this.#case;
    return REGIONS.filter((region) => this.#image.readings.some((one) => one.findings[finding]?.includes(region)));
  }

  #build(readings, decision) {
    const count = readings + Number(decision);
    if (this.#panes.length === count && Boolean(this.#decision) === decision) return;
    $("panes").replaceChildren();
    const on = {
      moved: (from) => {
        for (const pane of this.#panes) {
          if (pane === from) continue;
          pane.view.follow(from.view);
          pane.overlay.follow(pane.view);
        }
        showZoom(from.view);
      },
      tap: (pane, region) => pane === this.#decision && this.toggle(region),
      hover: (region) => this.#pointAt(region),
    };
    this.#panes = Array.from({ length: count }, () => new Pane(on));
    this.#decision = decision ? this.#panes.at(-1) : null;
    this.#decision?.element.classList.add("decision");
    this.#light.setPictures(this.#panes.map((pane) => pane.picture));
  }

  async #show(samePhotograph) {
    const { image_id: imageId, width, height, disc, fovea, readings, points_disagree: disagreement } = this.#image;
    const finding = this.#case?.finding ?? null;
    $("readings").replaceChildren(...readings.map((reading) => this.#reading(reading, finding)));
    readings.forEach((reading, place) => {
      const pane = this.#panes[place];
      pane.title.textContent = text("decision.reader", { letter: reading.annotator });
      pane.text.textContent = this.#summary(reading, finding);
      // The regions that a reader clicked are those of the reader's own points.
      pane.overlay.setPoints(reading.disc ?? disc, reading.fovea ?? fovea, width, height);
      pane.overlay.show({ ...this.#marks(reading, finding), points: Boolean(reading.disc) });
    });
    this.#decision?.overlay.setPoints(disc, fovea, width, height);
    showNotices(disagreement ? [{ line: text(`decision.points.${disagreement}`), urgent: true }] : []);
    this.#draw();
    if (samePhotograph) return;
    const [screen, full] = ["screen", "full"].map((size) => photographPath(imageId, size));
    await Promise.all(this.#panes.map((pane) => pane.view.show({ width, height, screen, full })));
  }

  /** What a pane shows of a reading: the regions of the finding in question, or the marks of all. */
  #marks({ findings }, finding) {
    if (finding !== null) return { fill: { regions: findings[finding] ?? [], colour: this.#colour(finding) } };
    const pips = {};
    for (const [name, regions] of Object.entries(findings)) {
      const mark = { colour: this.#colour(name), text: [...this.#findings.keys()].indexOf(name) + 1 };
      for (const region of regions) (pips[region] ??= []).push(mark);
    }
    return { pips };
  }

  /** A reading in a few words. */
  #summary(reading, finding) {
    if (reading.ungradable) return text("answer.ungradable", { reason: nameIn("reason", reading.ungradable) });
    if (finding !== null) return this.#where(reading.findings[finding] ?? []) || text("reading.not_marked");
    const marks = Object.entries(reading.findings).map(([name, regions]) =>
      text("reading.finding", { finding: this.#label(name), regions: this.#where(regions) }),
    );
    return marks.join("; ") || text(reading.normal ? "answer.normal" : "answer.nothing");
  }

  #where(regions) {
    return regions.map((name) => this.#labels.get(name)).join(", ");
  }

  #colour(finding) {
    return this.#findings.get(finding)?.colour ?? colourOf(0);
  }

  #draw() {
    if (!this.#case) return;
    const { present, regions } = this.#draft;
    const colour = this.#colour(this.#case.finding);
    this.#decision.title.textContent = text("decision");
    this.#decision.text.textContent = this.#describe(this.#draft);
    this.#decision.overlay.show({ fill: { regions: present === false ? [] : regions, colour } });
    this.#pad.show(present === false ? [] : regions, colour, this.#temporalLeft);
    $("present").setAttribute("aria-pressed", String(present === true));
    $("absent").setAttribute("aria-pressed", String(present === false));
    $("open").hidden = present === null;
  }

  #reading(reading, finding) {
    const { annotator, findings, comment } = reading;
    const regions = findings[finding] ?? [];
    const item = element("li");
    item.style.setProperty("--finding", this.#colour(finding));
    const plan = element("span", "tiles");
    if (finding !== null) plan.append(...tiles(regions, this.#temporalLeft));
    const said = regions.length ? text("decision.is_present") : this.#summary(reading, finding);
    item.append(element("b", "", annotator), element("span", "", said), plan);
    const choices = this.#choices(reading, finding);
    if (choices) item.append(element("p", "", choices));
    if (comment) item.append(element("p", "", comment));
    return item;
  }

  /** What the reader answered to questions: of the photograph, and of the finding in question or else of all. */
  #choices({ choices = {} }, finding) {
    const subjects = Object.entries(choices).filter(([subject]) => subject === WHOLE || finding === null || subject === finding);
    return subjects
      .flatMap(([subject, chosen]) => Object.entries(chosen).map(([name, choice]) => ({ subject, name, choice })))
      .map(({ subject, name, choice }) => {
        const words = { question: this.#questions.get(name) ?? name, choice: nameIn("choice", choice) };
        if (subject === WHOLE) return text("answer.choice", words);
        return text("answer.choice_of", { ...words, finding: this.#label(subject) });
      })
      .join("; ");
  }

  #describe({ present, regions }) {
    if (present === false) return text("decision.is_absent");
    const decision = text(present ? "decision.is_present" : "decision.is_open");
    const where = this.#where(regions);
    return where ? text("decision.in_regions", { decision, regions: where }) : decision;
  }

  #pointAt(region) {
    for (const pane of this.#panes) pane.overlay.point(region ?? null);
    this.#pad.point(region ?? null);
  }

  #progress() {
    const done = this.#cases.filter(({ decision }) => isDecided(decision)).length;
    showProgress({ done, total: this.#cases.length });
  }

  #regionKey(event) {
    const region = event.ctrlKey || event.metaKey || event.shiftKey ? null : regionOfKey(event, this.#temporalLeft);
    if (region && !event.repeat) this.toggle(region);
    return Boolean(region);
  }

  #showMessage(message) {
    $("loading").hidden = message === null;
    $("loading").textContent = message ?? "";
    document.body.classList.toggle("broken", message !== null);
  }
}

function isDecided(decision) {
  return typeof decision?.present === "boolean";
}

async function open() {
  try {
    const info = await session();
    showPages(info);
    await new Page(info).start();
  } catch (error) {
    $("loading").hidden = false;
    $("loading").textContent = explain(error);
    if (passes(troubleOf(error))) setTimeout(() => session().then(() => location.reload(), open), RETRY);
  }
}

open();
