/** Keys and buttons, handled in the same way on every page. */

import { $ } from "./dom.js";
import { mayRepeat, nameOf } from "./keys.js";

/**
 * buttons: element id → action name; keys: key name → action name; actions: action name → function.
 * first(event): may handle a key first and return true. Holding the space bar hides everything drawn on the photograph.
 */
export function connect({ buttons, keys, actions, first }) {
  for (const [id, action] of Object.entries(buttons)) $(id).addEventListener("click", () => actions[action]());
  // A button clicked with the pointer does not get the focus, so that Enter keeps its meaning on the page.
  document.addEventListener("mousedown", (event) => {
    if (event.target.closest("button") && !event.target.closest("dialog, .handle")) event.preventDefault();
  });
  const peek = (on) => document.body.classList.toggle("peek", on);
  document.addEventListener("keyup", (event) => event.key === " " && peek(false));
  window.addEventListener("blur", () => peek(false));
  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]") || event.altKey) return;
    const name = nameOf(event);
    const target = event.target;
    if (target.matches("textarea")) {
      if (name === "Escape" || name === "Ctrl+Enter") target.blur();
      if (name === "Ctrl+Enter") act(name, event);
      return;
    }
    // The focused element comes first: a button gets Enter, a slider gets the arrows.
    if (target.matches("button, a") && [" ", "Enter"].includes(name)) {
      if (event.repeat) event.preventDefault();
      return;
    }
    if (target.matches("input") && event.key.startsWith("Arrow")) return;
    if (event.key === " ") peek(true);
    else if (!first?.(event) && !act(name, event)) return;
    event.preventDefault();
  });

  /** Do what the key means; whether it means something. */
  function act(name, { repeat }) {
    const action = actions[keys[name]];
    if (action && (!repeat || mayRepeat(keys[name]))) action();
    return Boolean(action);
  }
}

/** Actions of the buttons below a photograph, on a view and its light. */
export function viewActions(view, light) {
  const step = 60;
  return {
    panLeft: () => view.pan(step, 0),
    panRight: () => view.pan(-step, 0),
    panUp: () => view.pan(0, step),
    panDown: () => view.pan(0, -step),
    fit: () => view.fit(),
    zoomIn: () => view.zoom(1.25),
    zoomOut: () => view.zoom(0.8),
    redFree: () => light.toggleRedFree(),
    brighter: () => light.step("brightness", 1),
    darker: () => light.step("brightness", -1),
    moreContrast: () => light.step("contrast", 1),
    lessContrast: () => light.step("contrast", -1),
    inverted: () => light.toggleInverted(),
    moreGamma: () => light.step("gamma", 1),
    lessGamma: () => light.step("gamma", -1),
    plain: () => light.reset(),
    release: () => document.activeElement?.blur(),
    light: () => {
      const shown = document.body.classList.toggle("with-light");
      $("light").setAttribute("aria-pressed", String(shown));
    },
    regions: () => {
      const hidden = document.body.classList.toggle("no-regions");
      $("regions").setAttribute("aria-pressed", String(!hidden));
    },
  };
}

export const VIEW_BUTTONS = { fit: "fit", "zoom-in": "zoomIn", "zoom-out": "zoomOut", light: "light", regions: "regions" };
