/**
 * What is on its way to the server: answers (or decisions), each by a name. Nothing that goes in is lost: it lies in
 * localStorage until the server has said that it is stored, through closed pages, crashes and an unreachable server.
 *
 * One change of a name is under way at a time, made from the version the one before it got. A retry repeats it word by
 * word (the server knows its uuid and stores it once); what is changed meanwhile waits behind it as one change.
 */

import { Refused, Unreachable, uuid } from "./api.js";

const FOLDER = "fundusnet/outbox/";
const FIRST_RETRY = 500;
const LAST_RETRY = 5_000;

export class Outbox {
  #folder;
  #put;
  #on;
  #tab = uuid();
  /** Key in the storage → entry { name, version, sending, next, busy, stopped }. */
  #entries = new Map();
  #versions = new Map();
  #retry = FIRST_RETRY;
  #timer = null;
  #trouble = null;
  #kept = true;

  /**
   * owner: whose these are. put(name, body) → { version }. on: same(one, other); status({ state, waiting, message, kept });
   * saved(name, reply); conflict(name, mine, theirs) → whether to keep mine; taken(name, stored): that is what holds now,
   * or (null) something was found that a closed page had left.
   */
  constructor(owner, put, on) {
    this.#folder = `${FOLDER}${encodeURIComponent(owner)}/`;
    this.#put = put;
    this.#on = on;
    window.addEventListener("online", () => this.flush());
    document.addEventListener("visibilitychange", () => document.hidden || this.flush());
  }

