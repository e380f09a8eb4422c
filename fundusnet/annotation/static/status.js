/** Status of the page: whether everything is saved, progress, and short notes. */

import { $, element } from "./dom.js";
import { text } from "./text.js";

const TOAST_TIME = 6_000;
const SAVING_DELAY = 150;

let timer = null;

/** Show the state of the outbox. "Saving" appears only after a moment, to avoid flicker at every click. */
export function showStatus(status) {
  const output = $("status");
  let line = text(`status.${status.state}`, status);
  if (status.state !== "saved" && !status.kept) line = text("status.not_kept", { text: line });
  else if (!["saved", "saving", "refused"].includes(status.state)) line = text("status.kept", { text: line, count: status.waiting });
  const show = () => {
    output.querySelector("span").textContent = line;
    output.title = line;
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
  $("progress-text").textContent = text("progress.done", { done, total });
}

/** A note that disappears, with a button if `action` { label, run } is given. Only the latest is shown. */
export function toast(line, action = null) {
  const note = element("p", "toast", line);
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

/** Notes above the photograph: [{ line, actions: [{ label, key, run }], urgent }]. Unchanged ones are left alone. */
export function showNotices(notices) {
  const place = $("notices");
  const now = JSON.stringify(notices);
  if (place.dataset.now === now) return;
  place.dataset.now = now;
  place.replaceChildren(
    ...notices.map(({ line, actions = [], urgent = false }) => {
      const row = element("p", urgent ? "notice urgent" : "notice");
      row.append(element("span", "", line));
      for (const { label, key = null, run } of actions) {
        const button = element("button", "small", label);
        if (key) button.append(element("kbd", "", key));
        button.addEventListener("click", run);
        row.append(button);
      }
      return row;
    }),
  );
}

/** Show the zoom of a view on the button that fits it to the window. */
export function showZoom(view) {
  const zoom = `${Math.round(view.magnification * 100)}%`;
  $("fit").textContent = zoom;
  $("fit").ariaLabel = text("view.fit", { zoom });
}
