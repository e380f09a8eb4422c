/**
 * An annotator's answer for one photograph, and the changes that can be made to it. Pure functions: each takes an
 * answer and returns a new one, so that the history can keep all of them.
 */

import { REGIONS } from "./geometry.js";

export const EMPTY = Object.freeze({
  findings: {},
  normal: false,
  ungradable: null,
  comment: "",
  disc: null,
  fovea: null,
  disc_origin: null,
  fovea_origin: null,
  suggestion: null,
  state: "todo",
});

/** Where a point comes from: guessed by the page, found by a network, or placed or confirmed by a reader. */
export const GUESSED = "guessed";
export const LOCALISED = "localised";
export const PLACED = "placed";

/** The part of an answer that the annotator decides, without version and seconds. */
export function content(answer) {
  const { findings, normal, ungradable, comment, disc, fovea, disc_origin, fovea_origin, suggestion, state } = answer;
  return {
    findings,
    normal,
    ungradable,
    comment,
    disc,
    fovea,
    // Answers of 0.1.0 do not say where a point comes from.
    disc_origin: disc && (disc_origin ?? PLACED),
    fovea_origin: fovea && (fovea_origin ?? PLACED),
    suggestion: suggestion ?? null,
    state,
  };
}

export function same(a, b) {
  const ordered = (answer) => ({
    ...content(answer),
    findings: Object.entries(answer.findings)
      .map(([name, regions]) => [name, [...regions].sort()])
      .sort(([one], [other]) => (one < other ? -1 : 1)),
    suggestion: answer.suggestion && [answer.suggestion.networks, ...Object.entries(answer.suggestion.verdicts).sort()],
  });
  return JSON.stringify(ordered(a)) === JSON.stringify(ordered(b));
}

/** Whether the answer is complete enough to count as a reading. */
export function isComplete(answer) {
  return answer.normal || answer.ungradable !== null || Object.keys(answer.findings).length > 0;
}

/** Add or remove a region of a finding; removing the last region removes the finding. */
export function toggleRegion(answer, finding, region) {
  const had = answer.findings[finding] ?? [];
  const regions = had.includes(region) ? had.filter((name) => name !== region) : [...had, region];
  const findings = { ...answer.findings };
  if (regions.length) findings[finding] = regions;
  else delete findings[finding];
  return withState({ ...answer, findings, normal: false, ungradable: null });
}

/** Mark all regions of a finding; if they are marked already, none. */
export function toggleAll(answer, finding) {
  const all = REGIONS.every((region) => answer.findings[finding]?.includes(region));
  if (all) return clearFinding(answer, finding);
  return markRegions(answer, finding, REGIONS);
}

/** Set the regions of a finding, at least one. */
export function markRegions(answer, finding, regions) {
  return withState({ ...answer, findings: { ...answer.findings, [finding]: regions }, normal: false, ungradable: null });
}

export function clearFinding(answer, finding) {
  const findings = { ...answer.findings };
  delete findings[finding];
  return withState({ ...answer, findings });
}

export function toggleNormal(answer) {
  return withState({ ...answer, normal: !answer.normal, findings: {}, ungradable: null });
}

export function ungradable(answer, reason) {
  return { ...answer, findings: {}, normal: false, ungradable: reason, state: "ungradable" };
}

export function gradable(answer) {
  return withState({ ...answer, ungradable: null });
}

export function done(answer) {
  return { ...answer, state: answer.ungradable === null ? "done" : "ungradable" };
}

export function skipped(answer) {
  return { ...answer, ungradable: null, state: "skipped" };
}

/** Set the comment, without control characters, which pasted text may contain. */
export function commented(answer, comment) {
  return { ...answer, comment: comment.replace(/[\p{Cc}\p{Cs}]/gu, (char) => (/[\n\t]/.test(char) ? char : "")) };
}

/** Set both points, because the regions depend on the pair: { disc, fovea, disc_origin, fovea_origin }. */
export function withPoints(answer, { disc, fovea, disc_origin, fovea_origin }) {
  const round = (point) => point.map((value) => Math.round(value * 100) / 100);
  return { ...answer, disc: round(disc), fovea: round(fovea), disc_origin, fovea_origin };
}

/** The points as a reader confirms them where they are. */
export function confirmed(points) {
  return { ...points, disc_origin: PLACED, fovea_origin: PLACED };
}

export function areConfirmed({ disc_origin, fovea_origin }) {
  return disc_origin === PLACED && fovea_origin === PLACED;
}

/** The points for the other eye: nobody has looked at them there. */
export function mirrored(points, width) {
  const flip = ([x, y]) => [width - 1 - x, y];
  return { disc: flip(points.disc), fovea: flip(points.fovea), disc_origin: GUESSED, fovea_origin: GUESSED };
}

/** After a change, a done answer stays done while it is complete; a skipped or ungradable one is to do again. */
function withState(answer) {
  const stays = answer.state === "done" && isComplete(answer);
  return { ...answer, state: stays ? "done" : "todo" };
}

/** Two readers' discs (or foveas) further apart than this share of the distance from disc to fovea disagree. */
const APART = 0.25;

/** How the confirmed points of several answers disagree: "mirrored", "apart", or null if they do not. */
export function pointsDisagree(answers) {
  const own = answers.filter(({ disc, fovea, ...rest }) => disc && fovea && areConfirmed(content({ disc, fovea, ...rest })));
  let found = null;
  for (const [place, one] of own.entries()) {
    for (const other of own.slice(place + 1)) {
      if (one.disc[0] > one.fovea[0] !== other.disc[0] > other.fovea[0]) return "mirrored";
      const limit = APART * Math.min(distance(one.disc, one.fovea), distance(other.disc, other.fovea));
      if (distance(one.disc, other.disc) > limit || distance(one.fovea, other.fovea) > limit) found = "apart";
    }
  }
  return found;
}

function distance([x, y], [u, v]) {
  return Math.hypot(x - u, y - v);
}
