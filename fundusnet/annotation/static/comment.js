/** The comment field. What is typed belongs to the photograph on which it was typed, wherever the focus is. */

import { $ } from "./dom.js";

const PAUSE = 300;

export class Comment {
  #field = $("comment");
  #on;
  #pause = null;
  /** Whether the field holds more than was reported. */
  #typed = false;

  /** on: typed(comment) after a pause in typing; left() when the reader leaves the field. */
  constructor(on) {
    this.#on = on;
    this.#field.addEventListener("input", () => {
      this.#typed = true;
      clearTimeout(this.#pause);
      this.#pause = setTimeout(() => this.report(), PAUSE);
    });
    this.#field.addEventListener("blur", () => {
      this.report();
      on.left();
    });
  }

  focus() {
    this.#field.focus();
  }

  /** Report what was typed and not reported yet. */
  report() {
    clearTimeout(this.#pause);
    if (!this.#typed) return;
    this.#typed = false;
    this.#on.typed(this.#field.value);
  }

  /** Report what was typed and take nothing more, until `open`. */
  close() {
    this.report();
    this.#field.blur();
    this.#field.value = "";
    this.#field.readOnly = true;
  }

  open() {
    this.#field.readOnly = false;
  }

  /** Show the comment of an answer. What is being typed stays. */
  show(comment) {
    if (!this.#typed && this.#field.value !== comment) this.#field.value = comment;
  }
}
