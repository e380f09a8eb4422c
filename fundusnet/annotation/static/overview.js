/** The overview of a study: progress by annotator, agreement by finding, open questions. Refreshes itself. */

import { get, session } from "./api.js";
import { $, element } from "./dom.js";
import { showPages } from "./navigation.js";
import { heading, kappa, showAgreement } from "./overview_agreement.js";
import { showSuggestionEffect } from "./suggestion_effect.js";
import { Words } from "./reading_words.js";
import { row } from "./table.js";
import { nameIn, text } from "./text.js";
import { explain, passes, troubleOf } from "./trouble.js";

const INTERVAL = 20_000;
const RETRY = 3_000;

function show(overview, labels, asked, words) {
  const done = overview.annotators.reduce((sum, { done: own }) => sum + own, 0);
  const total = overview.annotators.reduce((sum, { total: own }) => sum + own, 0);
  const { counts } = overview;
  $("figures").replaceChildren(
    figure(text("overview.photographs"), overview.images),
    figure(text("overview.readings"), done, text("overview.of", { total })),
    figure(text("overview.undecided"), counts.undecided + counts.disputed),
    figure(text("overview.ungradable"), counts.ungradable),
  );
  $("annotators").replaceChildren(...annotators(overview));
  showAgreement(overview, labels, asked);
  showSuggestionEffect(overview.suggestions, labels, { kappa, duration });
  const cases = [...overview.undecided.map((row) => undecided(row, labels)), ...overview.disputed.map((row) => disputed(row, words))];
  const open = counts.undecided + counts.disputed;
  $("undecided-count").textContent = open ? listed(cases, open) : text("overview.none");
  $("undecided").replaceChildren(...cases);
  section("ungradable", overview.ungradable.map(ungradable), counts.ungradable);
  section("missing", overview.missing.map(missing), counts.missing);
  section("comments", overview.comments.map(comment));
  section("points", overview.points.map(points), counts.points);
  $("message").hidden = true;
  $("content").hidden = false;
}

function figure(name, value, beside = "") {
  const box = element("div");
  const number = element("dd", "", `${value} `);
  number.append(element("small", "", beside));
  box.append(element("dt", "", name), number);
  return box;
}

/** Rows of annotators, by group where there are groups; those in none come last. */
function annotators({ annotators: people, groups }) {
  if (groups.length === 0) return people.map(annotator);
  const names = groups.map(({ name }) => name);
  const rows = groups.flatMap((group) => {
    const splits = group.splits.length ? group.splits.map((split) => nameIn("split", split)).join(", ") : text("overview.all_splits");
    const beside = text("overview.group", { splits, count: group.images, readings: group.readings_per_image });
    const total = { name: text("overview.together"), done: group.done, total: group.total, median_seconds: null };
    const own = people.filter((person) => person.group === group.name);
    return [...heading(group.name, 4, beside), ...own.map(annotator), sum(total)];
  });
  const others = people.filter((person) => !names.includes(person.group));
  return [...rows, ...(others.length ? heading(text("overview.no_group"), 4) : []), ...others.map(annotator)];
}

/** The row of a whole group, which has no time of its own. */
function sum(person) {
  const line = annotator(person);
  line.className = "sum";
  line.lastElementChild.replaceChildren();
  return line;
}

function annotator({ name, done, total, median_seconds: median }) {
  const bar = element("progress");
  bar.max = Math.max(1, total);
  bar.value = done;
  bar.setAttribute("aria-label", text("overview.progress.label", { name, done, total }));
  const time = median === null ? element("span", "none", text("overview.no_time")) : element("span", "", duration(median));
  return row([name, [bar, "progress"], [text("place.of", { place: done, count: total }), "number"], [time, "number"]]);
}

function undecided({ image_id: imageId, finding, present, readings }, labels) {
  const label = labels.get(finding) ?? finding;
  return link([imageId, finding], element("i", "", text("overview.undecided.case", { finding: label, present, readings })));
}

function disputed({ image_id: imageId, finding, question, given }, words) {
  const counts = words
    .choices(question)
    .filter(({ name }) => given[name])
    .map(({ name, label }) => text("overview.disputed.given", { choice: label, count: given[name] }));
  const title = words.title({ finding, question });
  return link([imageId, finding, question], element("i", "", text("overview.disputed.case", { title, given: counts.join(", ") })));
}

function ungradable({ image_id: imageId, reasons, readings }) {
  const words = [...new Set(reasons)].map((reason) => nameIn("reason", reason)).join(", ");
  return link([imageId], element("i", "", text("overview.ungradable.case", { reasons: words, count: reasons.length, readings })));
}

function comment({ image_id: imageId, comment: words }) {
  return link([imageId], element("q", "", words));
}

function missing({ image_id: imageId, path, readings }) {
  const item = element("li");
  const box = element("div");
  box.title = path;
  box.append(element("span", "", imageId), element("i", "", text("overview.missing.case", { count: readings })));
  item.append(box);
  return item;
}

function points({ image_id: imageId, points: disagreement }) {
  return link([imageId], element("i", "", text(`overview.points.${disagreement}`)));
}

/** An entry that leads to the readings of an image, or of one case of it. */
function link(place, beside) {
  const item = element("li");
  const anchor = element("a");
  anchor.href = `/adjudicate#${place.map(encodeURIComponent).join("/")}`;
  anchor.append(element("span", "", place[0]), beside);
  item.append(anchor);
  return item;
}

/** How many there are; of a long list, how many of them are listed. */
function listed(items, count) {
  return items.length < count ? text("overview.listed", { listed: items.length, count }) : String(count);
}

/** Fill a list; its section is hidden while it is empty. */
function section(id, items, count = items.length) {
  $(`${id}-section`).hidden = items.length === 0;
  $(`${id}-count`).textContent = listed(items, count);
  $(id).replaceChildren(...items);
}

function duration(seconds) {
  const whole = Math.round(seconds);
  return whole < 60
    ? text("overview.seconds", { seconds: whole })
    : text("overview.minutes", { minutes: Math.floor(whole / 60), seconds: whole % 60 });
}

async function refresh(labels, asked, words) {
  try {
    show(await get("/api/overview"), labels, asked, words);
  } catch (error) {
    $("message").hidden = false;
    $("message").textContent = explain(error);
  }
  setTimeout(() => refresh(labels, asked, words), INTERVAL);
}

async function open() {
  try {
    const info = await session();
    showPages(info);
    await refresh(new Map(info.findings.map(({ name, label }) => [name, label])), info.questions, new Words(info));
  } catch (error) {
    $("message").textContent = explain(error);
    if (passes(troubleOf(error))) setTimeout(open, RETRY);
  }
}

open();
