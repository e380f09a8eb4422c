/** The links to the other pages, for those who may open them. */

/** info: the session. An adjudicator has no photographs to read, and so no use for the first page. */
export function showPages({ annotator, pages = [] }) {
  const nav = document.querySelector(".pages");
  nav.hidden = pages.length === 0;
  nav.querySelector('[href="/"]').hidden = annotator.role === "adjudicator";
}
