/** Who is signed in: signing out, here or everywhere, and a link for another device. */

import { post } from "./api.js";
import { $, element } from "./dom.js";
import { text } from "./text.js";
import { explain } from "./trouble.js";

/** Set up the button and dialog of the page for people who sign in by link; info: the session. */
export function showAccount({ annotator, links }) {
  const button = $("account");
  button.hidden = !links;
  if (!links) return;
  const dialog = $("account-dialog");
  const said = dialog.querySelector(".said");
  button.ariaLabel = text("account.of", { name: annotator.name });
  button.title = button.ariaLabel;
  $("account-title").textContent = button.ariaLabel;
  button.addEventListener("click", () => {
    said.replaceChildren();
    dialog.showModal();
  });
  const run = (id, action) =>
    $(id).addEventListener("click", async () => {
      try {
        await action();
      } catch (error) {
        said.replaceChildren(explain(error));
      }
    });
  const leave = async (everywhere) => {
    await post("/api/sign-out", { everywhere });
    location.reload();
  };
  run("sign-out", () => leave(false));
  run("sign-out-everywhere", () => leave(true));
  run("device-link", async () => {
    const { link, seconds } = await post("/api/link", {});
    said.replaceChildren(text("account.link", { minutes: Math.round(seconds / 60) }), element("code", "", link));
  });
}
