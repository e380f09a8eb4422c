/** An annotator's photographs in their order: which waits, what is known of each, and its answers with their history. */

import { Refused, get, imagePath, photographPath, put } from "./api.js";
import { EMPTY, content, same } from "./answer.js";
import { History } from "./history.js";
import { Outbox } from "./outbox.js";
import { decoded } from "./view.js";

const AHEAD = 2;

export class Worklist {
  entries = [];
  #images = new Map();
  #histories = new Map();
  #outbox;
  #on;
  #ahead = [];

  /**
   * owner: whose answers these are. on: status(status of the outbox), progress({ done, total }), conflict(imageId, mine,
   * theirs) → whether mine holds, changed(imageId) when an answer from elsewhere was taken.
   */
  constructor(owner, on) {
    this.#on = on;
    this.#outbox = new Outbox(owner, (imageId, body) => put(`${imagePath(imageId)}/answer`, body), {
      same,
      status: on.status,
      saved: (_, reply) => on.progress(reply.progress),
      conflict: (imageId, mine, theirs) => this.#choose(imageId, mine, theirs),
      taken: (imageId, theirs) => (theirs ? this.#take(imageId, theirs) : this.refresh(imageId)),
    });
  }

  /** Send what closed pages left, then learn the order. */
  async start() {
    await this.#outbox.restore();
    this.entries = (await get("/api/queue")).images;
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

  /** The next that waits after an index: to do first, then what was skipped; null if none does. */
  nextTodo(from) {
    const order = this.entries.map((_, step) => (from + 1 + step) % this.entries.length);
    const find = (state) => order.find((index) => index !== from && this.entries[index].state === state);
    return find("todo") ?? find("skipped") ?? null;
  }

  /** What is known of a photograph: from the server the first time. */
  async load(imageId) {
    while (!this.#images.has(imageId)) this.#receive(await this.#ask(imageId));
    return this.#images.get(imageId);
  }

  /** Look whether another window changed it meanwhile; what is known stays where the server does not answer. */
  async refresh(imageId) {
    try {
      this.#receive(await this.#ask(imageId));
    } catch {
      return;
    }
    this.#on.changed(imageId);
  }

  /** Have the next ones at hand before their turn comes. */
  prefetch(index) {
    const ids = [];
    for (let next = this.nextTodo(index); next !== null && ids.length < AHEAD; next = this.nextTodo(next)) {
      const imageId = this.entries[next].image_id;
      if (next === index || ids.includes(imageId)) break;
      ids.push(imageId);
    }
    // Held here so that the browser keeps the decoded pictures.
    this.#ahead = ids.map(async (imageId) => {
      try {
        await this.load(imageId);
        return await decoded(photographPath(imageId, "screen"));
      } catch {
        return null; // It is asked for again when its turn comes.
      }
    });
  }

  /** Keep the newest answer of a photograph, and send it. */
  save(imageId, seconds) {
    const answer = this.history(imageId).now;
    this.#note(imageId, answer.state);
    this.#outbox.record(imageId, { ...content(answer), seconds });
  }

  async #ask(imageId) {
    try {
      return await get(imagePath(imageId));
    } catch (error) {
      if (!(error instanceof Refused && error.status === 422)) throw error;
      // No photograph that can be shown; but that can be said of it.
      const answer = { ...EMPTY, version: this.#outbox.version(imageId), seconds: 0 };
      return { image_id: imageId, width: 0, height: 0, disc: null, fovea: null, points: null, answer, broken: error };
    }
  }

  /** Take in what the server knows, unless this page knows better. */
  #receive(image) {
    const imageId = image.image_id;
    const unsent = this.#outbox.unsent(imageId);
    const before = this.#outbox.version(imageId);
    // Written before a change of ours that was stored since.
    if (!unsent && image.answer.version < before) return;
    // The points to begin with stay those that were there at first: undo goes back to them.
    const { disc, fovea, points } = this.#images.get(imageId) ?? image;
    this.#images.set(imageId, { ...image, disc, fovea, points });
    if (!unsent) this.#outbox.seen(imageId, image.answer.version);
    const now = content(unsent ?? image.answer);
    if (!this.#histories.has(imageId)) this.#histories.set(imageId, new History(now));
    else if (!unsent && image.answer.version > before) this.#take(imageId, now);
  }

  /** Whether mine holds against theirs; undo reaches the one that does not. */
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

  /** An answer from elsewhere holds now; undo brings back the one before. */
  #take(imageId, theirs) {
    const past = this.history(imageId);
    if (past && !same(past.now, theirs)) past.push(content(theirs));
    this.#note(imageId, theirs.state);
    this.#on.changed(imageId);
  }

  #note(imageId, state) {
    const entry = this.entries[this.indexOf(imageId)];
    if (entry) entry.state = state;
  }
}
