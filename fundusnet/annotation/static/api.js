/** Requests to the server: JSON in both directions, the CSRF token, and errors by how to handle them. */

import { nameIn, text } from "./text.js";

const TIMEOUT = 10_000;

/** No answer: the server is down, the network is gone, or the answer took too long. Try again later. */
export class Unreachable extends Error {}

/** The server refused the request, with `status` and `body`; `message` is its error line, `code` what it calls it. */
export class Refused extends Error {
  constructor(status, body) {
    super(body?.error ?? text("trouble.answered", { status }));
    this.status = status;
    this.body = body;
    this.code = body?.code ?? null;
  }
}

let csrf = null;
let person = null;

/** Fetch the session: the person, the findings, and a new token for later requests. */
export async function session() {
  const answer = await request("/api/session");
  const now = JSON.stringify([answer.study, answer.annotator.id]);
  // If somebody else has signed in in this browser, this page must not send its reader's answers in their name.
  if (person !== null && person !== now) throw new Refused(401, { code: "other_person" });
  person = now;
  csrf = answer.csrf;
  const named = (group) => (one) => ({ ...one, label: nameIn(group, one.name, one.label) });
  const questions = (answer.questions ?? []).map(({ choices, ...question }) => ({
    ...question,
    label: nameIn("question", question.name, question.label),
    choices: choices.map((name) => ({ name, label: nameIn("choice", name) })),
  }));
  return { ...answer, questions, findings: answer.findings.map(named("finding")), regions: answer.regions.map(named("region")) };
}

export function get(path) {
  return request(path);
}

/** Send a change; if the server no longer knows the session or token, renew it once and try again. */
export async function put(path, body, method = "PUT") {
  try {
    return await request(path, body, method);
  } catch (error) {
    if (!(error instanceof Refused && [401, 403].includes(error.status))) throw error;
    await session();
    return request(path, body, method);
  }
}

export function post(path, body) {
  return put(path, body, "POST");
}

export function imagePath(imageId) {
  return `/api/images/${encodeURIComponent(imageId)}`;
}

export function photographPath(imageId, size) {
  return `${imagePath(imageId)}/photograph?size=${size}`;
}

async function request(path, body = undefined, method = "PUT") {
  const sent = body === undefined ? null : JSON.stringify(body);
  let response;
  try {
    response = await fetch(path, {
      method: sent === null ? "GET" : method,
      headers: sent === null ? {} : { "Content-Type": "application/json", "X-CSRF-Token": csrf ?? "" },
      body: sent,
      cache: "no-store",
      credentials: "same-origin",
      // Lets the request finish when the page is closed (browsers allow up to 64 kB).
      keepalive: sent !== null && sent.length < 60_000,
      signal: AbortSignal.timeout(TIMEOUT),
    });
  } catch (error) {
    throw new Unreachable(String(error));
  }
  let answer = null;
  try {
    answer = await response.json();
  } catch {
    if (response.ok) throw new Unreachable("the answer was cut off");
  }
  // A proxy answers if the server is down.
  const proxy = answer === null && [502, 503, 504].includes(response.status);
  if (proxy) throw new Unreachable(`the server answered ${response.status}`);
  if (!response.ok) throw new Refused(response.status, answer);
  return answer;
}

/** A random id for a change. `crypto.randomUUID` is not available on pages without https. */
export function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
