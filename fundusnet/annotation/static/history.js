/** Undo and redo of one photograph's answers: a list of values and a place in it. */

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

  /** Take a new value; one with the label of the value before it (a comment being typed) replaces that. */
  push(value, label = null) {
    if (label !== null && label === this.#label && this.#place > 0) this.#place -= 1;
    this.#values = [...this.#values.slice(0, this.#place + 1), value].slice(-LONGEST);
    this.#place = this.#values.length - 1;
    this.#label = label;
  }

  /** What comes next starts a step of its own. */
  settle() {
    this.#label = null;
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
