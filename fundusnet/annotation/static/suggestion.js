/**
 * What networks suggest for a photograph, and what a reader makes of it. A suggestion is { networks, findings: finding →
 * regions, probabilities, disc, fovea, points }; an answer has { networks, verdicts: finding → "confirmed" or "refused" } of
 * the one that its reader was shown. Pure functions, as those of answer.js.
 */

import { clearFinding, markRegions } from "./answer.js";
import { REGIONS } from "./geometry.js";

/** Whether an answer rests on this suggestion. */
export function restsOn(answer, suggestion) {
  return Boolean(suggestion) && answer.suggestion?.networks === suggestion.networks;
}

/** The answer of somebody who is shown a suggestion; one that rests on another keeps that. */
export function withShown(answer, { networks }) {
  return answer.suggestion ? answer : { ...answer, suggestion: { networks, verdicts: {} } };
}

/**
 * What an answer says about a suggested finding: "confirmed"; "marked" by hand; "refused", also by removing it again or by
 * calling the photograph normal; or "open".
 */
export function fate(answer, finding) {
  const verdict = answer.suggestion?.verdicts[finding];
  if (answer.findings[finding]) return verdict === "confirmed" ? "confirmed" : "marked";
  return verdict || answer.normal ? "refused" : "open";
}

/** Suggested findings that an answer says nothing about. */
export function openFindings(answer, suggestion) {
  if (answer.ungradable !== null) return [];
  return Object.keys(suggestion.findings).filter((finding) => fate(answer, finding) === "open");
}

/** The open finding that follows another in the list of all, or the first one; null if none is open. */
export function nextOpen(answer, suggestion, names, after = null) {
  const open = openFindings(answer, suggestion);
  const places = names.flatMap((name, place) => (open.includes(name) ? [place] : []));
  return names[places.find((place) => place > names.indexOf(after)) ?? places[0]] ?? null;
}

/** The finding that a key confirms or refuses: the chosen one, unless it is no suggestion or decided so; else the next open. */
export function toDecide(answer, suggestion, decide, names, chosen) {
  const already = decide === confirm ? "confirmed" : "refused";
  if (chosen in suggestion.findings && fate(answer, chosen) !== already) return chosen;
  return nextOpen(answer, suggestion, names, chosen);
}

/** Regions of a suggested finding that are still to be confirmed or refused. */
export function openRegions(answer, suggestion, finding) {
  const regions = suggestion.findings[finding] ?? [];
  if (!["open", "marked"].includes(fate(answer, finding))) return [];
  return regions.filter((region) => !answer.findings[finding]?.includes(region));
}

/** Mark a finding with the suggested regions, besides those that are marked already; without any regions it stays open. */
export function confirm(answer, suggestion, finding) {
  const own = answer.findings[finding] ?? [];
  const regions = REGIONS.filter((region) => own.includes(region) || suggestion.findings[finding].includes(region));
  return regions.length ? withVerdict(markRegions(answer, finding, regions), finding, "confirmed") : answer;
}

export function refuse(answer, suggestion, finding) {
  return withVerdict(clearFinding(answer, finding), finding, "refused");
}

/** Confirm or refuse all that are open. */
export function decideAll(answer, suggestion, decide) {
  return openFindings(answer, suggestion).reduce((now, finding) => decide(now, suggestion, finding), answer);
}

function withVerdict(answer, finding, verdict) {
  const { networks, verdicts } = answer.suggestion;
  return { ...answer, suggestion: { networks, verdicts: { ...verdicts, [finding]: verdict } } };
}
