/** An annotator's photographs in reading order, with their state, their answers and the history of these. */

import { get, imagePath, photographPath, put } from "./api.js";
import { EMPTY, GUESSED, PLACED, content, same } from "./answer.js";
import { goToPrinted, showElsewhere } from "./elsewhere.js";
import { History } from "./history.js";
import { Outbox } from "./outbox.js";
import { troubleOf } from "./trouble.js";
import { decoded } from "./view.js";

const AHEAD = 2;
const PATIENCE = 400;

export class Worklist {
  entries = [];
  #images = new Map();
  #histories = new Map();
  #owner;
  #outbox;
  #on;
  #ahead = [];
  /** Images that the reader has seen: their points stay where they were. */
  #seen = new Set();
  /** The points that the reader placed last; resolved once the server has them. */
  #placed = null;
  #placing = Promise.resolve();
  #arrived = () => {};
  #guesses = 0;
  #at = 0;

  /**
   * owner: id of the annotator. on: status(status of the outbox), progress({ done, total }), conflict(imageId, mine,
   * theirs) → whether to keep mine, changed(imageId) after an answer from another window was taken over, ahead(imageId) of
   * a photograph that is loaded in advance.
   */
  constructor(owner, on) {
    this.#owner = owner;
    this.#on = on;
    this.#outbox = new Outbox(owner, (imageId, body) => put(`${imagePath(imageId)}/answer`, body), {
      same,
      status: on.status,
      saved: (imageId, reply) => {
        on.progress(reply.progress);
        this.#arrived(imageId);
      },
      conflict: (imageId, mine, theirs) => this.#choose(imageId, mine, theirs),
      taken: (imageId, theirs) => (theirs ? this.#takeOver(imageId, theirs) : this.refresh(imageId)),
    });
  }

  /** Send what closed pages left, then fetch the reading order; false if the page goes to another address instead. */
  async start(address) {
    showElsewhere(this.#owner);
    await this.#outbox.restore();
    if (goToPrinted(address, this.#outbox.waiting)) return false;
    this.entries = (await get("/api/queue")).images;
    return true;
  }

  image(imageId) {
    return this.#images.get(imageId);
  }

  history(imageId) {
    return this.#histories.get(imageId);
  }

  indexOf(imageId) {
    return this.entries.findIndex((entry) => entry.image_id === imageId);
  }

  /** Index of the next photograph to do after `from`, else of the next skipped one; null if there is none. */
  nextTodo(from) {
    const order = this.entries.map((_, step) => (from + 1 + step) % this.entries.length);
    const find = (state) => order.find((index) => index !== from && this.entries[index].state === state);
    return find("todo") ?? find("skipped") ?? null;
  }

  /** A photograph with its answer; fetched from the server the first time. */
  async load(imageId) {
    while (!this.#images.has(imageId)) {
      const guesses = this.#guesses;
      const image = await this.#fetch(imageId);
      // What was guessed before the reader placed other points is guessed again.
      if (guesses === this.#guesses || image.points !== "guess") this.#receive(image);
    }
    return this.#images.get(imageId);
  }

  /** As `load`, for the photograph that is shown next: its guessed points follow those that the reader placed last. */
  async show(imageId) {
    const guessed = this.#images.get(imageId)?.points === "guess" && !this.#seen.has(imageId);
    if (guessed) await Promise.race([this.#placing, new Promise((done) => setTimeout(done, PATIENCE))]);
    const image = await this.load(imageId);
    this.#seen.add(imageId);
    return image;
  }

  /** Check whether another window has changed the answer; without a reply from the server nothing changes. */
  async refresh(imageId) {
    try {
      this.#receive(await this.#fetch(imageId));
    } catch {
      return;
    }
    this.#on.changed(imageId);
  }

  /** Fetch photographs that were assigned since; whether there are any. */
  async more() {
    try {
      const known = new Set(this.entries.map((entry) => entry.image_id));
      const added = (await get("/api/queue")).images.filter((entry) => !known.has(entry.image_id));
      this.entries.push(...added);
      return added.length > 0;
    } catch {
      return false;
    }
  }

  /** Load the next photographs in advance. */
  prefetch(index) {
    this.#at = index;
    const ids = [];
    for (let next = this.nextTodo(index); next !== null && ids.length < AHEAD; next = this.nextTodo(next)) {
      const imageId = this.entries[next].image_id;
      if (next === index || ids.includes(imageId)) break;
      ids.push(imageId);
    }
    // The reference makes the browser keep the decoded pictures.
    this.#ahead = ids.map(async (imageId) => {
      this.#on.ahead(imageId);
      try {
        await this.load(imageId);
        return await decoded(photographPath(imageId, "screen"));
      } catch {
        return null; // It is requested again when it is shown.
      }
    });
  }

  /** Ask the server why a photograph cannot be loaded; null if it can be by now. */
  async reason(imageId) {
    try {
      return (await this.#fetch(imageId)).broken ?? null;
    } catch (error) {
      return error;
    }
  }

  /** Store and send the current answer of a photograph. */
  save(imageId, seconds) {
    const answer = this.history(imageId).now;
    this.#setState(imageId, answer.state);
    if (answer.disc_origin === PLACED || answer.fovea_origin === PLACED) this.#place(imageId, answer);
    this.#outbox.record(imageId, { ...content(answer), seconds });
  }

  /** Once the server has points that the reader placed, it guesses those of the next photographs by them. */
  #place(imageId, { disc, fovea }) {
    const placed = JSON.stringify([imageId, disc, fovea]);
    if (placed === this.#placed) return;
    this.#placed = placed;
    this.#placing = new Promise((done) => {
      this.#arrived = (saved) => {
        if (saved !== imageId || this.#outbox.unsent(imageId)) return;
        this.#arrived = () => {};
        this.#forgetGuesses();
        done();
      };
    });
  }

  #forgetGuesses() {
    this.#guesses += 1;
    const old = [...this.#images.values()].filter((image) => image.points === "guess" && !this.#seen.has(image.image_id));
    for (const { image_id: imageId } of old) {
      this.#images.delete(imageId);
      this.#histories.delete(imageId);
    }
    if (old.length) this.prefetch(this.#at);
  }

  async #fetch(imageId) {
    try {
      return await get(imagePath(imageId));
    } catch (error) {
      if (troubleOf(error) !== "unreadable") throw error;
      // The photograph is damaged, but it can still be marked ungradable.
      const answer = { ...EMPTY, version: this.#outbox.version(imageId), seconds: 0 };
      return { image_id: imageId, width: 0, height: 0, disc: null, fovea: null, answer, broken: error };
    }
  }

  /** Take over the server's answer, unless this page has a newer one. */
  #receive(image) {
    const imageId = image.image_id;
    const before = this.#outbox.version(imageId);
    const latest = this.#outbox.latest(imageId, image.answer);
    // Keep the initial points, because undo returns to them.
    const known = this.#images.get(imageId);
    if (!known) this.#images.set(imageId, { ...image, ...initialOrigins(image) });
    else this.#images.set(imageId, { ...image, ...pointsOf(known) });
    const now = content(latest);
    if (!this.#histories.has(imageId)) this.#histories.set(imageId, new History(now));
    // What this page has recorded is its own history already; what a closed page left, or another stored, is not.
    else if (latest !== image.answer || latest.version > before) this.#takeOver(imageId, now);
  }

  /** Ask whether to keep mine or theirs; undo restores the other one. */
  async #choose(imageId, mine, theirs) {
    const keep = await this.#on.conflict(imageId, mine, theirs);
    const past = this.history(imageId);
    if (keep && past) {
      const now = past.now;
      past.push(content(theirs));
      past.push(now);
      this.#on.changed(imageId);
    }
    return keep;
  }

  /** Take over an answer from another window; undo restores the previous one. */
  #takeOver(imageId, theirs) {
    const past = this.history(imageId);
    if (past && !same(past.now, theirs)) past.push(content(theirs));
    this.#setState(imageId, theirs.state);
    this.#on.changed(imageId);
  }

  #setState(imageId, state) {
    const entry = this.entries[this.indexOf(imageId)];
    if (entry) entry.state = state;
  }
}

function pointsOf({ disc, fovea, disc_origin, fovea_origin }) {
  return { disc, fovea, disc_origin, fovea_origin };
}

/** Where the points that the server proposes come from; those of a manifest are known. */
function initialOrigins({ points, answer }) {
  if (points === "answer") return pointsOf(content(answer));
  const origin = { guess: GUESSED, localised: "localised" }[points] ?? PLACED;
  return { disc_origin: origin, fovea_origin: origin };
}
