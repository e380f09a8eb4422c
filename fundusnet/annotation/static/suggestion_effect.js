/** The part of the overview that shows how suggestions pull readers: time, agreement and marks with and without them. */

import { $, element } from "./dom.js";
import { estimate } from "./estimate.js";
import { row } from "./table.js";
import { percent, text } from "./text.js";

const OUTCOMES = ["confirmed", "changed", "removed", "refused", "marked", "open"];
const GROUPS = { with: "effect.with", without: "effect.without" };

/** effect: `suggestions` of the overview, or null; labels: finding → its name; kappa and duration as the page shows them. */
export function showSuggestionEffect(effect, labels, { kappa, duration }) {
  $("effect-section").hidden = !effect;
  if (!effect) return;
  const { images, seconds, findings } = effect;
  $("effect-left-out").textContent = images.mixed || images.before ? text("effect.left_out", images) : "";
  const longest = Math.max(1, ...Object.values(seconds).flatMap(({ median, interval }) => [median ?? 0, interval?.[1] ?? 0]));
  $("effect-time").replaceChildren(
    ...Object.entries(GROUPS).map(([name, group]) => {
      const { median: value, interval, readings } = seconds[name];
      const time = estimate({ value, interval, from: 0, to: longest, figures: duration, why: text("overview.no_time") });
      return row([text(group), [String(images[name]), "number"], [String(readings), "number"], time]);
    }),
  );
  const label = (finding) => labels.get(finding) ?? finding;
  const seen = findings.filter((one) => one.suggested || one.with.marked || one.without.marked);
  $("effect-agreement").replaceChildren(...seen.map((one) => agreement(label(one.finding), one, kappa)));
  const suggested = findings.filter((one) => one.suggested);
  $("effect-outcomes").replaceChildren(...suggested.map((one) => outcomes(label(one.finding), one)));
}

/** One row with a line for each group in each cell. */
function agreement(label, one, kappa) {
  const both = (draw) => {
    const pair = element("div", "pair");
    pair.append(...Object.entries(GROUPS).map(([name, group]) => draw(one[name], text(group))));
    return pair;
  };
  const share = ({ marked: value, marked_interval: interval }) =>
    estimate({ value, interval, from: 0, to: 1, figures: percent, why: text("overview.too_few") });
  return row([
    label,
    both((_, group) => element("span", "", group)),
    both((found) => kappa(found.kappa_image, found.kappa_image_interval, text("overview.too_few"))),
    both((found) => kappa(found.kappa_region, found.kappa_region_interval, text("overview.too_few"))),
    [both(({ images }) => element("span", "", images)), "number"],
    both(share),
    [both(({ readings }) => element("span", "", readings)), "number"],
  ]);
}

function outcomes(label, { suggested, outcomes: counts }) {
  const bar = element("span", "outcomes");
  for (const name of OUTCOMES) {
    const part = element("i", name);
    part.style.flexGrow = counts[name];
    part.title = `${text(`outcome.${name}`)}: ${counts[name]}`;
    if (counts[name]) bar.append(part);
  }
  return row([label, [String(suggested), "number"], [bar, "bar-cell"], ...OUTCOMES.map((name) => [String(counts[name]), "number"])]);
}
