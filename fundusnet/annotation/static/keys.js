/** Which key does what: the one place that knows, for the page and for its help sheet. */

/**
 * Regions lie on the keyboard as in the picture: superior above, and temporal on the side where the fovea lies. By the
 * place of a key, not its letter, so that other keyboards keep the pattern; the number pad has it too.
 */
const TEMPORAL_LEFT = [
  ["superotemporal", "disc_superior", "superonasal"],
  ["temporal", "macula", null],
  ["inferotemporal", "disc_inferior", "inferonasal"],
];
const LETTERS = ["QWE", "ASD", "ZXC"];
const PAD = ["789", "456", "123"];

/** Rows of region names (or null) as they lie in the picture. */
export function regionGrid(temporalLeft) {
  return temporalLeft ? TEMPORAL_LEFT : TEMPORAL_LEFT.map((row) => [...row].reverse());
}

/** The region that a key stands for, or undefined. */
export function regionOfKey(event, temporalLeft) {
  const grid = regionGrid(temporalLeft);
  for (const [row, letters] of LETTERS.entries()) {
    for (const [column, letter] of [...letters].entries()) {
      const pressed = event.code ? event.code === `Key${letter}` : event.key.toUpperCase() === letter;
      if (pressed || event.code === `Numpad${PAD[row][column]}`) return grid[row][column] ?? undefined;
    }
  }
  return undefined;
}

/** What is printed on the keys of the grid, where the browser tells; the letters of an English keyboard elsewhere. */
export async function keyCaps() {
  let layout = null;
  try {
    layout = await navigator.keyboard?.getLayoutMap();
  } catch {
    // Forbidden by a policy: the English letters then.
  }
  return LETTERS.map((row) => [...row].map((letter) => (layout?.get(`Key${letter}`) ?? letter).toUpperCase()));
}

/** Actions of the annotation page by key; a prefix Shift+ or Ctrl+ (⌘ on a Mac) is part of the name. */
export const ACTIONS = {
  "Enter": "done",
  "Ctrl+Enter": "done",
  "ArrowLeft": "previous",
  "ArrowRight": "next",
  "ArrowUp": "findingAbove",
  "ArrowDown": "findingBelow",
  "Shift+ArrowLeft": "panLeft",
  "Shift+ArrowRight": "panRight",
  "Shift+ArrowUp": "panUp",
  "Shift+ArrowDown": "panDown",
  "Ctrl+z": "undo",
  "Ctrl+Shift+z": "redo",
  "Ctrl+y": "redo",
  "Backspace": "clear",
  "Delete": "clear",
  "Escape": "release",
  "n": "normal",
  "u": "ungradable",
  "k": "skip",
  "m": "comment",
  "j": "list",
  "p": "points",
  "o": "mirror",
  "r": "redFree",
  "b": "brighter",
  "Shift+b": "darker",
  "t": "moreContrast",
  "Shift+t": "lessContrast",
  "v": "plain",
  "h": "regions",
  "l": "labels",
  "f": "fit",
  "+": "zoomIn",
  "=": "zoomIn",
  "-": "zoomOut",
  "?": "help",
};

/** Those of the adjudication page. */
export const DECISIONS = {
  ...Object.fromEntries(
    ["panLeft", "panRight", "panUp", "panDown", "previous", "next", "regions", "fit", "zoomIn", "zoomOut", "redFree",
      "brighter", "darker", "moreContrast", "lessContrast", "plain", "clear", "release"]
      .flatMap((action) => Object.keys(ACTIONS).filter((key) => ACTIONS[key] === action).map((key) => [key, action])),
  ),
  "Enter": "present",
  "n": "absent",
};

/** The name of a key event in these. */
export function nameOf(event) {
  const letter = /^[a-z]$/i.test(event.key);
  const key = letter ? event.key.toLowerCase() : event.key;
  // Shift is part of what + and ? are.
  const shift = event.shiftKey && (letter || key.startsWith("Arrow")) ? "Shift+" : "";
  return (event.ctrlKey || event.metaKey ? "Ctrl+" : "") + shift + key;
}

/** The help sheet: groups of [keys, what they do]. */
export const SHEET = [
  ["Reading", [
    [["1", "…", "0"], "choose a finding"],
    [["↑", "↓"], "choose the one above, below"],
    [["Backspace"], "take the chosen finding back"],
    [["N"], "normal"],
    [["M"], "comment (Esc leaves it)"],
    [["Ctrl", "Z"], "undo"],
    [["Ctrl", "Shift", "Z"], "redo"],
  ]],
  ["Photographs", [
    [["Enter"], "done, on to the next (from the comment: Ctrl Enter)"],
    [["U"], "ungradable, and why"],
    [["K"], "skip: it comes back at the end"],
    [["←", "→"], "look at the previous, the next"],
    [["J"], "list of all"],
  ]],
  ["Disc and fovea", [
    [["P"], "take the disc, then the fovea"],
    [["← ↑ ↓ →"], "move it; Shift: ten times as far"],
    [["O"], "other eye: mirror both"],
  ]],
  ["Looking", [
    [["+", "−"], "zoom; also wheel and pinch"],
    [["Shift", "← ↑ ↓ →"], "move the photograph; also by dragging"],
    [["F"], "fit to the window"],
    [["Space"], "hold to hide all lines"],
    [["H"], "regions on and off"],
    [["L"], "names of the regions"],
    [["R"], "red-free"],
    [["B"], "brighter; Shift B darker"],
    [["T"], "more contrast; Shift T less"],
    [["V"], "as photographed"],
  ]],
];
