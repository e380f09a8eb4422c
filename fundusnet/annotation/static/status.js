/** What the page says about itself: whether all is saved, and short notes that pass. */

import { $, element } from "./dom.js";

const images = (count) => (count === 1 ? "1 photograph" : `${count} photographs`);
const TEXTS = {
  saved: () => "Saved",
  saving: () => "Saving",
  unreachable: ({ waiting }) => `Not saved: server unreachable. Kept here (${images(waiting)})`,
  failing: ({ waiting, message }) => `Not saved: ${message}. Kept here (${images(waiting)})`,
  "signed-out": ({ waiting }) => `Not saved: signed out. Kept here (${images(waiting)}); open your link again`,
  refused: ({ message }) => `Not saved: ${message}`,
};
const SHORT = 6_000;
const PATIENCE = 150;

let timer = null;

/** Show the state of the outbox. "Saving" appears only when it takes a moment: it would flicker with every click. */
export function showStatus(status) {
  const output = $("status");
  const text = TEXTS[status.state](status);
  const show = () => {
    const say = status.kept || status.state === "saved" ? text : `${text}; but this browser keeps nothing: leave it open`;
    output.querySelector("span").textContent = say;
    output.title = say;
    output.classList.toggle("slow", status.state === "saving");
  };
  output.dataset.state = status.state;
  clearTimeout(timer);
  if (status.state === "saving") timer = setTimeout(show, PATIENCE);
  else show();
}

export function showProgress({ done, total }) {
  $("progress").max = Math.max(1, total);
  $("progress").value = done;
  $("progress-text").textContent = `${done} of ${total} done`;
}

/** A note that passes, with a button if `action` { label, run } is given. Only the latest stays. */
export function toast(text, action = null) {
  const note = element("p", "toast", text);
  if (action) {
    const button = element("button", "small", action.label);
    button.addEventListener("click", () => {
      note.remove();
      action.run();
    });
    note.append(button);
  }
  $("toasts").replaceChildren(note);
  setTimeout(() => note.remove(), SHORT);
}

/** A note that stays above the photograph, until `hideNotice` or its button. */
export function notice(text, action = null) {
  const place = $("notice");
  place.hidden = text === null;
  if (text === null) return;
  place.querySelector("span").textContent = text;
  const button = place.querySelector("button");
  button.hidden = action === null;
  if (action) {
    button.textContent = action.label;
    button.onclick = action.run;
  }
}
