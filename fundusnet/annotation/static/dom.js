/** Short helpers to find and create elements. */

export const $ = (id) => document.getElementById(id);

export function element(name, className = "", text = null) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== null) made.textContent = text;
  return made;
}
