/** The links to the other pages, for those who may open them. */

import { showAccount } from "./account.js";

/** info: the session. Only annotators have photographs to read, and so a use for the first page. */
export function showPages(info) {
  const { annotator, pages = [] } = info;
  showAccount(info);
  const nav = document.querySelector(".pages");
  nav.hidden = pages.length === 0;
  nav.querySelector('[href="/"]').hidden = annotator.role !== "annotator";
  nav.querySelector('[href="/people"]').hidden = !pages.includes("people");
}
