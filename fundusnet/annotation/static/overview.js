/** The overview of a study: progress by annotator, agreement by finding, open questions. Refreshes itself. */

import { get, session } from "./api.js";
import { $, element } from "./dom.js";
import { estimate } from "./estimate.js";
import { showPages } from "./navigation.js";
import { showSuggestionEffect } from "./suggestion_effect.js";
import { row } from "./table.js";
import { nameIn, text } from "./text.js";
import { explain, passes, troubleOf } from "./trouble.js";

const INTERVAL = 20_000;
const RETRY = 3_000;

function show(overview, labels) {
  const done = overview.annotators.reduce((sum, { done: own }) => sum + own, 0);
  const total = overview.annotators.reduce((sum, { total: own }) => sum + own, 0);
  $("figures").replaceChildren(
    figure(text("overview.photographs"), overview.images),
    figure(text("overview.readings"), done, text("overview.of", { total })),
    figure(text("overview.undecided"), overview.undecided.length),
    figure(text("overview.ungradable"), overview.ungradable.length),
  );
  $("annotators").replaceChildren(...overview.annotators.map(annotator));
  $("agreement").replaceChildren(...overview.agreement.map((row) => agreement(row, labels)));
  showSuggestionEffect(overview.suggestions, labels, { kappa, duration });
  $("undecided-count").textContent = overview.undecided.length || text("overview.none");
  $("undecided").replaceChildren(...overview.undecided.map((row) => undecided(row, labels)));
  section("ungradable", overview.ungradable.map(ungradable));
  section("comments", (overview.comments ?? []).map(comment));
  section("points", (overview.points ?? []).map(points));
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

function annotator({ name, done, total, median_seconds: median }) {
  const bar = element("progress");
  bar.max = Math.max(1, total);
  bar.value = done;
  bar.setAttribute("aria-label", text("overview.progress.label", { name, done, total }));
  const time = median === null ? element("span", "none", text("overview.no_time")) : element("span", "", duration(median));
  return row([name, [bar, "progress"], [text("place.of", { place: done, count: total }), "number"], [time, "number"]]);
}

function agreement({ finding, kappa_image: byImage, kappa_region: byRegion, images, present, ...rest }, labels) {
  const why = nameIn("kappa", rest.reason, rest.reason ?? text("overview.too_few"));
  return row([
    labels.get(finding) ?? finding,
    kappa(byImage, rest.kappa_image_interval, nameIn("kappa", rest.reason_image, rest.reason_image ?? why)),
    kappa(byRegion, rest.kappa_region_interval, nameIn("kappa", rest.reason_region, rest.reason_region ?? why)),
    [String(images), "number"],
    [String(present), "number"],
  ]);
}

function kappa(value, interval, why) {
  const figures = (number) => number.toFixed(2).replace("-", "−");
  return estimate({ value, interval, from: -1, to: 1, at: 0, figures, why });
}

function undecided({ image_id: imageId, finding, present, readings }, labels) {
  const label = labels.get(finding) ?? finding;
  return link([imageId, finding], element("i", "", text("overview.undecided.case", { finding: label, present, readings })));
}

function ungradable({ image_id: imageId, reasons, readings }) {
  const words = [...new Set(reasons)].map((reason) => nameIn("reason", reason)).join(", ");
  return link([imageId], element("i", "", text("overview.ungradable.case", { reasons: words, count: reasons.length, readings })));
}

function comment({ image_id: imageId, comment: words }) {
  return link([imageId], element("q", "", words));
}

function points({ image_id: imageId, points: disagreement }) {
  return link([imageId], element("i", "", text(`overview.points.${disagreement}`)));
}

/** An entry that leads to the readings of an image, or of one finding of it. */
function link(place, beside) {
  const item = element("li");
  const anchor = element("a");
  anchor.href = `/adjudicate#${place.map(encodeURIComponent).join("/")}`;
  anchor.append(element("span", "", place[0]), beside);
  item.append(anchor);
  return item;
}

/** Fill a list; its section is hidden while it is empty. */
function section(id, items) {
  $(`${id}-section`).hidden = items.length === 0;
  $(`${id}-count`).textContent = items.length;
  $(id).replaceChildren(...items);
}

function duration(seconds) {
  const whole = Math.round(seconds);
  return whole < 60
    ? text("overview.seconds", { seconds: whole })
    : text("overview.minutes", { minutes: Math.floor(whole / 60), seconds: whole % 60 });
}

async function refresh(labels) {
  try {
    show(await get("/api/overview"), labels);
  } catch (error) {
    $("message").hidden = false;
    $("message").textContent = explain(error);
  }
  setTimeout(() => refresh(labels), INTERVAL);
}

async function open() {
  try {
    const info = await session();
    showPages(info);
    await refresh(new Map(info.findings.map(({ name, label }) => [name, label])));
  } catch (error) {
    $("message").textContent = explain(error);
    if (passes(troubleOf(error))) setTimeout(open, RETRY);
  }
}

open();
