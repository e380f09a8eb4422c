/** Readings and decisions in the words of the page, with the labels of the study. */

import { WHOLE } from "./answer.js";
import { colourOf } from "./colours.js";
import { nameIn, text } from "./text.js";

export class Words {
  #regions;
  #findings;
  #questions;

  /** info: of the session. */
  constructor({ regions, findings, questions }) {
    this.#regions = new Map(regions.map(({ name, label }) => [name, label]));
    this.#findings = new Map(findings.map(({ name, label }, place) => [name, { label, place }]));
    this.#questions = new Map(questions.map((question) => [question.name, question]));
  }

  get regions() {
    return this.#regions;
  }

  finding(name) {
    return this.#findings.get(name)?.label ?? name;
  }

  /** The place of a finding in the list, from 0 on. */
  place(finding) {
    return this.#findings.get(finding)?.place ?? 0;
  }

  colour(finding) {
    return colourOf(this.place(finding));
  }

  where(regions) {
    return regions.map((name) => this.#regions.get(name)).join(", ");
  }

  question(name) {
    return this.#questions.get(name)?.label ?? name;
  }

  /** The choices of a question: [{ name, label }]. */
  choices(question) {
    return this.#questions.get(question)?.choices ?? [];
  }

  choice(question, name) {
    return this.choices(question).find((one) => one.name === name)?.label ?? nameIn("choice", name);
  }

  /** What a case is about: a finding, a question of the photograph, or one of a finding. */
  title({ finding, question }) {
    if (!question) return this.finding(finding);
    if (finding === WHOLE) return this.question(question);
    return text("decision.of", { finding: this.finding(finding), question: this.question(question) });
  }

  /** What a reading says about a case, or without one about everything, in a few words. */
  summary(reading, about) {
    if (reading.ungradable) return text("answer.ungradable", { reason: nameIn("reason", reading.ungradable) });
    if (about?.question) {
      const choice = reading.choices[about.finding]?.[about.question];
      return choice === undefined ? text("reading.not_answered") : this.choice(about.question, choice);
    }
    if (about) return this.where(reading.findings[about.finding] ?? []) || text("reading.not_marked");
    const marks = Object.entries(reading.findings).map(([name, regions]) =>
      text("reading.finding", { finding: this.finding(name), regions: this.where(regions) }),
    );
    return marks.join("; ") || text(reading.normal ? "answer.normal" : "answer.nothing");
  }

  /** What else a reading answers: to questions of the photograph, and of the finding of a case or else of all. */
  answers({ choices }, about) {
    return Object.entries(choices)
      .filter(([subject]) => subject === WHOLE || !about || subject === about.finding)
      .flatMap(([subject, chosen]) => Object.entries(chosen).map(([name, choice]) => ({ subject, name, choice })))
      .filter(({ subject, name }) => !(about?.question === name && about.finding === subject))
      .map(({ subject, name, choice }) => {
        const words = { question: this.question(name), choice: this.choice(name, choice) };
        if (subject === WHOLE) return text("answer.choice", words);
        return text("answer.choice_of", { ...words, finding: this.finding(subject) });
      })
      .join("; ");
  }
}
