/** All keyboard shortcuts, for the pages and for the help sheet. */

/**
 * Regions are laid out on the keyboard, and on the number pad, as in the picture: superior above, and temporal on the
 * side of the fovea. They go by the position of a key, not its letter, so that the pattern holds on any keyboard.
 */
const TEMPORAL_LEFT = [
  ["superotemporal", "disc_superior", "superonasal"],
  ["temporal", "macula", null],
  ["inferotemporal", "disc_inferior", "inferonasal"],
];
const LETTERS = ["QWE", "ASD", "ZXC"];
const PAD = ["789", "456", "123"];

/** Rows of region names (or null) as laid out in the picture. */
export function regionGrid(temporalLeft) {
  return temporalLeft ? TEMPORAL_LEFT : TEMPORAL_LEFT.map((row) => [...row].reverse());
}

/** The region of a key, or undefined. */
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

/** The labels of the keys in the grid, if the browser provides them; else those of an English keyboard. */
export async function keyCaps() {
  let layout = null;
  try {
    layout = await navigator.keyboard?.getLayoutMap();
  } catch {
    // Blocked by a permissions policy: use the English letters.
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
  "Shift+a": "all",
  "Backspace": "clear",
  "Delete": "clear",
  "Escape": "release",
  "n": "normal",
  "u": "ungradable",
  "k": "skip",
  "m": "comment",
  "j": "list",
  "p": "points",
  "Shift+q": "question",
  "o": "mirror",
  "g": "confirm",
  "Shift+c": "confirmSuggestion",
  "Shift+x": "refuseSuggestion",
  "Shift+g": "confirmSuggestions",
  "Shift+n": "refuseSuggestions",
  "r": "redFree",
  "Shift+r": "inverted",
  "b": "brighter",
  "Shift+b": "darker",
  "t": "moreContrast",
  "Shift+t": "lessContrast",
  ".": "moreGamma",
  ",": "lessGamma",
  "v": "plain",
  "h": "regions",
  "l": "labels",
  "f": "fit",
  "+": "zoomIn",
  "=": "zoomIn",
  "-": "zoomOut",
  "i": "guide",
  "Shift+f": "beside",
  "?": "help",
};

/** Actions of the adjudication page by key. */
export const DECISIONS = {
  ...Object.fromEntries(
    ["panLeft", "panRight", "panUp", "panDown", "previous", "next", "regions", "fit", "zoomIn", "zoomOut", "redFree",
      "inverted", "brighter", "darker", "moreContrast", "lessContrast", "moreGamma", "lessGamma", "plain", "all", "clear",
      "release"]
      .flatMap((action) => Object.keys(ACTIONS).filter((key) => ACTIONS[key] === action).map((key) => [key, action])),
  ),
  "Enter": "present",
  "n": "absent",
};

/** Actions that a key held down does again and again; it does any other once, so that none passes unseen. */
const REPEATED = new Set([
  "previous", "next", "findingAbove", "findingBelow", "undo", "redo", "panLeft", "panRight", "panUp", "panDown", "zoomIn",
  "zoomOut", "brighter", "darker", "moreContrast", "lessContrast", "moreGamma", "lessGamma",
]);

export function mayRepeat(action) {
  return REPEATED.has(action);
}

/** The digit of a key, by its place on the keyboard: some layouts need Shift to type one. Undefined for other keys. */
export function digitOf({ code, key }) {
  const digit = code.startsWith("Digit") ? code.at(-1) : key;
  return /^[0-9]$/.test(digit) ? digit : undefined;
}

/** The name of a key event, as used in ACTIONS and DECISIONS. Letters of other alphabets go by their place. */
export function nameOf(event) {
  const foreign = /^[^\x00-\x7f]$/u.test(event.key) && /^Key[A-Z]$/.test(event.code);
  const typed = foreign ? event.code.at(-1) : event.key;
  const letter = /^[a-z]$/i.test(typed);
  const key = letter ? typed.toLowerCase() : typed;
  // + and ? already include Shift.
  const shift = event.shiftKey && (letter || key.startsWith("Arrow")) ? "Shift+" : "";
  return (event.ctrlKey || event.metaKey ? "Ctrl+" : "") + shift + key;
}

/** The group of the help sheet that only those need who are shown a suggestion. */
export const SUGGESTION_KEYS = ["keys.suggestions", [
  [["Shift", "C"], "keys.confirm_suggestion"],
  [["Shift", "X"], "keys.refuse_suggestion"],
  [["Shift", "G"], "keys.confirm_suggestions"],
  [["Shift", "N"], "keys.refuse_suggestions"],
]];

/** The help sheet: groups of [keys, what they do], both as keys of their texts. */
export const SHEET = [
  ["keys.reading", [
    [["1", "…", "0"], "keys.choose"],
    [["Shift", "1", "…", "0"], "keys.choose_more"],
    [["↑", "↓"], "keys.neighbour"],
    [["Shift", "A"], "keys.all"],
    [["Backspace"], "keys.remove"],
    [["I"], "keys.guide"],
    [["N"], "keys.normal"],
    [["Shift", "Q"], "keys.question"],
    [["M"], "keys.comment"],
    [["Ctrl", "Z"], "keys.undo"],
    [["Ctrl", "Shift", "Z"], "keys.redo"],
  ]],
  ["keys.photographs", [
    [["Enter"], "keys.done"],
    [["U"], "keys.ungradable"],
    [["K"], "keys.skip"],
    [["←", "→"], "keys.turn"],
    [["J"], "keys.list"],
  ]],
  ["keys.points", [
    [["P"], "keys.select"],
    [["← ↑ ↓ →"], "keys.move"],
    [["G"], "keys.confirm"],
    [["O"], "keys.mirror"],
  ]],
  ["keys.view", [
    [["+", "−"], "keys.zoom"],
    [["Shift", "← ↑ ↓ →"], "keys.pan"],
    [["F"], "keys.fit"],
    [["Space"], "keys.peek"],
    [["H"], "keys.regions"],
    [["L"], "keys.names"],
    [["R"], "keys.red_free"],
    [["Shift", "R"], "keys.invert"],
    [["B"], "keys.brightness"],
    [["T"], "keys.contrast"],
    [[".", ","], "keys.gamma"],
    [["V"], "keys.reset"],
    [["Shift", "F"], "keys.beside"],
  ]],
];
