/** A colour for each finding: light, and unlike the orange and red of a fundus. */

const COLOURS = [
  "#4cc9f0",
  "#f9dc5c",
  "#c9a0ff",
  "#8ce99a",
  "#ff9ecb",
  "#7da7ff",
  "#3ddbc1",
  "#ffffff",
  "#c0e218",
  "#d0b49f",
];

export function colourOf(index) {
  return COLOURS[index % COLOURS.length];
}
