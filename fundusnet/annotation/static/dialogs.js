/** Dialogs: why a photograph is ungradable, which version to keep, which photograph to show, keyboard shortcuts. */

import { $, element } from "./dom.js";
import { SHEET, SUGGESTION_KEYS, keyCaps, regionGrid } from "./keys.js";
import { markdown } from "./markdown.js";
import { nameIn, text } from "./text.js";

/** Ask for a reason; resolves to it, or to null. Number keys choose one. */
export function askReason(reasons) {
  const dialog = $("reasons");
  const choices = reasons.map((reason, index) => choice(reason, index + 1));
  dialog.querySelector(".choices").replaceChildren(...choices);
  const pressed = (event) => choices[Number(event.key) - 1]?.click();
  return ask(dialog, choices, pressed).then((value) => value || null);
}

/** The conflict that is asked about now: two questions in one dialog would both take the one answer. */
let conflict = Promise.resolve();

/**
 * Ask which of two versions, each a list of lines, to keep; resolves to "mine" or "theirs". Conflicts are asked about one
 * after another. `picture`: address of the photograph. The dialog cannot be dismissed, and neither version has the focus,
 * so that an Enter meant for the page decides nothing.
 */
export function askConflict(name, picture, mine, theirs) {
  const asked = conflict.then(async () => {
    const dialog = $("conflict");
    dialog.querySelector(".which").textContent = name;
    dialog.querySelector("img").src = picture;
    for (const [side, lines] of Object.entries({ mine, theirs })) {
      dialog.querySelector(`.${side}`).replaceChildren(...lines.map((line) => element("span", "", line)));
    }
    const buttons = [...dialog.querySelectorAll("button")];
    for (;;) {
      const value = await ask(dialog, buttons);
      if (value) return value;
    }
  });
  conflict = asked.catch(() => {});
  return asked;
}

/** Choose among images [{ image_id, state }]; resolves to an index or null. */
export function askImage(images, current) {
  const dialog = $("images");
  const choices = images.map(({ image_id: imageId, state }, index) => {
    const button = element("button", state);
    button.value = index;
    button.append(element("b", "", String(index + 1)), element("span", "", imageId), element("i", "", text(`state.${state}`)));
    if (index === current) button.setAttribute("aria-current", "true");
    return button;
  });
  dialog.querySelector(".images").replaceChildren(
    ...choices.map((button) => {
      const item = document.createElement("li");
      item.append(button);
      return item;
    }),
  );
  const search = $("search");
  search.value = "";
  search.oninput = () => {
    const wanted = search.value.trim().toLowerCase();
    for (const [index, { image_id: imageId, state }] of images.entries()) {
      const words = `${index + 1} ${imageId} ${text(`state.${state}`)}`.toLowerCase();
      choices[index].parentElement.hidden = !words.includes(wanted);
    }
  };
  search.onkeydown = (event) => {
    if (event.key !== "Enter") return;
    event.preventDefault();
    choices.find((button) => !button.parentElement.hidden)?.click();
  };
  const answer = ask(dialog, choices);
  choices[current]?.focus();
  choices[current]?.scrollIntoView({ block: "center" });
  return answer.then((value) => (value === "" ? null : Number(value)));
}

/** Show the guidelines for a finding, { name, label } or null, and those for all; resolves to whether there are any. */
export async function showGuidelines(guidelines, finding) {
  const parts = [[finding?.name, finding?.label], ["general", text("guidelines.general")]].filter(([name]) => guidelines[name]);
  if (parts.length === 0) return false;
  const dialog = $("guidelines");
  const picture = (name) => `/api/guidelines/${name.split("/").map(encodeURIComponent).join("/")}`;
  const sections = parts.map(([name, title]) => {
    const section = element("section");
    section.append(element("h3", "title", title), ...markdown(guidelines[name], picture));
    return section;
  });
  dialog.querySelector(".text").replaceChildren(...sections);
  await ask(dialog, []);
  return true;
}

/** Show the keyboard shortcuts, with the pad laid out for the eye in the picture; those of suggestions where there is one. */
export async function showKeys(label, temporalLeft, suggested) {
  const dialog = $("sheet");
  const caps = await keyCaps();
  const pad = element("div", "pad");
  regionGrid(temporalLeft).forEach((row, y) =>
    row.forEach((region, x) => {
      const cell = element("div", region ? "" : "none");
      if (region) cell.append(element("kbd", "", caps[y][x]), element("span", "", label(region)));
      pad.append(cell);
    }),
  );
  const regions = element("section");
  regions.append(
    element("h3", "", text("keys.pad")),
    pad,
    element("p", "hint", text("keys.pad.hint")),
  );
  const groups = [...SHEET, ...(suggested ? [SUGGESTION_KEYS] : [])].map(([title, keys]) => {
    const section = element("section");
    const list = document.createElement("dl");
    for (const [names, does] of keys) {
      const term = document.createElement("dt");
      term.append(...names.map((name) => (name === "…" ? name : element("kbd", "", nameIn("keys.cap", name)))));
      list.append(term, element("dd", "", text(does)));
    }
    section.append(element("h3", "", text(title)), list);
    return section;
  });
  dialog.querySelector(".columns").replaceChildren(groups[0], regions, ...groups.slice(1));
  await ask(dialog, []);
}

function choice(reason, number) {
  const button = element("button");
  button.value = reason;
  button.append(element("kbd", "", number <= 9 ? String(number) : ""), element("span", "", nameIn("reason", reason)));
  return button;
}

/** Open a dialog until a choice is clicked or it is closed; resolves to the value of the choice, or "". */
function ask(dialog, choices, keydown = null) {
  return new Promise((resolve) => {
    const pick = (event) => dialog.close(event.currentTarget.value);
    for (const button of choices) button.addEventListener("click", pick);
    if (keydown) dialog.addEventListener("keydown", keydown);
    dialog.returnValue = "";
    dialog.addEventListener(
      "close",
      () => {
        for (const button of choices) button.removeEventListener("click", pick);
        if (keydown) dialog.removeEventListener("keydown", keydown);
        resolve(dialog.returnValue);
      },
      { once: true },
    );
    dialog.showModal();
  });
}
