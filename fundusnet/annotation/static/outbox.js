/**
 * Answers (or decisions) on their way to the server, each with a name. Nothing is lost: an entry stays in localStorage
 * until the server has confirmed that it is stored, even if the page is closed, crashes or cannot reach the server.
 *
 * For each name one change is being sent at a time, based on the version that the previous one got. A retry repeats it
 * unchanged (the server recognises its uuid and stores it once); later changes wait behind it as a single change.
 */

import { Refused, uuid } from "./api.js";
import { noteKept } from "./elsewhere.js";
import { passes, troubleOf } from "./trouble.js";

const FOLDER = "fundusnet/outbox/";
const FIRST_RETRY = 500;
const LAST_RETRY = 5_000;

export class Outbox {
  #owner;
  #folder;
  #put;
  #on;
  #tab = uuid();
  /** Key in the storage → entry { name, version, sending, next, busy, stopped }. */
  #entries = new Map();
  #versions = new Map();
  /** Name → what this page was last told is stored, as `put` sent it. */
  #confirmed = new Map();
  #retry = FIRST_RETRY;
  #timer = null;
  #problem = null;
  #kept = true;

  /**
   * owner: id of the person. put(name, body) → { version }.
   * on: same(one, other); status({ state, waiting, message, kept }); saved(name, reply); conflict(name, mine, theirs) →
   * whether to keep mine; taken(name, stored): the stored version was taken over, or (with null) an entry that a closed
   * page had left was found.
   */
  constructor(owner, put, on) {
    this.#owner = owner;
    this.#folder = `${FOLDER}${encodeURIComponent(owner)}/`;
    this.#put = put;
    this.#on = on;
    window.addEventListener("online", () => this.flush());
    document.addEventListener("visibilitychange", () => document.hidden || this.flush());
  }

  /** Take over and send the entries that closed pages of this annotator left; waits only briefly. */
  async restore() {
    // This page holds the lock of its name while it is open, so that no other page sends its entries.
    navigator.locks?.request(this.#lock(this.#tab), () => new Promise(() => {}));
    const tabs = new Set(this.#stored().map(({ tab }) => tab));
    tabs.delete(this.#tab);
    const adopted = [...tabs].map((tab) =>
      // Without locks (pages without https) take all entries: the uuids prevent storing anything twice.
      navigator.locks ? navigator.locks.request(this.#lock(tab), () => this.#adopt(tab)) : this.#adopt(tab),
    );
    await Promise.race([Promise.all(adopted), new Promise((resolve) => setTimeout(resolve, 400))]);
  }

  /** Whether anything of this page or of closed ones is not on the server yet. */
  get waiting() {
    return this.#entries.size > 0 || this.#stored().length > 0;
  }

  /** The version that the next change is based on: the newest that the server has reported. */
  version(name) {
    return this.#versions.get(name) ?? 0;
  }

  seen(name, version) {
    this.#versions.set(name, version);
  }

  /** The unconfirmed state of a name, or null. */
  unsent(name) {
    const entry = [...this.#entries.values()].findLast((one) => one.name === name);
    return entry ? (entry.next ?? entry.sending) : null;
  }

  /**
   * The newest state of a name: the unconfirmed one, or else the newer of `stored`, which the server gave (null: nothing
   * yet), and what it has confirmed. A reply that was under way while a change was stored does not have that change.
   */
  latest(name, stored) {
    const unsent = this.unsent(name);
    if (unsent) return unsent;
    const version = stored?.version ?? 0;
    if (version < this.version(name)) return this.#confirmed.get(name) ?? stored;
    this.seen(name, version);
    return stored;
  }

  /** Store a new state and send it now. */
  record(name, body) {
    const key = this.#key(this.#tab, name);
    const entry = this.#entries.get(key) ?? { name, version: this.version(name), sending: null };
    entry.next = body;
    if (entry.stopped) {
      // The server refused the previous change; the new one replaces it.
      entry.stopped = null;
      entry.sending = null;
    }
    this.#entries.set(key, entry);
    this.#store(key, entry);
    this.#send(key);
  }

  /** Try to send all waiting entries now. */
  flush() {
    clearTimeout(this.#timer);
    this.#timer = null;
    return Promise.all([...this.#entries.keys()].map((key) => this.#send(key)));
  }

  async #send(key) {
    const entry = this.#entries.get(key);
    if (!entry || entry.busy || entry.stopped) return;
    entry.busy = true;
    this.#report();
    try {
      while (entry.next || entry.sending) await this.#sendOne(key, entry);
      this.#entries.delete(key);
      accessibleStorage()?.removeItem(key);
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
      this.#store(key, entry);
    }
    let reply;
    try {
      reply = await this.#put(entry.name, entry.sending);
    } catch (error) {
      if (!(error instanceof Refused && error.status === 409)) throw error;
      await this.#resolveConflict(key, entry, error.body.answer ?? error.body.decision);
      return;
    }
    this.#retry = FIRST_RETRY;
    this.#problem = null;
    this.#confirmed.set(entry.name, entry.sending);
    entry.version = reply.version;
    entry.sending = null;
    this.#versions.set(entry.name, reply.version);
    this.#store(key, entry);
    this.#on.saved(entry.name, reply);
  }

  /** Another page has stored a newer version: ask which of the two to keep. */
  async #resolveConflict(key, entry, theirs) {
    this.#problem = null;
    const mine = entry.next ?? entry.sending;
    const keepMine = !this.#on.same(mine, theirs) && (await this.#on.conflict(entry.name, mine, theirs));
    const latest = entry.next ?? entry.sending;
    entry.version = theirs.version;
    entry.sending = null;
    entry.next = keepMine ? latest : null;
    this.#confirmed.set(entry.name, theirs);
    this.#versions.set(entry.name, theirs.version);
    this.#store(key, entry);
    if (!keepMine) this.#on.taken(entry.name, theirs);
  }

  #failed(entry, error) {
    const state = troubleOf(error);
    if (!passes(state)) {
      entry.stopped = error.message;
      return;
    }
    this.#problem = { state, message: error.message };
    if (this.#timer !== null) return;
    // A random delay, so that not all pages retry at once when the server is back.
    this.#timer = setTimeout(() => this.flush(), this.#retry * (0.8 + 0.4 * Math.random()));
    this.#retry = Math.min(LAST_RETRY, this.#retry * 2);
  }

  #report() {
    const entries = [...this.#entries.values()];
    const stopped = entries.find((entry) => entry.stopped);
    const waiting = new Set(entries.map((entry) => entry.name)).size;
    let status = { state: "saved", message: "" };
    if (stopped) status = { state: "refused", message: stopped.stopped };
    else if (waiting) status = this.#problem ?? { state: "saving", message: "" };
    if (!waiting || this.#problem || stopped) noteKept(this.#owner, waiting);
    this.#on.status({ ...status, waiting, kept: this.#kept });
  }

  #adopt(tab) {
    for (const { key, tab: owner, entry } of this.#stored()) {
      if (owner !== tab) continue;
      let place = this.#key(this.#tab, entry.name);
      while (this.#entries.has(place)) place += "+";
      this.#entries.set(place, { ...entry, busy: false, stopped: null });
      this.#store(place, entry);
      accessibleStorage()?.removeItem(key);
      this.#on.taken(entry.name, null);
      this.#send(place);
    }
  }

  #stored() {
    const storage = accessibleStorage();
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

  #store(key, { name, version, sending, next }) {
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

/** Browsers that block storage throw on access. */
function accessibleStorage() {
  try {
    return window.localStorage;
  } catch {
    return null;
  }
}
