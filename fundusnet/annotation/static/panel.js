/** The panel beside the photograph: findings, regions of the chosen one, normal. Draws an answer and reports clicks. */

import { $, element, restart } from "./dom.js";
import { Pad, tiles } from "./pad.js";
import { nameIn, text } from "./text.js";

export class Panel {
  #findings;
  #labels;
  #rows = new Map();
  #pad;
  #on;

  /** on: choose(finding), toggle(region), clear(), hover(region or null). Findings come with key, label and colour. */
  constructor(findings, regions, on) {
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
    if (answer.comment) marks.push(text("answer.comment", { comment: answer.comment }));
    const [disc, fovea] = [answer.disc, answer.fovea].map((point) => point?.map(Math.round).join(", "));
    if (disc && fovea) marks.push(text("answer.points", { disc, fovea }));
    if (answer.state !== "ungradable") marks.push(text(`state.${answer.state}`));
    return marks;
  }

  show(answer, chosen, temporalLeft) {
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
    this.#pad.show(finding ? (answer.findings[chosen] ?? []) : null, finding?.colour, temporalLeft);
  }

  point(region) {
    this.#pad.point(region);
  }

  /** Draw attention to the list, because a finding has to be chosen first. */
  nudge() {
    restart($("findings"), "nudge");
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
    this.#rows.set(finding.name, { button, map, count, where });
    const item = element("li");
    item.append(button);
    return item;
  }
}
