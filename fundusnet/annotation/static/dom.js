/** Short helpers to find and create elements. */

export const $ = (id) => document.getElementById(id);

export function element(name, className = "", text = null) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== null) made.textContent = text;
  return made;
}

/** Play the animation of a class again. */
export function restart(place, name) {
  place.classList.remove(name);
  void place.offsetWidth;
  place.classList.add(name);
}