  /** Take over what closed pages of this annotator left, and send it; waits for that only briefly. */
  async restore() {
    // As long as this page lives it holds the lock of its name: nobody else sends its entries.
    navigator.locks?.request(this.#lock(this.#tab), () => new Promise(() => {}));
    const tabs = new Set(this.#stored().map(({ tab }) => tab));
    tabs.delete(this.#tab);
    const adopted = [...tabs].map((tab) =>
      // Without locks (a page without https) take all: the uuids keep anything from being stored twice.
      navigator.locks ? navigator.locks.request(this.#lock(tab), () => this.#adopt(tab)) : this.#adopt(tab),
    );
    await Promise.race([Promise.all(adopted), new Promise((resolve) => setTimeout(resolve, 400))]);
  }

  /** The version that the next change is based on: the newest that the server told of. */
  version(name) {
    return this.#versions.get(name) ?? 0;
  }

  seen(name, version) {
    this.#versions.set(name, version);
  }

  /** What the server has not confirmed of it, or null. */
  unsent(name) {
    const entry = [...this.#entries.values()].findLast((one) => one.name === name);
    return entry ? (entry.next ?? entry.sending) : null;
  }

  /** Keep a new state, and send it now. */
  record(name, body) {
    const key = this.#key(this.#tab, name);
    const entry = this.#entries.get(key) ?? { name, version: this.version(name), sending: null };
    entry.next = body;
    if (entry.stopped) {
      // The server refused what was under way; what is new stands in its place.
      entry.stopped = null;
      entry.sending = null;
    }
    this.#entries.set(key, entry);
    this.#keep(key, entry);
    this.#drain(key);
  }

  /** Try everything that waits, now. */
  flush() {
    clearTimeout(this.#timer);
    this.#timer = null;
    return Promise.all([...this.#entries.keys()].map((key) => this.#drain(key)));
  }

  async #drain(key) {
    const entry = this.#entries.get(key);
    if (!entry || entry.busy || entry.stopped) return;
    entry.busy = true;
    this.#report();
    try {
      while (entry.next || entry.sending) await this.#sendOne(key, entry);
      this.#entries.delete(key);
      localStorageOrNull()?.removeItem(key);
    } catch (error) {
      this.#failed(entry, error);
    } finally {
      entry.busy = false;
      this.#report();
    }
  }

  async #sendOne(key, entry) {
    if (!entry.sending) {
      entry.sending = { ...entry.next, version: entry.version, change: uuid() };
      entry.next = null;
      this.#keep(key, entry);
    }
    let reply;
    try {
      reply = await this.#put(entry.name, entry.sending);
    } catch (error) {
      if (!(error instanceof Refused && error.status === 409)) throw error;
      await this.#settle(key, entry, error.body.answer ?? error.body.decision);
      return;
    }
    this.#retry = FIRST_RETRY;
    this.#trouble = null;
    entry.version = reply.version;
    entry.sending = null;
    this.#versions.set(entry.name, reply.version);
    this.#keep(key, entry);
    this.#on.saved(entry.name, reply);
  }

  /** Another page stored an answer since: the person says which of the two holds. */
  async #settle(key, entry, theirs) {
    this.#trouble = null;
    const mine = entry.next ?? entry.sending;
    const keepMine = !this.#on.same(mine, theirs) && (await this.#on.conflict(entry.name, mine, theirs));
    const latest = entry.next ?? entry.sending;
    entry.version = theirs.version;
    entry.sending = null;
    entry.next = keepMine ? latest : null;
    this.#versions.set(entry.name, theirs.version);
    this.#keep(key, entry);
    if (!keepMine) this.#on.taken(entry.name, theirs);
  }

  #failed(entry, error) {
    const lasting = error instanceof Refused && error.status < 500 && error.status !== 401;
    if (error instanceof Unreachable) this.#trouble = { state: "unreachable", message: error.message };
    else if (error instanceof Refused && error.status === 401) {
      this.#trouble = { state: "signed-out", message: error.message };
    } else if (lasting) {
      entry.stopped = error.message;
      return;
    } else this.#trouble = { state: "failing", message: error.message };
    if (this.#timer !== null) return;
    // Not all pages at once when the server is back.
    this.#timer = setTimeout(() => this.flush(), this.#retry * (0.8 + 0.4 * Math.random()));
    this.#retry = Math.min(LAST_RETRY, this.#retry * 2);
  }

  #report() {
    const entries = [...this.#entries.values()];
    const stopped = entries.find((entry) => entry.stopped);
    const waiting = new Set(entries.map((entry) => entry.name)).size;
    let status = { state: "saved", message: "" };
    if (stopped) status = { state: "refused", message: stopped.stopped };
    else if (waiting) status = this.#trouble ?? { state: "saving", message: "" };
    this.#on.status({ ...status, waiting, kept: this.#kept });
  }

  #adopt(tab) {
    for (const { key, tab: owner, entry } of this.#stored()) {
      if (owner !== tab) continue;
      let place = this.#key(this.#tab, entry.name);
      while (this.#entries.has(place)) place += "+";
      this.#entries.set(place, { ...entry, busy: false, stopped: null });
      this.#keep(place, entry);
      localStorageOrNull()?.removeItem(key);
      this.#on.taken(entry.name, null);
      this.#drain(place);
    }
  }

  #stored() {
    const storage = localStorageOrNull();
    const found = [];
    for (const key of storage ? Object.keys(storage) : []) {
      if (!key.startsWith(this.#folder)) continue;
      try {
        found.push({ key, tab: key.slice(this.#folder.length).split("/")[0], entry: JSON.parse(storage.getItem(key)) });
      } catch {
        storage.removeItem(key);
      }
    }
    return found;
  }

  #keep(key, { name, version, sending, next }) {
    try {
      localStorage.setItem(key, JSON.stringify({ name, version, sending, next }));
      this.#kept = true;
    } catch {
      this.#kept = false;
    }
  }

  #key(tab, name) {
    return `${this.#folder}${tab}/${encodeURIComponent(name)}`;
  }

  #lock(tab) {
    return `fundusnet/tab/${tab}`;
  }
}

/** Browsers that forbid storage throw when it is named. */
function localStorageOrNull() {
  try {
    return window.localStorage;
  } catch {
    return null;
  }
}
