/** The people of a study, for administrators: who takes part, their links, what each has answered, and the export. */

import { WHOLE } from "./answer.js";
import { get, post, put, session } from "./api.js";
import { $, element } from "./dom.js";
import { showPages } from "./navigation.js";
import { row } from "./table.js";
import { language, nameIn, text } from "./text.js";
import { explain, passes, troubleOf } from "./trouble.js";

const RETRY = 3_000;

class Page {
  #info;
  #groups = [];
  #people = [];
  #shown = null;

  constructor(info) {
    this.#info = info;
    $("add").hidden = !info.links;
    $("add").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#add();
    });
    $("new-role").addEventListener("change", () => this.#drawGroup());
    $("more").addEventListener("click", () => this.#answers(this.#shown, $("answers").rows.length));
  }

  async start() {
    await this.#draw();
    $("message").hidden = true;
    $("content").hidden = false;
  }

  async #draw() {
    const { people, roles, groups } = await get("/api/people");
    this.#groups = groups;
    this.#people = people;
    if ($("new-role").options.length === 0) {
      $("new-role").append(...roles.map((role) => new Option(nameIn("role", role), role)));
      $("new-group").append(...groups.map((group) => new Option(group, group)));
      this.#drawGroup();
    }
    $("people").replaceChildren(...people.map((person) => this.#person(person)));
  }

  #drawGroup() {
    $("group-label").hidden = this.#groups.length === 0 || $("new-role").value !== "annotator";
  }

  #person(person) {
    const { name, role, group, active, done, total } = person;
    const acts = element("div");
    const act = (key, run) => {
      const button = element("button", "small", text(key));
      button.ariaLabel = text("people.of", { does: text(key), name });
      button.addEventListener("click", run);
      acts.append(button);
    };
    const at = `/api/people/${person.id}`;
    if (role === "annotator") act("people.answers", () => this.#answers(person, 0));
    if (this.#info.links) {
      if (active) act("people.link", () => this.#run(post(`${at}/link`, {}), ({ link }) => this.#say(text("people.linked", { name }), link)));
      if (person.devices || person.link) act("people.sign_out", () => this.#run(post(`${at}/sign-out`, {}), () => this.#say(text("people.signed_out", { name }))));
      if (person.id !== this.#info.annotator.id) {
        const key = active ? "people.leave" : "people.return";
        act(key, () => this.#run(put(at, { active: !active }), () => this.#say(text(active ? "people.left" : "people.returned", { name }))));
      }
    }
    const roleCell = element("span", "", nameIn("role", role));
    if (group) roleCell.append(element("small", "none", ` ${group}`));
    const progress = role === "annotator" ? text("place.of", { place: done, count: total }) : "";
    const line = row([name, roleCell, [progress, "number"], this.#access(person), [acts, "acts"]]);
    line.classList.toggle("gone", !active);
    return line;
  }

  #access({ active, devices, link }) {
    if (!active) return text("people.gone");
    if (!this.#info.links) return "";
    if (devices) return text("people.devices", { count: devices });
    return text(link ? "people.invited" : "people.no_access");
  }

  #add() {
    const [name, role, group] = ["new-name", "new-role", "new-group"].map((id) => $(id).value);
    const known = this.#people.find((person) => person.name === name);
    if (known?.active) return this.#say(text("people.taken", { name }));
    if (known && known.role !== role) return this.#say(text("people.other_role", { name, role: nameIn("role", known.role) }));
    this.#run(post("/api/people", { name, role, group: $("group-label").hidden ? "" : group }), ({ link }) => {
      $("new-name").value = "";
      this.#say(text("people.linked", { name }), link);
    });
  }

  /** Wait for a change, say what came of it, and draw the people anew. */
  async #run(change, then) {
    try {
      then(await change);
      await this.#draw();
    } catch (error) {
      this.#say(explain(error));
    }
  }

  #say(line, link = null) {
    $("said").replaceChildren(line, ...(link ? [element("code", "", link)] : []));
    $("said").scrollIntoView({ block: "nearest" });
  }

  async #answers(person, offset) {
    try {
      const { count, answers } = await get(`/api/people/${person.id}/answers?offset=${offset}`);
      this.#shown = person;
      $("answers-section").hidden = false;
      $("answers-title").textContent = text("people.answers_of", { name: person.name, count });
      const lines = answers.map((answer) => this.#answer(answer));
      if (offset === 0) $("answers").replaceChildren(...lines);
      else $("answers").append(...lines);
      $("more").hidden = offset + answers.length >= count;
      if (offset === 0) $("answers-title").focus();
    } catch (error) {
      this.#say(explain(error));
    }
  }

  #answer({ image_id: imageId, listed, seconds, saved, ...answer }) {
    const place = listed ? element("a", "", imageId) : element("span", "", imageId);
    if (listed) place.href = `/adjudicate#${encodeURIComponent(imageId)}`;
    const time = new Date(saved * 1000).toLocaleString(language, { dateStyle: "medium", timeStyle: "short" });
    return row([place, this.#inWords(answer), [text("overview.seconds", { seconds: Math.round(seconds) }), "number"], time]);
  }

  #inWords({ state, findings, normal, ungradable, comment, choices }) {
    const labels = (all) => new Map(all.map(({ name, label }) => [name, label]));
    const findingLabels = labels(this.#info.findings);
    const regionLabels = labels(this.#info.regions);
    const words = Object.entries(findings).map(([name, regions]) =>
      text("reading.finding", { finding: findingLabels.get(name) ?? name, regions: regions.map((one) => regionLabels.get(one)).join(", ") }),
    );
    if (normal) words.push(text("answer.normal"));
    if (ungradable) words.push(text("answer.ungradable", { reason: nameIn("reason", ungradable) }));
    for (const [subject, chosen] of Object.entries(choices ?? {})) {
      for (const [name, choice] of Object.entries(chosen)) {
        const question = this.#info.questions.find((one) => one.name === name)?.label ?? name;
        const said = { question, choice: nameIn("choice", choice), finding: findingLabels.get(subject) ?? subject };
        words.push(text(subject === WHOLE ? "answer.choice" : "answer.choice_of", said));
      }
    }
    if (comment) words.push(text("answer.comment", { comment }));
    if (!["done", "ungradable"].includes(state)) words.push(text(`state.${state}`));
    return words.join("; ");
  }
}

async function open() {
  try {
    const info = await session();
    showPages(info);
    await new Page(info).start();
  } catch (error) {
    $("message").textContent = explain(error);
    if (passes(troubleOf(error))) setTimeout(() => session().then(() => location.reload(), open), RETRY);
  }
}

open();
