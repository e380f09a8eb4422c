/** Questions with a few choices, of the photograph as a whole or of the chosen finding: draws them, reports choices. */

import { WHOLE } from "./answer.js";
import { $, element, restart } from "./dom.js";
import { digitOf } from "./keys.js";
import { text } from "./text.js";

export class Questions {
  #rows = new Map();
  #subjects = {};

  /** questions: of the session. on: answer(subject, question, choice). */
  constructor(questions, on) {
    for (const [of, place] of Object.entries({ finding: $("finding-questions"), photograph: $("questions") })) {
      const asked = questions.filter((question) => question.of === of);
      place.hidden = asked.length === 0;
      place.append(...asked.map((question) => this.#row(question, on)));
    }
  }

  /** Draw the choices of an answer; finding: { name, label } of the chosen one, or null. */
  show({ choices = {}, findings }, finding) {
    const marked = finding !== null && finding.name in findings;
    this.#subjects = { photograph: WHOLE, finding: marked ? finding.name : null };
    for (const { question, buttons } of this.#rows.values()) {
      const subject = this.#subjects[question.of];
      const chosen = subject === null ? null : choices[subject]?.[question.name];
      for (const [choice, button] of buttons) {
        button.setAttribute("aria-pressed", String(choice === chosen));
        button.disabled = subject === null;
      }
    }
  }

  /** Move the focus to the next question that can be answered, an open one first; whether there is one. */
  focusNext() {
    const rows = [...this.#rows.values()].filter(({ question }) => this.#subjects[question.of] !== null);
    const here = rows.findIndex(({ place }) => place.contains(document.activeElement));
    const order = rows.map((_, step) => rows[(here + 1 + step) % rows.length]);
    const next = order.find(({ place }) => !place.querySelector('[aria-pressed="true"]')) ?? order[0];
    next?.buttons.values().next().value.focus();
    return Boolean(next);
  }

  /** A number key chooses in the question that has the focus, and leaves it; whether it did. */
  press(event) {
    const row = [...this.#rows.values()].find(({ place }) => place.contains(document.activeElement));
    const button = row && [...row.buttons.values()][digitOf(event) - 1];
    if (!button) return false;
    button.click();
    document.activeElement.blur();
    return true;
  }

  /** Draw attention to a question that is not answered. */
  nudge(name) {
    const { place } = this.#rows.get(name);
    place.scrollIntoView({ block: "nearest" });
    restart(place, "nudge");
  }

  #row(question, on) {
    const place = element("div", "question");
    const title = element("h2", "", question.label);
    title.id = `question-${this.#rows.size}`;
    if (question.optional) title.append(" ", element("small", "", text("question.optional")));
    place.setAttribute("role", "group");
    place.setAttribute("aria-labelledby", title.id);
    const list = element("div", "choices");
    const buttons = new Map();
    for (const [number, { name, label }] of question.choices.entries()) {
      const button = element("button", "toggle");
      button.append(element("kbd", "", String(number + 1)), element("span", "", label));
      button.setAttribute("aria-pressed", "false");
      button.addEventListener("click", () => on.answer(this.#subjects[question.of], question.name, name));
      buttons.set(name, button);
    }
    list.append(...buttons.values());
    place.append(title, list);
    this.#rows.set(question.name, { question, place, buttons });
    return place;
  }
}
