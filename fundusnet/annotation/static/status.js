/** Status of the page: whether everything is saved, progress, and short notes. */

import { $, element } from "./dom.js";

const images = (count) => (count === 1 ? "1 photograph" : `${count} photographs`);
const TEXTS = {
  saved: () => "Saved",
  saving: () => "Saving",
  unreachable: () => "Not saved: server unreachable",
  failing: ({ message }) => `Not saved: ${message}`,
  "signed-out": () => "Not saved: signed out; open your link again",
  refused: ({ message }) => `Not saved: ${message}`,
};
const RETRIED = ["unreachable", "failing", "signed-out"];
const TOAST_TIME = 6_000;
const SAVING_DELAY = 150;

let timer = null;

/** Show the state of the outbox. "Saving" appears only after a moment, to avoid flicker at every click. */
export function showStatus(status) {
  const output = $("status");
  let text = TEXTS[status.state](status);
  if (status.state !== "saved" && !status.kept) text += ". This browser cannot keep it: leave the page open";
  else if (RETRIED.includes(status.state)) text += `. Kept in this browser (${images(status.waiting)})`;
  const show = () => {
    output.querySelector("span").textContent = text;
    output.title = text;
    output.classList.toggle("slow", status.state === "saving");
  };
  output.dataset.state = status.state;
  clearTimeout(timer);
  if (status.state === "saving") timer = setTimeout(show, SAVING_DELAY);
  else show();
}

export function showProgress({ done, total }) {
  $("progress").max = Math.max(1, total);
  $("progress").value = done;
  $("progress-text").textContent = `${done} of ${total} done`;
}

/** A note that disappears, with a button if `action` { label, run } is given. Only the latest is shown. */
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
  setTimeout(() => note.remove(), TOAST_TIME);
}

/** A note above the photograph, which stays until `notice(null)`. */
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
