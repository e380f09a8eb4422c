/** Requests to the server: JSON both ways, the token against forged requests, and errors told apart by what to do. */

const TIMEOUT = 10_000;

/** Nobody answered: the server is down, the network is gone, or the answer took too long. Try again later. */
export class Unreachable extends Error {}

/** The server answered no: `status` and the body it sent; `message` is its one line. */
export class Refused extends Error {
  constructor(status, body) {
    super(body?.error ?? `the server answered ${status}`);
    this.status = status;
    this.body = body;
  }
}

let csrf = null;
let person = null;

/** Who annotates, with which findings; renews the token that later requests carry. */
export async function session() {
  const answer = await request("/api/session");
  const now = JSON.stringify([answer.study, answer.annotator.id]);
  // Whoever else signed in in this browser must not send what this page's reader said.
  if (person !== null && person !== now) throw new Refused(401, { error: "somebody else signed in here" });
  person = now;
  csrf = answer.csrf;
  return answer;
}

export function get(path) {
  return request(path);
}

/** Send a change. A session or token that the server no longer knows is renewed once, if it lets this person in. */
export async function put(path, body) {
  try {
    return await request(path, body);
  } catch (error) {
    if (!(error instanceof Refused && [401, 403].includes(error.status))) throw error;
    await session();
    return request(path, body);
  }
}

export function imagePath(imageId) {
  return `/api/images/${encodeURIComponent(imageId)}`;
}

export function photographPath(imageId, size) {
  return `${imagePath(imageId)}/photograph?size=${size}`;
}

async function request(path, body = undefined) {
  const sent = body === undefined ? null : JSON.stringify(body);
  let response;
  try {
    response = await fetch(path, {
      method: sent === null ? "GET" : "PUT",
      headers: sent === null ? {} : { "Content-Type": "application/json", "X-CSRF-Token": csrf ?? "" },
      body: sent,
      cache: "no-store",
      credentials: "same-origin",
      // A change under way survives the page being closed (browsers allow that up to 64 kB).
      keepalive: sent !== null && sent.length < 60_000,
      signal: AbortSignal.timeout(TIMEOUT),
    });
  } catch (error) {
    throw new Unreachable(String(error));
  }
  // A proxy answers for a server that is gone.
  if ([502, 503, 504].includes(response.status)) throw new Unreachable(`the server answered ${response.status}`);
  let answer;
  try {
    answer = await response.json();
  } catch {
    if (response.ok) throw new Unreachable("the answer broke off");
  }
  if (!response.ok) throw new Refused(response.status, answer);
  return answer;
}

/** A random name for a change. Not `crypto.randomUUID`, which a page without https does not have. */
export function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
