// Requests to the helper.
import { english, known, t } from "./texts.js";

// worded makes a sentence, a hint and a detail of an answer that says no. The
// helper's own English is the most exact; for other languages it names what
// happened, and adds what cannot be translated.
export function worded({ error = "", hint = "", code = "", detail = "" }) {
  if (english()) return { message: error, hint, detail: "" };
  const message = known(`refusal.${code}`);
  if (!message) return { message: t("refusal.unknown"), hint: "", detail: [error, hint].filter(Boolean).join(" ") };
  return { message, hint: known(`refusal.${code}.hint`, ""), detail };
}

// Refusal is an answer that says no, in words for people. Where a list of
// entries was refused, refused holds {entry, reason, suggestion, code}.
export class Refusal extends Error {
  constructor(status, { message, hint = "", detail = "" }, refused = []) {
    super(message);
    Object.assign(this, { status, hint, detail, refused });
  }
}

const away = () => new Refusal(0, { message: t("lost.request"), hint: t("lost.hint") });

let trusted = true;

// trust says whether the one at the other end is known to be the helper. As
// long as it is not, nothing is sent to it.
export const trust = (is) => { trusted = is; };

async function send(method, path, body, signal) {
  const init = { method, signal };
  if (method === "POST") {
    init.headers = { "Content-Type": "application/json" };
    init.body = JSON.stringify(body);
  }
  try {
    return await fetch(path, init);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw away();
  }
}

async function request(method, path, body, signal, parse = JSON.parse) {
  if (!trusted) throw away();
  const answer = await send(method, path, body, signal);
  const text = await answer.text();
  if (answer.ok) return text ? parse(text) : {};
  let no = {};
  try {
    no = JSON.parse(text);
  } catch {
    // The page's server itself speaks the page's language.
    if (text.trim()) throw new Refusal(answer.status, { message: text.trim() });
  }
  throw no.error ? new Refusal(answer.status, worded(no), no.refused) : away();
}

let proof; // what only the server of this session knows

// prove asks whether the one at the other end is the helper that this page came
// from, or its successor. The first answer is believed.
export async function prove() {
  const answer = await send("GET", "proof");
  if (!answer.ok) return false;
  const said = (await answer.json()).proof;
  proof ??= said;
  return Boolean(said) && said === proof;
}

export const get = (path, signal) => request("GET", path, undefined, signal);
export const post = (path, body = {}) => request("POST", path, body);
export const postText = (path) => request("POST", path, {}, undefined, String);
export const remove = (path) => request("DELETE", path);
export const why = (target, signal) => get(`v1/why?target=${encodeURIComponent(target)}`, signal);

const words = new Map();

// cause words a machine-readable cause in the page's language: {text, hint},
// empty where nobody does.
export async function cause(name) {
  const key = `${document.documentElement.lang} ${name}`;
  if (!words.has(key)) words.set(key, await get(`cause/${encodeURIComponent(name)}`));
  return words.get(key);
}
