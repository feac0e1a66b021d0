// The helper's state, kept fresh by its event stream.
import { get, prove, trust } from "./api.js";
import { $, setText } from "./dom.js";
import { onLanguage, t } from "./texts.js";

const longestWait = 10000;
const listeners = [];
let current;
let asking, again;
let wait = 1000;
let lost = ""; // "": the helper is there; else the text that says that it is not
const ends = [];

// status is what the helper said last.
export const status = () => current;

// onStatus has f called with each new status, and when times or words change.
export const onStatus = (f) => listeners.push(f);

export function redraw() {
  if (current) for (const f of listeners) f(current);
}

// refresh asks for the status. Calls while one is under way share the next.
export async function refresh() {
  again = true;
  asking ??= (async () => {
    try {
      while (again) {
        again = false;
        current = await get("v1/status");
      }
    } finally {
      asking = undefined;
    }
  })();
  await asking;
  redraw();
}

// onLost has f called when the helper has gone.
export const onLost = (f) => ends.push(f);

function setLost(is) {
  if (is && !lost) for (const f of ends) f();
  lost = is;
  trust(!is);
  $("lost").hidden = !is;
  setText($("lost"), is ? t(is) : "");
  document.querySelector("main").classList.toggle("stale", Boolean(is));
}

// listen follows the stream. It does not leave trying again to the browser,
// which gives up for good after some answers. Before it trusts anybody at this
// address again, they must show that they know this page: after the helper has
// ended, the port is there for everybody to take.
async function listen() {
  try {
    if (!await prove()) return setLost("lost.for_good");
  } catch {
    return later();
  }
  const stream = new EventSource("v1/events");
  let over = false;
  const fail = () => {
    if (over) return;
    over = true;
    stream.close();
    later();
  };
  stream.addEventListener("open", () => {
    const back = Boolean(lost), before = current?.version;
    wait = 1000;
    setLost("");
    refresh().then(() => {
      if (back && current.version !== before) location.reload(); // to the page of the new version
    }, fail);
  });
  stream.addEventListener("changed", () => refresh().catch(fail));
  stream.addEventListener("error", fail);
}

function later() {
  setLost("lost");
  setTimeout(listen, wait);
  wait = Math.min(wait * 2, longestWait);
}

export function start() {
  onLanguage(() => setLost(lost));
  listen();
  setInterval(redraw, 15000);
}
