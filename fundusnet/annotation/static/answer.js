/**
 * An annotator's answer for one photograph, and the changes that can be made to it. Pure functions: each takes an
 * answer and returns a new one, so that the history can keep all of them.
 */

export const EMPTY = Object.freeze({
  findings: {},
  normal: false,
  ungradable: null,
  comment: "",
  disc: null,
  fovea: null,
  state: "todo",
});

/** The part of an answer that the annotator decides, without version and seconds. */
export function content({ findings, normal, ungradable, comment, disc, fovea, state }) {
  return { findings, normal, ungradable, comment, disc, fovea, state };
}

export function same(a, b) {
  const ordered = (answer) => ({
    ...content(answer),
    findings: Object.entries(answer.findings)
      .map(([name, regions]) => [name, [...regions].sort()])
      .sort(([one], [other]) => (one < other ? -1 : 1)),
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

/** Set both points: the regions depend on the pair. */
export function placed(answer, disc, fovea) {
  const round = (point) => point.map((value) => Math.round(value * 100) / 100);
  return { ...answer, disc: round(disc), fovea: round(fovea) };
}

/** After a change, a done answer stays done while it is complete; a skipped or ungradable one is to do again. */
function withState(answer) {
  const stays = answer.state === "done" && isComplete(answer);
  return { ...answer, state: stays ? "done" : "todo" };
}
