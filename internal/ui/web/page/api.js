// Requests to the helper.
import { t } from "./texts.js";

// Refusal is an answer that says no, in words for people. Where a list of
// entries was refused, refused holds {entry, reason, suggestion}.
export class Refusal extends Error {
  constructor(status, body) {
    super(body.error);
    this.status = status;
    this.hint = body.hint ?? "";
    this.refused = body.refused ?? [];
  }
}

async function request(method, path, body, signal) {
  const init = { method, signal };
  if (method === "POST") {
    init.headers = { "Content-Type": "application/json" };
    init.body = JSON.stringify(body);
  }
  let answer;
  try {
    answer = await fetch(path, init);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Refusal(0, { error: t("lost.request"), hint: t("lost.hint") });
  }
  const text = await answer.text();
  let value = {};
  try {
    value = text ? JSON.parse(text) : {};
  } catch {
    value = { error: text.trim() };
  }
  if (!answer.ok) throw new Refusal(answer.status, { ...value, error: value.error || t("lost.request") });
  return value;
}

export const get = (path, signal) => request("GET", path, undefined, signal);
export const post = (path, body = {}) => request("POST", path, body);
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
