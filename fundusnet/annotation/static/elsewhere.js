/**
 * Answers that this browser keeps at another address of the study, such as another port. A page can only read what was
 * kept at its own address, but all ports of a host share their cookies: one cookie says how many are kept where.
 */

import { $, element } from "./dom.js";
import { text } from "./text.js";

const NAME = "fundusnet_kept_";
const AGE = 400 * 24 * 3600;

/** Note that so many answers of this owner (study and person) are kept at this address. */
export function noteKept(owner, count) {
  const kept = read(owner);
  if ((kept[location.origin] ?? 0) === count) return;
  if (count) kept[location.origin] = count;
  else delete kept[location.origin];
  write(owner, kept);
}

/** Say where else answers of this owner are kept, if there are any. */
export function showElsewhere(owner) {
  const rows = Object.entries(read(owner)).filter(([address]) => address !== location.origin);
  $("elsewhere").replaceChildren(
    ...rows.map(([address, count]) => {
      const row = element("p", "notice urgent");
      const link = element("a", "", address);
      link.href = address;
      const hide = element("button", "small", text("elsewhere.hide"));
      hide.addEventListener("click", () => {
        const { [address]: _, ...rest } = read(owner);
        write(owner, rest);
        row.remove();
      });
      row.append(element("span", "", text("elsewhere.kept", { count })), link, hide);
      return row;
    }),
  );
}

const LOOPBACK = ["localhost", "127.0.0.1", "[::1]"];

/**
 * Go to the address that the server printed, where the same server was reached by another name of this machine: what a
 * browser keeps at localhost is out of sight at 127.0.0.1. Only if nothing is kept here; whether it goes.
 */
export function goToPrinted(address, kept) {
  const printed = address && URL.canParse(address) ? new URL(address) : null;
  if (!printed || kept || printed.origin === location.origin || printed.port !== location.port) return false;
  if (![printed, location].every(({ hostname }) => LOOPBACK.includes(hostname))) return false;
  location.replace(printed.origin + location.pathname + location.hash);
  return true;
}

function read(owner) {
  const start = `${NAME}${owner}=`;
  const found = document.cookie.split("; ").find((cookie) => cookie.startsWith(start));
  try {
    return JSON.parse(decodeURIComponent(found.slice(start.length)));
  } catch {
    return {};
  }
}

function write(owner, kept) {
  const age = Object.keys(kept).length ? AGE : 0;
  const value = encodeURIComponent(JSON.stringify(kept));
  document.cookie = `${NAME}${owner}=${value}; path=/; max-age=${age}; samesite=strict`;
}
