/** The links to the other pages, for those who may open them. */

import { showAccount } from "./account.js";

/**
 * info: the session. Only annotators have photographs to read, and so a use for the first page; they have no other, but
 * one who came to a page for others is shown the way back.
 */
export function showPages(info) {
  const { annotator, pages = [] } = info;
  showAccount(info);
  const nav = document.querySelector(".pages");
  nav.hidden = pages.length === 0 && location.pathname === "/";
  nav.querySelector('[href="/"]').hidden = annotator.role !== "annotator";
  for (const page of ["overview", "adjudicate", "people"]) nav.querySelector(`[href="/${page}"]`).hidden = !pages.includes(page);
}
