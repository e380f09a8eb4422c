/**
 * What a failed request means for a reader: the name of a trouble, for whose texts see `trouble.…` and `status.…`.
 *
 * unreadable (a damaged photograph), forbidden (a page for others), missing (no such photograph) and refused (a wrong
 * request) stay. All others pass: the page keeps the answers and tries again.
 */

import { Refused, Unreachable } from "./api.js";
import { text } from "./text.js";

const CODES = ["unreadable", "forbidden", "missing", "disk_full", "photographs_away", "busy"];
const NOT_SIGNED_IN = ["signed_out", "expired", "revoked", "left", "other_person"];
const LASTING = ["unreadable", "forbidden", "missing", "refused"];

export function troubleOf(error) {
  if (error instanceof Unreachable) return "unreachable";
  if (!(error instanceof Refused)) return "failing";
  if (error.status === 401) return NOT_SIGNED_IN.includes(error.code) ? error.code : "signed_out";
  if (CODES.includes(error.code)) return error.code;
  if (error.status === 408) return "busy";
  return error.status < 500 ? "refused" : "failing";
}

export function passes(trouble) {
  return !LASTING.includes(trouble);
}

/** One or two sentences in place of what cannot be shown. */
export function explain(error) {
  return text(`trouble.${troubleOf(error)}`, { message: error.message });
}
