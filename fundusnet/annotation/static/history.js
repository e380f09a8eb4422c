/** Undo and redo for the answers of one photograph: a list of values and a position in it. */

const LONGEST = 500;

export class History {
  #values;
  #place = 0;
  #label = null;

  constructor(first) {
    this.#values = [first];
  }

  get now() {
    return this.#values[this.#place];
  }

  get canUndo() {
    return this.#place > 0;
  }

  get canRedo() {
    return this.#place < this.#values.length - 1;
  }

  /** Add a value; it replaces the one before if both have the same label (a comment being typed). */
  push(value, label = null) {
    if (label !== null && label === this.#label && this.#place > 0) this.#place -= 1;
    this.#values = [...this.#values.slice(0, this.#place + 1), value].slice(-LONGEST);
    this.#place = this.#values.length - 1;
    this.#label = label;
  }

  /** Make the next value a separate undo step. */
  settle() {
    this.#label = null;
  }

  /** Change all values, so that no step takes the change back. */
  amend(change) {
    this.#values = this.#values.map(change);
  }

  undo() {
    this.#label = null;
    if (this.canUndo) this.#place -= 1;
    return this.now;
  }

  redo() {
    this.#label = null;
    if (this.canRedo) this.#place += 1;
    return this.now;
  }
}
