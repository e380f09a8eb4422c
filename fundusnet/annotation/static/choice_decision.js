/** Deciding a question that readers answered differently: by its buttons, which name the readers of each, or their keys. */

import { $, element } from "./dom.js";
import { digitOf } from "./keys.js";
import { toast } from "./status.js";
import { text } from "./text.js";

export class ChoiceDecision {
  #words;
  #on;
  #about = null;
  #choice = null;
  #pane = null;
  #buttons = new Map();

  /** on: isShown(): whether it can be decided; record(decision); decided(line): it is final, and this says so. */
  constructor(words, on) {
    this.#words = words;
    this.#on = on;
  }

  /** Start from what was decided, or from nothing. */
  open(image, about, decided, pane) {
    this.#about = about;
    this.#pane = pane;
    this.#choice = decided?.choice ?? null;
    this.#buttons = new Map(this.#words.choices(about.question).map((choice, place) => [choice.name, this.#button(image, choice, place)]));
    $("choices").replaceChildren(...this.#buttons.values());
    this.#draw();
  }

  /** Decide for a choice, or with null for none. */
  decide(choice) {
    if (!this.#on.isShown()) return;
    this.#choice = choice;
    this.#draw();
    this.#on.record({ choice });
    if (choice === null) return;
    const words = { title: this.#words.title(this.#about), choice: this.#words.choice(this.#about.question, choice) };
    this.#on.decided((image) => text("decision.made.choice", { image, ...words }));
  }

  /** A number key decides; whether it is one of a choice. */
  press(event) {
    if (event.ctrlKey || event.metaKey || event.repeat) return false;
    const name = [...this.#buttons.keys()][digitOf(event) - 1];
    if (name !== undefined) this.decide(name);
    else if (event.key === "Enter") toast(text("decision.choose"));
    return name !== undefined;
  }

  describe({ choice }) {
    return choice === null ? text("decision.is_open") : this.#words.choice(this.#about.question, choice);
  }

  #button({ readings }, { name, label }, place) {
    const button = element("button", "toggle");
    const { finding, question } = this.#about;
    const letters = readings.filter(({ choices }) => choices[finding]?.[question] === name).map(({ annotator }) => annotator);
    button.append(element("kbd", "", place < 9 ? String(place + 1) : ""), element("span", "", label), element("i", "", letters.join(" ")));
    button.addEventListener("click", () => this.decide(name));
    return button;
  }

  #draw() {
    for (const [name, button] of this.#buttons) button.setAttribute("aria-pressed", String(name === this.#choice));
    this.#pane.title.textContent = text("decision");
    this.#pane.text.textContent = this.describe({ choice: this.#choice });
    this.#pane.overlay.show({ fill: null });
    $("open").hidden = this.#choice === null;
  }
}
