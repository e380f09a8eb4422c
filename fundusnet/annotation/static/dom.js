/** Short helpers to find and create elements. */

export const $ = (id) => document.getElementById(id);

export function element(name, className = "", text = null) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== null) made.textContent = text;
  return made;
}

/** A symbol of icons.svg. */
export function icon(name) {
  const [svg, use] = ["svg", "use"].map((part) => document.createElementNS("http://www.w3.org/2000/svg", part));
  use.setAttribute("href", `/static/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

/** Play the animation of a class again. */
export function restart(place, name) {
  place.classList.remove(name);
  void place.offsetWidth;
  place.classList.add(name);
}
