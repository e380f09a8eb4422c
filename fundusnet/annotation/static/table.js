/** Rows of tables. */

import { element } from "./dom.js";

/** A row of cells, each its content or [content, class]. */
export function row(cells) {
  const line = document.createElement("tr");
  for (const cell of cells) {
    const [content, className] = Array.isArray(cell) ? cell : [cell, ""];
    const place = element("td", className);
    place.append(content);
    line.append(place);
  }
  return line;
}
