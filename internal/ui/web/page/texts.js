// The page's words, times and numbers, in one language.

let texts = {};
let locale = "en";
const translators = [];

// load fetches the texts in the language of the settings and puts them in place.
export async function load() {
  const answer = await fetch("texts");
  if (!answer.ok) throw new Error("texts");
  texts = await answer.json();
  const language = t("language");
  // The browser knows the region, and with it how a time is written.
  locale = navigator.languages.find((l) => l.split("-")[0] === language) ?? language;
  document.documentElement.lang = language;
  for (const e of document.querySelectorAll("[data-t]")) e.textContent = t(e.dataset.t);
  for (const e of document.querySelectorAll("[data-t-label]")) e.setAttribute("aria-label", t(e.dataset.tLabel));
  for (const e of document.querySelectorAll("[data-t-placeholder]")) e.placeholder = t(e.dataset.tPlaceholder);
  for (const f of translators) f();
}

// onLanguage has f called whenever the language has changed.
export const onLanguage = (f) => translators.push(f);

// t is a text with its {names} filled in.
export const t = (key, values = {}) => (texts[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");

// known is a text, or the fallback when there is none.
export const known = (key, fallback) => texts[key] ?? fallback;

// english: the page speaks it, as the helper does.
export const english = () => document.documentElement.lang === "en";

// plural is the text of key for n things.
export const plural = (key, n, values = {}) =>
  t(`${key}.${new Intl.PluralRules(locale).select(n) === "one" ? "one" : "other"}`, { n: number(n), ...values });

export const number = (n) => new Intl.NumberFormat(locale).format(n);

const unit = (n, name, unitDisplay = "short") => new Intl.NumberFormat(locale, { style: "unit", unit: name, unitDisplay }).format(n);

// duration words milliseconds to the minute.
export function duration(ms) {
  const minutes = Math.max(0, Math.floor(ms / 60000));
  const days = Math.floor(minutes / 1440), hours = Math.floor(minutes / 60) % 24;
  if (minutes < 1) return t("moment");
  if (days > 0) return [unit(days, "day"), hours && unit(hours, "hour")].filter(Boolean).join(" ");
  return [hours && unit(hours, "hour"), minutes % 60 && unit(minutes % 60, "minute")].filter(Boolean).join(" ");
}

export const bytes = (n) =>
  n < 1000 ? unit(n, "byte", "long") : n < 1e6 ? unit(Math.round(n / 1e3), "kilobyte") : unit(Math.round(n / 1e5) / 10, "megabyte");

export const milliseconds = (n) => unit(n, "millisecond");

// clock is the time of day, with the day where it is not today.
export function clock(when, seconds = false) {
  const date = new Date(when), now = new Date();
  const options = { hour: "2-digit", minute: "2-digit" };
  if (seconds) options.second = "2-digit";
  if (date.toDateString() !== now.toDateString()) {
    if (Math.abs(date - now) < 6 * 86400e3) options.weekday = "short";
    else Object.assign(options, { day: "numeric", month: "short", year: "numeric" });
  }
  return new Intl.DateTimeFormat(locale, options).format(date);
}

// left says how long it is until when.
export const left = (when) => t("left", { time: duration(new Date(when) - Date.now()) });
