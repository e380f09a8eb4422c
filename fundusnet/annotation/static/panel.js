/** The panel beside the photograph: findings, regions of the chosen one, normal. Draws an answer and reports clicks. */

import { WHOLE } from "./answer.js";
import { $, element, icon, restart } from "./dom.js";
import { Pad, tiles } from "./pad.js";
import { Questions } from "./questions.js";
import { fate, openFindings } from "./suggestion.js";
import { nameIn, percent, text } from "./text.js";

const DECISIONS = [
  { verdict: "confirmed", symbol: "check", label: "suggestion.confirm", title: "suggestion.confirm.title", does: "confirmSuggestion" },
  { verdict: "refused", symbol: "cross", label: "suggestion.refuse", title: "suggestion.refuse.title", does: "refuseSuggestion" },
];

export class Panel {
  #findings;
  #labels;
  #rows = new Map();
  #pad;
  #asked;
  #questions;
  #on;

  /**
   * on: choose(finding), toggle(region), clear(), hover(region or null), confirmSuggestion(finding),
   * refuseSuggestion(finding), answer(subject, question, choice).
   * Findings come with key, label and colour.
   */
  constructor(findings, regions, questions, on) {
    this.#asked = questions;
    this.#questions = new Questions(questions, on);
    this.#findings = findings;
    this.#labels = new Map(regions.map(({ name, label }) => [name, label]));
    this.#on = on;
    this.#pad = new Pad($("pad"), this.#labels, on);
    $("findings").append(...findings.map((finding) => this.#row(finding)));
  }

  label(region) {
    return this.#labels.get(region) ?? region;
  }

  /** An answer in words: a list of lines that tells it from every other answer. */
  describe(answer) {
    const marks = this.#findings
      .filter(({ name }) => answer.findings[name])
      .map(({ name, label }) => text("reading.finding", { finding: label, regions: this.#regionNames(answer.findings[name]) }));
    if (answer.ungradable !== null) marks.push(text("answer.ungradable", { reason: nameIn("reason", answer.ungradable) }));
    if (answer.normal) marks.push(text("answer.normal"));
    if (marks.length === 0) marks.push(text("answer.nothing"));
    for (const verdict of ["confirmed", "refused"]) {
      const decided = this.#findings.filter(({ name }) => answer.suggestion?.verdicts[name] === verdict);
      const findings = decided.map(({ label }) => label).join(", ");
      if (findings) marks.push(text(`answer.${verdict}`, { findings }));
    }
    for (const [subject, chosen] of Object.entries(answer.choices ?? {})) {
      for (const [question, choice] of Object.entries(chosen)) marks.push(this.#choiceInWords(subject, question, choice));
    }
    if (answer.comment) marks.push(text("answer.comment", { comment: answer.comment }));
    const [disc, fovea] = [answer.disc, answer.fovea].map((point) => point?.map(Math.round).join(", "));
    if (disc && fovea) marks.push(text("answer.points", { disc, fovea }));
    if (answer.state !== "ungradable") marks.push(text(`state.${answer.state}`));
    return marks;
  }

  /** `suggestion` is that which the reader is shown, or null. */
  show(answer, chosen, temporalLeft, suggestion) {
    this.#showSuggestion(answer, suggestion);
    for (const { name } of this.#findings) {
      const row = this.#rows.get(name);
      const regions = answer.findings[name] ?? [];
      const where = this.#regionNames(regions);
      row.button.classList.toggle("marked", regions.length > 0);
      row.button.setAttribute("aria-pressed", String(name === chosen));
      row.where.textContent = where || text("reading.not_marked");
      row.button.title = where;
      row.count.textContent = regions.length || "";
      row.map.replaceChildren(...tiles(regions, temporalLeft));
    }
    $("normal").setAttribute("aria-pressed", String(answer.normal));
    const finding = this.#findings.find(({ name }) => name === chosen);
    $("pad-title").textContent = finding
      ? text("reading.regions_of", { finding: finding.label })
      : text("reading.choose_first");
    this.#questions.show(answer, finding ?? null);
    this.#pad.show(finding ? (answer.findings[chosen] ?? []) : null, finding?.colour, temporalLeft);
  }

  point(region) {
    this.#pad.point(region);
  }

  #showSuggestion(answer, suggestion) {
    for (const { name } of this.#findings) {
      const { item, likely, decisions } = this.#rows.get(name);
      const suggested = Boolean(suggestion && name in suggestion.findings);
      item.classList.toggle("suggested", suggested);
      likely.hidden = decisions.hidden = !suggested;
      const now = suggested ? fate(answer, name) : "";
      const probability = suggested ? percent(suggestion.probabilities[name]) : "";
      item.dataset.fate = now;
      likely.textContent = probability;
      likely.title = suggested ? text(`suggestion.is.${now}`, { probability }) : "";
      for (const button of decisions.children) {
        button.setAttribute("aria-pressed", String(now === button.dataset.verdict));
      }
    }
    $("suggested").hidden = !suggestion;
    if (!suggestion) return;
    const [open, all] = [openFindings(answer, suggestion).length, Object.keys(suggestion.findings).length];
    const line = open ? "suggestion.open" : all ? "suggestion.all" : "suggestion.nothing";
    $("suggested-line").textContent = text(line, { count: open });
    $("confirm-all").hidden = $("refuse-all").hidden = !open;
  }

  /** Draw attention to the suggestions, because some are open. */
  nudgeSuggestions() {
    restart($("suggested"), "nudge");
  }

  focusQuestion() {
    return this.#questions.focusNext();
  }

  pressQuestion(event) {
    return this.#questions.press(event);
  }

  /** Draw attention to a question that is still open. */
  nudgeQuestion(question) {
    this.#questions.nudge(question);
  }

  /** Draw attention to the list, because a finding has to be chosen first. */
  nudge() {
    restart($("findings"), "nudge");
  }

  #choiceInWords(subject, name, choice) {
    const question = this.#asked.find((one) => one.name === name);
    const words = { question: question?.label ?? name, choice: nameIn("choice", choice) };
    if (subject === WHOLE) return text("answer.choice", words);
    const finding = this.#findings.find((one) => one.name === subject)?.label ?? subject;
    return text("answer.choice_of", { ...words, finding });
  }

  #regionNames(regions) {
    return regions.map((region) => this.label(region)).join(", ");
  }

  #row(finding) {
    const button = element("button", "finding");
    button.dataset.finding = finding.name;
    button.style.setProperty("--finding", finding.colour);
    if (finding.key) button.setAttribute("aria-keyshortcuts", finding.key.replace("⇧", "Shift+"));
    const map = element("span", "tiles");
    const count = element("span", "count");
    const where = element("span", "unseen");
    button.append(element("kbd", "", finding.key ?? ""), element("span", "label", finding.label), where, count, map);
    button.addEventListener("click", () => this.#on.choose(finding.name));
    const likely = element("span", "likely");
    button.lastChild.before(likely);
    const decisions = element("span", "decisions");
    decisions.append(...DECISIONS.map((decision) => this.#decision(decision, finding)));
    const item = element("li");
    item.append(button, decisions);
    this.#rows.set(finding.name, { item, button, map, count, where, likely, decisions });
    return item;
  }

  #decision({ verdict, symbol, label, title, does }, finding) {
    const button = element("button", "icon");
    button.dataset.verdict = verdict;
    button.append(icon(symbol));
    button.title = text(title);
    button.ariaLabel = text(label, { finding: finding.label });
    button.addEventListener("click", () => this.#on[does](finding.name));
    return button;
  }
}
