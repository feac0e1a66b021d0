// The Activity page: the last requests, as they come.
import { cause, get, why } from "./api.js";
import { $, debounced, el, setText } from "./dom.js";
import { add } from "./bypass.js";
import { onClick } from "./notice.js";
import { answerOf } from "./proxy.js";
import { onPage, selected } from "./tabs.js";
import { bytes, clock, milliseconds, onLanguage, t } from "./texts.js";

const most = 300; // requests kept
const pollSeconds = 20;

let requests = []; // newest first: {entry, item}
let next; // number that the next question asks from
let polling; // ends the question under way

const place = (e) => (e.host ? `${e.host.includes(":") ? `[${e.host}]` : e.host}:${e.port}` : "–");
const searchable = (e) => [e.host, e.program, e.method, e.cause, e.entry, t(`route.${e.route}`), t(`result.${e.result}`)].join(" ").toLowerCase();

function itemOf(e) {
  const details = el("details", {},
    el("summary", {},
      el("time", { className: "quiet", dateTime: e.time, textContent: clock(e.time, true) }),
      el("span", { className: "host", textContent: place(e) }),
      el("span", { className: "quiet program", textContent: e.program }),
      el("span", { textContent: t(`route.${e.route}`) }),
      el("span", { className: e.result === "failed" || e.result === "refused" ? "bad" : "quiet", textContent: outcome(e) })));
  details.addEventListener("toggle", () => {
    if (details.open && details.children.length === 1) open(details, e);
  });
  return el("li", {}, details);
}

const outcome = (e) => [t(`result.${e.result}`), e.status || ""].join(" ").trim();

// open shows all there is to say of one request.
async function open(details, e) {
  const more = el("div", { className: "more" }, el("p", { className: "quiet", textContent: facts(e) }));
  details.append(more);
  try {
    if (e.cause) {
      const words = await cause(e.cause);
      more.append(el("p", { className: "error", textContent: words.text ? `${words.text}. ${words.hint}` : e.cause }));
    }
    if (!e.host) return;
    more.append(answerOf(await why(place(e))));
  } catch (error) {
    more.append(el("p", { className: "error", textContent: error.message }));
  }
  if (e.route === "proxy") more.append(addButton(e.host));
}

function facts(e) {
  const program = e.pid ? `${e.program} (${e.pid})` : t("activity.unknown");
  return [program, e.method, t("activity.bytes", { up: bytes(e.up), down: bytes(e.down) }), milliseconds(e.ms)].join(" · ");
}

function addButton(host) {
  const button = el("button", { type: "button", textContent: t("bypass.add_host", { host }) });
  onClick(button, () => add([host]));
  return button;
}

function take(page) {
  const fresh = page.entries.map((entry) => ({ entry, item: itemOf(entry) })).reverse();
  next = page.next;
  $("activity-list").prepend(...fresh.map((r) => r.item));
  for (const r of [...fresh, ...requests].slice(most)) r.item.remove();
  requests = [...fresh, ...requests].slice(0, most);
  filter();
}

function filter() {
  const wanted = $("activity-filter").value.trim().toLowerCase();
  let found = 0;
  for (const { entry, item } of requests) {
    item.hidden = !searchable(entry).includes(wanted);
    if (!item.hidden) found++;
  }
  $("activity-empty").hidden = found > 0;
  setText($("activity-empty"), t(requests.length > 0 ? "activity.not_found" : "activity.empty"));
}

// follow asks for more as long as somebody is looking. A browser allows few
// connections to one address, so a page in the background holds none for this.
async function follow() {
  if (polling || document.hidden || selected() !== "activity") return;
  polling = new AbortController();
  const { signal } = polling;
  while (!signal.aborted) {
    try {
      take(await get(next === undefined ? `v1/activity?max=${most}` : `v1/activity?after=${next}&wait=${pollSeconds}&max=${most}`, signal));
    } catch {
      await new Promise((again) => setTimeout(again, 2000));
    }
  }
}

function stop() {
  polling?.abort();
  polling = undefined;
}

const followOrStop = () => (document.hidden || selected() !== "activity" ? stop() : follow());

export function start() {
  onPage(followOrStop);
  document.addEventListener("visibilitychange", followOrStop);
  $("activity-filter").addEventListener("input", debounced(100, filter));
  onLanguage(() => {
    for (const r of requests) {
      const fresh = itemOf(r.entry);
      r.item.replaceWith(fresh);
      r.item = fresh;
    }
    filter();
  });
}
