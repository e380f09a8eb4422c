/** The overview of a study: progress by annotator, agreement by finding, open questions. Refreshes itself. */

import { Refused, get, session } from "./api.js";
import { $, element } from "./dom.js";

const INTERVAL = 20_000;
const NAMESPACE = "http://www.w3.org/2000/svg";

function show(overview, labels) {
  const done = overview.annotators.reduce((sum, { done: own }) => sum + own, 0);
  const total = overview.annotators.reduce((sum, { total: own }) => sum + own, 0);
  $("figures").replaceChildren(
    figure("Photographs", overview.images),
    figure("Readings done", done, `of ${total}`),
    figure("Undecided", overview.undecided.length),
    figure("Ungradable", overview.ungradable.length),
  );
  $("annotators").replaceChildren(...overview.annotators.map(annotator));
  $("agreement").replaceChildren(...overview.agreement.map((row) => agreement(row, labels)));
  $("undecided-count").textContent = overview.undecided.length || "none";
  $("undecided").replaceChildren(...overview.undecided.map((row) => undecided(row, labels)));
  $("ungradable-section").hidden = overview.ungradable.length === 0;
  $("ungradable-count").textContent = overview.ungradable.length;
  $("ungradable").replaceChildren(...overview.ungradable.map(ungradable));
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
  bar.setAttribute("aria-label", `${name}: ${done} of ${total}`);
  const time = median === null ? element("span", "none", "none yet") : element("span", "", duration(median));
  return row([name, bar, [`${done} of ${total}`, "number"], [time, "number"]]);
}

function agreement({ finding, kappa_image: byImage, kappa_region: byRegion, images, present, ...rest }, labels) {
  const why = rest.reason ?? "too few readings yet";
  return row([
    labels.get(finding) ?? finding,
    kappa(byImage, rest.reason_image ?? why),
    kappa(byRegion, rest.reason_region ?? why),
    [String(images), "number"],
    [String(present), "number"],
  ]);
}

/** κ as a number, and as a point on a line from -1 to 1. */
function kappa(value, why) {
  if (value === null) {
    const none = element("span", "none", "–");
    none.title = why;
    none.append(element("small", "", ` ${why}`));
    return none;
  }
  const box = element("span", "kappa");
  const scale = document.createElementNS(NAMESPACE, "svg");
  scale.setAttribute("viewBox", "-1.08 -0.1 2.16 0.2");
  scale.setAttribute("aria-hidden", "true");
  for (const [name, values] of [
    ["line", { x1: -1, x2: 1, y1: 0, y2: 0, "stroke-width": 0.02 }],
    ["line", { x1: 0, x2: 0, y1: -0.08, y2: 0.08 }],
    ["circle", { cx: value, cy: 0, r: 0.075 }],
  ]) {
    const shape = document.createElementNS(NAMESPACE, name);
    for (const [key, number] of Object.entries(values)) shape.setAttribute(key, number);
    shape.setAttribute("vector-effect", "non-scaling-stroke");
    scale.append(shape);
  }
  box.append(element("b", "", value.toFixed(2).replace("-", "−")), scale);
  return box;
}

function undecided({ image_id: imageId, finding, present, readings }, labels) {
  const item = element("li");
  const link = element("a");
  link.href = `/adjudicate#${encodeURIComponent(imageId)}/${encodeURIComponent(finding)}`;
  link.append(
    element("span", "", imageId),
    element("i", "", `${labels.get(finding) ?? finding}: ${present} of ${readings}`),
  );
  item.append(link);
  return item;
}

function ungradable({ image_id: imageId, reasons = [], readings }) {
  const item = element("li");
  const box = element("div");
  box.append(
    element("span", "", imageId),
    element("i", "", `${reasons.join(", ")}${readings ? ` (${reasons.length} of ${readings})` : ""}`),
  );
  item.append(box);
  return item;
}

function row(cells) {
  const line = document.createElement("tr");
  for (const cell of cells) {
    const [content, className] = Array.isArray(cell) ? cell : [cell, ""];
    const place = element("td", className);
    place.append(content);
    line.append(place);
  }
  return line;
}

function duration(seconds) {
  const whole = Math.round(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

async function refresh(labels) {
  try {
    show(await get("/api/overview"), labels);
  } catch (error) {
    $("message").hidden = false;
    $("message").textContent =
      error instanceof Refused ? `Cannot be shown: ${error.message}` : "The server is unreachable; trying again.";
  }
  setTimeout(() => refresh(labels), INTERVAL);
}

async function open() {
  try {
    const info = await session();
    await refresh(new Map(info.findings.map(({ name, label }) => [name, label])));
  } catch (error) {
    $("message").textContent =
      error instanceof Refused && error.status === 401
        ? "You are not signed in. Open your personal link."
        : `The page cannot start: ${error.message}`;
  }
}

open();
