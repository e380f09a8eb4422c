/** A colour and a key for each finding, by its place in the list. */

import { digitOf } from "./keys.js";

/**
 * Light, unlike the orange and red of a fundus, and each as unlike those before it as can be. After thirty they repeat,
 * and only the numbers tell findings apart.
 */
const COLOURS = [
  "#4cc9f0", "#f9dc5c", "#c9a0ff", "#8ce99a", "#ff9ecb", "#7da7ff", "#3ddbc1", "#ffffff", "#c0e218", "#d0b49f",
  "#00ff00", "#ff3cff", "#2db41e", "#87a53c", "#00ff87", "#ff5ac3", "#9696b4", "#f0ffb4", "#78a578", "#a5ffff",
  "#ff6987", "#96ff5a", "#e178ff", "#00b469", "#f0d2ff", "#ffc300", "#3ca5a5", "#c3f078", "#00ffc3", "#00b4ff",
];
const DIGITS = "1234567890";

export function colourOf(index) {
  return COLOURS[index % COLOURS.length];
}

/** A digit, for the second ten with Shift; null for the rest, which the arrow keys reach. */
export function keyOf(index) {
  if (index < DIGITS.length) return DIGITS[index];
  return index < 2 * DIGITS.length ? `⇧${DIGITS[index - DIGITS.length]}` : null;
}

/** The key of a finding that was pressed, in the form of `keyOf`; null for other keys. */
export function pressedKey(event) {
  const digit = digitOf(event);
  return digit ? `${event.shiftKey ? "⇧" : ""}${digit}` : null;
}
