/**
 * An annotator's answer for one photograph, and the changes that can be made to it. Pure functions: each takes an
 * answer and returns a new one, so that the history can keep all of them.
 */

import { REGIONS } from "./geometry.js";

/** The subject of questions about the photograph as a whole; that of the others is a finding. */
export const WHOLE = "";

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
  choices: {},
  state: "todo",
});

/** Where a point comes from: guessed by the page, found by a network, or placed or confirmed by a reader. */
export const GUESSED = "guessed";
export const LOCALISED = "localised";
export const PLACED = "placed";

/** The part of an answer that the annotator decides, without version and seconds. */
export function content(answer) {
  const { findings, normal, ungradable, comment, disc, fovea, disc_origin, fovea_origin, suggestion, choices, state } = answer;
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
    choices: choices ?? {},
    state,
  };
}

export function same(a, b) {
  const ordered = (answer) => ({
    ...content(answer),
    findings: Object.entries(answer.findings)
      .map(([name, regions]) => [name, [...regions].sort()])
      .sort(byName),
    suggestion: answer.suggestion && [answer.suggestion.networks, ...Object.entries(answer.suggestion.verdicts).sort()],
    choices: Object.entries(answer.choices ?? {})
      .map(([subject, chosen]) => [subject, Object.entries(chosen).sort(byName)])
      .sort(byName),
  });
  return JSON.stringify(ordered(a)) === JSON.stringify(ordered(b));
}

function byName([one], [other]) {
  return one < other ? -1 : 1;
}

/** What the study asks: its questions, and whether it has findings to mark. Set once, when the page starts. */
let asked = { questions: [], marks: true };

export function ask(questions, marks) {
  asked = { questions, marks };
}

/** Whether the answer is complete enough to count as a reading. */
export function isComplete(answer) {
  return answer.ungradable !== null || (isMarked(answer) && openQuestions(answer).length === 0);
}

/** Whether the photograph is called normal or a finding is marked, where there are findings to mark. */
export function isMarked(answer) {
  return !asked.marks || answer.normal || Object.keys(answer.findings).length > 0;
}

/** The questions that are not answered and have to be: [{ subject, question }]. */
export function openQuestions({ findings, choices = {} }) {
  return asked.questions
    .filter(({ optional }) => !optional)
    .flatMap((question) => (question.of === "photograph" ? [WHOLE] : Object.keys(findings)).map((subject) => ({ subject, question })))
    .filter(({ subject, question }) => !choices[subject]?.[question.name]);
}

/** Choose an answer to a question of the photograph (subject "") or of a finding; the same choice again takes it back. */
export function choose(answer, subject, question, choice) {
  const before = answer.choices?.[subject] ?? {};
  const { [question]: had, ...rest } = before;
  const now = had === choice ? rest : { ...before, [question]: choice };
  return withState({ ...answer, choices: kept({ ...answer.choices, [subject]: now }), ungradable: null });
}

/** The choices without empty subjects. */
function kept(choices) {
  return Object.fromEntries(Object.entries(choices ?? {}).filter(([, chosen]) => Object.keys(chosen).length > 0));
}

/** The answer with other findings, and without the choices of those that are no longer marked. */
function withFindings(answer, findings) {
  const stay = Object.entries(answer.choices ?? {}).filter(([subject]) => subject === WHOLE || subject in findings);
  return { ...answer, findings, choices: Object.fromEntries(stay) };
}

/** Add or remove a region of a finding; removing the last region removes the finding. */
export function toggleRegion(answer, finding, region) {
  const had = answer.findings[finding] ?? [];
  const regions = had.includes(region) ? had.filter((name) => name !== region) : [...had, region];
  const findings = { ...answer.findings };
  if (regions.length) findings[finding] = regions;
  else delete findings[finding];
  return withState(withFindings({ ...answer, normal: false, ungradable: null }, findings));
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
  return withState(withFindings(answer, findings));
}

export function toggleNormal(answer) {
  return withState(withFindings({ ...answer, normal: !answer.normal, ungradable: null }, {}));
}

export function ungradable(answer, reason) {
  return { ...answer, findings: {}, choices: {}, normal: false, ungradable: reason, state: "ungradable" };
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
