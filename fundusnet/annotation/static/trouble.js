/**
 * What a failed request means for a reader: the name of a trouble, for whose texts see `trouble.…` and `status.…`.
 *
 * unreachable, signed_out, other_person, disk_full, photographs_away, busy and failing pass: the page keeps the answers
 * and tries again. unreadable (a damaged photograph) and refused (a wrong request) stay.
 */

import { Refused, Unreachable } from "./api.js";
import { text } from "./text.js";

const KINDS = ["unreadable", "disk_full", "photographs_away", "busy"];
const LASTING = ["unreadable", "refused"];

export function troubleOf(error) {
  if (error instanceof Unreachable) return "unreachable";
  if (!(error instanceof Refused)) return "failing";
  if (error.kind === "other_person") return "other_person";
  if (error.status === 401) return "signed_out";
  if (KINDS.includes(error.kind)) return error.kind;
  return error.status < 500 ? "refused" : "failing";
}

export function passes(trouble) {
  return !LASTING.includes(trouble);
}

/** One or two sentences in place of what cannot be shown. */
export function explain(error) {
  return text(`trouble.${troubleOf(error)}`, { message: error.message });
}
