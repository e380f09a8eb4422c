/**
 * What an annotator says of one photograph, and the changes that can be made to it. Pure functions: each takes an answer
 * and returns a new one, so that the history can keep them all.
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

/** Only what the annotator decides; version and seconds belong to saving. */
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

/** Whether something was said that can count as a reading. */
export function says(answer) {
  return answer.normal || answer.ungradable !== null || Object.keys(answer.findings).length > 0;
}

/** A finding touches a region, or no longer does; the last region taken back takes the finding back. */
export function toggleRegion(answer, finding, region) {
  const had = answer.findings[finding] ?? [];
  const regions = had.includes(region) ? had.filter((name) => name !== region) : [...had, region];
  const findings = { ...answer.findings };
  if (regions.length) findings[finding] = regions;
  else delete findings[finding];
  return settled({ ...answer, findings, normal: false, ungradable: null });
}

export function clearFinding(answer, finding) {
  const findings = { ...answer.findings };
  delete findings[finding];
  return settled({ ...answer, findings });
}

export function toggleNormal(answer) {
  return settled({ ...answer, normal: !answer.normal, findings: {}, ungradable: null });
}

export function ungradable(answer, reason) {
  return { ...answer, findings: {}, normal: false, ungradable: reason, state: "ungradable" };
}

export function gradable(answer) {
  return settled({ ...answer, ungradable: null });
}

export function done(answer) {
  return { ...answer, state: answer.ungradable === null ? "done" : "ungradable" };
}

export function skipped(answer) {
  return { ...answer, ungradable: null, state: "skipped" };
}

/** Without characters that are no text, which a paste can bring. */
export function commented(answer, comment) {
  return { ...answer, comment: comment.replace(/[\p{Cc}\p{Cs}]/gu, (char) => (/[\n\t]/.test(char) ? char : "")) };
}

/** A point moved: from then on the answer holds both, for the regions follow from the pair. */
export function placed(answer, disc, fovea) {
  const round = (point) => point.map((value) => Math.round(value * 100) / 100);
  return { ...answer, disc: round(disc), fovea: round(fovea) };
}

/** After a change a done answer stays done while it says something; one that was set aside is work in progress again. */
function settled(answer) {
  const stays = answer.state === "done" && says(answer);
  return { ...answer, state: stays ? "done" : "todo" };
}
