/** Asks the server for suggestions. It never waits for the networks, so what is not made yet is asked for again. */

import { Refused, get, imagePath, put } from "./api.js";

const AGAIN = 1_000;

export class Suggester {
  #found = new Map();
  #noted = new Set();
  #followed = null;
  #arrived;

  /** arrived(imageId): there is a suggestion now. */
  constructor(arrived) {
    this.#arrived = arrived;
  }

  /** The suggestion for a photograph; null without one, or as long as it is not made. */
  get(imageId) {
    return this.#found.get(imageId) ?? null;
  }

  /** Ask once, in advance; resolves to whether there is or will be none. */
  async ask(imageId) {
    if (this.#found.has(imageId)) return true;
    try {
      const { state, ...suggestion } = await get(`${imagePath(imageId)}/suggestion`);
      if (state === "ready") this.#found.set(imageId, suggestion);
      return state !== "waiting";
    } catch (error) {
      return error instanceof Refused && error.status === 404;
    }
  }

  /** Ask until there is one, or the next photograph is followed. */
  async follow(imageId) {
    this.#followed = imageId;
    while (this.#followed === imageId) {
      if (await this.ask(imageId)) {
        if (this.#found.has(imageId)) this.#arrived(imageId);
        return;
      }
      await new Promise((done) => setTimeout(done, AGAIN));
    }
  }

  /** Tell the server that a suggestion was shown. If that is lost, the answer still says so. */
  noteShown(imageId, networks) {
    if (this.#noted.has(imageId)) return;
    this.#noted.add(imageId);
    put(`${imagePath(imageId)}/suggestion`, { networks }).catch(() => this.#noted.delete(imageId));
  }
}
